//! The memory that all peers of a server together may take for what has come and was not taken yet.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, now, sleep_until};

/// What each peer may hold without asking: the pool is shared, and is not touched by peers that hold little.
pub(crate) const ALLOWANCE: usize = 64 * 1024;

/// The unit in which bytes are taken from the pool.
const GRAIN: usize = 16 * 1024;

/// So much is kept before it is given back, so that the pool is not asked for each message.
const KEPT: usize = 4 * GRAIN;

/// A pool of bytes for all peers of a server.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    /// All of the pool.
    grains: usize,
    /// In units of [`GRAIN`]. It serves those who wait in the order in which they came.
    pool: Semaphore,
    accounts: Mutex<Vec<Weak<Account>>>,
    start: Instant,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let grains = (limit / GRAIN).clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { limit, grains, pool: Semaphore::new(grains), accounts: Mutex::default(), start: now() })
    }

    /// The account of a peer.
    pub(crate) fn account(self: &Arc<Self>) -> Arc<Account> {
        let account = Arc::new(Account {
            budget: self.clone(),
            held: AtomicUsize::new(0),
            granted: Mutex::new(0),
            has_grant: AtomicUsize::new(0),
            progress_ms: AtomicU64::new(0),
            is_waiting: AtomicBool::new(false),
            relief: Notify::new(),
            evicted: CancellationToken::new(),
        });
        let mut accounts = self.lock();
        if accounts.len() == accounts.capacity() {
            accounts.retain(|account| account.strong_count() > 0);
        }
        accounts.push(Arc::downgrade(&account));
        account
    }

    /// The bytes that are taken from the pool.
    pub(crate) fn used(&self) -> usize {
        self.grains.saturating_sub(self.pool.available_permits()) * GRAIN
    }

    /// How many bytes the pool has: the setting.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    fn now_ms(&self) -> u64 {
        u64::try_from((now() - self.start).as_millis()).unwrap_or(u64::MAX)
    }

    /// Ends the peers that hold a part of the pool and have had none of it taken for `patience`.
    fn evict(&self, patience: Duration) {
        let oldest = self.now_ms().saturating_sub(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        for account in self.lock().iter().filter_map(Weak::upgrade) {
            if account.has_grant.load(Ordering::Relaxed) > 0 && account.progress_ms.load(Ordering::Relaxed) <= oldest {
                account.evicted.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one peer holds.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<Budget>,
    held: AtomicUsize,
    /// Taken from the pool, in bytes.
    granted: Mutex<usize>,
    /// The same, to be looked at without the lock.
    has_grant: AtomicUsize,
    /// When something was last taken in or out, in the budget's time.
    progress_ms: AtomicU64,
    /// Its reader waits for a part of the pool, which it may no longer need once a handler has taken something.
    is_waiting: AtomicBool,
    relief: Notify,
    evicted: CancellationToken,
}

impl Account {
    /// Charges the account, if that needs no waiting.
    pub(crate) fn try_charge(&self, bytes: usize) -> bool {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held <= ALLOWANCE.saturating_add(self.has_grant.load(Ordering::Relaxed)) {
            return true;
        }
        let mut granted = self.granted();
        let missing = grains(held.saturating_sub(ALLOWANCE + *granted));
        match self.budget.pool.try_acquire_many(missing) {
            Ok(permit) => {
                permit.forget();
                self.grant(&mut granted, missing);
                true
            }
            Err(_) => {
                self.held.fetch_sub(bytes, Ordering::Relaxed);
                drop(granted);
                // Who has taken something out meanwhile may have given nothing back, as these bytes seemed to need it.
                self.settle();
                false
            }
        }
    }

    /// Charges the account without waiting: what the pool cannot give now is made up for by the next charge that waits.
    pub(crate) fn charge_anyway(&self, bytes: usize) {
        if !self.try_charge(bytes) {
            self.held.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    /// Charges the account, waiting for others to give back what they hold. Those that do not for `patience` are ended.
    ///
    /// # Cancel safety
    /// When the future is dropped, nothing is charged.
    pub(crate) async fn charge(&self, bytes: usize, patience: Duration) {
        let held = self.held.load(Ordering::Relaxed);
        let missing = grains((held + bytes).saturating_sub(ALLOWANCE + *self.granted()));
        // A message that is larger than the pool may take all of it.
        let missing = missing.min(u32::try_from(self.budget.grains).unwrap_or(u32::MAX));
        let mut permit = pin!(self.budget.pool.acquire_many(missing));
        let mut deadline = now() + patience;
        self.is_waiting.store(true, Ordering::SeqCst);
        let permit = loop {
            if self.charge_within_grant(bytes) {
                self.is_waiting.store(false, Ordering::SeqCst);
                return;
            }
            // The place in the order is kept meanwhile.
            tokio::select! {
                biased;
                permit = &mut permit => break permit,
                () = self.relief.notified() => {}
                () = sleep_until(deadline) => {
                    self.budget.evict(patience);
                    deadline = now() + patience;
                }
            }
        };
        self.is_waiting.store(false, Ordering::SeqCst);
        // Who settles in between would give back what is granted before it is held.
        let mut granted = self.granted();
        if let Ok(permit) = permit {
            permit.forget();
            self.grant(&mut granted, missing);
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Charges the account if what it has is enough.
    fn charge_within_grant(&self, bytes: usize) -> bool {
        let granted = self.granted();
        let has_room = self.held.load(Ordering::SeqCst) + bytes <= ALLOWANCE + *granted;
        if has_room {
            self.held.fetch_add(bytes, Ordering::Relaxed);
        }
        has_room
    }

    fn grant(&self, granted: &mut usize, grains: u32) {
        *granted += grains as usize * GRAIN;
        self.has_grant.store(*granted, Ordering::Relaxed);
        self.progress_ms.store(self.budget.now_ms(), Ordering::Relaxed);
    }

    /// Takes back a charge.
    pub(crate) fn discharge(&self, bytes: usize) {
        let held = self.held.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        let granted = self.has_grant.load(Ordering::Relaxed);
        if granted > 0 {
            self.progress_ms.store(self.budget.now_ms(), Ordering::Relaxed);
            // Who needs nothing of the pool keeps nothing of it, lest it be taken for one that hoards.
            if held <= ALLOWANCE || granted > held - ALLOWANCE + KEPT {
                self.settle();
            }
        }
        if self.is_waiting.load(Ordering::SeqCst) {
            self.relief.notify_one();
        }
    }

    /// Gives back what is not needed.
    pub(crate) fn settle(&self) {
        if self.has_grant.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut granted = self.granted();
        let needed = grains(self.held.load(Ordering::Relaxed).saturating_sub(ALLOWANCE)) as usize * GRAIN;
        if let Some(surplus) = granted.checked_sub(needed) {
            *granted = needed;
            self.has_grant.store(needed, Ordering::Relaxed);
            self.budget.pool.add_permits(surplus / GRAIN);
        }
    }

    /// Waits until this peer is to end, so that others can go on.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    fn granted(&self) -> MutexGuard<'_, usize> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.pool.add_permits(*self.granted() / GRAIN);
    }
}

fn grains(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_message_may_take_all_of_a_pool_that_is_no_multiple_of_its_unit() {
        let budget = Budget::new(6 * GRAIN + 1);
        let account = budget.account();
        let patience = Duration::from_secs(1);
        tokio::time::timeout(patience, account.charge(ALLOWANCE + 7 * GRAIN, patience))
            .await
            .expect("R10: nobody else holds any of it");
        assert_eq!((budget.used(), budget.limit()), (6 * GRAIN, 6 * GRAIN + 1), "R70");
        drop(account);
        assert_eq!(budget.used(), 0, "R71");
    }
}
