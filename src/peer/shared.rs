//! A message that goes to many peers: its bytes are shared, and compressed once for all of them.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use crate::rlpx::Compressor;

/// A message to be sent to any number of peers, with [`ChannelSender::send_shared`](crate::ChannelSender::send_shared)
/// or [`ProtocolPeers`](crate::ProtocolPeers). Clones are the same message.
///
/// Its payload is copied for no peer before it is sealed, and compressed when the first peer needs it compressed, once.
/// Where messages are [cut into pieces](crate::ServerBuilder::chunk_size), one that is cut shares its payload alone:
/// its pieces are compressed for each peer.
#[derive(Debug, Clone)]
pub struct SharedMessage {
    code: u64,
    body: Arc<SharedBody>,
}

impl SharedMessage {
    /// A message with this code, counted from 0 in its protocol.
    pub fn new(code: u64, payload: impl Into<Bytes>) -> Self {
        Self { code, body: Arc::new(SharedBody { payload: payload.into(), compressed: OnceLock::new() }) }
    }

    /// Its code.
    pub fn code(&self) -> u64 {
        self.code
    }

    /// Its data, uncompressed.
    pub fn payload(&self) -> &Bytes {
        &self.body.payload
    }

    pub(super) fn body(&self) -> &Arc<SharedBody> {
        &self.body
    }
}

/// The data of a message in both forms.
#[derive(Debug)]
pub(crate) struct SharedBody {
    payload: Bytes,
    compressed: OnceLock<Bytes>,
}

impl SharedBody {
    /// The compressed form. Who comes while another thread makes it waits for that.
    pub(super) fn compressed(&self) -> &Bytes {
        self.compressed.get_or_init(|| {
            let mut data = BytesMut::new();
            Compressor::default().compress(&self.payload, &mut data);
            data.freeze()
        })
    }
}
