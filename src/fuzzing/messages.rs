//! The formats behind the encryption: Hello, Disconnect and compressed data.

use arbitrary::{Result, Unstructured};
use bytes::{Bytes, BytesMut};

use super::handshake::public_keys;
use super::{bytes, choice};
use crate::p2p::{
    BaseMessage, Capability, DisconnectReason, FIRST_FRAME_LIMIT, Hello, MessageEncoder, MessageId, Registered,
    SessionError, SharedCapabilities, receive_hello,
};
use crate::rlpx::{Compressor, Decompressor, SnappyError, inside, max_compressed_len};

/// A first message: what is accepted encodes to something that reads as the same, is shown without control characters,
/// and leads to message ids that lie side by side. Returns 1 when it is accepted.
///
/// The input: the content of the frame, id and data.
pub fn hello(data: &[u8]) -> usize {
    let (own, remote) = public_keys();
    match receive_hello(Bytes::copy_from_slice(data), &own, &remote) {
        Ok(hello) => {
            assert_eq!(hello.public_key, remote);
            let again = Hello::decode(&hello.encode(), &own, &remote);
            assert_eq!(again.as_ref(), Ok(&hello), "a Hello does not read as it was written");
            let shown = format!("{} {hello:?}", hello.client_id);
            assert!(!shown.contains(char::is_control), "control characters are shown");
            check_negotiation(&hello);
            1
        }
        Err(error) => {
            assert_eq!(error.disconnect_reason().is_none(), matches!(error, SessionError::Disconnected(_)));
            assert!(!error.to_string().contains(char::is_control), "control characters are shown");
            0
        }
    }
}

fn check_negotiation(hello: &Hello) {
    let own: Vec<Registered> =
        hello.capabilities.iter().enumerate().map(|(index, offered)| registered(offered, index)).collect();
    // What the peer repeats, a node could not register.
    if Registered::check(&own).is_err() {
        return;
    }
    let shared = SharedCapabilities::negotiate(&own, &hello.capabilities);
    let mut next = 0x10;
    for (place, protocol) in shared.iter().enumerate() {
        assert_eq!(own[protocol.index].capability, protocol.capability);
        for code in 0..protocol.length {
            let id = protocol.message_id(code).expect("the code is below the length");
            assert_eq!(id.value(), next, "the ranges leave a gap or overlap");
            assert_eq!(shared.locate(id), Some((place, code)));
            next += 1;
        }
        assert_eq!(protocol.message_id(protocol.length), None);
    }
    assert_eq!(shared.locate(MessageId::new(next)), None, "an id past the last range");
    assert!(shared.windows(2).all(|pair| pair[0].capability.name() < pair[1].capability.name()));
}

fn registered(capability: &Capability, index: usize) -> Registered {
    Registered { capability: capability.clone(), length: 1 + index as u64 % 5, max_message_size: 1024, rate: None }
}

/// The data of a Disconnect message: any reason is understood in every form that nodes send. Returns 1 when the bytes
/// hold a reason.
///
/// The input: the data; its first eight bytes are also taken as the number of a reason.
pub fn disconnect(data: &[u8]) -> usize {
    let found = DisconnectReason::from_data(data);
    if let Some(reason) = found {
        assert!(!reason.to_string().contains(char::is_control));
        check_reason(reason.code());
    }
    check_reason(Unstructured::new(data).arbitrary().unwrap_or(0));
    usize::from(found.is_some())
}

fn check_reason(code: u64) {
    let reason = DisconnectReason::from_code(code);
    assert_eq!(reason.code(), code);
    let (egress, mut ingress) = inside::direction();
    let mut wire = BytesMut::new();
    MessageEncoder::new(egress).base(BaseMessage::Disconnect(reason), &mut wire);
    let content = ingress.open(&mut wire, FIRST_FRAME_LIMIT).expect("a message of our own opens");
    let mut list = content.expect("it is whole").freeze();
    assert_eq!(MessageId::take(&mut list), Some(MessageId::DISCONNECT));
    let alone = list.slice(1..);
    for plain in [&list, &alone] {
        let mut compressed = BytesMut::new();
        Compressor::default().compress(plain, &mut compressed);
        assert_eq!(DisconnectReason::from_data(plain), Some(reason), "{plain:02x?}");
        assert_eq!(DisconnectReason::from_data(&compressed), Some(reason), "{plain:02x?} compressed");
    }
}

/// Compressed data under a limit: what comes out has the declared size and compresses to something that gives the
/// same; what goes in comes out. Returns 1 when the data is accepted.
///
/// The input: the limit (3 bytes), and the data.
pub fn snappy_message(data: &[u8]) -> usize {
    decompress(&mut Unstructured::new(data)).unwrap_or(0)
}

fn decompress(input: &mut Unstructured<'_>) -> Result<usize> {
    let limit = usize::from(choice(input, 16)?) << 16 | usize::from(u16::from_be_bytes(input.arbitrary()?));
    let data = input.bytes(input.len())?;
    let mut decompressor = Decompressor::default();
    let plain = decompressor.decompress(data, limit);
    let declared = Decompressor::declared_len(data, limit);
    match &plain {
        Ok(plain) => {
            assert_eq!(declared, Ok(plain.len()));
            assert!(plain.len() <= limit);
            check_round_trip(&mut decompressor, plain);
        }
        Err(SnappyError::TooLarge { declared, limit: in_force }) => {
            assert!(*declared > limit as u64 && *in_force == limit);
        }
        Err(SnappyError::Corrupt) => assert!(!matches!(declared, Err(SnappyError::TooLarge { .. }))),
    }
    // Whatever came before, the memory that is kept does not show.
    check_round_trip(&mut decompressor, data);
    Ok(usize::from(plain.is_ok()))
}

fn check_round_trip(decompressor: &mut Decompressor, plain: &[u8]) {
    let mut compressed = BytesMut::from(&b"before"[..]);
    Compressor::default().compress(plain, &mut compressed);
    let compressed = compressed.split_off(b"before".len());
    assert!(compressed.len() <= max_compressed_len(plain.len()));
    assert_eq!(decompressor.decompress(&compressed, plain.len()).as_deref(), Ok(plain));
    if let Some(limit) = plain.len().checked_sub(1) {
        let declared = plain.len() as u64;
        assert_eq!(decompressor.decompress(&compressed, limit), Err(SnappyError::TooLarge { declared, limit }));
    }
    // Cut short, it is corrupt, and the next block is none the worse for it.
    let cut = &compressed[..compressed.len() - 1];
    assert!(decompressor.decompress(cut, plain.len()).is_err());
    assert_eq!(decompressor.decompress(&compressed, plain.len()).as_deref(), Ok(plain));
}

/// A string for a frame's content, as the targets of messages read it.
pub(super) fn payload<'a>(input: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    bytes(input, 2048)
}
