//! What the tests share: keys, and pairs that are connected, with each other or with the model of RLPx.

pub(crate) mod session;

use bytes::BytesMut;
use capmux::NodeKey;
use capmux::rlpx::{Established, HandshakeRandom, Initiator, Recipient, Step};
use capmux_conformance::model::Node;
use capmux_conformance::model::frames::Connection;
use sha2::{Digest, Sha256};

/// The key of the node with this number.
pub(crate) fn key(number: u8) -> NodeKey {
    NodeKey::from_bytes(&[number; 32]).expect("a small number is a key")
}

/// The same values for the same seed.
pub(crate) fn random(seed: u64) -> HandshakeRandom {
    let mut counter = 0u64;
    HandshakeRandom::new(|bytes| {
        for chunk in bytes.chunks_mut(32) {
            counter += 1;
            let block = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(counter.to_be_bytes()).finalize();
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    })
}

/// Node 1 with its `auth` for node 2, the same at each call.
pub(crate) fn initiator() -> (Initiator, Vec<u8>) {
    Initiator::new(&key(1), key(2).public_key(), random(1)).expect("the keys differ")
}

/// Node 2, waiting for an `auth`.
pub(crate) fn recipient() -> Recipient {
    Recipient::new(key(2), random(2))
}

pub(crate) fn done<S, D>(step: Step<S, D>) -> D {
    match step {
        Step::Done(result) => result,
        Step::More(_) => panic!("the handshake wants more bytes"),
    }
}

pub(crate) fn more<S, D>(step: Step<S, D>) -> S {
    match step {
        Step::More(state) => state,
        Step::Done(_) => panic!("the handshake is complete"),
    }
}

/// Nodes 1 and 2, connected.
pub(crate) fn pair() -> (Established, Established) {
    let (initiator, auth) = initiator();
    let (ack, at_recipient) = done(recipient().receive(&mut &auth[..]).expect("the auth is sound"));
    let at_initiator = done(initiator.receive(&mut &ack[..]).expect("the ack is sound"));
    (at_initiator, at_recipient)
}

/// The model, which dialled, and node 2.
pub(crate) fn model_dials() -> (Connection, Established) {
    let node = Node::new(1);
    let auth = node.auth(&key(2).public_key().to_bytes()).seal();
    let (ack, established) = done(recipient().receive(&mut &auth[..]).expect("the auth is sound"));
    (node.read_ack(auth, ack).expect("the ack is sound"), established)
}

/// Node 1, which dialled, and the model.
pub(crate) fn model_is_dialled() -> (Established, Connection) {
    let (initiator, auth) = initiator();
    let (ack, model) = Node::new(2).answer(auth, |ack| ack).expect("the auth is sound");
    (done(initiator.receive(&mut &ack[..]).expect("the ack is sound")), model)
}

/// The frame with this content.
pub(crate) fn seal(established: &mut Established, content: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    established.egress.seal(&mut frame, |out| out.extend_from_slice(content)).expect("the content fits a frame");
    frame.to_vec()
}

/// `length` bytes that do not repeat soon.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 251 + 1) as u8).collect()
}

/// A frame of either end arrives at the other.
pub(crate) fn assert_connected(row: &str, established: &mut Established, model: &mut Connection) {
    let mut frame = BytesMut::from(&model.egress.seal(b"from the model")[..]);
    let opened = established.ingress.open(&mut frame, 100).expect(row).expect(row);
    assert_eq!(opened, b"from the model"[..], "{row}");
    let frame = seal(established, b"to the model, sixteen times two.");
    let opened = model.ingress.open(&frame);
    assert_eq!(opened, Ok((32, b"to the model, sixteen times two.".to_vec())), "{row}");
}
