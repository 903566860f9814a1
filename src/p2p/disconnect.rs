//! Why a connection is closed, as it is said on the wire (devp2p `rlpx.md`, "Disconnect (0x01)").

use rlp::Rlp;

/// The reason in a Disconnect message.
///
/// It is an error, so that a handler can return one to end its peer with that reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// 0x00: somebody asked for it.
    #[error("disconnect requested")]
    Requested,
    /// 0x01: an error of the TCP connection.
    #[error("network error")]
    NetworkError,
    /// 0x02: a message that breaks the protocol.
    #[error("breach of protocol")]
    ProtocolError,
    /// 0x03: no capability is shared.
    #[error("useless peer")]
    UselessPeer,
    /// 0x04: no place for another peer.
    #[error("too many peers")]
    TooManyPeers,
    /// 0x05: the two nodes are connected already.
    #[error("already connected")]
    AlreadyConnected,
    /// 0x06: the version of `p2p` will not do.
    #[error("incompatible p2p protocol version")]
    IncompatibleVersion,
    /// 0x07: the node id in Hello is missing or zero.
    #[error("invalid node identity")]
    InvalidIdentity,
    /// 0x08: the client shuts down.
    #[error("client quitting")]
    ClientQuitting,
    /// 0x09: the node id in Hello is not the one of the handshake.
    #[error("unexpected identity")]
    UnexpectedIdentity,
    /// 0x0a: a node has dialled itself.
    #[error("connected to self")]
    ConnectedToSelf,
    /// 0x0b: no answer to Ping.
    #[error("ping timeout")]
    PingTimeout,
    /// 0x10: an error of a subprotocol.
    #[error("subprotocol error")]
    SubprotocolError,
    /// Any other number.
    #[error("unknown reason {0:#x}")]
    Unknown(u64),
}

impl DisconnectReason {
    /// The reason with this number.
    pub const fn from_code(code: u64) -> Self {
        match code {
            0x00 => Self::Requested,
            0x01 => Self::NetworkError,
            0x02 => Self::ProtocolError,
            0x03 => Self::UselessPeer,
            0x04 => Self::TooManyPeers,
            0x05 => Self::AlreadyConnected,
            0x06 => Self::IncompatibleVersion,
            0x07 => Self::InvalidIdentity,
            0x08 => Self::ClientQuitting,
            0x09 => Self::UnexpectedIdentity,
            0x0a => Self::ConnectedToSelf,
            0x0b => Self::PingTimeout,
            0x10 => Self::SubprotocolError,
            other => Self::Unknown(other),
        }
    }

    /// Its number.
    pub const fn code(self) -> u64 {
        match self {
            Self::Requested => 0x00,
            Self::NetworkError => 0x01,
            Self::ProtocolError => 0x02,
            Self::UselessPeer => 0x03,
            Self::TooManyPeers => 0x04,
            Self::AlreadyConnected => 0x05,
            Self::IncompatibleVersion => 0x06,
            Self::InvalidIdentity => 0x07,
            Self::ClientQuitting => 0x08,
            Self::UnexpectedIdentity => 0x09,
            Self::ConnectedToSelf => 0x0a,
            Self::PingTimeout => 0x0b,
            Self::SubprotocolError => 0x10,
            Self::Unknown(code) => code,
        }
    }

    /// Reads the data of a Disconnect message in any form that nodes send: a list with the reason, the reason alone,
    /// either of them compressed although it should not be, or the other way round. `None` when no reason is given or
    /// none can be made out. An empty message that was compressed is the byte 00, and reads as [`Self::Requested`].
    pub fn from_data(data: &[u8]) -> Option<Self> {
        // A block of snappy that holds a reason begins with its length, which is below 0x80; so does a bare integer,
        // which is one byte long.
        let code = match data {
            [first, _, ..] if *first < 0x80 => snap_reason(data),
            _ => plain_reason(data),
        };
        code.map(Self::from_code)
    }
}

fn plain_reason(data: &[u8]) -> Option<u64> {
    let rlp = Rlp::new(data);
    let item = if rlp.is_list() { rlp.at(0).ok()? } else { rlp };
    if item.as_raw() == [0] { Some(0) } else { item.as_val().ok() }
}

/// A reason takes at most 10 bytes in a list; sixteen leave room for extra elements.
fn snap_reason(data: &[u8]) -> Option<u64> {
    const ROOM: usize = 16;
    let length = snap::raw::decompress_len(data).ok().filter(|length| *length <= ROOM)?;
    let mut plain = [0; ROOM];
    let written = snap::raw::Decoder::new().decompress(data, &mut plain[..length]).ok()?;
    plain_reason(&plain[..written])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_in_the_field_is_read() {
        use DisconnectReason::*;
        for (data, expected) in [
            (&b"\xc1\x04"[..], Some(TooManyPeers)),    // [n]
            (b"\x04", Some(TooManyPeers)),             // n
            (b"\x02\x04\xc1\x04", Some(TooManyPeers)), // [n], compressed
            (b"\x01\x00\x04", Some(TooManyPeers)),     // n, compressed
            (b"\x80\x04", Some(Requested)),            // 0, and a byte behind it
            (b"\xc1\x80", Some(Requested)),            // [0]
            (b"\x80", Some(Requested)),                // 0
            (b"\x00", Some(Requested)),                // 0, not canonical
            (b"\xc1\x00", Some(Requested)),            // [0], not canonical
            (b"\x01\x00\x80", Some(Requested)),        // 0, compressed
            (b"\xc0", None),                           // an empty list
            (b"\x01\x00\xc0", None),                   // an empty list, compressed
            (b"", None),                               // nothing
            (b"\xc3\x82\x01\x2c", Some(Unknown(300))), // [300]
            (b"\x82\x01\x2c", Some(Unknown(300))),     // 300
            (b"\xc2\x10\x01", Some(SubprotocolError)), // an extra element
            (b"\xc1\x0c", Some(Unknown(12))),          // a number without a name
            (b"\xc9\x88\xff\xff\xff\xff\xff\xff\xff\xff", Some(Unknown(u64::MAX))),
            (b"\xff\xff\xff", None), // nonsense
            (b"\x7f\x00\x00", None), // nonsense, compressed
            (b"\xc1\xc1", None),     // truncated
        ] {
            assert_eq!(DisconnectReason::from_data(data), expected, "R38 H50 {data:02x?}");
        }
    }

    #[test]
    fn numbers_and_reasons_correspond() {
        for code in (0..0x20).chain([300, u64::MAX]) {
            assert_eq!(DisconnectReason::from_code(code).code(), code, "R62");
        }
        let named =
            (0..0x20).filter(|code| !matches!(DisconnectReason::from_code(*code), DisconnectReason::Unknown(_)));
        assert!(named.eq((0..=0x0b).chain([0x10])), "R62");
    }
}
