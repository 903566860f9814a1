//! Sessions without connections.

use std::time::Instant;

use bytes::Bytes;
use capmux::p2p::{Capability, Hello, Registered, Session, SessionSettings};

use super::key;

pub(crate) fn capability(name: &str, version: u64) -> Capability {
    Capability::new(name, version).expect("the name is valid")
}

pub(crate) fn registered(name: &str, version: u64, length: u64) -> Registered {
    Registered { capability: capability(name, version), length, max_message_size: 1 << 20, rate: None }
}

/// The Hello of node 1, with this version of `p2p` and these capabilities.
pub(crate) fn hello(version: u64, capabilities: Vec<Capability>) -> Hello {
    Hello { version, client_id: "test".into(), capabilities, listen_port: 0, public_key: key(1).public_key() }
}

/// A session in which the other end speaks this version of `p2p` and offers all that is registered here.
pub(crate) fn session(version: u64, registered: &[Registered], now: Instant) -> Session {
    let capabilities = registered.iter().map(|own| own.capability.clone()).collect();
    Session::new(hello(version, capabilities), registered, SessionSettings::default(), now)
}

/// The content of a frame: the id, given as it stands there, and the data.
pub(crate) fn frame(id: &[u8], data: &[u8]) -> Bytes {
    [id, data].concat().into()
}

/// A message id as it stands in a frame.
pub(crate) fn id_bytes(id: u64) -> Vec<u8> {
    rlp::encode(&id).to_vec()
}
