//! A strict walk over RLP. `rlp`'s own iterator ends silently at a malformed item.

use rlp::{Decodable, DecoderError, PayloadInfo, Rlp};

/// The items of a list that have not been read yet.
pub(crate) struct RlpList<'a> {
    rest: &'a [u8],
}

impl<'a> RlpList<'a> {
    /// The list that `bytes` begins with; what follows it is ignored (the padding of EIP-8).
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, DecoderError> {
        if bytes.first().is_some_and(|first| *first < 0xc0) {
            return Err(DecoderError::RlpExpectedToBeList);
        }
        let (header, end) = extent(bytes)?;
        Ok(Self { rest: &bytes[header..end] })
    }

    /// The next item, or `None` past the last.
    pub(crate) fn next_item(&mut self) -> Result<Option<Rlp<'a>>, DecoderError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (_, end) = extent(self.rest)?;
        let (item, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(Some(Rlp::new(item)))
    }

    /// The next item, which must be there.
    fn required(&mut self) -> Result<Rlp<'a>, DecoderError> {
        self.next_item()?.ok_or(DecoderError::RlpIncorrectListLen)
    }

    /// The next item as a value.
    pub(crate) fn value<T: Decodable>(&mut self) -> Result<T, DecoderError> {
        self.required()?.as_val()
    }

    /// The next item as a list.
    pub(crate) fn list(&mut self) -> Result<Self, DecoderError> {
        Self::new(self.required()?.as_raw())
    }

    /// The next item as a string of bytes.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], DecoderError> {
        let item = self.required()?;
        if item.is_list() { Err(DecoderError::RlpExpectedToBeData) } else { item.data() }
    }

    /// The next item as a string of exactly `N` bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DecoderError> {
        self.string()?.try_into().map_err(|_| DecoderError::RlpInvalidLength)
    }
}

/// How deep lists may be nested.
#[cfg(feature = "net")]
const MAX_DEPTH: usize = 64;

/// Checks that `bytes` are one item, well-formed all through.
#[cfg(feature = "net")]
pub(crate) fn check(bytes: &[u8]) -> Result<(), DecoderError> {
    let (_, end) = extent(bytes)?;
    if end == bytes.len() { check_items(bytes, MAX_DEPTH) } else { Err(DecoderError::RlpInconsistentLengthAndData) }
}

#[cfg(feature = "net")]
fn check_items(mut bytes: &[u8], depth: usize) -> Result<(), DecoderError> {
    while !bytes.is_empty() {
        let (header, end) = extent(bytes)?;
        if bytes[0] >= 0xc0 {
            let depth = depth.checked_sub(1).ok_or(DecoderError::Custom("lists are nested too deep"))?;
            check_items(&bytes[header..end], depth)?;
        }
        bytes = &bytes[end..];
    }
    Ok(())
}

/// Where the payload of the item that `bytes` begins with starts and ends.
fn extent(bytes: &[u8]) -> Result<(usize, usize), DecoderError> {
    // `rlp` notices that only when it reads an integer.
    if matches!(bytes, [0x81, 0..0x80, ..]) {
        return Err(DecoderError::RlpInvalidIndirection);
    }
    let info = PayloadInfo::from(bytes)?;
    match info.header_len.checked_add(info.value_len) {
        Some(end) if end <= bytes.len() => Ok((info.header_len, end)),
        _ => Err(DecoderError::RlpIsTooShort),
    }
}

#[cfg(all(test, feature = "net"))]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_item_anywhere_is_found() {
        for good in [&b"\x05"[..], b"\x80", b"\x82\xff\xff", b"\xc0", b"\xc2\x01\x02", b"\xc3\x01\xc1\x05"] {
            assert!(check(good).is_ok(), "{good:02x?}");
        }
        for bad in [&b""[..], b"\x05\x05", b"\xc4\x01\x02\x82\xff", b"\xc2\xc1\x82", b"\xc1", b"\xb8\x01\x05"] {
            assert!(check(bad).is_err(), "H57 {bad:02x?}");
        }
    }

    #[test]
    fn a_byte_that_needs_no_header_has_none() {
        for bad in [&b"\x81\x05"[..], b"\xc2\x81\x05", b"\xc3\x81\x05\x05", b"\xc3\x05\x81\x7f", b"\xc3\xc2\x81\x00"] {
            assert!(check(bad).is_err(), "H57 {bad:02x?}");
        }
        assert!(RlpList::new(b"\xc2\x81a").and_then(|mut list| list.string()).is_err(), "H57");
        assert!(check(b"\xc2\x81\x80").is_ok());
    }

    #[test]
    fn the_depth_of_lists_is_bounded() {
        let nested = |depth| {
            (0..depth).fold(Vec::new(), |inner: Vec<u8>, _| {
                let mut list = rlp::RlpStream::new_list(1);
                if inner.is_empty() {
                    list.begin_list(0)
                } else {
                    list.append_raw(&inner, 1)
                };
                list.out().into()
            })
        };
        assert!(check(&nested(63)).is_ok());
        assert!(check(&nested(64)).is_err());
        assert!(check(&vec![0xc1; 1 << 20]).is_err());
    }
}
