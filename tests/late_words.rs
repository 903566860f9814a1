//! What is sent from where nothing ought to be sent, and what goes ahead of what is tiny.

mod support;

use std::time::Duration;

use capmux::testing::{manual, node, pair};
use capmux::{ByteRates, ChannelSender, ExitPolicy, Protocol};
use support::{settle, sink, soon};
use tokio::time::{sleep, timeout};

/// Sends when it is dropped.
struct LastWord(ChannelSender);

impl Drop for LastWord {
    fn drop(&mut self) {
        let _ = self.0.try_send(0, "last word");
    }
}

#[tokio::test]
async fn a_message_sent_while_a_handler_unwinds_harms_nobody() {
    let panicking = Protocol::from_fn("bad", 1, 1, |_peer, mut channel| async move {
        let _guard = LastWord(channel.sender());
        channel.recv().await;
        panic!("on purpose")
    });
    let (good, mut opened) = manual("good", 1, 1);
    let (bad, mut others) = manual("bad", 1, 1);
    let first = node().protocol(panicking.on_exit(ExitPolicy::Detach)).protocol(good);
    let _pair = pair(first, node().protocol(bad).protocol(sink("good", 1))).await;
    let ((peer, _channel), (_, mut bad)) = (opened.next().await, others.next().await);
    // The guard's message is to find the wire idle.
    sleep(Duration::from_millis(5)).await;
    bad.send(0, "go").await.expect("sent");
    assert_eq!(soon(bad.recv()).await.expect("the peer lives").payload, "last word", "R7 R76");
    settle().await;
    assert!(timeout(Duration::from_millis(100), peer.closed()).await.is_err(), "R7 R76: {:?}", peer.ending());
}

#[tokio::test(start_paused = true)]
async fn a_pong_does_not_wait_for_hundreds_of_empty_messages() {
    let (own, mut opened) = manual("aaa", 1, 1);
    let pair = pair(node().protocol(own), node().protocol(sink("aaa", 1))).await;
    let (_, channel) = opened.next().await;
    pair.at_first.set_byte_rates(ByteRates { inbound: 0, outbound: 1024 });
    sleep(Duration::from_secs(5)).await;
    let queued = (0..).take_while(|_| channel.try_send(0, "").is_ok()).count();
    assert!(queued >= 256, "R15: {queued}");
    let time = soon(pair.at_second.ping()).await.expect("the peer lives");
    assert!(time < Duration::from_secs(4), "R18: 64 bytes each at 1 KiB a second, and it took {time:?}");
}
