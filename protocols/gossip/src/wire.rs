//! The message: `[nonce, payload]`, of which there is one encoding only.

use bytes::Bytes;
use rlp::{DecoderError, Rlp, RlpStream};

/// What the list and the nonce add to a payload, at most.
pub(crate) const OVERHEAD: usize = 32;

/// The payload is above [`Settings::max_payload`](crate::Settings::max_payload).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a payload of {size} bytes, where the limit is {limit}")]
#[non_exhaustive]
pub struct PayloadTooLarge {
    /// Its size, in bytes.
    pub size: usize,
    /// The limit in force.
    pub limit: usize,
}

/// What a peer can do wrong. It ends the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The message is not `[nonce, payload]`.
    #[error("not a gossip message")]
    Malformed(#[from] DecoderError),
    /// The payload is too large.
    #[error(transparent)]
    PayloadTooLarge(#[from] PayloadTooLarge),
}

pub(crate) fn encode(nonce: u64, payload: &[u8]) -> Bytes {
    let mut list = RlpStream::new_list(2);
    list.append(&nonce).append(&payload);
    list.out().freeze()
}

/// The payload of a message, which shares the memory of the message.
pub(crate) fn decode(message: &Bytes, max_payload: usize) -> Result<Bytes, Violation> {
    let list = Rlp::new(message);
    let header = list.payload_info()?;
    let (nonce, payload) = (list.at(0)?, list.at(1)?);
    let items = nonce.as_raw().len() + payload.as_raw().len();
    // `rlp` looks neither behind the list nor, for its items, at the list's end.
    if header.value_len != items || header.total() != message.len() {
        return Err(DecoderError::RlpInconsistentLengthAndData.into());
    }
    nonce.as_val::<u64>()?;
    let size = payload.decoder().decode_value(|payload| Ok(payload.len()))?;
    let payload = message.slice(message.len() - size..);
    check_size(&payload, max_payload)?;
    Ok(payload)
}

pub(crate) fn check_size(payload: &[u8], limit: usize) -> Result<(), PayloadTooLarge> {
    let size = payload.len();
    if size > limit { Err(PayloadTooLarge { size, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_documented_form() {
        let payload = [7; 60];
        for (nonce, payload, bytes) in [
            (0, &b""[..], "c28080"),
            (5, b"\x05", "c20505"),
            (0x0400, b"dog", "c782040083646f67"),
            (u64::MAX, b"\x80", "cb88ffffffffffffffff8180"),
            (1, &payload, &("f83f01b83c".to_owned() + &"07".repeat(60))),
        ] {
            let message = encode(nonce, payload);
            assert_eq!(hex::encode(&message), bytes);
            assert_eq!(decode(&message, 60).unwrap(), payload);
            assert!(message.len() <= payload.len() + OVERHEAD);
        }
    }

    #[test]
    fn what_is_read_has_one_encoding() {
        let heads = (0xc0_u8..=0xc3).flat_map(|head| (0..=u16::MAX).map(move |rest| (head, rest)));
        let three = heads.flat_map(|(head, rest)| {
            let [first, second] = rest.to_be_bytes();
            [vec![head, first, second], vec![head, first, second, 0x80], vec![head, 1, first, second]]
        });
        let mut read = 0;
        for bytes in three.map(Bytes::from) {
            let Ok(payload) = decode(&bytes, 60) else { continue };
            let nonce = Rlp::new(&bytes).val_at(0).unwrap();
            assert_eq!(encode(nonce, &payload), bytes, "or one message could have two ids");
            read += 1;
        }
        assert!(read > 128 * 128, "{read} were read");
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [
            "",
            "80",
            "c0",
            "c101",
            "c20505ff",
            "c3050505",
            "c4050582ff",
            "c20005",
            "c205c0",
            "c2c005",
            "c3058105",
            "cb89010000000000000000058005",
            "c205",
            "f80205 05",
            "bf",
        ] {
            let bytes = Bytes::from(hex::decode(bytes.replace(' ', "")).unwrap());
            assert!(matches!(decode(&bytes, 60), Err(Violation::Malformed(_))), "{bytes:02x?}");
        }
        let large = decode(&encode(1, &[0; 61]), 60);
        assert_eq!(large, Err(Violation::PayloadTooLarge(PayloadTooLarge { size: 61, limit: 60 })), "R20");
    }
}
