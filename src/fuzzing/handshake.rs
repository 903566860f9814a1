//! `auth` and `ack`: as bytes, and as bodies that were really encrypted for the key that reads them.

use std::fmt::Debug;

use arbitrary::{Result, Unstructured};
use rlp::RlpStream;

use super::{bytes, choice, split};
use crate::node::{NodeKey, PublicKey};
use crate::rlpx::inside;
use crate::rlpx::{HandshakeError, HandshakeRandom, Initiator, MAX_HANDSHAKE_SIZE, Recipient, Step};

/// What ECIES adds to a body.
const OVERHEAD: usize = 113;

/// An `auth` for the recipient: raw bytes, a body that was encrypted for it, or a valid one with changes. Split and
/// whole, it gives the same result. Returns 1 when its body was reached, that is when its tag was right.
///
/// The input: the kind (1 byte), what the kind needs, and the lengths of the pieces.
pub fn auth(data: &[u8]) -> usize {
    let (initiator, recipient) = keys();
    let recipient_key = recipient.public_key();
    let mut input = Unstructured::new(data);
    let message = message(&mut input, &recipient, || {
        Initiator::new(&initiator, recipient_key, random(1)).expect("the keys differ").1
    });
    let state = || Recipient::new(recipient.clone(), random(2));
    let receive = |state: Recipient, input: &mut &[u8]| {
        let step = state.receive(input)?;
        Ok(match step {
            Step::More(state) => Step::More((state.wants(), state)),
            Step::Done((ack, established)) => Step::Done((ack, established.remote)),
        })
    };
    let Ok(message) = message else { return 0 };
    let outcome = both_ways(&mut input, &message, state, receive);
    if let Ok(Some((ack, remote))) = &outcome {
        assert!((2 + OVERHEAD..=2 + MAX_HANDSHAKE_SIZE).contains(&ack.len()));
        assert_ne!(*remote, recipient_key, "connected to itself");
    }
    reached(&outcome)
}

/// An `ack` for the initiator, made as for [`auth`]. Returns 1 when its body was reached.
pub fn ack(data: &[u8]) -> usize {
    let (initiator, recipient) = keys();
    let remote = recipient.public_key();
    let state = || Initiator::new(&initiator, remote, random(1)).expect("the keys differ");
    let mut input = Unstructured::new(data);
    let message = message(&mut input, &initiator, || {
        let recipient = Recipient::new(recipient.clone(), random(2));
        match recipient.receive(&mut &state().1[..]) {
            Ok(Step::Done((ack, _))) => ack,
            _ => unreachable!("the auth is whole and valid"),
        }
    });
    let receive = |state: Initiator, input: &mut &[u8]| {
        let step = state.receive(input)?;
        Ok(match step {
            Step::More(state) => Step::More((state.wants(), state)),
            Step::Done(established) => Step::Done(established.remote),
        })
    };
    let Ok(message) = message else { return 0 };
    let outcome = both_ways(&mut input, &message, || state().0, receive);
    if let Ok(Some(learned)) = &outcome {
        assert_eq!(*learned, remote, "another identity than the one that was dialled");
    }
    reached(&outcome)
}

/// The bytes of the message. Its body is encrypted for `reader`, except in the first kind, which is raw.
fn message(input: &mut Unstructured<'_>, reader: &NodeKey, valid: impl Fn() -> Vec<u8>) -> Result<Vec<u8>> {
    let reader_key = reader.public_key();
    Ok(match choice(input, 5)? {
        0 => bytes(input, 4096)?.to_vec(),
        1 => inside::handshake_message(&reader_key, bytes(input, 4096)?),
        2 => {
            let mut body = RlpStream::new_list(4);
            for _ in 0..4 {
                body.append(&bytes(input, 80)?);
            }
            inside::handshake_message(&reader_key, &body.out())
        }
        3 => {
            let mut body = inside::handshake_body(&valid(), reader).expect("it was made for this key");
            change(input, &mut body)?;
            inside::handshake_message(&reader_key, &body)
        }
        _ => {
            let mut message = valid();
            change(input, &mut message)?;
            message
        }
    })
}

/// Changes up to seven bytes and the length.
fn change(input: &mut Unstructured<'_>, message: &mut Vec<u8>) -> Result<()> {
    for _ in 0..choice(input, 8)? {
        let place = usize::from(u16::from_be_bytes(input.arbitrary()?)) % message.len();
        message[place] ^= input.arbitrary::<u8>()?;
    }
    let cut = usize::from(u16::from_be_bytes(input.arbitrary()?)) % (message.len() + 1);
    message.truncate(message.len() - cut);
    message.extend_from_slice(bytes(input, 2048)?);
    Ok(())
}

/// The result for the message as one piece, which must be that for the pieces that the input asks for; `None` when
/// bytes are missing.
fn both_ways<S, D: Debug + PartialEq>(
    input: &mut Unstructured<'_>,
    message: &[u8],
    state: impl Fn() -> S,
    receive: impl Fn(S, &mut &[u8]) -> std::result::Result<Step<(usize, S), D>, HandshakeError>,
) -> std::result::Result<Option<D>, HandshakeError> {
    let whole = run(state(), &receive, &[message], message);
    let pieces = split(input, message).unwrap_or_default();
    assert_eq!(run(state(), &receive, &pieces, message), whole, "the result depends on how the message is split");
    whole
}

fn run<S, D>(
    mut state: S,
    receive: &impl Fn(S, &mut &[u8]) -> std::result::Result<Step<(usize, S), D>, HandshakeError>,
    pieces: &[&[u8]],
    message: &[u8],
) -> std::result::Result<Option<D>, HandshakeError> {
    let mut taken = 0;
    for piece in pieces {
        let mut rest = *piece;
        let step = receive(state, &mut rest)?;
        taken += piece.len() - rest.len();
        match step {
            Step::More((wants, next)) => {
                assert!(rest.is_empty(), "bytes are left although more are wanted");
                assert!((1..=MAX_HANDSHAKE_SIZE).contains(&wants));
                state = next;
            }
            Step::Done(done) => {
                let size = usize::from(u16::from_be_bytes([message[0], message[1]]));
                assert_eq!(taken, 2 + size, "exactly the message is taken");
                return Ok(Some(done));
            }
        }
    }
    Ok(None)
}

fn reached<D>(outcome: &std::result::Result<Option<D>, HandshakeError>) -> usize {
    use HandshakeError::{Authentication, InvalidPoint, TooLong, TooShort};
    match outcome {
        Ok(None) | Err(Authentication | InvalidPoint | TooLong { .. } | TooShort { .. }) => 0,
        Ok(Some(_)) | Err(_) => 1,
    }
}

/// The keys of the two ends.
pub(super) fn keys() -> (NodeKey, NodeKey) {
    let key = |byte| NodeKey::from_bytes(&[byte; 32]).expect("a small number is a key");
    (key(1), key(2))
}

/// The public keys of the two ends.
pub(super) fn public_keys() -> (PublicKey, PublicKey) {
    let (first, second) = keys();
    (first.public_key(), second.public_key())
}

fn random(seed: u8) -> HandshakeRandom {
    let mut next = seed;
    HandshakeRandom::new(|buffer| {
        next = next.wrapping_add(16);
        buffer.fill(next);
    })
}
