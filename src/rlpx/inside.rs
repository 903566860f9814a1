//! What the fuzz targets need to get behind the checks that no outsider's bytes pass: sealing what no honest end would.

use super::ecies;
use super::frame::{Egress, Ingress};
use super::mac::Mac;
use crate::node::{NodeKey, PublicKey};

/// One direction of a connection with fixed secrets, which costs no handshake.
pub(crate) fn direction() -> (Egress, Ingress) {
    let (aes, mac, seed) = ([1; 32], [2; 32], [3; 32]);
    let state = || Mac::new(&mac, &seed, b"the greeting");
    (Egress::new(&aes, state()), Ingress::new(&aes, state()))
}

/// A handshake message for `recipient` whose body is `body`, padding included.
pub(crate) fn handshake_message(recipient: &PublicKey, body: &[u8]) -> Vec<u8> {
    let ephemeral = NodeKey::from_bytes(&[4; 32]).expect("a small number is a key");
    let size = u16::try_from(body.len() + ecies::OVERHEAD).expect("the body is small").to_be_bytes();
    let mut message = size.to_vec();
    ecies::seal(&mut message, recipient, &ephemeral, &[5; 16], &size, body);
    message
}

/// The body of a handshake message, padding included; `None` when it is not for `key`.
pub(crate) fn handshake_body(message: &[u8], key: &NodeKey) -> Option<Vec<u8>> {
    let (size, sealed) = message.split_first_chunk::<2>()?;
    ecies::open(key, size, &mut sealed.to_vec()).ok().map(|body| body.to_vec())
}
