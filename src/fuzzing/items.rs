//! RLP as it is checked before a message is read, and message ids.

use arbitrary::{Result, Unstructured};
use bytes::{Bytes, BytesMut};
use rlp::Rlp;

use crate::p2p::{MessageEncoder, MessageId};
use crate::rlp_list::{self, RlpList};
use crate::rlpx::inside;
use crate::typed;

/// How deep lists may be nested, told a second time.
const DEPTH: usize = 64;

/// Bytes as RLP: what is accepted is what a second reader accepts that was written for this, lists have the items that
/// it finds, and an id is taken in its only form. Returns 1 when the bytes are well-formed.
///
/// The input: a message id (8 bytes), and the bytes.
pub fn rlp_items(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    check_id(u64::from_be_bytes(input.arbitrary()?));
    let bytes = input.bytes(input.len())?;
    check_taken(bytes);
    let expected = item(bytes, DEPTH).filter(|(_, rest)| rest.is_empty());
    assert_eq!(rlp_list::check(bytes).is_ok(), expected.is_some(), "{bytes:02x?}");
    if let Some((Item::List(items), _)) = &expected {
        check_list(bytes, items);
    }
    Ok(usize::from(expected.is_some()))
}

enum Item<'a> {
    Text,
    /// The items, each with its header.
    List(Vec<&'a [u8]>),
}

/// The item that the bytes begin with and what is behind it, by the text of the yellow paper's appendix B; `None` when
/// there is none, or not in its shortest form.
fn item(bytes: &[u8], depth: usize) -> Option<(Item<'_>, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (is_list, content, rest) = match first {
        ..0x80 => return Some((Item::Text, rest)),
        0x80..0xc0 => {
            let (content, rest) = content(*first - 0x80, rest)?;
            if *first == 0x81 && content[0] < 0x80 {
                return None;
            }
            (false, content, rest)
        }
        0xc0.. => {
            let (content, rest) = content(*first - 0xc0, rest)?;
            (true, content, rest)
        }
    };
    if !is_list {
        return Some((Item::Text, rest));
    }
    let depth = depth.checked_sub(1)?;
    let (mut items, mut left) = (Vec::new(), content);
    while !left.is_empty() {
        let (_, behind) = item(left, depth)?;
        items.push(&left[..left.len() - behind.len()]);
        left = behind;
    }
    Some((Item::List(items), rest))
}

/// The content of an item of this length, or this length of its length, and what is behind it.
fn content(length: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if length < 56 {
        return bytes.split_at_checked(length.into());
    }
    let (digits, bytes) = bytes.split_at_checked(usize::from(length) - 55)?;
    let length = digits.iter().try_fold(0usize, |length, digit| length.checked_mul(256)?.checked_add((*digit).into()));
    let length = length.filter(|length| *length >= 56 && digits[0] != 0)?;
    bytes.split_at_checked(length)
}

fn check_list(bytes: &[u8], items: &[&[u8]]) {
    let mut list = RlpList::new(bytes).expect("it is a list");
    for expected in items {
        let found = list.next_item().expect("it is well-formed").expect("there are as many");
        assert_eq!(found.as_raw(), *expected);
    }
    assert!(matches!(list.next_item(), Ok(None)), "there are more items than there are");
    let whole = Rlp::new(bytes);
    let counts =
        [typed::items::<0>(&whole).is_ok(), typed::items::<1>(&whole).is_ok(), typed::items::<2>(&whole).is_ok()];
    assert_eq!(counts, [0, 1, 2].map(|count| items.len() == count), "exactly so many items");
}

/// Every id is written in a form that is taken, and leaves what is behind it.
fn check_id(number: u64) {
    let (egress, mut ingress) = inside::direction();
    let mut wire = BytesMut::new();
    MessageEncoder::new(egress).seal_plain(MessageId::new(number), b"rest", &mut wire).expect("it is small");
    let content = ingress.open(&mut wire, 64).expect("it was sealed for this end");
    let mut content = content.expect("it is whole").freeze();
    assert_eq!(MessageId::take(&mut content).map(MessageId::value), Some(number));
    assert_eq!(content, &b"rest"[..]);
}

/// An id that is taken is an integer in RLP; what is none is left alone.
fn check_taken(bytes: &[u8]) {
    let mut content = Bytes::copy_from_slice(bytes);
    let taken = MessageId::take(&mut content);
    let expected = item(bytes, 0).and_then(|(_, rest)| {
        let number: u64 = rlp::decode(&bytes[..bytes.len() - rest.len()]).ok()?;
        Some((number, rest))
    });
    match taken {
        Some(id) => assert_eq!(Some((id.value(), &content[..])), expected, "{bytes:02x?}"),
        None => assert!(expected.is_none() && content == bytes, "{bytes:02x?}"),
    }
}
