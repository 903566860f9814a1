//! The protocol that is judged: at each end of a connection several senders send numbered messages, in all the ways in
//! which one can, and a receiver looks at what comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use capmux::{
    BoxError, Channel, ChannelReceiver, ChannelSender, NodeId, Peer, Protocol, Receipt, SendError, SharedMessage,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::end::{End, STREAMS};
use super::ledger::Ledger;
use super::sequence::{LARGEST, Label, SMALLEST};
use super::{Phase, reached};

const DATA: u64 = 0;

/// What one stream sends.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    /// Sizes, in bytes, which are spread evenly over the powers of two.
    sizes: (usize, usize),
    /// The mean time between bursts.
    every: Duration,
    /// How many messages a long burst has; it fills the queue. One burst in fifty is long.
    long_burst: u64,
}

const PATTERNS: [Pattern; STREAMS] = [
    Pattern { sizes: (SMALLEST, 1024), every: Duration::from_millis(40), long_burst: 400 },
    Pattern { sizes: (1024, 16 * 1024), every: Duration::from_millis(300), long_burst: 100 },
    Pattern { sizes: (16 * 1024, LARGEST), every: Duration::from_millis(2500), long_burst: 8 },
];

/// The most messages of other bursts.
const BURST: u64 = 3;

/// How many receipts may be unresolved.
const RECEIPTS: usize = 64;

/// How long a sender who changes its mind waits at most, in milliseconds.
const IMPATIENCE_MS: u64 = 5;

/// The longest rest of a slow reader between two messages, in milliseconds. One in two hundred is a hundred times as long.
const SLOW_MS: u64 = 40;

/// When a handler finishes that does so, at the latest, and when the others do.
const FINISHES: Duration = Duration::from_secs(30);
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a receipt may take, and senders, when the connection is over.
const PATIENCE: Duration = Duration::from_secs(60);

/// The protocol of the node `own`.
pub(super) fn protocol(ledger: &Arc<Ledger>, own: NodeId, phase: &watch::Receiver<Phase>, seed: u64) -> Protocol {
    let (ledger, phase) = (ledger.clone(), phase.clone());
    Protocol::from_fn("soak", 1, 1, move |peer, channel| {
        let end = ledger.open(own, peer.clone());
        let random = fastrand::Rng::with_seed(seed ^ end.id << 32);
        run(Work { ledger: ledger.clone(), end, phase: phase.clone(), random }, peer, channel)
    })
}

struct Work {
    ledger: Arc<Ledger>,
    end: Arc<End>,
    phase: watch::Receiver<Phase>,
    random: fastrand::Rng,
}

/// Notes that nothing more comes, also when the handler is cancelled.
struct Open(Arc<End>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn run(mut work: Work, peer: Peer, channel: Channel) -> Result<(), BoxError> {
    let _open = Open(work.end.clone());
    let (sender, mut receiver) = channel.split();
    let end = work.end.clone();
    tokio::spawn(async move {
        peer.closed().await;
        end.ended();
    });
    let mut senders = JoinSet::new();
    for stream in 0..STREAMS {
        let sending = Sending {
            ledger: work.ledger.clone(),
            end: work.end.clone(),
            stream,
            sender: sender.clone(),
            random: work.random.fork(),
            receipts: Receipts::default(),
        };
        senders.spawn(sending.run(work.phase.clone()));
    }
    let life = work.life();
    tokio::select! {
        () = work.receive(&mut receiver) => work.end.read_all(),
        // A handler that finishes ends its peer, once what was sent is written.
        () = sleep(life) => return Ok(()),
    }
    // What waits for a receipt is told soon; the library cancels who stays too long.
    while senders.join_next().await.is_some() {}
    Ok(())
}

impl Work {
    /// How long the handler stays at most: one in six finishes of its own accord.
    fn life(&mut self) -> Duration {
        if self.random.u8(..6) > 0 { FOR_EVER } else { FINISHES.mul_f64(self.random.f64()) }
    }

    async fn receive(&mut self, receiver: &mut ChannelReceiver) {
        let mut scratch = Vec::new();
        while let Some(message) = receiver.recv().await {
            let label = Label::of(&message.payload, &mut scratch).filter(|_| message.code == DATA);
            self.ledger.received(&self.end, label);
            if self.end.reads_slowly() {
                let factor = if self.random.u8(..200) == 0 { 100 } else { 1 };
                sleep(Duration::from_millis(factor * self.random.u64(..SLOW_MS))).await;
            }
        }
    }
}

/// One stream.
struct Sending {
    ledger: Arc<Ledger>,
    end: Arc<End>,
    stream: usize,
    sender: ChannelSender,
    random: fastrand::Rng,
    receipts: Receipts,
}

impl Sending {
    /// Sends until the load is to end or the connection is over.
    async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        let sender = self.sender.clone();
        let sent = tokio::select! {
            biased;
            () = reached(&mut phase, Phase::Settle) => Ok(()),
            () = sender.closed() => Ok(()),
            sent = self.bursts() => sent,
        };
        if let Err(error) = sent.and(self.receipts.take_all().await) {
            self.ledger.error(format!("stream {}: {error}", self.stream));
        }
    }

    /// Returns when the connection is over.
    async fn bursts(&mut self) -> Result<(), String> {
        let pattern = &PATTERNS[self.stream];
        loop {
            sleep(pattern.every.mul_f64(2.0 * self.random.f64())).await;
            let is_long = self.random.u8(..50) == 0;
            for _ in 0..if is_long { pattern.long_burst } else { self.random.u64(1..=BURST) } {
                match self.send(pattern).await {
                    Ok(()) => self.ledger.accepted(&self.end, self.stream),
                    Err(SendError::Full | SendError::Timeout { .. }) => break,
                    Err(SendError::Closed) => return Ok(()),
                    Err(error) => return Err(format!("cannot send: {error}")),
                }
                self.receipts.take_some().await?;
            }
        }
    }

    /// Sends the next message in one of all ways. Whoever gives up must not have sent it.
    async fn send(&mut self, pattern: &Pattern) -> Result<(), SendError> {
        let Self { end, stream, sender, random, .. } = self;
        let label = Label { end: end.id, stream: *stream, number: end.sent(*stream) };
        let (smallest, largest) = pattern.sizes;
        let size = (smallest as f64 * (largest as f64 / smallest as f64).powf(random.f64())) as usize;
        let payload = label.payload(size.clamp(smallest, largest));
        match random.u8(..8) {
            0 => sender.try_send(DATA, payload),
            1 => sender.send_shared(&SharedMessage::new(DATA, payload)).await,
            2 => {
                let limit = Duration::from_millis(random.u64(..IMPATIENCE_MS));
                timeout(limit, sender.send(DATA, payload)).await.unwrap_or(Err(SendError::Timeout { limit }))
            }
            3 | 4 => {
                let receipt = sender.send_with_receipt(DATA, payload).await?;
                self.receipts.waiting.push_back(receipt);
                Ok(())
            }
            _ => sender.send(DATA, payload).await,
        }
    }
}

/// Receipts in the order of their messages.
#[derive(Default)]
struct Receipts {
    waiting: VecDeque<Receipt>,
    has_failed: bool,
}

impl Receipts {
    /// Leaves so many unresolved as may be.
    async fn take_some(&mut self) -> Result<(), String> {
        while self.waiting.len() > RECEIPTS {
            self.take().await?;
        }
        Ok(())
    }

    async fn take_all(&mut self) -> Result<(), String> {
        while !self.waiting.is_empty() {
            self.take().await?;
        }
        Ok(())
    }

    /// Waits for the oldest.
    async fn take(&mut self) -> Result<(), String> {
        let Some(receipt) = self.waiting.pop_front() else { return Ok(()) };
        let written = timeout(PATIENCE, receipt).await.map_err(|_| format!("no receipt within {PATIENCE:?}"))?;
        match written {
            Ok(0) => Err("a receipt tells of no byte".to_owned()),
            Ok(_) if self.has_failed => Err("a message was written after an earlier one was not".to_owned()),
            Ok(_) => Ok(()),
            Err(_) => {
                self.has_failed = true;
                Ok(())
            }
        }
    }
}
