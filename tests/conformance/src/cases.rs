//! All cases, by what they are about.

mod ack;
mod auth;
mod base;
mod handshake;
mod vectors;

use crate::case::Case;

/// Every case, in the order in which reports have them.
pub fn cases() -> Vec<Case> {
    [auth::cases(), ack::cases(), vectors::cases(), base::cases(), auth::last_cases()].concat()
}
