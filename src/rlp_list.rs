//! A strict walk over the items of an RLP list. `rlp`'s own iterator ends silently at a malformed item.

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

/// Where the payload of the item that `bytes` begins with starts and ends.
fn extent(bytes: &[u8]) -> Result<(usize, usize), DecoderError> {
    let info = PayloadInfo::from(bytes)?;
    match info.header_len.checked_add(info.value_len) {
        Some(end) if end <= bytes.len() => Ok((info.header_len, end)),
        _ => Err(DecoderError::RlpIsTooShort),
    }
}
