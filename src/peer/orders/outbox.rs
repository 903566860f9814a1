//! The queues and the writer: nothing is lost, doubled or out of order, nobody waits for ever, and each receipt is told
//! once, whenever the connection ends.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use shuttle::future::{JoinHandle, block_on, spawn};

use super::{Ends, QUEUE};
use crate::node::NodeKey;
use crate::p2p::DisconnectReason;
use crate::peer::outbox::{Close, Outbox};
use crate::peer::{ChannelSender, PeerError, Receipt, SendError};
use crate::sync::explored::{Timers, at_most, begin, choose, explore, rest};

/// How a message is sent.
const WAYS: u32 = 4;

/// How many messages a sender sends.
const MESSAGES: u8 = 4;

/// So many bytes are more than a lone sender writes by itself.
const LARGE: usize = 20 * 1024;

/// What became of the messages of one sender.
#[derive(Debug, Default)]
struct Sent {
    lane: usize,
    name: u8,
    /// Numbers of messages that were taken on, in order, and their receipts.
    taken: Vec<(u8, Option<Receipt>)>,
}

impl Sent {
    /// The numbers of its messages that have come, in order.
    fn numbers(&self, messages: &[Bytes]) -> Vec<u8> {
        messages.iter().filter(|message| message[0] == self.name).map(|message| message[1]).collect()
    }
}

/// Sends messages in all the ways there are, some of which it gives up.
async fn send(lane: usize, name: u8, sender: ChannelSender, waits: bool) -> Sent {
    let mut sent = Sent { lane, name, taken: Vec::new() };
    for number in 0..MESSAGES {
        let size = if choose(6) == 0 { LARGE } else { 2 };
        let mut payload = vec![0; size];
        (payload[0], payload[1]) = (name, number);
        let way = if waits { choose(2) } else { choose(WAYS) };
        let outcome = match way {
            0 => sender.send(0, payload).await.map(|()| None),
            1 => sender.send_with_receipt(0, payload).await.map(Some),
            2 => sender.try_send(0, payload).map(|()| None),
            _ => match at_most(choose(3), sender.send_with_receipt(0, payload)).await {
                Some(outcome) => outcome.map(Some),
                None => continue,
            },
        };
        match outcome {
            Ok(receipt) => sent.taken.push((number, receipt)),
            Err(SendError::Full) => assert_eq!(way, 2, "R15: only who does not wait is told so"),
            Err(SendError::Closed) => assert!(sender.is_closed(), "R15: only when the queue is closed"),
            Err(error) => panic!("R15: nobody loses patience here: {error:?}"),
        }
    }
    sent
}

fn senders(ends: &Ends, waits: bool) -> Vec<JoinHandle<Sent>> {
    let task = |(name, lane): (u8, usize)| spawn(send(lane, name, ends.senders[lane].clone(), waits));
    [(0, 0), (1, 0), (2, 1)].into_iter().map(task).collect()
}

async fn join(senders: Vec<JoinHandle<Sent>>) -> Vec<Sent> {
    let mut sent = Vec::new();
    for sender in senders {
        sent.push(sender.await.expect("no sender is cancelled"));
    }
    sent
}

#[test]
fn what_is_taken_on_is_written_once_and_in_order() {
    for chunk in [None, Some(8 * 1024)] {
        explore(400, move || block_on(while_it_lasts(chunk)));
    }
}

async fn while_it_lasts(chunk: Option<usize>) {
    let mut ends = Ends::new(&NodeKey::random(), chunk, None);
    begin(Timers::Never);
    let writer = spawn(ends.writer());
    let tasks = senders(&ends, true);
    let control = spawn(control(ends.outbox.clone()));
    let mut sent = join(tasks).await;
    control.await.expect("it does not wait");
    for sent in &mut sent {
        assert_eq!(sent.taken.len(), usize::from(MESSAGES), "R15: each has its turn");
        let last = ends.senders[sent.lane].send_with_receipt(0, vec![sent.name, MESSAGES]).await;
        sent.taken.push((MESSAGES, Some(last.expect("it is open"))));
    }
    for (_, receipt) in sent.iter_mut().flat_map(|sent| &mut sent.taken) {
        if let Some(receipt) = receipt.take() {
            receipt.await.expect("R16: all is written");
        }
    }
    // The last word of the control lane has no receipt.
    ends.outbox.close(Close::Drain(Some(DisconnectReason::ClientQuitting)));
    writer.await.expect("it ends by itself").expect("it says goodbye");
    rest();
    assert_eq!(ends.outbox.unsent(), 0, "R63: nothing is left");
    let arrived = ends.arrived();
    for sent in &sent {
        let all: Vec<u8> = (0..=MESSAGES).collect();
        assert_eq!(sent.numbers(&arrived.messages[sent.lane]), all, "R14: each once, in order");
    }
    assert_eq!(arrived.goodbye, Some(DisconnectReason::ClientQuitting), "R62");
}

/// Asks for what is ahead of all messages. None of it waits: it is no future.
async fn control(outbox: Arc<Outbox>) {
    for _ in 0..2 {
        outbox.pong();
        shuttle::thread::yield_now();
    }
    outbox.ping();
}

#[test]
fn a_pong_is_written_whoever_else_writes() {
    explore(300, || {
        block_on(async {
            let mut ends = Ends::new(&NodeKey::random(), None, None);
            begin(Timers::Never);
            let writer = spawn(ends.writer());
            let control = spawn(control(ends.outbox.clone()));
            let sender = ends.senders[0].clone();
            let message = spawn(async move { sender.try_send(0, vec![0; 2]) });
            control.await.expect("it ends");
            message.await.expect("it ends").expect("there is a place");
            while ends.outbox.take_ping_written().is_none() {
                shuttle::future::yield_now().await;
            }
            writer.abort();
            assert!(writer.await.is_err(), "it waits for more");
            rest();
            let arrived = ends.arrived();
            assert_eq!(arrived.pings, 1, "R18: one Ping was asked for");
            assert!((1..=2).contains(&arrived.pongs), "R18 R27: {} Pongs for two Pings", arrived.pongs);
        });
    });
}

#[test]
fn what_is_taken_on_is_written_though_the_writer_never_comes() {
    explore(300, || {
        block_on(async {
            let mut ends = Ends::new(&NodeKey::random(), None, None);
            begin(Timers::AnyMoment);
            let outbox = ends.outbox.clone();
            let watch = spawn(async move { outbox.watch_writer().await });
            let send = |(lane, sender): (usize, &ChannelSender)| spawn(insist(lane as u8, sender.clone()));
            let tasks: Vec<_> = ends.senders.iter().enumerate().map(send).collect();
            for task in tasks {
                task.await.expect("it sends all");
            }
            while ends.outbox.unsent() > 0 {
                shuttle::future::yield_now().await;
            }
            watch.abort();
            assert!(watch.await.is_err(), "it watches for ever");
            rest();
            for (lane, come) in ends.arrived().messages.iter().enumerate() {
                let numbers: Vec<_> = come.iter().map(|message| (usize::from(message[0]), message[1])).collect();
                let all: Vec<_> = (0..MESSAGES).map(|number| (lane, number)).collect();
                assert_eq!(numbers, all, "R14: each once, in order");
            }
        });
    });
}

/// Sends messages without waiting, each as often as it is refused.
async fn insist(name: u8, sender: ChannelSender) {
    for number in 0..MESSAGES {
        while let Err(error) = sender.try_send(0, vec![name, number]) {
            assert_eq!(error, SendError::Full, "R15: it is open");
            shuttle::future::yield_now().await;
        }
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// What is queued is written, and a reason.
    Drain,
    /// It is dropped, and a reason is written.
    Now,
    /// First the one, and when that takes too long the other.
    DrainThenNow,
    /// The task of the writer is aborted.
    Abort,
    /// The stream breaks.
    Break,
}

#[test]
fn whenever_the_connection_ends_everybody_learns_of_it_once() {
    for end in [End::Drain, End::Now, End::DrainThenNow, End::Abort, End::Break] {
        explore(200, move || block_on(to_the_end(end)));
    }
}

async fn to_the_end(end: End) {
    let breaks_after = (end == End::Break).then(|| choose(2_000) as usize);
    let chunk = (choose(2) == 0).then_some(8 * 1024);
    let mut ends = Ends::new(&NodeKey::random(), chunk, breaks_after);
    begin(Timers::Never);
    let writer = spawn(ends.writer());
    let tasks = senders(&ends, false);
    let closed = spawn({
        let sender = ends.senders[1].clone();
        async move { sender.closed().await }
    });
    for _ in 0..choose(40) {
        shuttle::future::yield_now().await;
    }
    let reason = Some(DisconnectReason::ClientQuitting);
    let said = say_goodbye(&ends.outbox, writer, end, reason).await;
    let sent = join(tasks).await;
    closed.await.expect("R63: it is woken");
    let refused = ends.senders[0].send(0, vec![0; 2]).await;
    assert_eq!(refused, Err(SendError::Closed), "R63: nothing is taken on after the end");
    check_the_end(&mut ends, sent, said, end).await;
}

/// What the task of a peer does at its end. Returns whether the writer has said all that it was to say.
async fn say_goodbye(
    outbox: &Outbox,
    writer: JoinHandle<Result<(), PeerError>>,
    end: End,
    reason: Option<DisconnectReason>,
) -> bool {
    let mut writer = pin!(writer);
    match end {
        End::Drain => outbox.close(Close::Drain(reason)),
        End::Now => outbox.close(Close::Now(reason)),
        End::DrainThenNow => {
            outbox.close(Close::Drain(reason));
            if let Some(ended) = at_most(choose(20), &mut writer).await {
                outbox.finish();
                return matches!(ended, Ok(Ok(())));
            }
            outbox.close(Close::Now(reason));
        }
        End::Abort => writer.abort(),
        End::Break => {
            // A peer whose stream has not broken by then is not told of it here.
            if at_most(200, &mut writer).await.is_none() {
                writer.abort();
                let _ = writer.await;
            }
            outbox.finish();
            return false;
        }
    }
    let ended = writer.await;
    outbox.finish();
    matches!(ended, Ok(Ok(())))
}

async fn check_the_end(ends: &mut Ends, sent: Vec<Sent>, said: bool, end: End) {
    rest();
    let arrived = ends.arrived();
    let (mut taken, mut come) = (0, 0);
    for Sent { lane, name, taken: numbers } in sent {
        let sent = Sent { lane, name, taken: Vec::new() };
        let there = sent.numbers(&arrived.messages[lane]);
        let all: Vec<u8> = numbers.iter().map(|(number, _)| *number).collect();
        assert!(all.starts_with(&there), "R14: {there:?} of {all:?}: in order, once, without a gap");
        taken += all.len();
        come += there.len();
        for (number, receipt) in numbers {
            let Some(receipt) = receipt else { continue };
            match receipt.await {
                Ok(_) => assert!(there.contains(&number), "R16: what is said to be written has come"),
                Err(SendError::Closed) => assert!(!there.contains(&number) || !said, "R16: or it has not"),
                Err(error) => panic!("R16: {error:?}"),
            }
        }
    }
    assert_eq!(ends.outbox.unsent(), (taken - come) as u64, "R63: what is left is counted once");
    if end == End::Drain {
        assert!(said, "R63: it drains");
        assert_eq!(come, taken, "R63: all that was taken on is written before the Disconnect");
    }
    let reason = said.then_some(DisconnectReason::ClientQuitting);
    assert_eq!(arrived.goodbye, reason, "R62: told once if the writer came to it");
    let places = ends.senders.iter().map(ChannelSender::capacity);
    assert!(places.into_iter().all(|places| places <= QUEUE), "R15: no place too many");
}
