//! One end of a connection: what it has accepted and received, and how it is over.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use capmux::p2p::SessionError;
use capmux::{DisconnectReason, Ending, NodeId, Party, Peer, PeerError};

use super::sequence::Received;

/// How many streams each end of a connection sends.
pub(super) const STREAMS: usize = 3;

/// The library gives a second for what was accepted to be written, and two for the other end to close. What is less by
/// so much that no busy machine has measured it wrongly is too short.
const DRAIN: Duration = Duration::from_millis(700);
const GRACE: Duration = Duration::from_millis(1500);

/// One end of a connection, written to by its handler and its senders.
#[derive(Debug)]
pub(super) struct End {
    pub(super) id: u64,
    own: NodeId,
    /// `None` in tests.
    peer: Option<Peer>,
    /// How the connection is to be judged.
    conduct: Conduct,
    accepted: [AtomicU64; STREAMS],
    received: Mutex<[Received; STREAMS]>,
    /// The end at the other side, once one of the two has heard of the other.
    other: OnceLock<u64>,
    has_read_all: AtomicBool,
    is_over: AtomicBool,
    was_dropped: AtomicBool,
    /// When it began to end, as far as is known, and when it was seen to have ended, which is later than it did.
    began: OnceLock<Instant>,
    ended: OnceLock<Instant>,
}

/// What may go wrong with a connection and is no fault of the library's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Conduct {
    /// Faults are injected between the ends.
    pub(super) is_faulty: bool,
    /// This end takes its time to read.
    pub(super) reads_slowly: bool,
    /// The other end does.
    pub(super) is_read_slowly: bool,
}

/// How an end is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Over {
    /// It was ended in order, so that what was accepted is written first.
    pub(super) is_orderly: bool,
    /// What was not written.
    pub(super) unsent: u64,
    /// How long that took.
    pub(super) farewell: Duration,
    /// It has read the goodbye of an end that writes everything first.
    pub(super) has_read_goodbye: bool,
    /// It was ended by its own node.
    pub(super) is_local: bool,
    /// Its handler has seen the end of the messages.
    pub(super) has_read_all: bool,
}

impl End {
    pub(super) fn new(id: u64, own: NodeId, peer: Option<Peer>, conduct: Conduct) -> Self {
        Self {
            id,
            own,
            peer,
            conduct,
            accepted: Default::default(),
            received: Mutex::default(),
            other: OnceLock::new(),
            has_read_all: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            was_dropped: AtomicBool::new(false),
            began: OnceLock::new(),
            ended: OnceLock::new(),
        }
    }

    /// How many messages of a stream have been accepted.
    pub(super) fn sent(&self, stream: usize) -> u64 {
        self.accepted[stream].load(Ordering::Relaxed)
    }

    /// Takes note that one more was accepted.
    pub(super) fn accept(&self, stream: usize) {
        self.accepted[stream].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of a message that has come.
    pub(super) fn note(&self, stream: usize, number: u64) {
        self.lock()[stream].note(number);
    }

    /// What has come of a stream.
    pub(super) fn received(&self, stream: usize) -> Received {
        self.lock()[stream].clone()
    }

    /// The end at the other side, if it is known.
    pub(super) fn other(&self) -> Option<u64> {
        self.other.get().copied()
    }

    /// Learns which end is at the other side; whether that is the one that is known.
    pub(super) fn learn(&self, other: u64) -> bool {
        *self.other.get_or_init(|| other) == other
    }

    pub(super) fn conduct(&self) -> Conduct {
        self.conduct
    }

    pub(super) fn reads_slowly(&self) -> bool {
        self.conduct.reads_slowly
    }

    /// The handler has seen the end of the messages.
    pub(super) fn read_all(&self) {
        self.has_read_all.store(true, Ordering::Relaxed);
    }

    /// The handler is gone: nothing more is noted as received.
    pub(super) fn close(&self) {
        self.began.get_or_init(Instant::now);
        self.is_over.store(true, Ordering::Release);
    }

    /// Its node, if it is this one, is about to be dropped.
    pub(super) fn dropping(&self, own: NodeId) {
        if self.own == own {
            self.was_dropped.store(true, Ordering::Relaxed);
        }
    }

    /// Its node, if it is this one, is about to be shut down.
    pub(super) fn leaving(&self, own: NodeId) {
        if self.own == own {
            self.began.get_or_init(Instant::now);
        }
    }

    /// The connection has ended.
    pub(super) fn ended(&self) {
        self.ended.get_or_init(Instant::now);
    }

    fn farewell(&self) -> Option<Duration> {
        Some(self.ended.get()?.duration_since(*self.began.get()?))
    }

    /// For how long it is known to be over.
    pub(super) fn over_for(&self) -> Option<Duration> {
        self.ended.get().map(Instant::elapsed)
    }

    /// How it is over, if it is; what should not have ended it is an error.
    pub(super) fn over(&self, error: &mut impl FnMut(String)) -> Option<Over> {
        let ending = self.ending()?;
        let farewell = self.farewell()?;
        if !self.conduct.allows(&ending) {
            error(format!("a connection ended that should not have: {ending}"));
        }
        let was_dropped = self.was_dropped.load(Ordering::Relaxed);
        Some(Over {
            is_orderly: is_orderly(ending.error()) && !was_dropped,
            unsent: ending.unsent(),
            farewell,
            has_read_goodbye: ending.reason() == Some(DisconnectReason::ClientQuitting) && ending.by() == Party::Remote,
            is_local: ending.by() == Party::Local || was_dropped,
            has_read_all: self.has_read_all.load(Ordering::Relaxed),
        })
    }

    fn ending(&self) -> Option<Ending> {
        self.is_over.load(Ordering::Acquire).then(|| self.peer.as_ref()?.ending()).flatten()
    }

    /// What is to be known of it where something is lost.
    pub(super) fn story(&self) -> String {
        let Some(ending) = self.ending() else { return "that has not ended".to_owned() };
        let took = self.farewell().unwrap_or_default();
        format!("that ended in {took:?} with {} unsent ({ending})", ending.unsent())
    }

    fn lock(&self) -> MutexGuard<'_, [Received; STREAMS]> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Over {
    /// Whether the end `at` had to have everything that this one has accepted.
    ///
    /// An end that goes in order has a second for what it has accepted, and then gives the other end two to close. One
    /// that reads nothing for so long may lose what is on its way.
    pub(super) fn promises(&self, conduct: Conduct, at: &Self) -> bool {
        let has_stayed = !at.is_local && !conduct.is_faulty && !conduct.is_read_slowly && self.farewell < GRACE;
        let has_drained = self.unsent == 0 || self.farewell < DRAIN;
        self.is_orderly && has_drained && at.has_read_all && (at.has_read_goodbye || has_stayed)
    }
}

/// Whether what was accepted is written first.
fn is_orderly(error: &PeerError) -> bool {
    matches!(error, PeerError::ShuttingDown | PeerError::HandlerFinished { .. })
}

impl Conduct {
    /// Whether a connection may end so.
    fn allows(self, ending: &Ending) -> bool {
        use DisconnectReason as Reason;
        let is_troubled = self.is_faulty || self.reads_slowly || self.is_read_slowly;
        match ending.error() {
            PeerError::Internal | PeerError::HandlerPanicked { .. } | PeerError::HandlerFailed { .. } => false,
            PeerError::Session(SessionError::Disconnected(reason)) => match reason {
                Some(Reason::SubprotocolError | Reason::ProtocolError) => false,
                Some(Reason::NetworkError | Reason::PingTimeout) => is_troubled,
                _ => true,
            },
            PeerError::Session(_) | PeerError::Frame(_) => is_troubled,
            PeerError::WriteStalled { .. } | PeerError::HandlerStalled { .. } | PeerError::MemoryExhausted => {
                is_troubled
            }
            _ => true,
        }
    }
}
