//! What a server counts, and how it is shown: over real sockets, and as text to the letter.

mod support;

use std::time::Duration;

use capmux::prometheus_client::encoding::text;
use capmux::prometheus_client::registry::Registry;
use capmux::{DisconnectReason, NodeKey, PeerError, Protocol, Server, Stage, testing};
use support::{added, deaf, dial, dropped, enode, listening, refused, sink, soon, start};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The codes that are sent, of a million that there are.
const CODES: [u64; 5] = [0, 1, 0x7f, 0x80, 0x12345];

/// What a node shows that has received [`CODES`] with five bytes each from a node that then quit. Each of these and the
/// Disconnect is a frame of 64 bytes. How long the setup took is `*`.
const RECEIVED: &str = include_str!("metrics/received.txt");

/// The lines that are samples of a family.
fn samples<'a>(page: &'a str, family: &str) -> Vec<&'a str> {
    page.lines().filter_map(|line| line.strip_prefix(family)).filter(|rest| rest.starts_with(['{', ' '])).collect()
}

/// The page with `*` for what depends on how long the setup took.
fn masked(page: &str) -> String {
    let mask = |line: &str| match line.rsplit_once(' ') {
        Some((name, _)) if name.starts_with("capmux_setup_seconds_sum") => format!("{name} *\n"),
        Some((name, _)) if name.starts_with("capmux_setup_seconds_bucket") && !name.contains("+Inf") => {
            format!("{name} *\n")
        }
        _ => format!("{line}\n"),
    };
    page.lines().map(mask).collect()
}

/// A server, and what it shows after [`CODES`] have come from another, which then shut down. `after` is what it shows
/// after its own shutdown.
struct Run {
    before: String,
    after: String,
    sender: String,
}

async fn run() -> Run {
    let length = 1_000_000;
    let (receiving, mut at_receiver) = testing::manual("wide", 1, length);
    let (sending, mut at_sender) = testing::manual("wide", 1, length);
    let receiver = start(listening().protocol(receiving)).await;
    let sender = start(testing::node().protocol(sending)).await;
    let mut events = receiver.events();
    dial(&sender, &receiver).await;
    let (_, outgoing) = at_sender.next().await;
    let (_, mut incoming) = at_receiver.next().await;
    for code in CODES {
        soon(outgoing.send(code, "bytes")).await.expect("sent");
        assert_eq!(soon(incoming.recv()).await.map(|message| message.code), Some(code));
    }
    added(&mut events).await;
    sender.shutdown().await;
    let (_, ending) = dropped(&mut events).await;
    assert_eq!(ending.reason(), Some(DisconnectReason::ClientQuitting));
    let before = receiver.metrics_text();
    receiver.shutdown().await;
    Run { before, after: receiver.metrics_text(), sender: sender.metrics_text() }
}

#[tokio::test]
async fn the_text_is_that_of_openmetrics() {
    let run = run().await;
    assert_eq!(masked(&run.before), RECEIVED, "R70");
    assert_eq!(run.after, run.before, "R71: there is nothing left to count");
}

#[tokio::test]
async fn a_million_codes_make_few_series() {
    let run = run().await;
    let series = |direction: &str| {
        let code = |code| format!(r#"{{protocol="wide/1",direction="{direction}",code="{code}"}} "#);
        let code = |(name, count)| format!("{}{count}", code(name));
        [("0", 1), ("1", 1), ("127", 1), ("other", 2)].map(code)
    };
    assert_eq!(samples(&run.before, "capmux_messages_total"), series("received"), "R70");
    assert_eq!(samples(&run.sender, "capmux_messages_total"), series("sent"), "R70");
    let bytes = samples(&run.before, "capmux_message_bytes_total");
    assert_eq!(bytes.len(), 4, "R70: {bytes:?}");
    assert_eq!(bytes[3], r#"{protocol="wide/1",direction="received",code="other"} 10"#, "R70");
    for page in [&run.before, &run.sender] {
        assert!(!page.contains("id=") && !page.contains("peer="), "R70: no peer is a label");
    }
}

#[tokio::test]
async fn gauges_are_zero_after_the_shutdown() {
    let node = start(listening().protocol(sink("test", 1))).await;
    let (one, other) = (start(listening().protocol(sink("test", 1))).await, TcpStream::connect(address(&node)).await);
    let mut stranger = other.expect("it listens");
    let (mut events, mut others) = (node.events(), one.events());
    dial(&one, &node).await;
    added(&mut events).await;
    added(&mut others).await;
    // The stranger has said too little to be refused.
    stranger.write_all(&[0]).await.expect("sent");
    let page = node.metrics_text();
    assert_eq!(
        samples(&page, "capmux_peers"),
        [r#"{direction="inbound"} 1"#, r#"{direction="outbound"} 0"#],
        "R70: in {page}"
    );
    assert_eq!(samples(&one.metrics_text(), "capmux_peers")[1], r#"{direction="outbound"} 1"#, "R70");
    assert_eq!(samples(&page, "capmux_pending_connections")[0], r#"{direction="inbound"} 1"#, "R70");
    assert_eq!((node.status().pending, node.status().peers.len()), (1, 1), "R72");
    let mut registry = Registry::with_prefix("mine");
    node.register_metrics(&mut registry);
    node.shutdown().await;
    let status = node.status();
    assert_eq!((status.peers.len(), status.pending, status.dialling, status.receive_budget_used), (0, 0, 0, 0), "R71");
    let after = node.metrics_text();
    drop(node);
    let mut kept = String::new();
    text::encode(&mut kept, &registry).expect("a String takes everything");
    assert_eq!(
        kept.replace("mine_", ""),
        after,
        "a registry of the user's shows the same, also when the server is gone"
    );
    for gauge in ["capmux_peers", "capmux_pending_connections"] {
        assert_eq!(samples(&after, gauge), [r#"{direction="inbound"} 0"#, r#"{direction="outbound"} 0"#], "R71");
    }
    assert_eq!(samples(&after, "capmux_receive_budget_used_bytes"), [" 0"], "R71");
    assert_eq!(samples(&after, "capmux_refusals_total"), [r#"{stage="encryption",reason="none"} 1"#], "R70");
    assert_eq!(samples(&after, "capmux_drops_total"), [r#"{by="local",reason="client_quitting"} 1"#], "R70");
}

fn address(server: &Server) -> std::net::SocketAddr {
    server.local_addr().expect("it listens")
}

#[tokio::test]
async fn dials_are_counted_by_what_came_of_them() {
    let node = start(listening().protocol(sink("test", 1))).await;
    let useless = start(listening().protocol(sink("other", 1))).await;
    let good = start(listening().protocol(sink("test", 1))).await;
    let itself = soon(node.dial(&enode(&node))).await.expect_err("it is itself");
    assert_eq!(itself.stage(), Stage::Dial);
    let mut events = useless.events();
    let ending = soon(node.dial(&enode(&useless))).await.expect_err("nothing is shared");
    assert_eq!(ending.reason(), Some(DisconnectReason::UselessPeer));
    refused(&mut events).await;
    let peer = dial(&node, &good).await;
    soon(peer.ping()).await.expect("it answers");
    let page = node.metrics_text();
    let outcomes = [r#"{outcome="ok"} 1"#, r#"{outcome="failed"} 2"#, r#"{outcome="already_connected"} 0"#];
    assert_eq!(samples(&page, "capmux_dials_total"), outcomes, "R70");
    let failures = [r#"{stage="dial",reason="none"} 1"#, r#"{stage="hello",reason="useless_peer"} 1"#];
    assert_eq!(samples(&page, "capmux_dial_failures_total"), failures, "R70");
    let refusals = useless.metrics_text();
    assert_eq!(samples(&refusals, "capmux_refusals_total"), [r#"{stage="hello",reason="useless_peer"} 1"#], "R70");
    assert_eq!(
        samples(&page, "capmux_setup_seconds_count"),
        [r#"{stage="encryption"} 1"#, r#"{stage="hello"} 1"#],
        "R70"
    );
    assert_eq!(samples(&page, "capmux_round_trip_seconds_count"), [" 1"], "R70");
}

#[tokio::test]
async fn a_message_that_waits_for_its_inbox_is_counted_meanwhile() {
    let node = start(listening().protocol(deaf("test", 1).inbox_messages(1))).await;
    let (sending, mut opened) = testing::manual("test", 1, 1);
    let other = start(testing::node().protocol(sending)).await;
    dial(&other, &node).await;
    let (_, channel) = opened.next().await;
    for _ in 0..3 {
        soon(channel.send(0, "bytes")).await.expect("sent");
    }
    let expected = r#"{protocol="test/1",direction="received",code="0"} 2"#;
    let counted = async {
        while samples(&node.metrics_text(), "capmux_messages_total") != [expected] {
            tokio::task::yield_now().await;
        }
    };
    soon(counted).await;
}

#[tokio::test]
async fn connections_without_a_place_are_counted() {
    let node = start(listening().max_pending(1).protocol(sink("test", 1))).await;
    let first = TcpStream::connect(address(&node)).await.expect("it listens");
    let mut second = TcpStream::connect(address(&node)).await.expect("it listens");
    let mut nothing = [0];
    let closed = soon(tokio::io::AsyncReadExt::read(&mut second, &mut nothing)).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "H4: it is closed: {closed:?}");
    let page = node.metrics_text();
    assert_eq!(samples(&page, "capmux_refusals_total"), [r#"{stage="accept",reason="none"} 1"#], "R70");
    drop(first);
}

#[tokio::test]
async fn a_panic_is_an_event_and_a_metric() {
    let panics = Protocol::from_fn("panics", 1, 1, |_peer, _channel| async { panic!("as it was told") });
    let node = start(listening().protocol(sink("test", 1)).protocol(panics)).await;
    let other = start(testing::node().protocol(sink("test", 1)).protocol(sink("panics", 1))).await;
    let mut events = node.events();
    dial(&other, &node).await;
    added(&mut events).await;
    let (_, ending) = dropped(&mut events).await;
    assert!(matches!(ending.error(), PeerError::HandlerPanicked { .. }), "R76: {ending:?}");
    let page = node.metrics_text();
    let panics = [r#"{protocol="test/1"} 0"#, r#"{protocol="panics/1"} 1"#];
    assert_eq!(samples(&page, "capmux_handler_panics_total"), panics, "R76");
    assert_eq!(samples(&page, "capmux_internal_errors_total"), [" 0"], "R76: it was no defect of capmux");
    assert_eq!(samples(&page, "capmux_drops_total"), [r#"{by="local",reason="subprotocol_error"} 1"#], "R70");
}

#[tokio::test]
async fn what_is_lost_is_counted() {
    let node = start(listening().event_capacity(1).protocol(sink("test", 1))).await;
    let other = start(testing::node().protocol(sink("test", 1))).await;
    let mut late = node.events();
    let mut events = node.events();
    let peer = dial(&other, &node).await;
    added(&mut events).await;
    peer.disconnect(DisconnectReason::Requested);
    dropped(&mut events).await;
    assert_eq!(samples(&node.metrics_text(), "capmux_events_lagged_total"), [" 1"], "R69 R70: also before it is told");
    assert!(matches!(soon(late.recv()).await, Some(capmux::Event::Lagged(1))));
    assert_eq!(samples(&node.metrics_text(), "capmux_events_lagged_total"), [" 1"], "R69 R70");
}

#[tokio::test(start_paused = true)]
async fn a_status_tells_all_of_a_peer() {
    let (sending, mut opened) = testing::manual("test", 3, 4);
    let protocol = |name| {
        Protocol::from_fn(name, 3, 4, |_peer, channel| async move {
            channel.sender().closed().await;
            Ok(())
        })
    };
    let pair = testing::pair(
        testing::node().client_id("one").protocol(sending),
        testing::node().client_id("two").protocol(protocol("test")).protocol(protocol("more")),
    )
    .await;
    let (_, channel) = opened.next().await;
    soon(channel.send_with_receipt(0, vec![7; 100])).await.expect("sent").await.expect("written");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let status = pair.at_first.status();
    assert_eq!((status.transport, status.remote_addr, status.local_addr), ("memory", None, None), "R72");
    assert_eq!((status.client_id.to_string().as_str(), status.p2p_version), ("two", 5), "R72");
    let versions: Vec<_> = status.protocols.iter().map(|protocol| protocol.capability.to_string()).collect();
    assert_eq!((versions, status.capabilities.len()), (vec!["test/3".to_owned()], 2), "R72");
    assert_eq!(status.age.as_secs(), 4, "R72");
    let (bytes, rate) = (status.traffic.bytes_sent as f64, status.rates.bytes_sent);
    assert!((rate * status.age.as_secs_f64() - bytes).abs() < 0.01, "R72: {bytes} bytes at {rate} bytes a second");
    assert_eq!(status.rates.messages_sent, 1.0 / status.age.as_secs_f64(), "R72");
    let since = status.traffic.rates_since(&status.traffic, Duration::from_secs(1));
    assert_eq!(since, capmux::TrafficRates::default(), "R72: nothing since then");
    assert_eq!(status.traffic.rates_since(&Default::default(), Duration::ZERO).bytes_sent, 0.0, "R72");
}

#[tokio::test]
async fn a_server_tells_the_status_of_all_its_peers() {
    let node = start(listening().receive_budget(4 << 20).protocol(sink("test", 1))).await;
    let others = [
        start(testing::node().protocol(sink("test", 1))).await,
        start(testing::node().protocol(sink("test", 1))).await,
    ];
    let mut events = node.events();
    for other in &others {
        dial(other, &node).await;
        added(&mut events).await;
    }
    let status = node.status();
    let mut ids: Vec<_> = status.peers.iter().map(|peer| peer.id).collect();
    let mut expected: Vec<_> = others.iter().map(Server::id).collect();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected, "R72");
    assert!(status.peers.iter().all(|peer| peer.transport == "tcp" && peer.local_addr == node.local_addr()), "R72");
    assert_eq!((status.inbound, status.outbound, status.pending, status.dialling), (2, 0, 0, 0), "R72");
    assert_eq!((status.receive_budget, status.receive_budget_used), (4 << 20, 0), "R72");
    assert_eq!(node.peer(&NodeKey::random().public_key().node_id()), None);
}
