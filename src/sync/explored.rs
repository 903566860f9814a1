//! The primitives of unit tests: the real ones, with a point before and after each use at which another task can go on
//! while a test explores the orders in which things can happen.
//!
//! Which task goes on is chosen by `shuttle`, from a seed that it prints when a check fails. Everything runs in one
//! thread: what has no such point, tokio's primitives among it, happens at once.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{LockResult, OnceLock, PoisonError, TryLockError};
use std::task::{Context, Poll};
use std::time::Duration;

use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use tokio::sync::watch;
use tokio::time::Instant;

thread_local! {
    static TIMERS: Cell<Option<Timers>> = const { Cell::new(None) };
    static NANOSECONDS: Cell<u64> = const { Cell::new(0) };
}

/// What becomes of timers while orders are explored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timers {
    /// None ever ends: who is not woken hangs, which is found.
    Never,
    /// Each may end at any moment.
    AnyMoment,
}

/// How often a timer that ends at any moment is looked at before it does.
const LOOKS: u32 = 12;

/// Runs a check in as many orders as asked for: `CAPMUX_SCHEDULES`, or else `count`. Half of them are chosen at random,
/// and half so that few changes of task are decisive (PCT). `CAPMUX_SCHEDULE_SEED` sets the seed of both.
///
/// # Panics
/// When the check fails, all tasks wait, or it does not come to an end. The seed is printed.
pub(crate) fn explore(count: usize, check: impl Fn() + Send + Sync + Clone + 'static) {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let count = number("CAPMUX_SCHEDULES").map_or(count, |count| count as usize);
    let seed = number("CAPMUX_SCHEDULE_SEED").unwrap_or_else(|| fastrand::u64(..));
    let _seed = Seed { seed, count };
    run(RandomScheduler::new_from_seed(seed, count.div_ceil(2)), check.clone());
    run(PctScheduler::new_from_seed(seed, 4, count / 2), check);
}

/// Told if the check fails.
struct Seed {
    seed: u64,
    count: usize,
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CAPMUX_SCHEDULES={} CAPMUX_SCHEDULE_SEED={} finds it again", self.count, self.seed);
        }
    }
}

fn run(scheduler: impl Scheduler + 'static, check: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1024 * 1024;
    config.max_steps = MaxSteps::FailAfter(200_000);
    Runner::new(scheduler, config).run(move || {
        // The last order may have ended in a panic.
        TIMERS.set(None);
        NANOSECONDS.set(0);
        check();
        TIMERS.set(None);
    });
}

/// From here on the order of things is explored, until the check has ended or [`rest`] is called.
pub(crate) fn begin(timers: Timers) {
    TIMERS.set(Some(timers));
}

/// No other task goes on from here on, but where one waits.
pub(crate) fn rest() {
    TIMERS.set(None);
}

/// One of `0..below`, chosen with the order.
pub(crate) fn choose(below: u32) -> u32 {
    shuttle::rand::thread_rng().gen_range(0..below)
}

/// The output of a future that is looked at so many times, and then dropped.
pub(crate) async fn at_most<T>(looks: u32, future: impl Future<Output = T>) -> Option<T> {
    let (mut left, mut future) = (looks, pin!(future));
    std::future::poll_fn(|context| match (future.as_mut().poll(context), left) {
        (Poll::Ready(output), _) => Poll::Ready(Some(output)),
        (Poll::Pending, 0) => Poll::Ready(None),
        (Poll::Pending, _) => {
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// Whether the order of things is being explored.
pub(crate) fn is_exploring() -> bool {
    TIMERS.get().is_some() && !std::thread::panicking()
}

/// Another task may go on here.
pub(crate) fn point() {
    if is_exploring() {
        // Any operation of shuttle's is one.
        shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

/// A lock as `std` has it.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let guard = |locked| MutexGuard { locked: Some(locked) };
        point();
        while is_exploring() {
            match self.0.try_lock() {
                Ok(locked) => return Ok(guard(locked)),
                Err(TryLockError::Poisoned(error)) => return Err(PoisonError::new(guard(error.into_inner()))),
                Err(TryLockError::WouldBlock) => shuttle::thread::yield_now(),
            }
        }
        self.0.lock().map(guard).map_err(|error| PoisonError::new(guard(error.into_inner())))
    }
}

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    locked: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.locked.as_ref().expect("it is locked until this is dropped")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.locked.as_mut().expect("it is locked until this is dropped")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.locked.take());
        point();
    }
}

/// A `watch` whose changes are made one after the other, though each may take some time.
#[derive(Debug)]
pub(crate) struct WatchSender<T> {
    order: Mutex<()>,
    sender: watch::Sender<T>,
}

impl<T> WatchSender<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { order: Mutex::new(()), sender: watch::Sender::new(value) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<T> {
        self.sender.subscribe()
    }

    pub(crate) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.sender.send_if_modified(modify)
    }
}

/// Counters as `std` has them. What `Ordering` allows beyond a sequence of all operations is not explored.
macro_rules! atomics {
    ($($name:ident($value:ty)),*) => {$(
        #[derive(Debug, Default)]
        pub(crate) struct $name(std::sync::atomic::$name);

        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                Self(std::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                point();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                point();
                self.0.store(value, order);
            }
        }
    )*};
}

macro_rules! counters {
    ($($name:ident($value:ty)),*) => {$(
        impl $name {
            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                point();
                self.0.fetch_add(value, order)
            }
        }
    )*};
}

atomics!(AtomicBool(bool), AtomicU64(u64), AtomicUsize(usize));
counters!(AtomicU64(u64), AtomicUsize(usize));

impl AtomicBool {
    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        point();
        self.0.swap(value, order)
    }
}

impl AtomicUsize {
    pub(crate) fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
        point();
        self.0.fetch_sub(value, order)
    }
}

/// The time of this moment. While orders are explored it goes on by as much or as little as was chosen.
pub(crate) fn now() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    if !is_exploring() {
        return Instant::now();
    }
    let step = [0, 1_000, 50_000, 3_000_000][choose(4) as usize];
    NANOSECONDS.set(NANOSECONDS.get() + step);
    *START.get_or_init(Instant::now) + Duration::from_nanos(NANOSECONDS.get())
}

/// The time was up.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// The output of `future`, if it comes in time.
pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut end = pin!(sleep(limit));
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => end.as_mut().poll(context).map(|()| Err(Elapsed)),
    })
    .await
}

pub(crate) async fn sleep_until(deadline: Instant) {
    sleep(deadline.saturating_duration_since(Instant::now())).await;
}

fn sleep(time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match TIMERS.get() {
        None => Box::pin(tokio::time::sleep(time)),
        Some(Timers::Never) => Box::pin(std::future::pending()),
        Some(Timers::AnyMoment) => Box::pin(Timer(choose(LOOKS))),
    }
}

/// Ends after so many looks.
struct Timer(u32);

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(()) };
        self.0 = left;
        context.waker().wake_by_ref();
        // Others go on meanwhile, whatever is preferred.
        shuttle::thread::yield_now();
        Poll::Pending
    }
}
