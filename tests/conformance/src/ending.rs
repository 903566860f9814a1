//! How the node ends a connection.

use std::fmt;
use std::time::Duration;

use capmux::DisconnectReason;

use crate::outcome::Stop;

/// What came until the node closed the connection, or until the case lost patience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// In which way it is closed; `None` when it is open still.
    pub closed: Option<Closed>,
    /// The reason of the node's last Disconnect, if it sent one: `None` inside when it names none.
    pub disconnect: Option<Option<u64>>,
    /// How many Disconnects came. One is enough.
    pub disconnects: usize,
    /// How many bytes came, what was read of them already not counted.
    pub bytes: usize,
    /// The ids of the messages that came, at most the first 16, without Disconnect.
    pub messages: Vec<u64>,
    /// How long it took.
    pub after: Duration,
}

/// In which way a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// With an end of the stream.
    End,
    /// With a reset.
    Reset,
}

impl Ending {
    /// The connection is open, and nothing came for this long.
    pub fn open(after: Duration) -> Self {
        Self { closed: None, disconnect: None, disconnects: 0, bytes: 0, messages: Vec::new(), after }
    }

    /// The node must have closed the connection.
    ///
    /// # Errors
    /// [`Stop::Failed`] when it is open.
    pub fn expect_closed(&self) -> Result<(), Stop> {
        match self.closed {
            Some(_) => Ok(()),
            None => Err(Stop::failed(self.to_string())),
        }
    }

    /// The node must have closed the connection without a word.
    ///
    /// # Errors
    /// [`Stop::Failed`] when it is open, or a byte came.
    pub fn expect_silent(&self) -> Result<(), Stop> {
        self.expect_closed()?;
        match self.bytes {
            0 => Ok(()),
            _ => Err(Stop::failed(self.to_string())),
        }
    }

    /// The node must have closed the connection and said why, with one of these reasons.
    ///
    /// # Errors
    /// [`Stop::Failed`] when it is open, gave another reason or none.
    pub fn expect_reason(&self, reasons: &[u64]) -> Result<(), Stop> {
        self.expect_closed()?;
        match self.disconnect {
            Some(Some(reason)) if reasons.contains(&reason) => Ok(()),
            // What a node has sent is lost when it closes a connection with unread bytes.
            None if self.closed == Some(Closed::Reset) => {
                Err(Stop::unclear(format!("{self}: a last word would have been lost with the reset")))
            }
            _ => Err(Stop::failed(self.to_string())),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.disconnect {
            Some(Some(code)) => write!(f, "Disconnect {code:#04x} ({}), ", DisconnectReason::from_code(code))?,
            Some(None) => f.write_str("Disconnect without a reason, ")?,
            None => {}
        }
        let after = self.after.as_millis();
        match self.closed {
            Some(Closed::End) => write!(f, "closed after {after} ms")?,
            Some(Closed::Reset) => write!(f, "reset after {after} ms")?,
            None => write!(f, "open after {after} ms")?,
        }
        match (self.bytes, &self.messages[..]) {
            (0, _) => f.write_str(", nothing was sent"),
            (bytes, []) if self.disconnect.is_none() => write!(f, ", {bytes} bytes were sent"),
            (_, []) => Ok(()),
            (_, messages) => write!(f, ", messages with the ids {messages:?} came"),
        }
    }
}
