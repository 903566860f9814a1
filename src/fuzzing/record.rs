//! Node records: as bytes, as text, and with content of any kind that was really signed.

use arbitrary::{Result, Unstructured};
use rlp::Rlp;

use super::handshake::keys;
use super::{bytes, choice};
use crate::node::{Enr, EnrError};

/// A node record: what is read prints and encodes as it came and names no address that is not in it, and one that was
/// signed cannot be changed. Returns 1 when a signature was right.
///
/// The input: the kind (1 byte) and what the kind needs: text, bytes, or the sequence number (8 bytes), how many pairs
/// (1 byte), the pairs, and how many changes (1 byte), each a place (2 bytes) and a mask.
pub fn enr(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let kind = choice(input, 4)?;
    let read = match kind {
        0 => {
            let text = String::from_utf8_lossy(input.bytes(input.len())?).into_owned();
            let read = text.parse::<Enr>();
            if let Ok(record) = &read {
                assert_eq!(record.to_string(), text, "a record has one form in text");
            }
            read
        }
        1 => Enr::decode(input.bytes(input.len())?),
        _ => return signed(input, kind == 3),
    };
    if let Err(error) = &read {
        assert!(!error.to_string().contains(char::is_control), "control characters are shown");
    }
    read.iter().for_each(check);
    Ok(usize::from(read.is_ok()))
}

/// A record that was signed, whatever it says: it is read if its form is right. `is_damaged`: it is changed after that.
fn signed(input: &mut Unstructured<'_>, is_damaged: bool) -> Result<usize> {
    let sequence = input.arbitrary()?;
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for _ in 0..choice(input, 8)? {
        pairs.push((bytes(input, 20)?.to_vec(), value(input)?));
    }
    let key = keys().1;
    if choice(input, 4)? > 0 {
        pairs.push((b"id".to_vec(), rlp::encode(&"v4").to_vec()));
        pairs.push((b"secp256k1".to_vec(), rlp::encode(&&key.public_key().point().serialize()[..]).to_vec()));
    }
    if choice(input, 4)? > 0 {
        pairs.sort();
        pairs.dedup_by(|next, before| next.0 == before.0);
    }
    let in_order = pairs.is_sorted_by(|before, next| before.0 < next.0);
    let record = Enr::signed(&key, sequence, pairs);
    let mut encoded = record.encode().to_vec();
    for _ in 0..if is_damaged { choice(input, 8)? } else { 0 } {
        let place = usize::from(u16::from_be_bytes(input.arbitrary()?)) % encoded.len();
        encoded[place] ^= input.arbitrary::<u8>()?;
    }
    let is_changed = encoded != record.encode();
    match Enr::decode(&encoded) {
        Ok(read) => {
            assert!(!is_changed, "what a node has signed was changed: {encoded:02x?}");
            assert_eq!(read, record);
            check(&read);
            Ok(1)
        }
        Err(error) => {
            let own = rlp::encode(&&key.public_key().point().serialize()[..]);
            let is_own = record.value("id").is_some() && record.value("secp256k1") == Some(&own);
            let is_right = in_order && is_own && encoded.len() <= 300;
            // What stands for a value need not be RLP all through, nor the scheme be this one.
            let is_other = matches!(error, EnrError::Rlp(_) | EnrError::Scheme);
            assert!(is_changed || !is_right || is_other, "{error}: {encoded:02x?}");
            Ok(0)
        }
    }
}

/// A value as the records of real nodes have them, or any bytes as a string. Bytes that are no RLP are not signed by
/// anybody.
fn value(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let content = bytes(input, 80)?;
    let raw = Rlp::new(content);
    let is_item =
        raw.payload_info().is_ok_and(|info| info.header_len.checked_add(info.value_len) == Some(content.len()));
    Ok(if is_item { content.to_vec() } else { rlp::encode(&content).to_vec() })
}

fn check(record: &Enr) {
    assert!(record.encode().len() <= 300);
    assert_eq!(Enr::decode(record.encode()).as_ref(), Ok(record));
    let text = record.to_string();
    assert_eq!(text.parse::<Enr>().as_ref(), Ok(record), "{text}");
    assert_eq!(record.node_id(), record.public_key().node_id());
    let addresses = record.addresses();
    let keys = ["ip", "ip6"].iter().filter(|key| record.value(key).is_some()).count();
    assert!(addresses.len() <= keys, "an address that is not in the record");
    assert!(addresses.iter().all(|address| address.port() != 0));
    let node = record.node_addr();
    assert_eq!(node.map(|node| node.addresses.len()).unwrap_or(0), addresses.len());
}
