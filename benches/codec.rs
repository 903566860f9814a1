//! The codec, function by function: sealing, opening, and both beside the Keccak permutations that a frame needs; the
//! handshake beside the curve operations that it needs. Allocations are counted.
//!
//! ```text
//! cargo bench --bench codec
//! cargo bench --bench codec -- seal
//! ```
//!
//! The one allocation of `open`, of 40 bytes, is the reference count of the buffer that each frame arrives in here; a
//! connection reads many frames into one.
//!
//! A size is that of the payload; a frame's content is one byte longer, the message id. For ratios use the bench
//! `floor`, which alternates.

mod support;

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use capmux::NodeKey;
use capmux::p2p::{MessageEncoder, MessageId};
use capmux::rlpx::{Decompressor, Initiator, Recipient, Step};
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const ID: MessageId = MessageId::new(0x10);

fn main() {
    divan::main();
}

/// The permutations alone: what sealing or opening an uncompressed message cannot be faster than.
#[divan::bench(args = support::SIZES)]
fn floor(bencher: Bencher<'_, '_>, size: usize) {
    let count = support::permutations(size + 1);
    let mut state = [0; 25];
    bencher.counter(BytesCount::new(size)).bench_local(|| support::permute(black_box(&mut state), count));
}

#[divan::bench(args = support::SIZES)]
fn seal(bencher: Bencher<'_, '_>, size: usize) {
    bench_seal(bencher, support::direction().0, &support::random_payload(size));
}

#[divan::bench(args = support::SIZES)]
fn seal_snappy_random(bencher: Bencher<'_, '_>, size: usize) {
    bench_seal(bencher, compressing(), &support::random_payload(size));
}

#[divan::bench(args = support::SIZES)]
fn seal_snappy_compressible(bencher: Bencher<'_, '_>, size: usize) {
    bench_seal(bencher, compressing(), &support::compressible_payload(size));
}

#[divan::bench(args = support::SIZES)]
fn open(bencher: Bencher<'_, '_>, size: usize) {
    bench_open(bencher, false, &support::random_payload(size));
}

#[divan::bench(args = support::SIZES)]
fn open_snappy_random(bencher: Bencher<'_, '_>, size: usize) {
    bench_open(bencher, true, &support::random_payload(size));
}

#[divan::bench(args = support::SIZES)]
fn open_snappy_compressible(bencher: Bencher<'_, '_>, size: usize) {
    bench_open(bencher, true, &support::compressible_payload(size));
}

/// Both ends of a handshake, from the keys to the established connection.
#[divan::bench]
fn handshake(bencher: Bencher<'_, '_>) {
    let (alice, bob) = support::keys();
    let remote = bob.public_key();
    bencher.with_inputs(|| (support::randomness(1), Recipient::new(bob.clone(), support::randomness(2)))).bench_values(
        |(random, recipient)| {
            let (initiator, auth) = Initiator::new(&alice, remote, random).expect("two different keys");
            let Ok(Step::Done((ack, at_bob))) = recipient.receive(&mut &auth[..]) else { panic!("the auth is whole") };
            let Ok(Step::Done(at_alice)) = initiator.receive(&mut &ack[..]) else { panic!("the ack is whole") };
            (at_alice, at_bob)
        },
    );
}

/// The curve operations that the two ends cannot do without: eight Diffie-Hellman agreements (each end: static keys,
/// ephemeral keys, and one for each message sealed or opened), one signature, one recovery, and three public keys (of
/// the key that seals each message, and the recipient's ephemeral one).
#[divan::bench]
fn handshake_curve_floor(bencher: Bencher<'_, '_>) {
    let (alice, bob) = (secret(1), secret(2));
    let remote = secp256k1::PublicKey::from_secret_key(&bob);
    let message = secp256k1::Message::from_digest([3; 32]);
    bencher.bench(|| {
        for _ in 0..8 {
            black_box(secp256k1::ecdh::shared_secret_point(black_box(&remote), &alice));
        }
        for _ in 0..3 {
            black_box(secp256k1::PublicKey::from_secret_key(black_box(&alice)));
        }
        let signature = secp256k1::ecdsa::RecoverableSignature::sign_ecdsa_recoverable(black_box(message), &alice);
        signature.recover(message).expect("the signature was made for this message")
    });
}

/// What making a key costs, which is not part of a handshake's measurement.
#[divan::bench]
fn key_generation() -> NodeKey {
    NodeKey::random()
}

fn secret(byte: u8) -> secp256k1::SecretKey {
    secp256k1::SecretKey::from_secret_bytes([byte; 32]).expect("a small number is a key")
}

fn compressing() -> MessageEncoder {
    let (mut encoder, _) = support::direction();
    encoder.enable_snappy();
    encoder
}

fn bench_seal(bencher: Bencher<'_, '_>, mut encoder: MessageEncoder, payload: &[u8]) {
    let mut out = BytesMut::new();
    encoder.message(ID, payload, &mut out).expect("the payload fits a frame");
    bencher.counter(BytesCount::new(payload.len())).bench_local(|| {
        out.clear();
        encoder.message(ID, black_box(payload), &mut out)
    });
}

/// Each input is a frame that has just been sealed by the other end, so that its turn has come when it is opened.
fn bench_open(bencher: Bencher<'_, '_>, snappy: bool, payload: &[u8]) {
    let (mut encoder, mut ingress) = support::direction();
    if snappy {
        encoder.enable_snappy();
    }
    let encoder = RefCell::new(encoder);
    let mut decompressor = Decompressor::default();
    let sealed = || {
        let mut frame = BytesMut::new();
        encoder.borrow_mut().message(ID, payload, &mut frame).expect("the payload fits a frame");
        frame
    };
    bencher.counter(BytesCount::new(payload.len())).with_inputs(sealed).bench_local_values(|mut frame| -> Bytes {
        let content = ingress.open(&mut frame, usize::MAX).expect("it was sealed for this end");
        let mut content = content.expect("the frame is whole").freeze();
        MessageId::take(&mut content).expect("a message begins with its id");
        if snappy { decompressor.decompress(&content, payload.len()).expect("it was compressed") } else { content }
    });
}
