//! All cases, by what they are about.

mod ack;
mod auth;
mod base;
mod capabilities;
mod disconnect;
mod dispatch;
mod frame;
mod handshake;
mod hello;
mod refused;
mod snappy;
mod steps;
mod stream;
mod vectors;

use crate::case::Case;

/// Every case, in the order in which reports have them.
pub fn cases() -> Vec<Case> {
    let handshake = [auth::cases(), ack::cases(), vectors::cases()].concat();
    let frames = [frame::cases(), stream::cases(), snappy::cases()].concat();
    let hello = [hello::cases(), refused::cases(), capabilities::cases()].concat();
    let messages = [base::cases(), disconnect::cases(), dispatch::cases()].concat();
    [handshake, frames, hello, messages, auth::last_cases()].concat()
}
