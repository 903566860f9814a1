//! Frames: what was sealed opens, and nothing else.

use arbitrary::{Result, Unstructured};
use bytes::BytesMut;

use super::{bytes, choice, split};
use crate::rlpx::inside;
use crate::rlpx::{Egress, FrameError, Ingress};

const HEADER: usize = 32;
const LIMIT: usize = 2048;

/// Frames that were really sealed, damaged after that, and split: those before the damage open to what was sealed, the
/// first damaged one fails at its first wrong tag, and nothing opens after it. Returns how many frames were opened,
/// that is got past both MACs.
///
/// The input: the limit (2 bytes), how many frames (1 byte), the frames, how many operations that damage them (1
/// byte), the operations, and the lengths of the pieces in which all of it arrives.
pub fn frame_decoder(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let limit = 1 + usize::from(u16::from_be_bytes(input.arbitrary()?)) % LIMIT;
    let (mut egress, ingress) = inside::direction();
    let frames: Vec<Frame> = (0..choice(input, 16)?).map(|_| Frame::seal(input, &mut egress)).collect::<Result<_>>()?;
    let original: Vec<Vec<u8>> = frames.iter().map(|frame| frame.wire.clone()).collect();
    let mut damaged = original.clone();
    for _ in 0..choice(input, 8)? {
        damage(input, &mut damaged)?;
    }
    let (original, damaged) = (original.concat(), damaged.concat());
    let expected = Expected::of(&frames, limit, &original, &damaged);
    let opened = feed(ingress, limit, &split(input, &damaged)?);
    assert_eq!(opened, expected);
    Ok(opened.contents.len())
}

/// A frame as it was sealed.
struct Frame {
    /// The size in its header.
    size: usize,
    content: Vec<u8>,
    wire: Vec<u8>,
}

impl Frame {
    fn seal(input: &mut Unstructured<'_>, egress: &mut Egress) -> Result<Self> {
        let mut wire = BytesMut::new();
        if choice(input, 4)? == 0 {
            let header: [u8; 16] = input.arbitrary()?;
            let size = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            // A frame that is refused for its size alone need not have a content of that size.
            let mut content = bytes(input, LIMIT)?.to_vec();
            content.resize(size.min(LIMIT).next_multiple_of(16), 0xee);
            egress.seal_with_header(&mut wire, header, &content);
            content.truncate(size);
            return Ok(Self { size, content, wire: wire.into() });
        }
        let content = bytes(input, LIMIT)?;
        let sealed = egress.seal(&mut wire, |out| out.extend_from_slice(content));
        assert_eq!(sealed, if content.is_empty() { Err(FrameError::Empty) } else { Ok(()) });
        Ok(Self { size: content.len(), content: content.into(), wire: wire.into() })
    }
}

/// Changes one of the frames, or their order.
fn damage(input: &mut Unstructured<'_>, frames: &mut Vec<Vec<u8>>) -> Result<()> {
    let operation = choice(input, 6)?;
    let (first, second, place) = (choice(input, 16)?, choice(input, 16)?, u16::from_be_bytes(input.arbitrary()?));
    if frames.is_empty() {
        frames.push(Vec::new());
    }
    let (first, second) = (usize::from(first) % frames.len(), usize::from(second) % frames.len());
    let place = usize::from(place) % (frames[first].len() + 1);
    match operation {
        0 => frames.swap(first, second),
        1 => frames.insert(second, frames[first].clone()),
        2 => drop(frames.remove(first)),
        3 => frames[first].truncate(place),
        4 => drop(frames[first].splice(place..place, bytes(input, 64)?.iter().copied())),
        _ => {
            let mask = input.arbitrary::<u8>()?;
            frames[first].iter_mut().skip(place).take(1).for_each(|byte| *byte ^= mask);
        }
    }
    Ok(())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Opened {
    contents: Vec<Vec<u8>>,
    error: Option<FrameError>,
}

type Expected = Opened;

impl Expected {
    /// What opens is decided by how far the damaged stream is the original one.
    fn of(frames: &[Frame], limit: usize, original: &[u8], damaged: &[u8]) -> Self {
        let same = original.iter().zip(damaged).take_while(|(original, damaged)| original == damaged).count();
        let mut expected = Self::default();
        let mut start = 0;
        for frame in frames.iter().filter(|frame| !frame.wire.is_empty()) {
            let (header, end) = (start + HEADER, start + frame.wire.len());
            let size = frame.size;
            expected.error = if damaged.len() < header {
                None
            } else if same < header {
                Some(FrameError::HeaderMac)
            } else if size == 0 {
                Some(FrameError::Empty)
            } else if size > limit {
                Some(FrameError::TooLarge { size, limit })
            } else if damaged.len() >= end && same < end {
                Some(FrameError::BodyMac)
            } else {
                None
            };
            if expected.error.is_some() || damaged.len() < end {
                return expected;
            }
            expected.contents.push(frame.content.clone());
            start = end;
        }
        // What follows the last frame was never sealed.
        expected.error = (damaged.len() >= start + HEADER).then_some(FrameError::HeaderMac);
        expected
    }
}

/// Opens what arrives in these pieces.
fn feed(mut ingress: Ingress, limit: usize, pieces: &[&[u8]]) -> Opened {
    let mut opened = Opened::default();
    let mut buffer = BytesMut::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match ingress.open(&mut buffer, limit) {
                Ok(Some(content)) => {
                    assert!((1..=limit).contains(&content.len()), "a content outside the limits");
                    opened.contents.push(content.to_vec());
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(ingress.open(&mut buffer, limit), Err(FrameError::Failed), "an error is not final");
                    assert_eq!(ingress.wants(), 0);
                    opened.error = Some(error);
                    return opened;
                }
            }
        }
        assert!(buffer.len() < ingress.wants(), "a step was possible and not taken");
        assert!(ingress.wants() <= limit.next_multiple_of(16).max(16) + 16, "more is wanted than the limit allows");
    }
    opened
}
