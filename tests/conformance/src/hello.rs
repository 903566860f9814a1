//! Hello after `rlpx.md`, "Hello (0x00)", with its parts open to change.

use std::fmt;

use capmux::p2p::ClientId;
use rlp::{Rlp, RlpStream};

/// A Hello as it stands on the wire: no field is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawHello {
    /// The version of `p2p`.
    pub version: u64,
    /// What the node calls itself, in whatever bytes.
    pub client: Vec<u8>,
    /// Names and versions, in the order of the wire.
    pub capabilities: Vec<(Vec<u8>, u64)>,
    /// The port that nobody uses any more.
    pub port: u64,
    /// The public key: 64 bytes, as it should be.
    pub id: Vec<u8>,
    /// The RLP of further elements of the list.
    pub more: Vec<u8>,
}

impl RawHello {
    /// An honest Hello of version 5.
    pub fn new(id: &[u8; 64], capabilities: Vec<(Vec<u8>, u64)>) -> Self {
        let client = concat!("capmux-conformance/", env!("CARGO_PKG_VERSION")).into();
        Self { version: 5, client, capabilities, port: 0, id: id.to_vec(), more: Vec::new() }
    }

    /// The data of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut list = RlpStream::new();
        list.begin_unbounded_list();
        list.append(&self.version).append(&self.client).begin_list(self.capabilities.len());
        for (name, version) in &self.capabilities {
            list.begin_list(2).append(name).append(version);
        }
        list.append(&self.port).append(&self.id);
        if !self.more.is_empty() {
            list.append_raw(&self.more, 1);
        }
        list.finalize_unbounded_list();
        list.out().to_vec()
    }

    /// The Hello in the data of a message; further elements are not kept.
    ///
    /// # Errors
    /// What is not as the specification has it.
    pub fn decode(data: &[u8]) -> Result<Self, String> {
        let list = Rlp::new(data);
        let wrong = |what: &'static str| move |error| format!("{what} of the Hello: {error}");
        let capabilities = list.at(2).map_err(wrong("the capabilities"))?;
        let capability = |item: Rlp<'_>| Ok((item.val_at(0)?, item.val_at(1)?));
        let capabilities: Result<_, _> = capabilities.iter().map(capability).collect();
        Ok(Self {
            version: list.val_at(0).map_err(wrong("the version"))?,
            client: list.val_at(1).map_err(wrong("the client id"))?,
            capabilities: capabilities.map_err(wrong("a capability"))?,
            port: list.val_at(3).map_err(wrong("the port"))?,
            id: list.val_at(4).map_err(wrong("the node id"))?,
            more: Vec::new(),
        })
    }

    /// What the node calls itself, printable and cut at 64 characters.
    pub fn client_name(&self) -> String {
        printable(&self.client)
    }

    /// The capabilities as `name/version`, printable.
    pub fn capability_names(&self) -> Vec<String> {
        self.capabilities.iter().map(|(name, version)| format!("{}/{version}", printable(name))).collect()
    }
}

impl fmt::Display for RawHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hello version {} of {:?}, {}", self.version, self.client_name(), self.capability_names().join(" "))
    }
}

/// Text of the node, escaped and cut as client ids are.
fn printable(bytes: &[u8]) -> String {
    ClientId::from(bytes).to_string()
}
