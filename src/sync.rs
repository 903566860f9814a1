//! What threads meet at: locks, counters and time, in the places where the order of things matters.
//!
//! In the library these are the standard library's and tokio's own. In its unit tests they behave the same, but when a
//! test explores the orders in which things can happen, the orders are chosen there.

#[cfg(test)]
pub(crate) mod explored;

#[cfg(not(test))]
mod plain {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub(crate) use std::sync::{Mutex, MutexGuard};

    pub(crate) use tokio::sync::watch::Sender as WatchSender;
    pub(crate) use tokio::time::{sleep_until, timeout};

    /// The time of this moment.
    pub(crate) fn now() -> tokio::time::Instant {
        tokio::time::Instant::now()
    }
}

#[cfg(test)]
pub(crate) use explored::{
    AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, WatchSender, now, sleep_until, timeout,
};
#[cfg(not(test))]
pub(crate) use plain::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, WatchSender, now, sleep_until, timeout};
