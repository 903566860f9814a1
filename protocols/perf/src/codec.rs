//! Sealing and opening frames, without sockets and tasks.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use capmux::p2p::{MessageEncoder, MessageId};
use capmux::rlpx::{Established, FRAME_OVERHEAD, HandshakeRandom, Ingress, Initiator, Recipient, Step};
use capmux::{NodeKey, PeerError};

use crate::PerfError;
use crate::node::random_payload;

/// How many bytes of frames are sealed before they are opened, and how many frames at the most.
const BATCH_BYTES: usize = 128 * 1024;
const BATCH_FRAMES: usize = 1000;

/// The id that the messages have: the first that is not the base protocol's.
const ID: MessageId = MessageId::new(0x10);

/// What one frame takes. Each is the median of many batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecTimes {
    /// To seal a message, uncompressed.
    pub seal: Duration,
    /// To open its frame.
    pub open: Duration,
}

/// Seals and opens messages with payloads of `size` bytes for so long, on this thread, in memory that is used again.
///
/// # Errors
/// [`PerfError`].
pub fn codec(size: usize, time: Duration) -> Result<CodecTimes, PerfError> {
    let payload = random_payload(size)?;
    let (egress, mut ingress) = direction()?;
    let mut encoder = MessageEncoder::new(egress);
    let on_wire = (size + 1).next_multiple_of(16) + FRAME_OVERHEAD;
    let frames = (BATCH_BYTES / on_wire).clamp(1, BATCH_FRAMES);
    let mut wire = BytesMut::with_capacity(frames * on_wire);
    let (mut seal, mut open, begin) = (Vec::new(), Vec::new(), Instant::now());
    // The first batch warms up.
    while seal.len() < 2 || begin.elapsed() < time {
        let start = Instant::now();
        for _ in 0..frames {
            encoder.message(ID, black_box(&payload), &mut wire).map_err(PeerError::from)?;
        }
        seal.push(start.elapsed());
        let start = Instant::now();
        for _ in 0..frames {
            black_box(ingress.open(&mut wire, usize::MAX).map_err(PeerError::from)?);
        }
        open.push(start.elapsed());
        // Every frame is gone, so this takes the same memory again.
        wire.reserve(frames * on_wire);
    }
    let each = |times: Vec<Duration>| median(times).div_f64(frames as f64);
    Ok(CodecTimes { seal: each(seal.split_off(1)), open: each(open.split_off(1)) })
}

/// The sending end of a connection, and the receiving end that belongs to it.
fn direction() -> Result<(capmux::rlpx::Egress, Ingress), PerfError> {
    let random = || HandshakeRandom::from_os().map_err(PerfError::random);
    let (alice, bob) = (NodeKey::random(), NodeKey::random());
    let (initiator, auth) = Initiator::new(&alice, bob.public_key(), random()?).map_err(PeerError::from)?;
    let recipient = Recipient::new(bob, random()?);
    let incomplete = || PeerError::Closed { inside_message: true };
    let Step::Done((ack, at_bob)) = recipient.receive(&mut &auth[..]).map_err(PeerError::from)? else {
        return Err(incomplete().into());
    };
    let Step::Done(at_alice) = initiator.receive(&mut &ack[..]).map_err(PeerError::from)? else {
        return Err(incomplete().into());
    };
    let Established { egress, .. } = at_alice;
    Ok((egress, at_bob.ingress))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
