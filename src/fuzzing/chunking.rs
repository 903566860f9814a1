//! Chunks alone: cut by several senders at once, and made by nobody.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use bytes::{Bytes, BytesMut};
use rlp::Rlp;

use super::{bytes, choice};
use crate::p2p::chunk::{self, Reassembly};
use crate::p2p::{Capability, ChunkError, Chunking, MAX_CHUNK_SIZE, MessageId, Registered, SharedCapabilities};

/// The largest message of each protocol.
const LIMITS: [usize; 3] = [50, 3000, 200_000];

/// Messages of three protocols that are cut as the input says, whose chunks arrive in turns: each comes out whole, when
/// its last chunk is there and not before, and no more is held than was sent. After that come bytes of any kind: what
/// is accepted has the only form that it can have. Returns how many messages came out.
///
/// The input: operations of a byte and what belongs to it.
pub fn chunking(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let mut driver = Driver::new();
    while !input.is_empty() {
        let place = usize::from(choice(input, 3)?);
        let goes_on = match choice(input, 8)? {
            0..5 => driver.send(place, input)?,
            5 => {
                driver.pass(Duration::from_millis(u16::from_be_bytes(input.arbitrary()?).into()));
                true
            }
            6 => {
                driver.forge(place, input)?;
                false
            }
            _ => {
                driver.raw(input)?;
                false
            }
        };
        driver.check_held();
        if !goes_on {
            break;
        }
    }
    Ok(driver.whole)
}

/// A message that is being sent.
struct Sending {
    code: u64,
    data: Vec<u8>,
    sent: usize,
    since: Instant,
}

struct Driver {
    shared: SharedCapabilities,
    reassembly: Reassembly,
    chunking: Chunking,
    sending: BTreeMap<usize, Sending>,
    now: Instant,
    count: u8,
    whole: usize,
}

impl Driver {
    fn new() -> Self {
        let names = ["bzz", "eth", "snap"].into_iter().zip(LIMITS);
        let registered: Vec<Registered> = names
            .map(|(name, max_message_size)| {
                let capability = Capability::new(name, 1).expect("the name is valid");
                Registered { capability, length: 3, max_message_size, rate: None }
            })
            .collect();
        let hidden = chunk::registered();
        let offered: Vec<Capability> =
            registered.iter().chain([&hidden]).map(|registered| registered.capability.clone()).collect();
        let (shared, hidden) = SharedCapabilities::negotiate_with(&registered, Some(&hidden), &offered);
        let reassembly = Reassembly::new(hidden.expect("both ends have it"));
        let chunking = reassembly.chunking;
        Self { shared, reassembly, chunking, sending: BTreeMap::new(), now: Instant::now(), count: 0, whole: 0 }
    }

    /// Sends the next chunk of the message of a protocol, or the first of a new one.
    fn send(&mut self, place: usize, input: &mut Unstructured<'_>) -> Result<bool> {
        let piece = 1 + usize::from(u16::from_be_bytes(input.arbitrary()?)) % Chunking::MAX_PIECE;
        let mut data = BytesMut::new();
        let is_first = !self.sending.contains_key(&place);
        let mut message = match self.sending.remove(&place) {
            Some(message) => message,
            None => self.begin(place, input)?,
        };
        let id = self.shared[place].message_id(message.code).expect("the code is below the length");
        let end = message.data.len().min(message.sent + piece);
        let piece = &message.data[message.sent..end];
        let chunk = match is_first {
            true => self.chunking.encode_first(id, message.data.len(), piece, &mut data),
            false => self.chunking.encode_more(id, piece, &mut data),
        };
        assert!(self.chunking.is_chunk(chunk) && data.len() <= MAX_CHUNK_SIZE, "{} bytes", data.len());
        let received = self.reassembly.receive(chunk, &data, &self.shared, self.now);
        message.sent = end;
        if message.data.len() > LIMITS[place] {
            assert!(matches!(received, Err(ChunkError::TooLarge { limit, .. }) if limit == LIMITS[place]));
            return Ok(false);
        }
        let (at, whole) = received.expect("it was sent as it should be");
        assert_eq!(at, place);
        assert_eq!(whole.is_some(), end == message.data.len(), "a message is delivered when it is whole");
        match whole {
            Some(whole) => {
                assert_eq!((whole.place, whole.code, &whole.payload[..]), (place, message.code, &message.data[..]));
                self.whole += 1;
            }
            None => drop(self.sending.insert(place, message)),
        }
        Ok(true)
    }

    fn begin(&mut self, place: usize, input: &mut Unstructured<'_>) -> Result<Sending> {
        let (code, size) = (u64::from(choice(input, 3)?), usize::from(u16::from_be_bytes(input.arbitrary()?)));
        // The largest is 196 KiB, and every seventh is a byte above the limit.
        let size = match size % 7 {
            0 => LIMITS[place] + usize::from(size.is_multiple_of(2)),
            _ => 1 + 3 * size % LIMITS[place],
        };
        self.count = self.count.wrapping_add(1);
        let data = (0..size).map(|index| (index as u8).wrapping_mul(31) ^ self.count).collect();
        Ok(Sending { code, data, sent: 0, since: self.now })
    }

    /// Time passes, half of which is this end's own.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.reassembly.excuse(time / 2);
        self.sending.values_mut().for_each(|message| message.since += time / 2);
    }

    /// A chunk that is right in itself, and has no right to be there unless chance wants it.
    fn forge(&mut self, place: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let (is_first, code) = (choice(input, 2)? == 0, u64::from(choice(input, 4)?));
        let id = MessageId::new(self.shared[place].message_id(0).expect("it has codes").value() + code);
        let size = usize::from(u16::from_be_bytes(input.arbitrary()?));
        let piece = bytes(input, 4096)?;
        let mut data = BytesMut::new();
        let chunk = match is_first {
            true => self.chunking.encode_first(id, size, piece, &mut data),
            false => self.chunking.encode_more(id, piece, &mut data),
        };
        let located = self.shared.locate(id).map(|(place, _)| place);
        let message = located.and_then(|place| self.sending.get(&place));
        let is_right = match (is_first, message) {
            (true, None) => located.is_some_and(|place| (1..=LIMITS[place]).contains(&size)) && piece.len() <= size,
            (false, Some(message)) => {
                let expected = located.and_then(|place| self.shared[place].message_id(message.code));
                expected == Some(id) && message.sent + piece.len() <= message.data.len()
            }
            _ => false,
        };
        let received = self.reassembly.receive(chunk, &data, &self.shared, self.now);
        assert_eq!(received.is_ok(), is_right && !piece.is_empty(), "{received:?}");
        self.forget();
        Ok(())
    }

    /// Bytes as the data of a chunk.
    fn raw(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let is_first = choice(input, 2)? == 0;
        let data = Bytes::copy_from_slice(input.bytes(input.len())?);
        let mut again = BytesMut::new();
        let list = Rlp::new(&data);
        let id = MessageId::new(list.val_at(0).unwrap_or(0));
        let chunk = match is_first {
            true => {
                let piece = list.at(2).and_then(|item| item.data()).unwrap_or_default();
                self.chunking.encode_first(id, list.val_at(1).unwrap_or(0), piece, &mut again)
            }
            false => {
                let piece = list.at(1).and_then(|item| item.data()).unwrap_or_default();
                self.chunking.encode_more(id, piece, &mut again)
            }
        };
        match self.reassembly.receive(chunk, &data, &self.shared, self.now) {
            Ok(_) => assert_eq!(again, data, "a chunk has one form"),
            Err(error) => assert!(!error.to_string().contains(char::is_control)),
        }
        self.forget();
        Ok(())
    }

    /// The model does not know what came of what nobody has sent.
    fn forget(&mut self) {
        self.sending.clear();
        self.reassembly = Reassembly::new(self.reassembly.shared.clone());
    }

    fn check_held(&self) {
        let held: usize = self.sending.values().map(|message| message.sent).sum();
        assert_eq!(self.reassembly.unfinished_bytes(), held);
        let first = self.sending.values().map(|message| message.since + chunk::CHUNK_TIMEOUT).min();
        assert_eq!(self.reassembly.deadline(), first);
        for place in 0..LIMITS.len() {
            let is_free = self.reassembly.check_free(place, &self.shared).is_ok();
            assert_eq!(is_free, !self.sending.contains_key(&place), "one message of each protocol at a time");
        }
    }
}
