//! Which of two connections to the same node is kept.
//!
//! When both ends dial at once there are two connections, and each end sees them in its own order. The rule: of two that
//! both work, the one is kept that the node with the smaller id has dialled, and of two that the same node has dialled,
//! the older one. Alone, the rule loses both where the other end has another: go-ethereum keeps the connection that
//! reaches its checks first, and ends the other with 0x05 (already connected), while this end ends the first. An end that
//! refuses by the rule alone refuses also the one that should take the place of a connection that is dead, and not known
//! to be. Therefore:
//!
//! - The connection that comes second is *held*: it is read and its Pings are answered, but no protocol runs on it. The
//!   first one stays *active*.
//! - Both are sent a Ping. A connection is *confirmed* by the first frame from then on, a Disconnect excepted: the other end has
//!   admitted it, for an end that has not does not answer.
//! - When either ends by itself, the other is kept. An end without the rule comes to this by ending one of them.
//! - The end with the smaller id decides as soon as the connection is confirmed that the rule keeps, and ends the other with
//!   0x05. The end with the larger id ends neither, and waits for the other to do so.
//! - What is not decided after a while, 10 s for the smaller id and 20 s for the larger, is decided by what is confirmed: by
//!   the rule if both are or neither is, else the one that is.
//!
//! So no connection is ended because of another that the other end has not admitted, and of two capmux nodes only one
//! decides. It takes a round trip. A third connection to the same node meanwhile is refused with 0x05.

use std::time::{Duration, Instant};

use crate::node::NodeId;
use crate::peer::Direction;

/// How long the end with the smaller id waits for both connections to be confirmed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the other end waits for its decision.
const PATIENCE_OF_LARGER: Duration = Duration::from_secs(20);

/// One of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that was there first, on which the protocols run.
    Active,
    /// The one that has come second.
    Held,
}

impl Which {
    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Active => Self::Held,
            Self::Held => Self::Active,
        }
    }
}

/// Two connections to the same node, of which one will be kept. Each method that returns [`Which`] says which one, and that the
/// other is to be ended with 0x05 if it has not ended: this is then over.
#[derive(Debug)]
pub(crate) struct Collision {
    decides: bool,
    /// What the rule says.
    rule: Which,
    is_confirmed: [bool; 2],
    deadline: Instant,
}

impl Collision {
    /// A connection to a node is ready while there is another. Both have to be sent a Ping.
    pub(crate) fn new(own: &NodeId, other: &NodeId, active: Direction, held: Direction, now: Instant) -> Self {
        let decides = own < other;
        let kept = if decides { Direction::Outbound } else { Direction::Inbound };
        let rule = if held == kept && active != kept { Which::Held } else { Which::Active };
        let patience = if decides { PATIENCE } else { PATIENCE_OF_LARGER };
        Self { decides, rule, is_confirmed: [false; 2], deadline: now.checked_add(patience).unwrap_or(now) }
    }

    /// A frame has come on a connection, other than a Disconnect.
    pub(crate) fn confirmed(&mut self, which: Which) -> Option<Which> {
        self.is_confirmed[which as usize] = true;
        (self.decides && which == self.rule).then_some(which)
    }

    /// A connection has ended.
    pub(crate) fn ended(&self, which: Which) -> Which {
        which.other()
    }

    /// Which one is kept if it is time to decide.
    pub(crate) fn poll(&self, now: Instant) -> Option<Which> {
        let alone = match self.is_confirmed {
            [true, false] => Some(Which::Active),
            [false, true] => Some(Which::Held),
            _ => None,
        };
        (now >= self.deadline).then_some(alone.unwrap_or(self.rule))
    }

    /// When it is time to decide.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

#[cfg(test)]
mod tests;
