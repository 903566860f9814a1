//! `capmux ping` against nodes that are played by the test: odd, rude and hostile ones.

mod common;

use capmux::p2p::{BaseMessage, MessageId};
use capmux::{Connection, DisconnectReason, NodeKey};
use common::{greet, hello, play, pong, read_until, result, run, told};
use serde_json::json;
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn what_a_hostile_node_calls_itself_is_escaped_and_cut() {
    let name = ["\n\u{1b}[2J\u{202e}".as_bytes(), &[0xff; 2], "x".repeat(200).as_bytes()].concat();
    for format in [&["--json"][..], &[]] {
        let name = name.clone();
        let (enode, node) = play(|stream, key| async move {
            let mut connection = greet(stream, &key, &name, &["echo"]).await;
            connection.recv_hello(&key.public_key()).await.unwrap();
            pong(&mut connection, 3).await;
            assert_eq!(told(&mut connection).await, Some(DisconnectReason::Requested));
        })
        .await;
        let finished = run(&[&["ping", &enode][..], format].concat()).await;
        assert_eq!(finished.code, 0, "{finished:?}");
        assert!(!finished.stdout.contains(['\u{1b}', '\u{202e}']), "H81: {finished:?}");
        assert!(finished.stdout.contains("xxx…") && !finished.stdout.contains(&"x".repeat(64)), "H81: {finished:?}");
        assert!(finished.stdout.contains("u{1b}[2J"), "H81: {finished:?}");
        result(node).await;
    }
}

#[tokio::test]
async fn the_hello_claims_what_the_node_offers_and_as_much_as_fits() {
    let (enode, node) = play(|stream, key| async move {
        let names: Vec<_> = (0..200).map(|number| format!("proto{number:03}")).collect();
        let offers: Vec<_> = names.iter().chain(&names[..1]).map(String::as_str).collect();
        // Without a client id there is room for more in its Hello than in ours.
        let room = (0..=offers.len()).rev().find(|room| hello(&key, b"", &offers[..*room]).encode().len() <= 2048);
        let mut connection = greet(stream, &key, b"", &offers[..room.unwrap()]).await;
        let hello = connection.recv_hello(&key.public_key()).await.unwrap();
        assert!(hello.encode().len() <= 2048 && hello.capabilities.len() > 100, "{hello:?}");
        pong(&mut connection, 3).await;
    })
    .await;
    assert_eq!(run(&["ping", &enode]).await.code, 0);
    result(node).await;
}

#[tokio::test]
async fn a_node_that_waits_for_our_hello_gets_one_without_claims() {
    let (enode, node) = play(|stream, key| async move {
        let mut connection = Connection::accept(stream, &key).await.unwrap();
        let theirs = connection.recv_hello(&key.public_key()).await.unwrap();
        assert_eq!(theirs.capabilities, []);
        connection.send_hello(&hello(&key, b"shy", &["echo"])).await.unwrap();
        pong(&mut connection, 3).await;
    })
    .await;
    let finished = run(&["ping", &enode, "--json"]).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(finished.json()["client"], "shy");
    result(node).await;
}

#[tokio::test]
async fn pings_of_the_node_are_answered_and_its_messages_thrown_away() {
    let (enode, node) = play(|stream, key| async move {
        let mut connection = greet(stream, &key, b"busy", &["eth", "snap"]).await;
        connection.recv_hello(&key.public_key()).await.unwrap();
        connection.send(MessageId::new(0x10), &[0xc0; 100_000]).await.unwrap();
        connection.send(MessageId::new(0x4321), b"anything").await.unwrap();
        connection.send_base(BaseMessage::Pong).await.unwrap();
        connection.send_base(BaseMessage::Ping).await.unwrap();
        read_until(&mut connection, MessageId::PONG).await;
        // Its first Ping may have come before our Pong, and was not answered: there is one at a time.
        connection.send_base(BaseMessage::Pong).await.unwrap();
        pong(&mut connection, 2).await;
        assert_eq!(told(&mut connection).await, Some(DisconnectReason::Requested));
    })
    .await;
    let finished = run(&["ping", &enode, "--json"]).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(finished.json()["rtt_ms"].as_array().unwrap().len(), 3);
    result(node).await;
}

#[tokio::test]
async fn there_is_one_ping_at_a_time() {
    let (enode, node) = play(|stream, key| async move {
        let mut connection = greet(stream, &key, b"slow", &["echo"]).await;
        connection.recv_hello(&key.public_key()).await.unwrap();
        read_until(&mut connection, MessageId::PING).await;
        // Nothing but the goodbye may follow a Ping that is not answered.
        let mut next = connection.recv_frame(2048).await.unwrap();
        assert_eq!(MessageId::take(&mut next), Some(MessageId::DISCONNECT), "R24");
    })
    .await;
    let finished = run(&["ping", &enode, "--timeout", "2", "--json"]).await;
    finished.fails_with(6, &["the time was up after 2s"]);
    assert_eq!(finished.json()["rtt_ms"], json!([]));
    result(node).await;
}

/// Plays a node that says Disconnect after `pongs` round trips.
async fn disconnects(reason: DisconnectReason, pongs: usize) -> common::Finished {
    let (enode, node) = play(move |stream, key| async move {
        let mut connection = greet(stream, &key, b"rude", &["echo"]).await;
        connection.recv_hello(&key.public_key()).await.expect("a Hello");
        pong(&mut connection, pongs).await;
        connection.disconnect(reason).await;
    })
    .await;
    let finished = run(&["ping", &enode, "--json"]).await;
    result(node).await;
    finished
}

#[tokio::test]
async fn a_disconnect_after_the_hello_is_told_with_its_reason() {
    let finished = disconnects(DisconnectReason::SubprotocolError, 0).await;
    finished.fails_with(5, &["disconnected after its Hello: subprotocol error"]);
    assert_eq!(finished.json()["disconnect"], json!({"code": 16, "name": "subprotocol error", "by": "remote"}));
    assert_eq!(finished.json()["client"], "rude");

    let finished = disconnects(DisconnectReason::Unknown(300), 0).await;
    finished.fails_with(5, &["unknown reason 0x12c"]); // H50

    let finished = disconnects(DisconnectReason::UselessPeer, 0).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{finished:?}");
}

#[tokio::test]
async fn some_round_trips_before_a_disconnect_are_a_part() {
    let finished = disconnects(DisconnectReason::ClientQuitting, 2).await;
    finished.fails_with(6, &["2 of 3 round trips measured", "client quitting", "it shuts down"]);
    assert_eq!(finished.json()["rtt_ms"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_closed_socket_is_an_ending_without_a_reason() {
    let (enode, node) = play(|stream, key| async move {
        let mut connection = greet(stream, &key, b"", &["echo"]).await;
        connection.recv_hello(&key.public_key()).await.unwrap();
        read_until(&mut connection, MessageId::PING).await;
    })
    .await;
    let finished = run(&["ping", &enode, "--json"]).await;
    finished.fails_with(5, &["closed the connection after its Hello"]);
    assert_eq!(finished.json()["disconnect"], json!({"code": null, "name": null, "by": "remote"}));
    result(node).await;
}

#[tokio::test]
async fn a_connection_closed_before_the_hello_is_a_failed_handshake() {
    let (enode, _node) = play(|stream, key| async move { drop(Connection::accept(stream, &key).await.unwrap()) }).await;
    run(&["ping", &enode]).await.fails_with(4, &["closed the connection before its Hello"]);
}

#[tokio::test]
async fn no_hello_at_all_is_a_failed_handshake_within_the_time() {
    let (enode, node) = play(|stream, key| async move {
        let mut connection = Connection::accept(stream, &key).await.unwrap();
        while connection.recv_frame(2049).await.is_ok() {}
    })
    .await;
    run(&["ping", &enode, "--timeout", "1.5"]).await.fails_with(4, &["no Hello within 1.5s"]); // H39
    result(node).await;
}

#[tokio::test]
async fn a_hello_for_another_key_is_answered_with_the_reason() {
    let (enode, node) = play(|stream, key| async move {
        let mut connection = Connection::accept(stream, &key).await.unwrap();
        connection.send_hello(&hello(&NodeKey::random(), b"liar", &["echo"])).await.unwrap();
        told(&mut connection).await
    })
    .await;
    let finished = run(&["ping", &enode, "--json"]).await;
    finished.fails_with(4, &["not the one of the handshake"]); // R35
    assert_eq!(finished.json()["disconnect"]["by"], "local");
    assert_eq!(result(node).await, Some(DisconnectReason::UnexpectedIdentity), "H42");
}

#[tokio::test]
async fn a_node_that_breaks_the_protocol_is_named_as_such() {
    let (enode, node) = play(|stream, key| async move {
        let mut connection = greet(stream, &key, b"", &["echo"]).await;
        connection.recv_hello(&key.public_key()).await.unwrap();
        connection.send_hello(&hello(&key, b"again", &["echo"])).await.unwrap();
        told(&mut connection).await
    })
    .await;
    run(&["ping", &enode]).await.fails_with(1, &["a second Hello", "breaks the p2p protocol"]);
    assert_eq!(result(node).await, Some(DisconnectReason::ProtocolError));
}

#[tokio::test]
async fn the_last_word_of_a_node_that_is_gone_is_read() {
    let (enode, node) = play(|stream, key| async move {
        let mut connection = greet(stream, &key, b"", &[]).await;
        connection.send_base(BaseMessage::Disconnect(DisconnectReason::UselessPeer)).await.unwrap();
    })
    .await;
    let finished = run(&["ping", &enode, "--json"]).await;
    result(node).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(finished.json()["disconnect"]["name"], "useless peer");
}

#[tokio::test]
async fn a_reader_that_is_gone_is_no_panic() {
    let (enode, _server) = play(|mut stream, _| async move { stream.read_u8().await }).await;
    for args in [&["ping", &enode, "--json"][..], &["--help"], &["man"], &["key", "generate"]] {
        let mut child = common::command(args).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code().is_some_and(|code| code != 101), "{args:?}: {stderr}");
        assert!(!stderr.contains("panic") && !stderr.contains("Broken pipe"), "{args:?}: {stderr}");
    }
}
