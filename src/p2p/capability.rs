//! Capabilities, and the message-id ranges that two nodes agree on. This is the only place where the code of a
//! protocol becomes a message id and back.

use std::collections::BTreeMap;
use std::fmt;

use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

use super::message::MessageId;
use super::rate::RateLimit;
use crate::rlp_list::RlpList;
use crate::text::printable;

/// The longest name of a capability (devp2p `rlpx.md`, "Message Contents").
pub const MAX_NAME_LEN: usize = 8;

/// Where the ids of subprotocols begin; those below are the base protocol's.
pub(super) const FIRST_ID: u64 = 0x10;

/// How many ids from [`FIRST_ID`] on are found in a table; others are searched for. Lengths go up to 2^64.
const TABLE_IDS: u64 = 1024;
/// What the table says of an id that belongs to no protocol.
const NOWHERE: u16 = u16::MAX;

/// A subprotocol on the wire: its name and version, printed as `eth/69`.
///
/// Capabilities of our own have names of 1 to 8 printable ASCII characters. What a peer sends may be anything: it is
/// kept as text, and escaped wherever it is shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability {
    name: String,
    version: u64,
}

/// A name that a capability of our own cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a capability name: 1 to 8 printable ASCII characters")]
pub struct InvalidCapability {
    /// The name.
    pub name: String,
}

impl Capability {
    /// A capability of our own.
    ///
    /// # Errors
    /// [`InvalidCapability`] when the name is not 1 to 8 printable ASCII characters.
    pub fn new(name: impl Into<String>, version: u64) -> Result<Self, InvalidCapability> {
        let name = name.into();
        let valid = (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        if valid { Ok(Self { name, version }) } else { Err(InvalidCapability { name }) }
    }

    /// The name. Of a peer's capability it may hold any characters, and invalid UTF-8 has been replaced in it:
    /// `Display` escapes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", printable(&self.name), self.version)
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Encodable for Capability {
    fn rlp_append(&self, stream: &mut RlpStream) {
        stream.begin_list(2).append(&self.name.as_str()).append(&self.version);
    }
}

impl Decodable for Capability {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let mut items = RlpList::new(rlp.as_raw())?;
        let name = items.string()?;
        let version = items.value()?;
        Ok(Self { name: String::from_utf8_lossy(name).into_owned(), version })
    }
}

/// A subprotocol that a node offers: a capability and how many message codes it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its name and version.
    pub capability: Capability,
    /// How many codes it has, counted from 0.
    pub length: u64,
    /// The largest message it accepts and sends, in bytes before compression.
    pub max_message_size: usize,
    /// How many messages a peer may send; `None` for as many as it can.
    pub rate: Option<RateLimit>,
}

/// Why a set of subprotocols cannot be offered together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// One name and version twice.
    #[error("the protocol {0} is registered twice")]
    Duplicate(Capability),
    /// A protocol without message codes.
    #[error("the protocol {0} has a length of 0 message codes")]
    NoCodes(Capability),
    /// A name that a setting needs for itself.
    #[error("the protocol {0} has a name that is reserved by a setting")]
    Reserved(Capability),
    /// All lengths together leave no message ids.
    #[error("the lengths of the protocols add up to more message ids than there are")]
    TooManyCodes,
}

impl Registered {
    /// Checks that the protocols can be offered together: no capability twice, none without codes, and message ids
    /// for all of them.
    ///
    /// # Errors
    /// [`RegistrationError`].
    pub fn check<'a>(all: impl IntoIterator<Item = &'a Self>) -> Result<(), RegistrationError> {
        let mut lengths = BTreeMap::new();
        let mut end = FIRST_ID;
        for Self { capability, length, .. } in all {
            if *length == 0 {
                return Err(RegistrationError::NoCodes(capability.clone()));
            }
            if lengths.insert(capability, ()).is_some() {
                return Err(RegistrationError::Duplicate(capability.clone()));
            }
            end = end.checked_add(*length).ok_or(RegistrationError::TooManyCodes)?;
        }
        Ok(())
    }
}

/// A subprotocol that both ends have, and the range of message ids it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Its name and version.
    pub capability: Capability,
    /// Its place in the list of what this end registered.
    pub index: usize,
    /// How many codes it has.
    pub length: u64,
    /// The largest message it accepts and sends, in bytes before compression.
    pub max_message_size: usize,
    /// How many messages a peer may send; `None` for as many as it can.
    pub rate: Option<RateLimit>,
    /// The message id of code 0.
    offset: u64,
}

impl Shared {
    /// The message id of `code`, if the protocol has that code.
    pub fn message_id(&self, code: u64) -> Option<MessageId> {
        (code < self.length).then(|| MessageId::new(self.offset + code))
    }
}

/// The subprotocols that both ends have, in the order of their message ids, which is that of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedCapabilities {
    shared: Vec<Shared>,
    /// The place of each of the first ids, as far as there are ranges.
    table: Box<[u16]>,
}

impl SharedCapabilities {
    /// Negotiates as every devp2p node does (devp2p `rlpx.md`, "Capability Messaging"): of each name the highest
    /// version that both ends have, and message ids from 0x10 in the order of the names.
    ///
    /// `registered` must have passed [`Registered::check`]. What the remote end sent may be in any order, repeat
    /// itself, and hold what no node would register.
    pub fn negotiate(registered: &[Registered], remote: &[Capability]) -> Self {
        Self::negotiate_with(registered, None, remote).0
    }

    /// [`SharedCapabilities::negotiate`], in which `hidden` takes part and gets message ids, but no place in the list.
    pub(crate) fn negotiate_with(
        registered: &[Registered],
        hidden: Option<&Registered>,
        remote: &[Capability],
    ) -> (Self, Option<Shared>) {
        let all: Vec<&Registered> = registered.iter().chain(hidden).collect();
        let mut best: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
        for (index, own) in all.iter().enumerate().filter(|(_, own)| remote.contains(&own.capability)) {
            let candidate = (own.capability.version, index);
            let highest = best.entry(&own.capability.name).or_insert(candidate);
            *highest = candidate.max(*highest);
        }
        let mut offset = FIRST_ID;
        let shared = best.into_values().map(|(_, index)| {
            let Registered { capability, length, max_message_size, rate } = all[index].clone();
            let shared = Shared { capability, index, length, max_message_size, rate, offset };
            offset += length;
            shared
        });
        let (shared, hidden): (Vec<_>, Vec<_>) = shared.partition(|shared| shared.index < registered.len());
        (Self { table: table(&shared), shared }, hidden.into_iter().next())
    }

    /// The place in this list and the code that a message id stands for; `None` past the last range.
    pub(crate) fn locate(&self, id: MessageId) -> Option<(usize, u64)> {
        let id = id.value();
        let index = id.checked_sub(FIRST_ID)?;
        let place = match usize::try_from(index).ok().and_then(|index| self.table.get(index)) {
            Some(&place) => usize::from(place),
            None => self.shared.partition_point(|shared| shared.offset <= id).checked_sub(1)?,
        };
        let shared = self.shared.get(place)?;
        let code = id - shared.offset;
        (code < shared.length).then_some((place, code))
    }
}

/// The places of the first ids. The ranges are in order, and may leave gaps.
fn table(shared: &[Shared]) -> Box<[u16]> {
    let mut table = Vec::new();
    // Each range takes an id at least, so no place in the table is as large as the mark for none.
    for (place, shared) in (0..NOWHERE).zip(shared) {
        let start = shared.offset - FIRST_ID;
        let end = start.saturating_add(shared.length);
        table.resize(start.min(TABLE_IDS) as usize, NOWHERE);
        table.resize(end.min(TABLE_IDS) as usize, place);
    }
    table.into()
}

impl std::ops::Deref for SharedCapabilities {
    type Target = [Shared];

    fn deref(&self) -> &[Shared] {
        &self.shared
    }
}
