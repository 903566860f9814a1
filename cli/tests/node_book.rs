//! `capmux node` with other nodes that it keeps, finds, or closes the door to.

mod common;

use std::fs;
use std::path::PathBuf;

use capmux::{Enode, Event, NodeKey, Peer, Server};
use common::Node;
use tempfile::TempDir;

/// A configuration file in a folder of its own.
fn written(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    fs::write(&file, text).expect("it can be written");
    (folder, file)
}

async fn start(file: &std::path::Path) -> Node {
    Node::start(&["--jsonl", "--config", file.to_str().expect("text")]).await
}

async fn listening() -> (Server, Enode) {
    let builder = Server::builder(NodeKey::random()).protocol(capmux_echo::protocol());
    let server = builder.listen("127.0.0.1:0".parse().expect("an address")).start().await.expect("it starts");
    let enode = server.enode().expect("it listens");
    (server, enode)
}

/// The peer of a server, which may learn of it a moment later than the other end.
async fn peer_of(server: &Server) -> Peer {
    let mut events = server.events();
    match server.peers().pop() {
        Some(peer) => peer,
        None => match events.recv().await {
            Some(Event::Added { peer, .. }) => peer,
            other => panic!("{other:?}"),
        },
    }
}

/// The next event of this kind.
async fn next(node: &mut Node, kind: &str) -> serde_json::Value {
    loop {
        let line = node.line().await;
        // Shown when the test fails.
        println!("{line}");
        let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        if event["event"] == kind {
            return event;
        }
    }
}

#[tokio::test]
async fn a_newcomer_finds_nodes_that_its_bootnode_knows() {
    let pex = "[pex]\nenabled = true\ninterval = '3s'\n[[protocol]]\nname = 'echo'\n";
    let (_first_folder, first) = written(pex);
    let bootnode = start(&first).await;
    let (_folder, others) = written(&format!("[peers]\nbootnodes = ['{}']\n{pex}", bootnode.enode));
    let mut known = start(&others).await;
    next(&mut known, "added").await;
    let mut newcomer = start(&others).await;
    let wanted = known.enode.parse::<Enode>().unwrap().node_id().to_string();
    // It is told of it, and dials it; or it is dialled, when the other is told first.
    while next(&mut newcomer, "added").await["peer"] != wanted {}
}

#[tokio::test]
async fn what_is_closed_unread_is_told_of() {
    let (_folder, file) = written("limits.limit_local_addresses = true\n[[protocol]]\nname = 'echo'\n");
    let mut node = start(&file).await;
    let address = node.enode.rsplit_once('@').unwrap().1.to_owned();
    let _first = tokio::net::TcpStream::connect(&address).await.unwrap();
    let _second = tokio::net::TcpStream::connect(&address).await.unwrap();
    let event = next(&mut node, "closed_unread").await;
    assert_eq!((&event["count"], &event["direction"]), (&1.into(), &"inbound".into()), "H20: {event}");
    assert!(event["error"].as_str().unwrap().contains("30 s"), "H20: {event}");
    assert!(event["remote_addr"].as_str().unwrap().starts_with("127.0.0.1:"), "{event}");
}

#[cfg(unix)]
mod reload {

    use super::*;

    #[tokio::test]
    async fn persistent_nodes_are_kept_and_let_go() {
        let ((one, first), (other, second)) = (listening().await, listening().await);
        let echo = "[[protocol]]\nname = 'echo'\n";
        let backoff = "[dialling]\nbackoff_first = '100ms'\nbackoff_max = '100ms'\n";
        let lists = |nodes: &[&Enode], private: &[&Enode]| {
            let texts = |nodes: &[&Enode]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
            format!("{backoff}[peers]\npersistent = {:?}\nprivate = {:?}\n{echo}", texts(nodes), texts(private))
        };
        let (_folder, file) = written(&lists(&[&first], &[]));
        let mut node = start(&file).await;
        assert_eq!(next(&mut node, "added").await["peer"], one.id().to_string());
        node.reload(&file, &lists(&[&first, &second], &[&first]), "peers.private").await;
        assert_eq!(next(&mut node, "added").await["peer"], other.id().to_string(), "R67");
        let notes = node.reload(&file, &lists(&[&second], &[]), "peers disconnected by it: 1").await;
        assert!(notes.iter().any(|note| note.contains("peers.persistent") && note.contains(": applied")), "{notes:?}");
        assert_eq!(next(&mut node, "dropped").await["peer"], one.id().to_string(), "R67");
        peer_of(&other).await.ping().await.expect("R67: others stay");
        let nobody = format!("{backoff}[peers]\nallow_only = []\n{echo}");
        node.reload(&file, &nobody, "peers disconnected by it: 1").await;
        assert_eq!(next(&mut node, "dropped").await["peer"], other.id().to_string(), "R67: told of once");
    }

    #[tokio::test]
    async fn a_reload_changes_where_it_listens_and_what_protocols_may_take() {
        let text =
            |address: &str, more: &str| format!("[node]\nlisten = '{address}'\n[[protocol]]\nname = 'echo'\n{more}");
        let (_folder, file) = written(&text("127.0.0.1:0", ""));
        let mut node = Node::start_anywhere(&["--jsonl", "--config", file.to_str().unwrap()]).await;
        let (server, _) = listening().await;
        let peer = server.dial(&node.enode.parse::<Enode>().unwrap()).await.unwrap();

        let taken = server.local_addr().unwrap().to_string();
        let notes = node.reload(&file, &text(&taken, ""), "nothing has changed").await;
        assert!(notes[0].contains("cannot listen on"), "{notes:?}");
        let limit = "rate_limit = { per_second = 5, burst = 5 }\n[[protocol]]\nname = 'kv'\nrate_limit = { per_second = 5, burst = 5 }\n";
        let notes = node.reload(&file, &text("[::1]:0", limit), "the node is now").await;
        let told =
            |part: &str, end: &str| notes.iter().any(|note| note.contains(part) && note.trim_end().ends_with(end));
        assert!(told("node.listen", ": applied"), "R52: {notes:?}");
        assert!(told("protocol.echo.rate_limit", ": applied"), "R52: {notes:?}");
        assert!(told("protocol.kv.rate_limit", "next start"), "R52: {notes:?}");
        let moved: Enode = notes.last().unwrap().trim().rsplit(' ').next().unwrap().parse().unwrap();
        let (newcomer, _) = listening().await;
        newcomer.dial(&moved).await.expect("R52: it listens there");
        assert!(newcomer.dial(&node.enode.parse::<Enode>().unwrap()).await.is_ok(), "it is a peer already");
        let (late, _) = listening().await;
        assert!(late.dial(&node.enode.parse::<Enode>().unwrap()).await.is_err(), "R52: and no longer where it did");
        assert_eq!(server.peers().len(), 1, "R67: {} stays", peer.id());
    }
}
