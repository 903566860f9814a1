//! `capmux node`.

mod common;

use std::fs;
use std::time::Duration;

use capmux::p2p::{BaseMessage, MessageId};
use capmux::{Connection, DisconnectReason, Enode, NodeKey};
use common::{Node, hello, read_until, run, told};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Dials a node with a new key, as far as the encryption.
async fn dial(node: &Node) -> (Connection, NodeKey) {
    let enode: Enode = node.enode.parse().expect("the first line is an enode");
    let key = NodeKey::random();
    let stream = TcpStream::connect(("127.0.0.1", enode.tcp_port)).await.expect("it listens");
    let connection = Connection::initiate(stream, &key, enode.public_key).await.expect("the encryption handshake");
    (connection, key)
}

/// Becomes a peer that runs `echo`.
async fn join(node: &Node, client: &[u8]) -> (Connection, NodeKey) {
    let (mut connection, key) = dial(node).await;
    connection.send_hello(&hello(&key, client, &["echo"])).await.expect("a connection");
    connection.recv_hello(&key.public_key()).await.expect("a Hello");
    (connection, key)
}

#[tokio::test]
async fn a_peer_that_comes_and_goes_makes_two_events() {
    let mut node = Node::start(&["--protocol", "echo", "--jsonl"]).await;
    let (connection, key) = join(&node, b"visitor/1").await;
    let added = node.event("added").await;
    connection.disconnect(DisconnectReason::TooManyPeers).await;
    let dropped = node.event("dropped").await;
    for event in [&added, &dropped] {
        assert_eq!(event["peer"], key.node_id().to_string());
        assert_eq!(event["direction"], "inbound");
        assert_eq!(event["client"], "visitor/1");
        assert!(event["remote_addr"].as_str().unwrap().starts_with("127.0.0.1:"));
        let names: Vec<_> = event.as_object().unwrap().keys().map(String::as_str).collect();
        let promised = ["by", "client", "direction", "error", "event", "peer", "reason", "remote_addr", "stage"];
        assert_eq!(names, promised, "the promised field names, sorted");
    }
    assert!(added["reason"].is_null() && added["by"].is_null(), "{added}");
    assert_eq!(dropped["reason"], "too many peers", "R68");
    assert_eq!(dropped["by"], "remote", "R68");
    assert_eq!(dropped["stage"], "session");
    assert_eq!(dropped["error"], "the other end disconnected: too many peers");
}

#[tokio::test]
async fn who_is_refused_and_which_dial_failed_is_told() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = Enode::new(NodeKey::random().public_key(), closed.local_addr().unwrap());
    drop(closed);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node.toml");
    std::fs::write(&config, "[dialling]\nbackoff_first = '1h'\nbackoff_max = '1h'\n").unwrap();
    let args = ["--protocol", "echo", "--jsonl", "--config", config.to_str().unwrap(), "--peer", &nobody.to_string()];
    let mut node = Node::start(&args).await;
    let failed = node.event("dial_failed").await;
    assert_eq!(failed["peer"], nobody.node_id().to_string());
    assert_eq!(failed["remote_addr"], format!("127.0.0.1:{}", nobody.tcp_port));
    assert_eq!(failed["direction"], "outbound");
    assert_eq!(failed["stage"], "dial");
    assert_eq!(failed["by"], "network");
    assert!(failed["error"].as_str().unwrap().contains("cannot connect"), "{failed}");

    let (mut connection, key) = dial(&node).await;
    connection.send_hello(&hello(&key, b"", &["other"])).await.unwrap();
    assert_eq!(told(&mut connection).await, Some(DisconnectReason::UselessPeer), "R3");
    drop(connection);
    let refused = node.event("refused").await;
    assert_eq!(refused["reason"], "useless peer");
    assert_eq!(refused["by"], "local");
    assert_eq!(refused["peer"], key.node_id().to_string(), "who was refused is told");
}

#[tokio::test]
async fn two_nodes_find_each_other() {
    let mut one = Node::start(&["--protocol", "echo", "--jsonl", "--name", "first"]).await;
    let mut other = Node::start(&["--protocol", "echo", "--jsonl", "--peer", &one.enode]).await;
    assert_eq!(other.event("added").await["client"], "first");
    assert_eq!(one.event("added").await["direction"], "inbound");
}

#[tokio::test]
async fn a_hostile_client_name_is_escaped_and_cut() {
    let name = ["\n\u{1b}[2J\u{202e}".as_bytes(), &[0xff; 2], "x".repeat(200).as_bytes()].concat();
    for format in [&["--protocol", "echo"][..], &["--protocol", "echo", "--jsonl"]] {
        let mut node = Node::start(format).await;
        let _connection = join(&node, &name).await;
        let line = node.line().await;
        assert!(line.contains("added") && line.contains("u{1b}") && line.contains("u{202e}"), "H81: {line:?}");
        assert!(!line.contains(['\u{1b}', '\u{202e}', '\n']), "H81: {line:?}");
        assert!(line.contains("xxx…") && !line.contains(&"x".repeat(64)), "H81: {line:?}");
    }
}

#[tokio::test]
async fn a_key_file_is_made_and_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key").to_str().unwrap().to_owned();
    let first: Enode = Node::start(&["--protocol", "echo", "--key", &file]).await.enode.parse().unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600, "H80");
    }
    let content = fs::read(&file).unwrap();
    let second: Enode = Node::start(&["--protocol", "echo", "--key", &file]).await.enode.parse().unwrap();
    assert_eq!(first.public_key, second.public_key);
    assert_eq!(fs::read(&file).unwrap(), content);
    assert_eq!(NodeKey::load(&file).unwrap().public_key(), first.public_key);

    let nowhere = folder.path().join("no/key").to_str().unwrap().to_owned();
    let finished = run(&["node", "--listen", "127.0.0.1:0", "--protocol", "echo", "--key", &nowhere]).await;
    finished.fails_with(1, &[&nowhere, "make its folder first"]);
}

#[tokio::test]
async fn a_busy_port_is_one_line_that_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let finished = run(&["node", "--listen", &address, "--protocol", "echo"]).await;
    finished.fails_with(1, &["cannot listen on", &address, "choose another port with --listen"]);
    assert_eq!(finished.stdout, "");
}

#[tokio::test]
async fn a_name_that_fits_no_hello_is_refused() {
    let finished = run(&["node", "--listen", "127.0.0.1:0", "--protocol", "echo", "--name", &"x".repeat(3000)]).await;
    finished.fails_with(1, &["cannot start the node", "shorter --name"]);
}

#[tokio::test]
async fn the_peer_above_the_limit_is_told_so() {
    let mut node = Node::start(&["--protocol", "echo", "--max-peers", "1"]).await;
    let _first = join(&node, b"first").await;
    assert!(node.line().await.starts_with("added"));
    let (mut second, _) = dial(&node).await;
    assert_eq!(told(&mut second).await, Some(DisconnectReason::TooManyPeers), "H64");
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_it_in_order_with_a_summary() {
    use rustix::process::Signal;
    for signal in [Signal::INT, Signal::TERM] {
        let mut node = Node::start(&["--protocol", "echo", "--jsonl"]).await;
        let (mut connection, _) = join(&node, b"").await;
        node.event("added").await;
        node.signal(signal);
        assert_eq!(told(&mut connection).await, Some(DisconnectReason::ClientQuitting), "H71");
        drop(connection);
        let dropped = node.event("dropped").await;
        assert_eq!((&dropped["by"], &dropped["reason"]), (&"local".into(), &"client quitting".into()));
        let finished = node.finish().await;
        assert_eq!((finished.code, finished.stdout.as_str()), (0, ""), "{finished:?}");
        assert!(finished.stderr.contains("peers added: 1, dropped: 1;"), "{finished:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_signal_aborts_at_once() {
    use rustix::process::Signal;
    let mut node = Node::start(&["--protocol", "echo"]).await;
    let (mut connection, _) = join(&node, b"").await;
    node.line().await;
    node.signal(Signal::INT);
    // The peer keeps the connection open, for which the node waits.
    assert_eq!(told(&mut connection).await, Some(DisconnectReason::ClientQuitting));
    node.signal(Signal::INT);
    let finished = node.finish().await;
    finished.fails_with(1, &["aborted"]);
}

#[tokio::test]
async fn it_ends_quietly_when_nobody_reads_its_output() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let (enode, key): (Enode, _) = (node.enode.parse().unwrap(), NodeKey::random());
    let ended = tokio::spawn(node.without_reader());
    let stream = TcpStream::connect(("127.0.0.1", enode.tcp_port)).await.unwrap();
    let mut connection = Connection::initiate(stream, &key, enode.public_key).await.unwrap();
    connection.send_hello(&hello(&key, b"", &["echo"])).await.unwrap();
    connection.recv_hello(&key.public_key()).await.unwrap();
    // A process that another test is just starting may have the pipe still, so that somebody could read of this peer. Of
    // its end nobody can.
    let reason = timeout(Duration::from_secs(5), told(&mut connection)).await;
    drop(connection);
    let finished = ended.await.unwrap();
    assert!(reason.is_err() || reason == Ok(Some(DisconnectReason::ClientQuitting)), "{reason:?}");
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(!finished.stderr.contains("panic") && !finished.stderr.contains("error"), "{finished:?}");
}

#[tokio::test]
async fn a_peer_gets_its_echo() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let (mut connection, _) = join(&node, b"").await;
    connection.send(MessageId::new(0x10), b"hello").await.unwrap();
    read_until(&mut connection, MessageId::new(0x11)).await;
    connection.send_base(BaseMessage::Ping).await.unwrap();
    read_until(&mut connection, MessageId::PONG).await;
}

#[tokio::test]
async fn messages_are_shown_to_who_asks() {
    let mut node = Node::start(&["--protocol", "echo", "--jsonl", "--messages"]).await;
    let (mut connection, key) = join(&node, b"").await;
    node.event("added").await;
    connection.send(MessageId::new(0x10), &[7; 1000]).await.unwrap();
    for (name, code) in [("message_received", 0), ("message_sent", 1)] {
        let event = node.event(name).await;
        assert_eq!(event["peer"], key.node_id().to_string(), "R68");
        assert_eq!((&event["capability"], &event["code"]), (&"echo/1".into(), &code.into()), "R68");
        assert_eq!(event["bytes"], 1000, "R68: before compression");
    }
    let mut text = Node::start(&["--protocol", "echo", "--messages"]).await;
    let (mut connection, _) = join(&text, b"").await;
    text.line().await;
    connection.send(MessageId::new(0x10), b"hello").await.unwrap();
    let line = text.line().await;
    assert!(line.starts_with("message_received") && line.ends_with("echo/1, code 0, 5 bytes"), "R68: {line:?}");
}
