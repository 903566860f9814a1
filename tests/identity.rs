//! Who is at the other end: what a handshake proves, and what those get who only claim it.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use bytes::BytesMut;
use capmux::p2p::MessageEncoder;
use capmux::rlpx::{Decompressor, Established, FrameError, HandshakeError, Initiator, Recipient, Step};
use capmux_conformance::model::frames::Connection;
use capmux_conformance::model::handshake::{Ack, Auth, Rest, agree, open, public, seal, secret};
use capmux_conformance::model::{Broken, Node};
use common::{assert_connected, content, done, initiator, key, model_dials, model_is_dialled, pair, random, recipient};
use rlp::Rlp;

fn to_recipient(message: &[u8]) -> Result<Step<Recipient, (Vec<u8>, Established)>, HandshakeError> {
    recipient().receive(&mut &message[..])
}

#[test]
fn an_independent_model_can_dial_and_be_dialled() {
    let (mut model, mut established) = model_dials();
    assert_eq!(established.remote, key(1).public_key(), "R33");
    assert_connected("R33: dialled by the model", &mut established, &mut model);
    let (mut established, mut model) = model_is_dialled();
    assert_eq!(established.remote, key(2).public_key(), "R33");
    assert_connected("R33: dialled the model", &mut established, &mut model);
}

#[test]
fn both_messages_carry_version_4_and_random_padding() {
    let (_, auth) = initiator();
    let (ack, _) = done(to_recipient(&auth).unwrap());
    for (what, key, message, version) in [("auth", 2, &auth, 3), ("ack", 1, &ack, 2)] {
        let body = open(&secret(key), message).unwrap();
        assert_eq!(Rlp::new(&body).val_at(version), Ok(4_u8), "R33: {what}");
        let list = Rlp::new(&body).payload_info().unwrap().total();
        assert!((100..=200).contains(&(body.len() - list)), "R33: the padding of {what}");
    }
}

#[test]
fn nobody_connects_to_himself() {
    let own = key(2).public_key();
    let dialled = Initiator::new(&key(2), own, random(1));
    assert_eq!(dialled.err(), Some(HandshakeError::ConnectedToSelf), "H16 R35: dialling our own key");
    let auth = Node::new(2).auth(&own.to_bytes());
    assert_eq!(to_recipient(&auth.seal()).err(), Some(HandshakeError::ConnectedToSelf), "H16 R35: dialled by it");
}

#[test]
fn messages_for_another_key_are_refused() {
    let elsewhere = seal(&public(&secret(3)), &content(200));
    assert_eq!(to_recipient(&elsewhere).err(), Some(HandshakeError::Authentication), "R33: an auth for node 3");
    assert_eq!(
        initiator().0.receive(&mut &elsewhere[..]).err(),
        Some(HandshakeError::Authentication),
        "H17: an ack for it"
    );
}

#[test]
fn who_claims_a_key_without_holding_it_gets_nowhere() {
    // Node 3 says that it is node 1. It cannot sign the secret that nodes 1 and 2 share.
    let impostor = Node::new(3);
    let claim = Auth { public_key: public(&secret(1)), ..impostor.auth(&public(&secret(2))) };
    let (ack, mut at_recipient) = done(to_recipient(&claim.seal()).unwrap());
    assert_eq!(open(&impostor.key, &ack), Err(Broken::HandshakeTag), "R33: only node 1 can read the ack");
    let guess = agree(&impostor.ephemeral, &public(&secret(2))).unwrap();
    let mut model = Connection::new(&guess, (&impostor.nonce, &claim.seal()), (&[0; 32], &ack), true);
    let mut frame = BytesMut::from(&model.egress.seal(b"hello")[..]);
    assert_eq!(at_recipient.ingress.open(&mut frame, 100), Err(FrameError::HeaderMac), "R33: nor can he send");

    // Node 3 answers in the place of node 2. It cannot read the auth, so it does not know the initiator's nonce and
    // ephemeral key.
    let (initiator, auth) = initiator();
    assert_eq!(open(&impostor.key, &auth), Err(Broken::HandshakeTag), "R33: only node 2 can read the auth");
    let forged =
        Ack { ephemeral: public(&impostor.ephemeral), nonce: vec![3; 32], rest: Rest::new(public(&secret(1))) };
    let ack = forged.seal();
    let mut at_initiator = done(initiator.receive(&mut &ack[..]).unwrap());
    let guess = agree(&impostor.ephemeral, &public(&secret(1))).unwrap();
    let mut model = Connection::new(&guess, (&[0; 32], &auth), (&[3; 32], &ack), false);
    let mut frame = BytesMut::from(&model.egress.seal(b"hello")[..]);
    assert_eq!(at_initiator.ingress.open(&mut frame, 100), Err(FrameError::HeaderMac), "R33 H17");
}

#[test]
fn a_replayed_auth_gets_an_ack_that_leads_nowhere() {
    let (_, auth) = initiator();
    let (first_ack, _) = done(to_recipient(&auth).unwrap());
    let again = Recipient::new(key(2), random(77)).receive(&mut &auth[..]);
    let (ack, mut established) = done(again.unwrap());
    assert_ne!(ack, first_ack);
    // The frames of the first connection, replayed as well, do not open.
    let (mut at_initiator, _) = pair();
    let mut frame = BytesMut::from(&common::seal(&mut at_initiator, b"hello")[..]);
    assert_eq!(established.ingress.open(&mut frame, 100), Err(FrameError::HeaderMac), "R33: replayed");
}

#[test]
fn no_state_shows_its_secrets() {
    let (initiator, auth) = initiator();
    let nonce: Vec<u8> = Rlp::new(&open(&secret(2), &auth).unwrap()).val_at(2).unwrap();
    let shown = format!("{initiator:?} {:?} {:?} {:?}", recipient(), random(1), pair().0);
    for secret in [&[1; 32][..], &[2; 32], &nonce, &auth] {
        let (hex, list) = (hex::encode(&secret[..8]), format!("{:?}", &secret[..8]));
        assert!(!shown.contains(&hex) && !shown.contains(list.trim_matches(['[', ']'])), "R42 H83: {hex} in {shown}");
    }
    // What they show is what they are, and how far.
    let Established { egress, ingress, .. } = pair().0;
    let states = format!("{:?}, {egress:?}, {ingress:?}, {:?}", random(1), Decompressor::default());
    assert_eq!(states, "HandshakeRandom, Egress, Ingress { wants: 32, .. }, Decompressor", "R42");
    let node = format!("{:?}", key(2).public_key());
    assert_eq!(format!("{initiator:?}"), format!("Initiator {{ remote: {node}, wants: 2, .. }}"), "R42");
    let mut encoder = MessageEncoder::new(egress);
    assert_eq!(format!("{encoder:?}"), "MessageEncoder { snappy: false, .. }", "R42");
    encoder.enable_snappy();
    assert_eq!(format!("{encoder:?}"), "MessageEncoder { snappy: true, .. }", "R42");
}
