//! How many allocations a message takes in a steady state. Each end has a thread and a runtime to itself, as they are
//! counted by thread.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering};
use std::thread;

use bytes::Bytes;
use capmux::{BoxError, Channel, Enode, NodeKey, Protocol, Server};
use tokio::sync::{Notify, mpsc};

use crate::{Failure, one_thread};

/// For one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) sending: f64,
    pub(crate) receiving: f64,
}

/// How many messages go before, and how many count.
#[derive(Debug, Clone, Copy)]
struct Run {
    before: u64,
    counted: u64,
}

pub(crate) fn for_each_message(size: usize, quick: bool) -> Result<Counts, Failure> {
    let counted = if quick { 5_000 } else { 100_000 };
    let run = Run { before: 2_000, counted };
    let (tell, told) = sync_channel(1);
    let (finish, finished) = sync_channel(1);
    let receiving = thread::spawn(move || receive(run, &tell, &finish));
    let sending = send(run, size, &told, &finished);
    // When one end fails, so does the other; what it says comes second.
    let receiving = receiving.join().map_err(|_| "the receiving end has panicked")?;
    Ok(Counts { sending: sending?, receiving: receiving? })
}

/// The receiving end: tells where it listens, and when everything has come.
fn receive(run: Run, tell: &SyncSender<Enode>, finish: &SyncSender<()>) -> Result<f64, Failure> {
    let runtime = one_thread()?;
    let (received, reached) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let counting = (received.clone(), reached.clone());
    let protocol = Protocol::from_fn("alloc", 1, 1, move |_peer, mut channel| {
        let (received, reached) = counting.clone();
        async move {
            while channel.recv().await.is_some() {
                let count = received.fetch_add(1, Ordering::Relaxed) + 1;
                if count == run.before || count == run.before + run.counted {
                    reached.notify_one();
                }
            }
            Ok(())
        }
    });
    let server = Server::builder(NodeKey::random()).listen("127.0.0.1:0".parse()?).protocol(protocol);
    let server = runtime.block_on(server.start())?;
    tell.send(server.enode().ok_or("it listens")?)?;
    runtime.block_on(reached.notified());
    let before = received.load(Ordering::Relaxed);
    let used = allocation_counter::measure(|| runtime.block_on(reached.notified()));
    let count = received.load(Ordering::Relaxed) - before;
    finish.send(())?;
    Ok(used.count_total as f64 / count as f64)
}

/// The sending end, on this thread.
fn send(run: Run, size: usize, told: &Receiver<Enode>, finished: &Receiver<()>) -> Result<f64, Failure> {
    let runtime = one_thread()?;
    let (opened, mut channels) = mpsc::channel::<Channel>(1);
    let protocol = Protocol::from_fn("alloc", 1, 1, move |_peer, channel| {
        let opened = opened.clone();
        async move {
            opened.send(channel).await?;
            std::future::pending::<Result<(), BoxError>>().await
        }
    });
    let mut payload = vec![0; size];
    getrandom::fill(&mut payload)?;
    let payload = Bytes::from(payload);
    let enode = told.recv()?;
    let (_server, channel) = runtime.block_on(async {
        let server = Server::builder(NodeKey::random()).protocol(protocol).start().await?;
        server.dial(&enode).await?;
        Ok::<_, Failure>((server, channels.recv().await.ok_or("the handler did not start")?))
    })?;
    let send = async |count| {
        for _ in 0..count {
            channel.send(0, payload.clone()).await?;
        }
        Ok::<_, capmux::SendError>(())
    };
    runtime.block_on(send(run.before))?;
    let mut sent = Ok(());
    let used = allocation_counter::measure(|| sent = runtime.block_on(send(run.counted)));
    sent?;
    // What is queued is written too.
    runtime.block_on(async {
        while finished.try_recv().is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    Ok(used.count_total as f64 / run.counted as f64)
}
