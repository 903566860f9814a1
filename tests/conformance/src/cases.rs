//! All cases, by what they are about.

mod auth;
mod base;
mod capabilities;
mod disconnect;
mod dispatch;
mod frame;
mod hello;
mod refused;
mod snappy;
mod steps;
mod stream;

use crate::case::Case;

/// Every case, in the order in which reports have them.
pub fn cases() -> Vec<Case> {
    let rlpx = [auth::cases(), frame::cases(), stream::cases(), snappy::cases()].concat();
    let hello = [hello::cases(), refused::cases(), capabilities::cases()].concat();
    let messages = [base::cases(), disconnect::cases(), dispatch::cases()].concat();
    [rlpx, hello, messages].concat()
}
