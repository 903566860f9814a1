//! Hostile nodes that are dialled: H17 and H18.

use std::time::Duration;

use capmux::testing::MemoryListener;
use capmux::{Ending, Listener, NodeAddr, PeerError, PublicKey, Stage, Transport};
use capmux_conformance::model::handshake::{Rest, public, secret};
use capmux_conformance::model::{self, Node};
use capmux_conformance::{Script, Transcript};
use tokio::time::Instant;

use crate::arena::{Arena, Scene, TIMES};
use crate::support::assert_elapsed;

/// Longer than any limit.
const LONG: Duration = Duration::from_secs(60);

/// A node of the attacker that can be dialled.
pub(crate) struct Trap {
    pub(crate) identity: Node,
    pub(crate) address: NodeAddr,
    listener: MemoryListener,
}

impl Trap {
    /// It listens at a host of its own. The same number is the same node.
    pub(crate) async fn open(arena: &Arena, number: usize) -> Self {
        let host = arena.network().host(&format!("10.0.2.{number}"));
        let listener = host.listen(&host.address()).await.expect("the address is free");
        let identity = Node::new(1 + (number % TIMES) as u8);
        let key = PublicKey::from_bytes(&identity.public_key()).expect("it is a key");
        Self { identity, address: NodeAddr::new(key, [host.address()]), listener }
    }

    /// Who dials it, and the `auth`.
    pub(crate) async fn accept(&mut self) -> (Script, Vec<u8>) {
        let stream = self.listener.accept().await.expect("it is dialled").into_stream();
        let mut script = Script::new(stream, self.identity.clone(), Transcript::default());
        let size = script.receive_raw(2, LONG).await.expect("an auth");
        let length = usize::from(u16::from_be_bytes([size[0], size[1]]));
        let auth = [size, script.receive_raw(length, LONG).await.expect("all of it")].concat();
        (script, auth)
    }

    /// Who dials it, after the encryption handshake.
    pub(crate) async fn answer(&mut self) -> Script {
        let (mut script, auth) = self.accept().await;
        let (ack, connection) = self.identity.answer(auth, |ack| ack).expect("a sound auth");
        script.send_raw("ack", &ack).await;
        script.encrypt(connection);
        script
    }
}

/// The dial fails before it is known who is at the other end.
fn assert_nobody(arena: &Arena, trap: &Trap, ending: &Ending, row: &str) {
    assert_eq!(ending.stage(), Stage::Encryption, "{row}: {ending}");
    assert!(arena.server.peer(&trap.address.node_id()).is_none(), "{row}: no identity is learned");
}

#[test]
pub(crate) fn bad_acks_end_the_dial_without_an_identity() {
    Scene::of("H17").at_once(10).repeat(async |arena, number| {
        let mut trap = Trap::open(arena, number).await;
        let (dialled, mut script) = tokio::join!(arena.server.dial(trap.address.clone()), async {
            let (mut script, auth) = trap.accept().await;
            script.send_raw("ack", &bad_ack(&trap.identity, auth, number)).await;
            script
        });
        let ending = dialled.expect_err("H17");
        assert_nobody(arena, &trap, &ending, "H17");
        assert!(matches!(ending.error(), PeerError::Handshake(_)), "H17: a handshake error: {ending}");
        let said = script.ending(LONG).await.expect("nothing is encrypted");
        said.expect_silent().unwrap_or_else(|stop| panic!("H17: {stop}"));
    });
}

/// With a bad key, too large, for another static key, or changed under way.
fn bad_ack(identity: &model::Node, auth: Vec<u8>, number: usize) -> Vec<u8> {
    let answer = |change: fn(&mut model::handshake::Ack)| {
        let changed = |mut ack| {
            change(&mut ack);
            ack
        };
        identity.answer(auth, changed).expect("a sound auth").0
    };
    match number % 5 {
        0 => answer(|ack| ack.ephemeral = [0; 64]),
        1 => answer(|ack| ack.ephemeral[63] ^= 1),
        2 => answer(|ack| ack.rest.padding = 5_000),
        3 => answer(|ack| ack.rest = Rest::new(public(&secret(9)))),
        _ => {
            let mut ack = answer(|_| ());
            let place = 2 + number % (ack.len() - 2);
            ack[place] ^= 0x10;
            ack
        }
    }
}

#[test]
pub(crate) fn a_node_that_never_acks_ends_the_dial_at_five_seconds() {
    Scene::of("H18").at_once(10).repeat(async |arena, number| {
        let mut trap = Trap::open(arena, number).await;
        let since = Instant::now();
        let (dialled, accepted) = tokio::join!(arena.server.dial(trap.address.clone()), trap.accept());
        let ending = dialled.expect_err("H18");
        assert_elapsed(since, Duration::from_secs(5), "H18: within 5 s");
        assert_nobody(arena, &trap, &ending, "H18");
        assert!(arena.server.status().dialling < 10, "H18: its slot is free again");
        drop(accepted);
    });
}
