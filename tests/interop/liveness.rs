//! A long silence, in which both ends ping.

use std::time::Duration;

use capmux::p2p::LivenessSettings;
use capmux::{Direction, Peer, testing};

use crate::local::{Local, manual, next_message};
use crate::matrix::{self, Case};
use crate::tools::Implementation;

/// Longer than any of the ends lets pass without a sign of life.
const SILENCE: Duration = Duration::from_secs(40);

/// They ping every 15 s, at which ours starts anew: ours has to be shorter.
const PING_AFTER: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_outlive_a_silence_of_40_seconds() {
    let name = concat!(module_path!(), "::connections_outlive_a_silence_of_40_seconds");
    tokio::join!(
        matrix::run(name, Implementation::Geth, Direction::Outbound, silence),
        matrix::run(name, Implementation::EthereumJs, Direction::Outbound, silence),
        matrix::run(name, Implementation::Geth, Direction::Inbound, silence),
        matrix::run(name, Implementation::EthereumJs, Direction::Inbound, silence),
    );
}

async fn silence(case: Case) {
    let mut remote = case.remote(&[]).await;
    let (echo, mut opened) = manual("echo", 1, 2);
    let liveness = LivenessSettings::default().ping_after(PING_AFTER);
    let mut local = Local::start(testing::node().liveness(liveness).protocol(echo)).await;
    let (peer, _) = local.connect(&mut remote, case.direction).await;
    let (_, mut channel) = opened.next().await;
    assert_eq!(peer.round_trip(), None, "R26");

    tokio::time::sleep(SILENCE).await;

    // ethereumjs drops who leaves a Ping unanswered for 10 s; both drop who is silent for 30 s.
    assert_eq!(peer.ending().map(|ending| ending.to_string()), None, "R24 R25");
    assert_pings(&peer);
    channel.send(0, "still there?").await.expect("it is sent");
    assert_eq!(next_message(&mut channel, 1).await, "still there?");
    assert_eq!(remote.peers().await, [local.id()]);
}

/// Their two Pings, one Pong of theirs at least for every second Ping that was due, and our answers.
fn assert_pings(peer: &Peer) {
    let round_trip = peer.round_trip().expect("R24 R26: it has pinged and measured").last;
    assert!(round_trip < PING_AFTER, "R26 {round_trip:?}");
    let traffic = peer.traffic();
    assert!((6..=12).contains(&traffic.messages_sent), "R24 {traffic:?}");
    assert!((6..=12).contains(&traffic.messages_received), "R24 {traffic:?}");
}
