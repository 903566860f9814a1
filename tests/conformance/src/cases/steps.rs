//! What cases have in common: the state they begin in, and what they make of how the node goes on.

use std::time::Duration;

use tokio::time::Instant;

use crate::ending::Ending;
use crate::hello::RawHello;
use crate::incoming::Incoming;
use crate::outcome::Stop;
use crate::script::Script;
use crate::visit::Visit;

/// How long a node may take to close a connection after a breach: the 2 s that the other end has to read the Disconnect,
/// and some time for the machine. It is less than a handshake or a status exchange may take, after which many nodes close
/// it anyway.
pub(super) const CLOSED: Duration = Duration::from_secs(4);

/// How long the node's Hello may take.
const HELLO: Duration = Duration::from_secs(5);

/// The capability of nodes that are made for tests: code 0 is answered by code 1 with the same payload.
const ECHO: (&[u8], u64) = (b"echo", 1);

/// The id of the first message of the first subprotocol.
pub(super) const FIRST: u64 = 0x10;

/// Two cases from one breach: that the node closes the connection, and that it says why before.
macro_rules! breach {
    (
        $name:literal, $level:ident, $section:expr, [$($row:literal),*], $does:expr,
        $run:expr, $first:literal $(| $other:literal)* $(, $field:ident: $value:expr)* $(,)?
    ) => {
        [
            case!(
                $name, $level, $section, [$($row),*], $does, "closes the connection within 4 s",
                |visit| $crate::cases::steps::closed($run(visit)) $(, $field: $value)*
            ),
            case!(
                concat!($name, "/reason"), Should, "rlpx.md, Disconnect (0x01)", [$($row),*], $does,
                concat!("sends Disconnect ", stringify!($first) $(, " or ", stringify!($other))*, ", then closes"),
                |visit| $crate::cases::steps::says($run(visit), &[$first $(, $other)*]) $(, $field: $value)*
            ),
        ]
    };
}
pub(super) use breach;

/// The node has closed the connection.
pub(super) async fn closed(ending: impl Future<Output = Result<Ending, Stop>>) -> Result<(), Stop> {
    let ending = ending.await?;
    has_place(ending.disconnect)?;
    ending.expect_closed()
}

/// The node has closed the connection and said why, with one of these reasons.
pub(super) async fn says(ending: impl Future<Output = Result<Ending, Stop>>, reasons: &[u64]) -> Result<(), Stop> {
    let ending = ending.await?;
    has_place(ending.disconnect)?;
    ending.expect_reason(reasons)
}

/// A connection on which the node has answered a Ping, so that the session is there.
pub(super) async fn session(visit: &Visit) -> Result<Script, Stop> {
    session_with(visit, |_| ()).await
}

/// The same, with a Hello that is changed first, in a way that every node accepts.
pub(super) async fn session_with(visit: &Visit, change: impl FnOnce(&mut RawHello) + Send) -> Result<Script, Stop> {
    let mut script = visit.greet_with(change).await?;
    match script.ping().await {
        Ok(()) => Ok(script),
        Err(stop) => Err(Stop::unclear(format!("no session: {stop}"))),
    }
}

/// The connection goes on: the node answers a Ping.
pub(super) async fn goes_on(script: &mut Script) -> Result<(), Stop> {
    let answered = script.ping().await;
    placed(script, answered)
}

/// What came of this, unless the node stopped because it had no place.
pub(super) fn placed<T>(script: &Script, came: Result<T, Stop>) -> Result<T, Stop> {
    came.or_else(|stop| {
        has_place(script.disconnect)?;
        Err(stop)
    })
}

/// The data of the next message with this id, as [`Script::expect`] has it.
///
/// # Errors
/// [`Stop::Failed`] with what came instead, [`Stop::Unclear`] when the node had no place.
pub(super) async fn answer(script: &mut Script, id: u64, within: Duration) -> Result<Vec<u8>, Stop> {
    let came = script.expect(id, within).await;
    placed(script, came)
}

/// The node answers a Ping or has closed the connection, when it has worked off what was sent before: it does not hang.
pub(super) async fn goes_on_or_closes(script: &mut Script) -> Result<(), Stop> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let until = Instant::now() + PATIENCE;
    script.send("Ping", 2, &[0xc0]).await;
    loop {
        // A frame that is not sound is no way to end.
        match script.receive(until.saturating_duration_since(Instant::now())).await? {
            Incoming::Message { id: 2, .. } => script.send("Pong", 3, &[0xc0]).await,
            Incoming::Message { id: 3, .. } | Incoming::Closed(_) => return Ok(()),
            Incoming::Message { .. } => {}
            Incoming::Nothing => return Err(Stop::failed(format!("no Pong and no end within {PATIENCE:?}"))),
        }
    }
}

/// A session in which this message is sent, and how it ends.
pub(super) async fn after_message(visit: &Visit, what: &str, id: u64, data: &[u8]) -> Result<Ending, Stop> {
    let mut script = session(visit).await?;
    script.send(what, id, data).await;
    script.ending(CLOSED).await
}

/// A session in which a frame with this content is sent, as it is, and how it ends.
pub(super) async fn after_content(visit: &Visit, what: &str, content: &[u8]) -> Result<Ending, Stop> {
    let mut script = session(visit).await?;
    script.send_frame(what, content).await;
    script.ending(CLOSED).await
}

/// This many frames, each with this content.
pub(super) fn repeated(script: &mut Script, content: &[u8], count: usize) -> Vec<u8> {
    let frames: Vec<_> = (0..count).map(|_| script.egress().seal(content)).collect();
    frames.concat()
}

/// Sends the data of a Hello, and receives the node's Hello.
///
/// # Errors
/// [`Stop::Failed`] with what came instead.
pub(super) async fn greet_raw(script: &mut Script, version: u64, data: &[u8]) -> Result<Vec<u8>, Stop> {
    script.send("Hello", 0, data).await;
    let data = their_hello(script, HELLO).await?;
    let hello = RawHello::decode(&data).map_err(Stop::failed)?;
    script.set_compressed(version >= 5 && hello.version >= 5);
    script.hello = Some(hello);
    Ok(data)
}

/// The data of the node's Hello, which comes before all else.
///
/// # Errors
/// [`Stop::Failed`] with what came instead, [`Stop::Unclear`] when the node had no place.
pub(super) async fn their_hello(script: &mut Script, within: Duration) -> Result<Vec<u8>, Stop> {
    let came = script.receive(within).await?;
    has_place(script.disconnect)?;
    match came {
        Incoming::Message { id: 0, data } => Ok(data),
        came => Err(Stop::failed(format!("{came} in place of a Hello"))),
    }
}

/// The connection of a node with this Hello goes on.
pub(super) async fn hello_accepted(visit: &Visit, change: impl FnOnce(&mut RawHello) + Send) -> Result<(), Stop> {
    let mut script = visit.handshake().await?;
    let mut hello = visit.node.mirror(&script.identity.public_key());
    change(&mut hello);
    greet_raw(&mut script, hello.version, &hello.encode()).await?;
    goes_on(&mut script).await
}

/// How the connection of a node with this Hello ends.
pub(super) async fn after_hello(visit: &Visit, change: impl FnOnce(&mut RawHello) + Send) -> Result<Ending, Stop> {
    let mut script = visit.handshake().await?;
    let mut hello = visit.node.mirror(&script.identity.public_key());
    change(&mut hello);
    script.send(&hello.to_string(), 0, &hello.encode()).await;
    script.ending(CLOSED).await
}

/// How the connection ends whose first frame has this content.
pub(super) async fn after_first(visit: &Visit, what: &str, content: &[u8]) -> Result<Ending, Stop> {
    let mut script = visit.handshake().await?;
    script.send_frame(what, content).await;
    script.ending(CLOSED).await
}

/// The node has a first message id of a subprotocol to send to.
///
/// # Errors
/// [`Stop::Skipped`] when it claims no capability.
pub(super) fn claims_something(visit: &Visit) -> Result<(), Stop> {
    match visit.node.hello.capabilities.is_empty() {
        true => Err(Stop::skipped("the node claims no capability")),
        false => Ok(()),
    }
}

/// Sessions with the node are compressed: it has version 5 or later.
///
/// # Errors
/// [`Stop::Skipped`] when they are not.
pub(super) fn compresses(visit: &Visit) -> Result<(), Stop> {
    match visit.node.hello.version {
        5.. => Ok(()),
        version => Err(Stop::skipped(format!("the node has version {version}, which does not compress"))),
    }
}

/// The node has `echo/1`.
///
/// # Errors
/// [`Stop::Skipped`] when it has not.
pub(super) fn claims_echo(visit: &Visit) -> Result<(), Stop> {
    match visit.node.hello.capabilities.contains(&echo()) {
        true => Ok(()),
        false => Err(Stop::skipped("the node does not claim echo/1")),
    }
}

/// `echo/1` as it stands in a Hello.
pub(super) fn echo() -> (Vec<u8>, u64) {
    (ECHO.0.to_vec(), ECHO.1)
}

/// What is sent to `echo/1`, the first shared capability, comes back.
pub(super) async fn echoes(script: &mut Script, payload: &[u8]) -> Result<(), Stop> {
    script.send(&format!("{} bytes for echo/1", payload.len()), FIRST, payload).await;
    match answer(script, FIRST + 1, Duration::from_secs(10)).await? == payload {
        true => Ok(()),
        false => Err(Stop::failed("the payload that came back is another")),
    }
}

/// A Disconnect that says nothing of what the case did.
fn has_place(disconnect: Option<Option<u64>>) -> Result<(), Stop> {
    match disconnect {
        Some(Some(code @ (0x04 | 0x08))) => {
            Err(Stop::unclear(format!("Disconnect {code:#04x}: the node had no place, or was ending")))
        }
        _ => Ok(()),
    }
}
