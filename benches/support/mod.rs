//! What both codec benchmarks start from: an established connection, payloads, and the permutations that a frame needs.

#![allow(dead_code, reason = "each benchmark uses its part")]

use capmux::NodeKey;
use capmux::p2p::MessageEncoder;
use capmux::rlpx::{HandshakeRandom, Ingress, Initiator, Recipient, Step};

/// The payload sizes that are measured. The content of a frame is one byte longer: the message id.
pub(crate) const SIZES: [usize; 7] = [0, 32, 256, 1 << 10, 16 << 10, 128 << 10, 1 << 20];

/// Two keys that are always the same.
pub(crate) fn keys() -> (NodeKey, NodeKey) {
    let key = |byte| NodeKey::from_bytes(&[byte; 32]).expect("a small number is a key");
    (key(1), key(2))
}

/// The random values of a handshake, always the same.
pub(crate) fn randomness(seed: u64) -> HandshakeRandom {
    let mut random = Random(seed);
    HandshakeRandom::new(|buffer| random.fill(buffer))
}

/// The sending end of a connection, and the receiving end that belongs to it.
pub(crate) fn direction() -> (MessageEncoder, Ingress) {
    let (alice, bob) = keys();
    let (initiator, auth) = Initiator::new(&alice, bob.public_key(), randomness(1)).expect("two different keys");
    let recipient = Recipient::new(bob, randomness(2));
    let Ok(Step::Done((ack, at_bob))) = recipient.receive(&mut &auth[..]) else { panic!("the auth is whole") };
    let Ok(Step::Done(at_alice)) = initiator.receive(&mut &ack[..]) else { panic!("the ack is whole") };
    (MessageEncoder::new(at_alice.egress), at_bob.ingress)
}

/// Bytes that do not compress.
pub(crate) fn random_payload(size: usize) -> Vec<u8> {
    let mut payload = vec![0; size];
    Random(3).fill(&mut payload);
    payload
}

/// Bytes that compress to about half: random ones, each sixty-four twice.
pub(crate) fn compressible_payload(size: usize) -> Vec<u8> {
    let half = random_payload(size.div_ceil(2));
    half.chunks(64).flat_map(|chunk| [chunk, chunk]).flatten().copied().take(size).collect()
}

/// The least permutations that a frame with `content` bytes needs in one direction, by the formula of the
/// documentation: three digests, and one for each 136 bytes taken in.
pub(crate) fn permutations(content: usize) -> usize {
    3 + content.div_ceil(136)
}

/// Keccak-f[1600], `count` times on one state.
pub(crate) fn permute(state: &mut [u64; 25], count: usize) {
    keccak::Keccak::new().with_f1600(|f1600| (0..count).for_each(|_| f1600(state)));
}

/// A xorshift generator: the same bytes in every run.
struct Random(u64);

impl Random {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}
