//! `p2p/hello`: Hellos that a node should refuse, and what comes in place of one.

use rlp::RlpStream;

use super::hello::{LARGEST, fill};
use super::steps::{CLOSED, after_first, after_hello, breach};
use crate::case::{Case, case};
use crate::ending::Ending;
use crate::outcome::Stop;
use crate::visit::Visit;

const HELLO: &str = "rlpx.md, Hello (0x00)";
const MESSAGES: &str = "rlpx.md, Message Encoding";

pub(super) fn cases() -> Vec<Case> {
    [identities(), shapes(), lists(), others()].concat()
}

/// Node ids that are not the key of the handshake. Those that do not differ between connections are sent on one at a
/// time: nodes that do not check them refuse the second for another reason.
fn identities() -> Vec<Case> {
    [
        breach!(
            "p2p/hello/id-zero",
            Should,
            HELLO,
            ["H41"],
            "sends a Hello whose node id is 64 zeros",
            |visit| after_hello(visit, |hello| hello.id = vec![0; 64]),
            0x07 | 0x09,
            alone: true
        ),
        breach!(
            "p2p/hello/id-another",
            Should,
            HELLO,
            ["H42"],
            "sends a Hello whose node id is not the key of the handshake",
            |visit| after_hello(visit, |hello| hello.id.rotate_left(1)),
            0x09
        ),
        breach!(
            "p2p/hello/id-of-the-node",
            Should,
            HELLO,
            ["H43"],
            "sends a Hello whose node id is the node's own",
            own_id,
            0x0a | 0x09
        ),
        breach!(
            "p2p/hello/id-short",
            Should,
            HELLO,
            ["H41"],
            "sends a Hello whose node id has 63 bytes",
            |visit| after_hello(visit, |hello| hello.id.truncate(63)),
            0x02 | 0x07
        ),
        breach!(
            "p2p/hello/id-long",
            Should,
            HELLO,
            ["H41"],
            "sends a Hello whose node id has a byte more than 64",
            |visit| after_hello(visit, |hello| hello.id.push(0)),
            0x02 | 0x07
        ),
        breach!(
            "p2p/hello/id-empty",
            Should,
            HELLO,
            ["H41"],
            "sends a Hello whose node id is empty",
            |visit| after_hello(visit, |hello| hello.id.clear()),
            0x02 | 0x07,
            alone: true
        ),
    ]
    .concat()
}

/// Hellos that are not the list they should be.
fn shapes() -> Vec<Case> {
    let mut cases = [
        breach!(
            "p2p/hello/too-large",
            Should,
            HELLO,
            ["H40"],
            "sends a Hello of 2,049 bytes",
            |visit| after_hello(visit, |hello| fill(hello, LARGEST + 1)),
            0x02
        ),
        breach!(
            "p2p/hello/four-elements",
            Should,
            HELLO,
            ["H38"],
            "sends a Hello of four elements, without a node id",
            |visit| built(visit, |list, _| {
                list.begin_list(4).append(&5u8).append(&"x").begin_list(0).append(&0u8);
            }),
            0x02 | 0x07
        ),
        breach!(
            "p2p/hello/no-elements",
            Should,
            HELLO,
            ["H38"],
            "sends a Hello that is an empty list",
            |visit| after_first(visit, "an empty Hello", &[0x80, 0xc0]),
            0x02
        ),
        breach!(
            "p2p/hello/no-data",
            Should,
            HELLO,
            ["H38"],
            "sends the id of a Hello and nothing behind it",
            |visit| after_first(visit, "the id of a Hello", &[0x80]),
            0x02
        ),
        breach!(
            "p2p/hello/string",
            Should,
            HELLO,
            ["H38"],
            "sends a Hello that is a string in place of a list",
            |visit| after_first(visit, "a string in place of a Hello", &[0x80, 0x83, b'f', b'o', b'o']),
            0x02
        ),
        breach!(
            "p2p/hello/version-list",
            Should,
            HELLO,
            ["H38"],
            "sends a Hello whose version is a list",
            |visit| built(visit, |list, id| {
                list.begin_list(5).begin_list(0).append(&"x").begin_list(0).append(&0u8).append(&id);
            }),
            0x02
        ),
        breach!(
            "p2p/hello/capabilities-string",
            Should,
            HELLO,
            ["H38"],
            "sends a Hello whose list of capabilities is a string",
            |visit| built(visit, |list, id| {
                list.begin_list(5).append(&5u8).append(&"x").append(&"echo").append(&0u8).append(&id);
            }),
            0x02
        ),
        breach!(
            "p2p/hello/capability-string",
            Should,
            HELLO,
            ["H38"],
            "sends a Hello with a capability that is a string in place of a pair",
            |visit| built(visit, |list, id| {
                list.begin_list(5).append(&5u8).append(&"x").begin_list(1).append(&"echo").append(&0u8).append(&id);
            }),
            0x02
        ),
    ]
    .concat();
    cases.push(case!(
        "p2p/hello/version-not-canonical",
        May,
        HELLO,
        [],
        "sends a Hello whose version is the number 5 in two bytes",
        "closes the connection within 4 s",
        |visit| super::steps::closed(built(visit, |list, id| {
            list.begin_list(5).append_raw(&[0x82, 0x00, 0x05], 1).append(&"x").begin_list(0).append(&0u8).append(&id);
        }))
    ));
    cases
}

/// Lists that are made to hurt.
fn lists() -> Vec<Case> {
    [
        breach!(
            "p2p/hello/list-of-2-64",
            Should,
            HELLO,
            ["H37"],
            "sends a Hello whose list claims 2^64 - 1 bytes",
            |visit| after_first(
                visit,
                "a Hello with a list of 2^64 - 1 bytes",
                &[0x80, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]
            ),
            0x02
        ),
        breach!(
            "p2p/hello/nested-lists",
            Should,
            HELLO,
            ["H37"],
            "sends a Hello of 2,000 lists, each in the one before it",
            |visit| {
                let lists = [&[0x80][..], &nested(2000)].concat();
                async move { after_first(visit, "a Hello of nested lists", &lists).await }
            },
            0x02
        ),
        breach!(
            "p2p/hello/empty-lists",
            Should,
            HELLO,
            ["H37", "H54"],
            "sends a Hello with 1,900 capabilities that are empty lists",
            |visit| built(visit, |list, id| {
                list.begin_list(5).append(&5u8).append(&"x").begin_list(1900);
                for _ in 0..1900 {
                    list.begin_list(0);
                }
                list.append(&0u8).append(&id);
            }),
            0x02
        ),
    ]
    .concat()
}

/// What is no Hello.
fn others() -> Vec<Case> {
    [
        breach!(
            "p2p/hello/ping-first",
            Should,
            HELLO,
            ["H38"],
            "sends a Ping in place of a Hello",
            |visit| after_first(visit, "a Ping", &[0x02, 0xc0]),
            0x02
        ),
        breach!(
            "p2p/hello/subprotocol-first",
            Should,
            HELLO,
            ["H38"],
            "sends a message of a subprotocol in place of a Hello",
            |visit| after_first(visit, "message 0x10", &[0x10, 0xc0]),
            0x02
        ),
        breach!(
            "p2p/hello/no-id",
            Should,
            MESSAGES,
            ["H38"],
            "sends a list in place of a message id, in the first frame",
            |visit| after_first(visit, "a list in place of a message id", &[0xc1, 0x80, 0xc0]),
            0x02
        ),
        breach!(
            "p2p/hello/size-zero",
            Should,
            MESSAGES,
            ["H23"],
            "sends a first frame of size 0",
            |visit| after_first(visit, "a frame of size 0", &[]),
            0x02
        ),
    ]
    .concat()
}

async fn own_id(visit: &Visit) -> Result<Ending, Stop> {
    let own = visit.node.enode.public_key.to_bytes();
    after_hello(visit, |hello| hello.id = own.to_vec()).await
}

/// How the connection ends of a node whose Hello is made by `build`, from the stream and the node id.
async fn built(visit: &Visit, build: impl FnOnce(&mut RlpStream, &[u8]) + Send) -> Result<Ending, Stop> {
    let mut script = visit.handshake().await?;
    let data = {
        let mut list = RlpStream::new();
        build(&mut list, &script.identity.public_key());
        list.out().to_vec()
    };
    debug_assert!(data.len() <= LARGEST, "only its shape is wrong");
    script.send("a Hello of another shape", 0, &data).await;
    script.ending(CLOSED).await
}

/// This many lists, each the only element of the one before it.
pub(super) fn nested(depth: usize) -> Vec<u8> {
    // From the inside out; what is built is reversed at the end, so that no byte is moved twice.
    let mut reversed = Vec::new();
    for _ in 0..depth {
        let length = reversed.len();
        match length {
            ..56 => reversed.push(0xc0 + length as u8),
            _ => {
                let digits = length.to_be_bytes();
                let significant = &digits[length.leading_zeros() as usize / 8..];
                reversed.extend(significant.iter().rev());
                reversed.push(0xf7 + significant.len() as u8);
            }
        }
    }
    reversed.reverse();
    reversed
}
