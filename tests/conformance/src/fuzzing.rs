//! The body of a fuzz target, for `fuzz/`.

use arbitrary::{Result, Unstructured};
use bytes::BytesMut;
use capmux::p2p::{Capability, Hello};
use capmux::rlpx::{Established, FrameError, HandshakeRandom, Initiator, Recipient, Step};
use capmux::{NodeKey, PublicKey};

use crate::RawHello;
use crate::model::frames::{Connection, HEADER, Half, padded};
use crate::model::{Broken, Node};

/// What is run on an input. It returns how often the input got through the check that guards the deepest code.
pub type Target = fn(&[u8]) -> usize;

/// What there is to run, by name.
pub const TARGETS: &[(&str, Target)] = &[("differential", differential)];

/// The largest content of a frame that is accepted.
const LIMIT: usize = 2048;

/// capmux and the model of RLPx, connected with each other, send frames and read them, some of them damaged, and write
/// and read the same Hello: each byte and each verdict is the same. Returns how many frames and Hellos both have read.
///
/// The input: who dials (1 byte), and operations of a byte and what belongs to it.
pub fn differential(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let mut pair = if choice(input, 2)? == 0 { Pair::capmux_dials() } else { Pair::model_dials() };
    while !input.is_empty() {
        let goes_on = match choice(input, 6)? {
            0 | 1 => pair.capmux_sends(input)?,
            2 | 3 => pair.model_sends(input)?,
            4 => pair.hello(input)?,
            _ => pair.raw_hello(input)?,
        };
        if !goes_on {
            break;
        }
    }
    Ok(pair.read)
}

/// A number below `end`: one byte.
fn choice(input: &mut Unstructured<'_>, end: u8) -> Result<u8> {
    Ok(input.arbitrary::<u8>()? % end)
}

/// A string of at most `limit` bytes: two bytes of length, then as many as there are.
fn bytes<'a>(input: &mut Unstructured<'a>, limit: usize) -> Result<&'a [u8]> {
    let length = usize::from(u16::from_be_bytes(input.arbitrary()?)) % (limit + 1);
    input.bytes(length.min(input.len()))
}

/// The key of the node with this number.
fn key(number: u8) -> NodeKey {
    NodeKey::from_bytes(&[number; 32]).expect("a small number is a key")
}

fn random(number: u8) -> HandshakeRandom {
    let mut next = number;
    HandshakeRandom::new(|buffer| {
        next = next.wrapping_add(16);
        buffer.fill(next);
    })
}

struct Pair {
    capmux: Established,
    model: Connection,
    /// What the model would send and open in the place of capmux.
    twin_egress: Half,
    twin_ingress: Half,
    own: PublicKey,
    remote: PublicKey,
    read: usize,
}

impl Pair {
    /// capmux is node 1, the model node 2.
    fn capmux_dials() -> Self {
        let (initiator, auth) = Initiator::new(&key(1), key(2).public_key(), random(1)).expect("the keys differ");
        let (ack, model) = Node::new(2).answer(auth, |ack| ack).expect("the auth is sound");
        match initiator.receive(&mut &ack[..]) {
            Ok(Step::Done(capmux)) => Self::new(capmux, model, 1, 2),
            _ => panic!("the ack is sound and whole"),
        }
    }

    /// The model is node 1, capmux node 2.
    fn model_dials() -> Self {
        let node = Node::new(1);
        let auth = node.auth(&key(2).public_key().to_bytes()).seal();
        match Recipient::new(key(2), random(2)).receive(&mut &auth[..]) {
            Ok(Step::Done((ack, capmux))) => {
                let model = node.read_ack(auth, ack).expect("the ack is sound");
                Self::new(capmux, model, 2, 1)
            }
            _ => panic!("the auth is sound and whole"),
        }
    }

    fn new(capmux: Established, model: Connection, own: u8, remote: u8) -> Self {
        // Both ends of one direction begin in the same state.
        let (twin_egress, twin_ingress) = (model.ingress.clone(), model.egress.clone());
        let [own, remote] = [own, remote].map(|number| key(number).public_key());
        assert_eq!(capmux.remote, remote);
        Self { capmux, model, twin_egress, twin_ingress, own, remote, read: 0 }
    }

    fn capmux_sends(&mut self, input: &mut Unstructured<'_>) -> Result<bool> {
        let content = bytes(input, 2 * LIMIT)?;
        let mut frame = BytesMut::new();
        let sealed = self.capmux.egress.seal(&mut frame, |out| out.extend_from_slice(content));
        if content.is_empty() {
            assert_eq!((sealed, frame.len()), (Err(FrameError::Empty), 0));
            return Ok(true);
        }
        assert_eq!(sealed, Ok(()));
        assert_eq!(frame[..], self.twin_egress.seal(content)[..], "a frame is the same byte by byte");
        assert_eq!(self.model.ingress.open(&frame), Ok((content.len(), padded(content))));
        self.read += 1;
        Ok(true)
    }

    /// A frame with any header data and padding, perhaps damaged, in two pieces.
    fn model_sends(&mut self, input: &mut Unstructured<'_>) -> Result<bool> {
        let (data, padding, content) = (bytes(input, 13)?, input.arbitrary::<u8>()?, bytes(input, 2 * LIMIT)?);
        let mut body = padded(content);
        body[content.len()..].fill(padding);
        let mut frame = self.model.egress.header(content.len(), data);
        frame.extend(self.model.egress.body(&body));
        for _ in 0..choice(input, 4)?.saturating_sub(1) {
            let place = usize::from(u16::from_be_bytes(input.arbitrary()?)) % frame.len();
            frame[place] ^= input.arbitrary::<u8>()?;
        }
        let cut = usize::from(u16::from_be_bytes(input.arbitrary()?)) % frame.len();
        let expected = open(&mut self.twin_ingress, &frame);
        let mut buffer = BytesMut::from(&frame[..cut]);
        let first = self.capmux.ingress.open(&mut buffer, LIMIT);
        let opened = match first {
            Ok(None) => {
                buffer.extend_from_slice(&frame[cut..]);
                self.capmux.ingress.open(&mut buffer, LIMIT)
            }
            outcome => outcome,
        };
        let opened = opened.map(|content| content.expect("the frame is whole").to_vec());
        assert_eq!(opened, expected, "one opens what the other does not");
        self.read += usize::from(opened.is_ok());
        Ok(opened.is_ok())
    }

    /// A Hello of any content: written alike, and read by both as it was written.
    fn hello(&mut self, input: &mut Unstructured<'_>) -> Result<bool> {
        let mut raw = RawHello::new(&self.remote.to_bytes(), Vec::new());
        (raw.version, raw.port) = (input.arbitrary()?, input.arbitrary()?);
        raw.client = bytes(input, 100)?.to_vec();
        for _ in 0..choice(input, 8)? {
            raw.capabilities.push((bytes(input, 12)?.to_vec(), input.arbitrary()?));
        }
        if choice(input, 3)? == 0 {
            raw.id = bytes(input, 65)?.to_vec();
        }
        let is_more = choice(input, 3)? == 0;
        let data = RawHello { more: if is_more { vec![0xc0] } else { Vec::new() }, ..raw.clone() }.encode();
        assert_eq!(RawHello::decode(&data).as_ref(), Ok(&raw));
        match Hello::decode(&data, &self.own, &self.remote) {
            Ok(hello) => {
                assert!(is_same(&hello, &raw), "{hello:?} is not {raw}");
                // What is no text was replaced.
                let is_text = raw.capabilities.iter().all(|(name, _)| std::str::from_utf8(name).is_ok());
                assert!(!is_text || hello.encode() == raw.encode(), "the same Hello is written otherwise");
                self.read += 1;
            }
            Err(error) => assert_ne!(raw.id, self.remote.to_bytes(), "{error}"),
        }
        Ok(true)
    }

    /// Bytes as a Hello: what capmux takes the model takes for the same.
    fn raw_hello(&mut self, input: &mut Unstructured<'_>) -> Result<bool> {
        let data = input.bytes(input.len())?;
        if let Ok(hello) = Hello::decode(data, &self.own, &self.remote) {
            let raw = RawHello::decode(data).expect("the other one takes it");
            assert!(is_same(&hello, &raw), "{hello:?} is not {raw}");
            self.read += 1;
        }
        Ok(false)
    }
}

/// The content of a frame as the model opens it, by the rules of this end about sizes.
fn open(half: &mut Half, frame: &[u8]) -> std::result::Result<Vec<u8>, FrameError> {
    let (header, body) = frame.split_first_chunk::<HEADER>().ok_or(FrameError::HeaderMac)?;
    let (size, _) = half.open_header(header).map_err(|_| FrameError::HeaderMac)?;
    match size {
        0 => return Err(FrameError::Empty),
        _ if size > LIMIT => return Err(FrameError::TooLarge { size, limit: LIMIT }),
        _ => {}
    }
    let mut content = half.open_body(body).map_err(|error| {
        assert_eq!(error, Broken::FrameMac);
        FrameError::BodyMac
    })?;
    content.truncate(size);
    Ok(content)
}

fn is_same(hello: &Hello, raw: &RawHello) -> bool {
    let capability = |capability: &Capability| (capability.name().to_owned(), capability.version());
    let offered: Vec<(String, u64)> = hello.capabilities.iter().map(capability).collect();
    let expected: Vec<(String, u64)> =
        raw.capabilities.iter().map(|(name, version)| (String::from_utf8_lossy(name).into_owned(), *version)).collect();
    let numbers = (hello.version, hello.listen_port) == (raw.version, raw.port);
    numbers && hello.client_id.as_bytes() == raw.client && offered == expected && hello.public_key.to_bytes() == *raw.id
}
