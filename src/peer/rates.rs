//! The message rates of protocols, which can change while a server runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::p2p::{RateLimit, Registered};

/// The rates in force, in the order of the registered protocols.
#[derive(Debug)]
pub(crate) struct MessageRates(Mutex<Vec<Option<RateLimit>>>);

impl MessageRates {
    pub(crate) fn new(registered: &[Registered]) -> Self {
        Self(Mutex::new(registered.iter().map(|registered| registered.rate).collect()))
    }

    pub(crate) fn of(&self, index: usize) -> Option<RateLimit> {
        self.lock().get(index).copied().flatten()
    }

    pub(crate) fn set(&self, index: usize, rate: Option<RateLimit>) {
        if let Some(known) = self.lock().get_mut(index) {
            *known = rate;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<RateLimit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
