//! `p2p/base`: Ping, Pong and what else has an id below 0x10, but for Hello and Disconnect.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::frame::PING;
use super::steps::{
    CLOSED, after_message, answer, breach, closed, compresses, goes_on, goes_on_or_closes, repeated, says, session,
};
use crate::case::{Case, case};
use crate::ending::Ending;
use crate::outcome::Stop;
use crate::script::Script;
use crate::visit::Visit;

const PING_SECTION: &str = "rlpx.md, Ping (0x02)";
const PONG_SECTION: &str = "rlpx.md, Pong (0x03)";
const MULTIPLEXING: &str = "rlpx.md, Message ID-based Multiplexing";

/// How long a node may wait for a Pong.
const PATIENCE: Duration = Duration::from_secs(40);

/// How many messages make a flood.
const FLOOD: usize = 5_000;

/// How long a flood may take to be sent.
const FLOOD_TIME: Duration = Duration::from_secs(5);

pub(super) fn cases() -> Vec<Case> {
    [pings(), pongs(), liveness(), floods(), reserved()].concat()
}

fn pings() -> Vec<Case> {
    const EXPECTS: &str = "answers with a Pong";
    let mut cases = vec![
        case!("p2p/ping/answered", Must, PING_SECTION, ["H47"], "sends a Ping", EXPECTS, answered),
        case!(
            "p2p/ping/empty",
            Should,
            PING_SECTION,
            [],
            "sends a Ping with no data in place of an empty list",
            EXPECTS,
            |visit| ping_with(visit, &[])
        ),
        case!(
            "p2p/ping/elements",
            Should,
            PING_SECTION,
            [],
            "sends a Ping whose list has elements",
            EXPECTS,
            |visit| ping_with(visit, &[0xc3, 0x01, 0xc1, 0x05])
        ),
        case!(
            "p2p/ping/string",
            Should,
            PING_SECTION,
            [],
            "sends a Ping with a string in place of an empty list",
            EXPECTS,
            |visit| ping_with(visit, &[0x83, b'f', b'o', b'o'])
        ),
        case!(
            "p2p/ping/malformed",
            May,
            PING_SECTION,
            ["H37"],
            "sends a Ping with a list that claims 2^64 - 1 bytes",
            "closes the connection, or answers the next Ping",
            malformed,
            deadline: Duration::from_secs(45)
        ),
    ];
    cases.extend(breach!(
        "p2p/ping/large",
        Should,
        PING_SECTION,
        ["H48"],
        "sends a Ping with 3,000 bytes that do not compress",
        |visit| large(visit, 2),
        0x02
    ));
    cases
}

fn pongs() -> Vec<Case> {
    let mut cases = vec![
        case!(
            "p2p/pong/form",
            Must,
            PONG_SECTION,
            [],
            "sends a Ping",
            "answers with a Pong whose data is an empty list, compressed",
            pong_form
        ),
        case!(
            "p2p/pong/unsolicited",
            Should,
            PONG_SECTION,
            [],
            "sends five Pongs that nobody asked for, and a Ping",
            "answers the Ping",
            unsolicited
        ),
    ];
    cases.extend(breach!(
        "p2p/pong/large",
        Should,
        PONG_SECTION,
        ["H48"],
        "sends a Pong with 3,000 bytes that do not compress",
        |visit| large(visit, 3),
        0x02
    ));
    cases
}

/// What becomes of a peer that gives no sign of life.
fn liveness() -> Vec<Case> {
    const DOES: &str = "waits for a Ping, then sends a message each 4 s and never a Pong";
    vec![
        case!(
            "p2p/ping/sent",
            May,
            PING_SECTION,
            [],
            "sends nothing in the session",
            "sends a Ping within 40 s",
            sends_ping,
            deadline: Duration::from_secs(50)
        ),
        case!(
            "p2p/ping/silence",
            Should,
            PING_SECTION,
            ["H49"],
            "sends nothing in the session, and does not answer Pings",
            "closes the connection within 60 s",
            |visit| closed(silent(visit)),
            deadline: Duration::from_secs(75)
        ),
        case!(
            "p2p/ping/unanswered",
            Should,
            PING_SECTION,
            ["H49"],
            DOES,
            "closes the connection within 40 s of its Ping",
            |visit| closed(unanswered(visit)),
            deadline: Duration::from_secs(75)
        ),
        case!(
            "p2p/ping/unanswered/reason",
            Should,
            PING_SECTION,
            ["H49"],
            DOES,
            "sends Disconnect 0x0b, then closes",
            |visit| says(unanswered(visit), &[0x0b]),
            deadline: Duration::from_secs(75)
        ),
    ]
}

fn floods() -> Vec<Case> {
    const PONGS: &[u8] = &[3, 1, 0, 0xc0];
    const RESERVED: &[u8] = &[15, 1, 0, 0xc0];
    let deadline = Duration::from_secs(60);
    let mut cases = breach!(
        "p2p/ping/flood",
        Should,
        PING_SECTION,
        ["H47"],
        "sends 5,000 Pings without a pause",
        |visit| after_flood(visit, PING),
        0x02,
        deadline: deadline,
        alone: true
    )
    .to_vec();
    cases.extend([
        case!(
            "p2p/pong/flood",
            Should,
            PONG_SECTION,
            ["H48"],
            "sends 5,000 Pongs without a pause",
            "closes the connection, or answers a Ping",
            |visit| flood_survived(visit, PONGS),
            deadline: deadline
        ),
        case!(
            "p2p/base/flood",
            Should,
            MULTIPLEXING,
            ["H51"],
            "sends 5,000 messages with the id 0x0f without a pause",
            "closes the connection, or answers a Ping",
            |visit| flood_survived(visit, RESERVED),
            deadline: deadline
        ),
    ]);
    cases
}

fn reserved() -> Vec<Case> {
    vec![case!(
        "p2p/base/reserved-ids",
        Should,
        MULTIPLEXING,
        ["H51"],
        "sends a message with each id from 0x04 to 0x0f, and a Ping",
        "ignores them and answers the Ping",
        reserved_ids
    )]
}

async fn answered(visit: &Visit) -> Result<(), Stop> {
    goes_on(&mut visit.greet().await?).await
}

async fn ping_with(visit: &Visit, data: &[u8]) -> Result<(), Stop> {
    let mut script = session(visit).await?;
    script.send("a Ping with other data", 2, data).await;
    answer(&mut script, 3, Duration::from_secs(5)).await.map(drop)
}

async fn malformed(visit: &Visit) -> Result<(), Stop> {
    let mut script = session(visit).await?;
    script.send("a Ping with a list of 2^64 - 1 bytes", 2, &[0xff; 9]).await;
    goes_on_or_closes(&mut script).await
}

/// How the connection ends after a message with 3,000 bytes of data.
async fn large(visit: &Visit, id: u64) -> Result<Ending, Stop> {
    let mut data = vec![0xb9, 0x0b, 0xb8];
    let mut state = 1_u32;
    data.extend((0..3000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    }));
    after_message(visit, "3,000 bytes of data", id, &data).await
}

async fn pong_form(visit: &Visit) -> Result<(), Stop> {
    let mut script = session(visit).await?;
    script.send("Ping", 2, &[0xc0]).await;
    match &answer(&mut script, 3, Duration::from_secs(5)).await?[..] {
        [0xc0] => Ok(()),
        data => Err(Stop::failed(format!("the data of the Pong is {}", hex::encode(data)))),
    }
}

async fn unsolicited(visit: &Visit) -> Result<(), Stop> {
    let mut script = session(visit).await?;
    for _ in 0..5 {
        script.send("a Pong", 3, &[0xc0]).await;
    }
    goes_on(&mut script).await
}

async fn sends_ping(visit: &Visit) -> Result<(), Stop> {
    let mut script = session(visit).await?;
    answer(&mut script, 2, Duration::from_secs(40)).await.map(drop)
}

async fn silent(visit: &Visit) -> Result<Ending, Stop> {
    let mut script = session(visit).await?;
    script.set_answering(false);
    script.ending(Duration::from_secs(60)).await
}

/// How the connection ends when a Ping of the node gets no Pong, though other messages come.
async fn unanswered(visit: &Visit) -> Result<Ending, Stop> {
    let mut script = session(visit).await?;
    script.set_answering(false);
    let asked = script.expect(2, Duration::from_secs(25)).await;
    asked.map_err(|stop| Stop::unclear(format!("the node does not ask: {stop}")))?;
    let start = Instant::now();
    loop {
        // At once, for some nodes close the connection when nothing at all comes.
        script.send("a message that is ignored", 0x0f, &[0xc0]).await;
        let mut ending = script.ending(Duration::from_secs(4)).await?;
        (ending.after, ending.disconnect) = (start.elapsed(), script.disconnect);
        if ending.closed.is_some() || start.elapsed() >= PATIENCE {
            return Ok(ending);
        }
    }
}

/// Sends the same content over and over, until the node closes the connection or time is up.
async fn flood(script: &mut Script, content: &[u8]) {
    let start = Instant::now();
    for _ in 0..FLOOD / 500 {
        let frames = repeated(script, content, 500);
        script.send_raw("500 frames with the same message", &frames).await;
        if script.is_closed() || start.elapsed() > FLOOD_TIME {
            return;
        }
    }
}

async fn after_flood(visit: &Visit, content: &[u8]) -> Result<Ending, Stop> {
    compresses(visit)?;
    let mut script = session(visit).await?;
    flood(&mut script, content).await;
    script.ending(CLOSED).await
}

async fn flood_survived(visit: &Visit, content: &[u8]) -> Result<(), Stop> {
    compresses(visit)?;
    let mut script = session(visit).await?;
    flood(&mut script, content).await;
    // What the flood has left in queues is read first.
    sleep(Duration::from_secs(1)).await;
    goes_on_or_closes(&mut script).await
}

async fn reserved_ids(visit: &Visit) -> Result<(), Stop> {
    let mut script = session(visit).await?;
    for id in 4..16 {
        script.send(&format!("message {id:#04x}"), id, &[0xc0]).await;
    }
    goes_on(&mut script).await
}
