//! `p2p/capabilities`: what both ends have in common, and which message ids that makes.

use std::time::Duration;

use super::steps::{CLOSED, breach, claims_echo, echo, echoes, goes_on, session_with};
use crate::case::{Case, case};
use crate::ending::Ending;
use crate::hello::RawHello;
use crate::outcome::Stop;
use crate::visit::Visit;

const MULTIPLEXING: &str = "rlpx.md, Message ID-based Multiplexing";
const HELLO: &str = "rlpx.md, Hello (0x00)";

/// A list of capabilities.
type Claims = Vec<(Vec<u8>, u64)>;

pub(super) fn cases() -> Vec<Case> {
    [useless(), offsets(), odd()].concat()
}

/// Nothing in common.
fn useless() -> Vec<Case> {
    [
        breach!(
            "p2p/capabilities/none-shared",
            Should,
            HELLO,
            ["H53"],
            "claims one capability, which the node has not",
            |visit| after_claims(visit, |_| vec![claim("nothing", 1)]),
            0x03
        ),
        breach!(
            "p2p/capabilities/none",
            Should,
            HELLO,
            ["H53"],
            "claims no capability",
            |visit| after_claims(visit, |_| Vec::new()),
            0x03
        ),
        breach!(
            "p2p/capabilities/other-versions",
            Should,
            MULTIPLEXING,
            ["H53"],
            "claims what the node claims, each with a version that the node has not",
            |visit| after_claims(visit, |claims| {
                claims.into_iter().map(|(name, version)| (name, version.wrapping_add(1_000_000))).collect()
            }),
            0x03
        ),
        breach!(
            "p2p/capabilities/other-case",
            Should,
            MULTIPLEXING,
            ["H53"],
            "claims what the node claims, in capital letters",
            |visit| after_claims(visit, |claims| {
                claims.into_iter().map(|(name, version)| (name.to_ascii_uppercase(), version)).collect()
            }),
            0x03
        ),
    ]
    .concat()
}

/// `echo/1` is the only shared capability, so its first message has the id 0x10 whatever else is claimed.
fn offsets() -> Vec<Case> {
    const EXPECTS: &str = "takes 0x10 for the first message of echo/1, and answers with 0x11";
    vec![
        case!(
            "p2p/capabilities/alone",
            Must,
            MULTIPLEXING,
            ["H54"],
            "claims echo/1 alone and sends it a message",
            EXPECTS,
            |visit| offset(visit, |echo| vec![echo])
        ),
        case!(
            "p2p/capabilities/unshared-around",
            Must,
            MULTIPLEXING,
            ["H54"],
            "claims capabilities that the node has not, whose names come before and behind echo",
            EXPECTS,
            |visit| offset(visit, |echo| vec![
                claim("aaa", 1),
                claim("dzz", 9),
                echo,
                claim("echp", 1),
                claim("zzz", 1)
            ])
        ),
        case!(
            "p2p/capabilities/other-versions-around",
            Must,
            MULTIPLEXING,
            ["H54"],
            "claims echo in versions 0, 1 and 1,000,001",
            EXPECTS,
            |visit| offset(visit, |echo| vec![claim("echo", 0), echo, claim("echo", 1_000_001)])
        ),
        case!(
            "p2p/capabilities/other-case-around",
            Must,
            MULTIPLEXING,
            ["H54"],
            "claims Echo/1 and ECHO/1 besides echo/1",
            EXPECTS,
            |visit| offset(visit, |echo| vec![claim("ECHO", 1), claim("Echo", 1), echo])
        ),
        case!(
            "p2p/capabilities/unsorted",
            Must,
            MULTIPLEXING,
            ["H54"],
            "claims capabilities in an order that is not alphabetic",
            EXPECTS,
            |visit| offset(visit, |echo| vec![
                claim("zzz", 2),
                claim("zzz", 1),
                echo,
                claim("mmm", 7),
                claim("aaa", 1)
            ])
        ),
        case!(
            "p2p/capabilities/duplicates",
            Should,
            MULTIPLEXING,
            ["H54"],
            "claims echo/1 three times",
            EXPECTS,
            |visit| offset(visit, |echo| vec![echo.clone(), claim("aaa", 1), echo.clone(), claim("aaa", 1), echo])
        ),
    ]
}

/// Capabilities that no node should have, besides the node's own.
fn odd() -> Vec<Case> {
    const EXPECTS: &str = "ignores what it does not know, and answers a Ping";
    vec![
        case!(
            "p2p/capabilities/long-name",
            Should,
            HELLO,
            ["H54"],
            "claims a capability whose name has 300 characters besides those of the node",
            EXPECTS,
            |visit| besides(visit, vec![(vec![b'n'; 300], 1)])
        ),
        case!(
            "p2p/capabilities/empty-name",
            Should,
            HELLO,
            ["H54"],
            "claims a capability with an empty name besides those of the node",
            EXPECTS,
            |visit| besides(visit, vec![claim("", 1)])
        ),
        case!(
            "p2p/capabilities/odd-name",
            Should,
            HELLO,
            ["H54", "H81"],
            "claims capabilities whose names are not ASCII, not UTF-8, or control characters, besides those of the node",
            EXPECTS,
            |visit| besides(visit, vec![(b"\xff\xfe\0\n".to_vec(), 1), claim("\u{fc}n\u{ef}", 1), claim("\x1b[2J", 1)])
        ),
        case!(
            "p2p/capabilities/largest-version",
            Should,
            HELLO,
            ["H54"],
            "claims a capability of version 2^64 - 1 besides those of the node",
            EXPECTS,
            |visit| besides(visit, vec![claim("large", u64::MAX)])
        ),
        case!(
            "p2p/capabilities/many",
            Should,
            HELLO,
            ["H54"],
            "claims as many capabilities besides those of the node as 2 KiB hold",
            EXPECTS,
            many,
            deadline: Duration::from_secs(20)
        ),
    ]
}

fn claim(name: &str, version: u64) -> (Vec<u8>, u64) {
    (name.as_bytes().to_vec(), version)
}

/// How the connection ends of a node that claims this.
async fn after_claims(visit: &Visit, claims: impl FnOnce(Claims) -> Claims + Send) -> Result<Ending, Stop> {
    let change = |hello: &mut RawHello| hello.capabilities = claims(std::mem::take(&mut hello.capabilities));
    let mut script = visit.greet_with(change).await?;
    script.ending(CLOSED).await
}

async fn offset(visit: &Visit, claims: impl FnOnce((Vec<u8>, u64)) -> Claims + Send) -> Result<(), Stop> {
    claims_echo(visit)?;
    let mut script = session_with(visit, |hello| hello.capabilities = claims(echo())).await?;
    echoes(&mut script, b"where am I?").await
}

async fn besides(visit: &Visit, more: Claims) -> Result<(), Stop> {
    let mut script = visit.greet_with(|hello| hello.capabilities.extend(more)).await?;
    goes_on(&mut script).await
}

async fn many(visit: &Visit) -> Result<(), Stop> {
    super::hello::has_room(visit)?;
    let fill = |hello: &mut RawHello| {
        for version in 0.. {
            hello.capabilities.push(claim("a", version));
            if hello.encode().len() > super::hello::LARGEST {
                hello.capabilities.pop();
                return;
            }
        }
    };
    let mut script = visit.greet_with(fill).await?;
    goes_on(&mut script).await
}
