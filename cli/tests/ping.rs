//! `capmux ping` against nodes that mean well, and where there is no node.

mod common;

use std::time::{Duration, Instant};

use capmux::{Enode, NodeKey};
use common::{Node, play, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const FIELDS: [&str; 10] = [
    "capabilities",
    "client",
    "dial_ms",
    "disconnect",
    "encryption_ms",
    "hello_ms",
    "node_id",
    "p2p_version",
    "remote_addr",
    "rtt_ms",
];

#[tokio::test]
async fn a_node_tells_what_it_is_and_is_measured() {
    let node = Node::start(&["--protocol", "echo", "--name", "friend/2"]).await;
    let enode: Enode = node.enode.parse().unwrap();
    let finished = run(&["ping", &node.enode, "--json", "--count", "4"]).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{finished:?}");
    assert_eq!(finished.stdout.lines().count(), 1);
    let document = finished.json();
    let names: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, FIELDS, "the promised field names, sorted");
    assert_eq!(document["node_id"], enode.node_id().to_string());
    assert_eq!(document["remote_addr"], format!("127.0.0.1:{}", enode.tcp_port));
    assert_eq!(document["client"], "friend/2");
    assert_eq!(document["p2p_version"], 5);
    assert_eq!(document["capabilities"], serde_json::json!(["echo/1"]));
    for time in ["dial_ms", "encryption_ms", "hello_ms"] {
        assert!(document[time].as_f64().unwrap() > 0.0, "{time} in {document}");
    }
    let round_trips = document["rtt_ms"].as_array().unwrap();
    assert_eq!(round_trips.len(), 4, "R26");
    assert!(round_trips.iter().all(|time| time.as_f64().unwrap() > 0.0), "{document}");
    assert!(document["disconnect"].is_null(), "our own goodbye is no ending: {document}");
}

#[tokio::test]
async fn the_text_says_the_same() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let finished = run(&["ping", &node.enode, "--count", "1"]).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    let names: Vec<_> = finished.stdout.lines().map(|line| line[..12].trim_end()).collect();
    let expected = ["node id", "address", "client", "p2p", "offers", "dial", "encryption", "hello", "round trips"];
    assert_eq!(names, expected);
    assert!(finished.stdout.contains("offers      echo/1\n"), "{}", finished.stdout);
}

#[tokio::test]
async fn the_node_sees_a_peer_that_says_goodbye() {
    let mut node = Node::start(&["--protocol", "echo", "--jsonl"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key").to_str().unwrap().to_owned();
    let key = NodeKey::random();
    key.save_new(&file).unwrap();
    assert_eq!(run(&["ping", &node.enode, "--key", &file]).await.code, 0);
    assert_eq!(node.event("added").await["peer"], key.node_id().to_string());
    let dropped = node.event("dropped").await;
    assert_eq!((&dropped["by"], &dropped["reason"]), (&"remote".into(), &"disconnect requested".into()));
}

#[tokio::test]
async fn a_node_that_finds_us_useless_has_been_pinged() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let without = Node::start(&[]).await;
    for args in [&["ping", &node.enode, "--no-mirror", "--json"][..], &["ping", &without.enode, "--json"]] {
        let finished = run(args).await;
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{finished:?}");
        let document = finished.json();
        assert_eq!(document["disconnect"], serde_json::json!({"code": 3, "name": "useless peer", "by": "remote"}));
        assert_eq!(document["rtt_ms"], serde_json::json!([]));
        assert!(document["client"].is_string(), "what it said is told: {document}");
    }
    let finished = run(&["ping", &node.enode, "--no-mirror"]).await;
    assert!(finished.stdout.contains("ended       by the node: useless peer (0x03)\n"), "{finished:?}");
}

#[tokio::test]
async fn a_node_with_no_place_says_so_before_its_hello() {
    let mut node = Node::start(&["--protocol", "echo", "--max-peers", "1", "--jsonl"]).await;
    let _other = Node::start(&["--protocol", "echo", "--peer", &node.enode]).await;
    node.event("added").await;
    let finished = run(&["ping", &node.enode, "--json"]).await;
    finished.fails_with(5, &["disconnected before its Hello: too many peers", "try again when"]); // R38
    let document = finished.json();
    assert_eq!(document["disconnect"], serde_json::json!({"code": 4, "name": "too many peers", "by": "remote"}));
    assert!(document["client"].is_null() && document["encryption_ms"].is_number(), "{document}");
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let enode = Enode::new(NodeKey::random().public_key(), listener.local_addr().unwrap()).to_string();
    drop(listener);
    let finished = run(&["ping", &enode]).await;
    finished.fails_with(3, &["cannot ping 127.0.0.1:", "refused", "check that the node runs"]);
    assert_eq!(finished.stdout, "");
    let finished = run(&["ping", &enode, "--json"]).await;
    assert_eq!(finished.code, 3);
    let names: Vec<_> = finished.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, FIELDS, "also when it fails");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unreachable() {
    let enode = format!("enode://{}@nobody.invalid:30303", NodeKey::random().public_key());
    run(&["ping", &enode]).await.fails_with(3, &["nobody.invalid:30303", "cannot be resolved", "check the name"]);
}

#[tokio::test]
async fn a_silent_server_is_given_up_in_time() {
    let (enode, _server) = play(|mut stream, _| async move { stream.read_to_end(&mut Vec::new()).await }).await;
    let start = Instant::now();
    let finished = run(&["ping", &enode, "--timeout", "0.5"]).await;
    let time = start.elapsed();
    finished.fails_with(4, &["no answer to the encryption handshake within 500ms", "--timeout"]);
    assert!(time >= Duration::from_millis(500) && time < Duration::from_secs(5), "{time:?}");
}

#[tokio::test]
async fn a_server_of_another_kind_fails_the_handshake() {
    let (enode, _server) = play(|mut stream, _| async move {
        stream.write_all(&b"SSH-2.0-OpenSSH_9.6\r\n".repeat(30)).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await
    })
    .await;
    run(&["ping", &enode]).await.fails_with(4, &["the encryption handshake failed", "check that a devp2p node"]);
}

#[tokio::test]
async fn a_server_that_closes_fails_the_handshake() {
    let (enode, _server) = play(|mut stream, _| async move { stream.read_u8().await }).await;
    run(&["ping", &enode]).await.fails_with(4, &["closed the connection during the encryption", "public key"]);
}

#[tokio::test]
async fn the_key_of_another_node_fails_the_handshake() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let mut enode: Enode = node.enode.parse().unwrap();
    enode.public_key = NodeKey::random().public_key();
    let finished = run(&["ping", &enode.to_string()]).await;
    finished.fails_with(4, &["the public key in the enode"]); // R35
}

#[tokio::test]
async fn the_own_key_is_no_node_to_ping() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key").to_str().unwrap().to_owned();
    let node = Node::start(&["--protocol", "echo", "--key", &file]).await;
    run(&["ping", &node.enode, "--key", &file]).await.fails_with(4, &["use another --key"]); // R35
}

#[tokio::test]
async fn what_the_time_allows_is_measured() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let finished = run(&["ping", &node.enode, "--json", "--count", "1000", "--timeout", "2"]).await;
    finished.fails_with(6, &["of 1000 round trips measured", "a longer --timeout"]);
    let document = finished.json();
    assert!(!document["rtt_ms"].as_array().unwrap().is_empty(), "{document}");
    assert!(document["disconnect"].is_null(), "{document}");
}
