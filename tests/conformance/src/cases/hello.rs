//! `p2p/hello`: the node's own Hello, and Hellos that it should accept.

use std::time::Duration;

use rlp::{PayloadInfo, Rlp, RlpStream};
use tokio::time::{Instant, sleep};

use super::steps::{CLOSED, breach, closed, goes_on, greet_raw, hello_accepted, session};
use crate::case::{Case, case};
use crate::ending::Ending;
use crate::hello::RawHello;
use crate::outcome::Stop;
use crate::visit::Visit;

const HELLO: &str = "rlpx.md, Hello (0x00)";
const VERSIONS: &str = "rlpx.md, \"p2p\" Capability; EIP-8, devp2p Wire Protocol";
const NAMES: &str = "rlpx.md, Capability Messaging";

/// The largest Hello that nodes need to accept, in bytes.
pub(super) const LARGEST: usize = 2048;

pub(super) fn cases() -> Vec<Case> {
    [own(), versions(), accepted(), order()].concat()
}

/// What the node says of itself.
fn own() -> Vec<Case> {
    vec![
        case!(
            "p2p/hello/own-form",
            Must,
            HELLO,
            [],
            "makes the handshake and sends an honest Hello",
            "sends a Hello that is a canonical list of at least five elements of the right types, not compressed",
            |visit| own_hello(visit, well_formed)
        ),
        case!(
            "p2p/hello/own-five-elements",
            Should,
            HELLO,
            [],
            "makes the handshake and sends an honest Hello",
            "sends a Hello of exactly five elements: some nodes refuse more",
            |visit| own_hello(visit, |data, _| match Rlp::new(data).item_count() {
                Ok(5) => Ok(()),
                count => Err(format!("{count:?} elements")),
            })
        ),
        case!(
            "p2p/hello/own-id",
            Must,
            HELLO,
            ["H42"],
            "makes the handshake and sends an honest Hello",
            "sends a Hello whose node id is its key",
            own_id
        ),
        case!(
            "p2p/hello/own-version",
            Should,
            VERSIONS,
            [],
            "makes the handshake and sends an honest Hello",
            "sends a Hello of version 5 or later",
            |visit| own_hello(visit, |_, hello| match hello.version {
                5.. => Ok(()),
                version => Err(format!("the version is {version}")),
            })
        ),
        case!(
            "p2p/hello/own-names",
            Must,
            NAMES,
            ["H54"],
            "makes the handshake and sends an honest Hello",
            "sends a Hello whose capabilities have names of 1 to 8 ASCII characters",
            |visit| own_hello(visit, |_, hello| {
                let good = |name: &[u8]| (1..=8).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
                match hello.capabilities.iter().all(|(name, _)| good(name)) {
                    true => Ok(()),
                    false => Err(format!("the capabilities are {}", hello.capability_names().join(" "))),
                }
            })
        ),
        case!(
            "p2p/hello/own-size",
            Should,
            HELLO,
            ["H40"],
            "makes the handshake and sends an honest Hello",
            "sends a Hello of at most 2,048 bytes: some nodes refuse more",
            |visit| own_hello(visit, |data, _| match data.len() {
                ..=LARGEST => Ok(()),
                size => Err(format!("it has {size} bytes")),
            })
        ),
    ]
}

/// Versions other than 5.
fn versions() -> Vec<Case> {
    const DOES: &str = "sends a Hello of another version";
    const EXPECTS: &str = "ignores the difference and answers a Ping; messages are compressed from version 5 on";
    vec![
        case!("p2p/hello/version-0", Must, VERSIONS, ["H45"], DOES, EXPECTS, |visit| version(visit, 0)),
        case!("p2p/hello/version-4", Must, VERSIONS, ["H45"], DOES, EXPECTS, |visit| version(visit, 4)),
        case!("p2p/hello/version-6", Must, VERSIONS, ["H45"], DOES, EXPECTS, |visit| version(visit, 6)),
        case!("p2p/hello/version-99", Must, VERSIONS, ["H45"], DOES, EXPECTS, |visit| version(visit, 99)),
        case!("p2p/hello/version-largest", Must, VERSIONS, ["H45"], DOES, EXPECTS, |visit| version(visit, u64::MAX)),
        case!(
            "p2p/hello/version-22-and-more-elements",
            Must,
            VERSIONS,
            ["H45"],
            "sends a Hello of version 22 with further elements, as in the example of EIP-8",
            "ignores the difference and answers a Ping",
            |visit| hello_accepted(visit, |hello| {
                hello.version = 22;
                hello.more = vec![0xc8, 0x83, b'f', b'o', b'o', 0x83, b'b', b'a', b'r', 0x03, 0x04];
            })
        ),
    ]
}

/// What is odd and harmless.
fn accepted() -> Vec<Case> {
    const EXPECTS: &str = "answers a Ping";
    vec![
        case!(
            "p2p/hello/more-elements",
            Must,
            HELLO,
            ["H45"],
            "sends a Hello with a string, a list and a number behind its five elements",
            EXPECTS,
            |visit| hello_accepted(visit, |hello| hello.more = vec![0x83, b'f', b'o', b'o', 0xc2, 0x01, 0xc0, 0x07])
        ),
        case!("p2p/hello/port-70000", Should, HELLO, ["H45"], "sends a Hello whose port is 70,000", EXPECTS, |visit| {
            hello_accepted(visit, |hello| hello.port = 70_000)
        }),
        case!(
            "p2p/hello/client-odd",
            Should,
            HELLO,
            ["H81"],
            "sends a Hello whose client id has a newline, escapes, a change of direction and invalid UTF-8",
            EXPECTS,
            |visit| hello_accepted(visit, |hello| hello.client = b"a\n\r\x1b[31m\0\xe2\x80\xae\xff\xfe%s%n".to_vec())
        ),
        case!("p2p/hello/client-empty", Should, HELLO, [], "sends a Hello with an empty client id", EXPECTS, |visit| {
            hello_accepted(visit, |hello| hello.client.clear())
        }),
        case!(
            "p2p/hello/largest",
            Should,
            HELLO,
            ["H40"],
            "sends a Hello of 2,048 bytes, with a long client id",
            EXPECTS,
            largest
        ),
        case!(
            "p2p/hello/late",
            Should,
            HELLO,
            ["H39"],
            "sends its Hello 3 s after the handshake",
            EXPECTS,
            late,
            deadline: Duration::from_secs(20)
        ),
    ]
}

/// What comes when.
fn order() -> Vec<Case> {
    let mut cases = vec![
        case!(
            "p2p/hello/first",
            Must,
            HELLO,
            [],
            "makes the handshake and sends an honest Hello",
            "sends a Hello before anything else, and no other after it",
            once
        ),
        case!(
            "p2p/hello/never",
            Should,
            HELLO,
            ["H39"],
            "makes the handshake and sends nothing",
            "closes the connection within 40 s",
            |visit| closed(never(visit)),
            deadline: Duration::from_secs(50)
        ),
    ];
    cases.extend(breach!(
        "p2p/hello/twice",
        Should,
        HELLO,
        ["H38"],
        "sends a second Hello in the session",
        twice,
        0x02
    ));
    cases
}

/// The node's own claims leave room in the largest Hello.
///
/// # Errors
/// [`Stop::Skipped`] when they do not.
pub(super) fn has_room(visit: &Visit) -> Result<(), Stop> {
    match visit.node.mirror(&visit.key()).encode().len() {
        0..LARGEST => Ok(()),
        _ => Err(Stop::skipped(format!("a Hello with the node's own claims has {LARGEST} bytes or more"))),
    }
}

async fn largest(visit: &Visit) -> Result<(), Stop> {
    has_room(visit)?;
    hello_accepted(visit, |hello| fill(hello, LARGEST)).await
}

/// Makes the Hello this many bytes long.
pub(super) fn fill(hello: &mut RawHello, size: usize) {
    hello.client.clear();
    while hello.encode().len() < size {
        hello.client.push(b'a');
    }
}

/// What holds for the node's own Hello.
async fn own_hello(
    visit: &Visit,
    holds: impl FnOnce(&[u8], &RawHello) -> Result<(), String> + Send,
) -> Result<(), Stop> {
    let mut script = visit.handshake().await?;
    let own = visit.node.mirror(&script.identity.public_key());
    let data = greet_raw(&mut script, own.version, &own.encode()).await?;
    let hello = RawHello::decode(&data).map_err(Stop::failed)?;
    holds(&data, &hello).map_err(Stop::failed)
}

async fn own_id(visit: &Visit) -> Result<(), Stop> {
    let key = visit.node.enode.public_key.to_bytes();
    let is_key = |_: &[u8], hello: &RawHello| match hello.id == key {
        true => Ok(()),
        false => Err(format!("the node id is {}", hex::encode(&hello.id))),
    };
    own_hello(visit, is_key).await
}

/// The list is as the specification has it, and is written in the only way that RLP has for it.
fn well_formed(data: &[u8], hello: &RawHello) -> Result<(), String> {
    let info = PayloadInfo::from(data).map_err(|error| error.to_string())?;
    if info.total() != data.len() {
        return Err(format!("its list has {} bytes of {}", info.total(), data.len()));
    }
    let mut again = RlpStream::new();
    again.begin_unbounded_list();
    again.append(&hello.version).append(&hello.client).begin_list(hello.capabilities.len());
    for (name, version) in &hello.capabilities {
        again.begin_list(2).append(name).append(version);
    }
    again.append(&hello.port).append(&hello.id);
    for more in Rlp::new(data).iter().skip(5) {
        again.append_raw(more.as_raw(), 1);
    }
    again.finalize_unbounded_list();
    match again.out() == data {
        true => Ok(()),
        false => Err(format!("it is not canonical: {}", hex::encode(data))),
    }
}

async fn version(visit: &Visit, version: u64) -> Result<(), Stop> {
    hello_accepted(visit, |hello| hello.version = version).await
}

async fn late(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.handshake().await?;
    let start = Instant::now();
    sleep(Duration::from_secs(3)).await;
    if start.elapsed() > Duration::from_secs(4) {
        return Err(Stop::unclear("this machine is too slow to be late on time"));
    }
    let own = visit.node.mirror(&script.identity.public_key());
    greet_raw(&mut script, own.version, &own.encode()).await?;
    goes_on(&mut script).await
}

async fn once(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.handshake().await?;
    let own = visit.node.mirror(&script.identity.public_key());
    greet_raw(&mut script, own.version, &own.encode()).await?;
    let ending = script.ending(Duration::from_secs(1)).await?;
    match ending.messages.contains(&0) {
        true => Err(Stop::failed(format!("a second Hello came: {ending}"))),
        false => Ok(()),
    }
}

async fn never(visit: &Visit) -> Result<Ending, Stop> {
    let mut script = visit.handshake().await?;
    script.set_answering(false);
    script.ending(Duration::from_secs(40)).await
}

async fn twice(visit: &Visit) -> Result<Ending, Stop> {
    let mut script = session(visit).await?;
    let own = visit.node.mirror(&script.identity.public_key());
    script.send("a second Hello", 0, &own.encode()).await;
    script.ending(CLOSED).await
}
