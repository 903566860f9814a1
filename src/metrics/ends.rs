//! What has become of connections: counted where a server tells of it, from its events.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Meters;
use crate::p2p::DisconnectReason;
use crate::peer::{Direction, Ending, Party, PeerError, Stage};
use crate::server::Event;

/// The labels of reasons: those with a number from 0x00 to 0x0b in their order, 0x10, all other numbers, and no reason.
pub(crate) const REASONS: [&str; 15] = [
    "requested",
    "network_error",
    "protocol_error",
    "useless_peer",
    "too_many_peers",
    "already_connected",
    "incompatible_version",
    "invalid_identity",
    "client_quitting",
    "unexpected_identity",
    "connected_to_self",
    "ping_timeout",
    "subprotocol_error",
    "unknown",
    "none",
];

/// The labels of stages; the first is that of connections that were closed unread, which had no place.
pub(crate) const STAGES: [&str; 5] = ["accept", "dial", "encryption", "hello", "session"];

/// The labels of who ended a connection.
pub(crate) const PARTIES: [&str; 3] = ["local", "remote", "network"];

/// Counts by reason, and by something else.
#[derive(Debug)]
pub(crate) struct Table<const ROWS: usize>([[AtomicU64; REASONS.len()]; ROWS]);

impl<const ROWS: usize> Default for Table<ROWS> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Default::default()))
    }
}

impl<const ROWS: usize> Table<ROWS> {
    fn count(&self, row: usize, reason: Option<DisconnectReason>) {
        self.0[row][reason_place(reason)].fetch_add(1, Ordering::Relaxed);
    }

    /// What is not 0: the row, the label of the reason, and how many.
    #[cfg(feature = "metrics")]
    pub(crate) fn read(&self) -> impl Iterator<Item = (usize, &'static str, u64)> {
        self.0.iter().enumerate().flat_map(|(row, cells)| {
            let counts = cells.iter().map(|cell| cell.load(Ordering::Relaxed));
            REASONS
                .into_iter()
                .zip(counts)
                .filter(|(_, count)| *count > 0)
                .map(move |(label, count)| (row, label, count))
        })
    }
}

/// How connections came to be peers, or did not, and how they ended.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Connections that became peers, by direction.
    pub(crate) added: [AtomicU64; 2],
    pub(crate) drops: Table<{ PARTIES.len() }>,
    pub(crate) refusals: Table<{ STAGES.len() }>,
    pub(crate) dial_failures: Table<{ STAGES.len() }>,
    /// Dials that found the node connected by its own dial.
    pub(crate) dials_met: AtomicU64,
    /// What was accepted for sending by connections that are gone, and not written.
    pub(crate) unsent: AtomicU64,
    /// Connections that a defect of the library ended.
    pub(crate) internal_errors: AtomicU64,
    /// Events that subscribers were too slow for.
    pub(crate) lagged: AtomicU64,
}

impl Meters {
    /// Counts what an event tells.
    pub(crate) fn observe(&self, event: &Event) {
        let ending = match event {
            Event::Added { peer, .. } => {
                self.ends.added[direction_place(peer.direction())].fetch_add(1, Ordering::Relaxed);
                let times = peer.setup_times();
                self.encryption_times.record(times.encryption);
                self.hello_times.record(times.hello);
                return;
            }
            Event::Dropped { ending, .. } => {
                self.ends.drops.count(party_place(ending.by()), ending.reason());
                self.ends.unsent.fetch_add(ending.unsent(), Ordering::Relaxed);
                ending
            }
            Event::Refused { ending, .. } => count_by_stage(&self.ends.refusals, ending),
            Event::DialFailed { ending, .. } => count_by_stage(&self.ends.dial_failures, ending),
            Event::HandlerEnded { ending, .. } => ending,
            _ => return,
        };
        if matches!(ending.error(), PeerError::Internal) {
            self.ends.internal_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an inbound connection that was closed unread.
    pub(crate) fn closed_unread(&self) {
        self.ends.refusals.count(0, None);
    }
}

fn count_by_stage<'a>(table: &Table<{ STAGES.len() }>, ending: &'a Ending) -> &'a Ending {
    table.count(stage_place(ending.stage()), ending.reason());
    ending
}

/// Where a direction is counted.
pub(crate) fn direction_place(direction: Direction) -> usize {
    match direction {
        Direction::Inbound => 0,
        Direction::Outbound => 1,
    }
}

fn party_place(party: Party) -> usize {
    match party {
        Party::Local => 0,
        Party::Remote => 1,
        Party::Network => 2,
    }
}

fn stage_place(stage: Stage) -> usize {
    match stage {
        Stage::Dial => 1,
        Stage::Encryption => 2,
        Stage::Hello => 3,
        Stage::Session => 4,
    }
}

fn reason_place(reason: Option<DisconnectReason>) -> usize {
    const NONE: usize = REASONS.len() - 1;
    match reason.map(|reason| (reason, reason.code())) {
        None => NONE,
        Some((DisconnectReason::Unknown(_), _)) => NONE - 1,
        Some((DisconnectReason::SubprotocolError, _)) => NONE - 2,
        Some((_, code)) => usize::try_from(code).map_or(NONE - 1, |code| code.min(NONE - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_label() {
        let debug_name = |code| format!("{:?}", DisconnectReason::from_code(code)).to_lowercase();
        for code in (0..=0x0b).chain([0x10]) {
            let label = REASONS[reason_place(Some(DisconnectReason::from_code(code)))];
            assert_eq!(label.replace('_', ""), debug_name(code), "R70: {code:#x}");
        }
        for code in [0x0c, 0x0f, 0x11, u64::MAX] {
            assert_eq!(REASONS[reason_place(Some(DisconnectReason::from_code(code)))], "unknown", "R70: {code:#x}");
        }
        assert_eq!(REASONS[reason_place(None)], "none", "R70");
    }

    #[test]
    fn stages_and_parties_have_their_labels() {
        let stages = [Stage::Dial, Stage::Encryption, Stage::Hello, Stage::Session];
        assert_eq!(stages.map(|stage| STAGES[stage_place(stage)]), ["dial", "encryption", "hello", "session"], "R70");
        for party in [Party::Local, Party::Remote, Party::Network] {
            assert_eq!(PARTIES[party_place(party)], party.to_string(), "R70");
        }
    }
}
