//! What is no devp2p node, and nodes that stop in the middle.

use std::time::{Duration, Instant};

use capmux::p2p::{BaseMessage, DisconnectReason, MessageId};
use capmux::{Connection, Enode, NodeKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::common::{Finished, Node, PATIENCE, command, hello, run};

/// Something that listens and is no node. Every connection is treated alike.
async fn stranger<F, Fut>(treat: F) -> String
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let enode = Enode::new(NodeKey::random().public_key(), listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(treat(stream));
        }
    });
    enode.to_string()
}

/// Runs it against something that is no node, in every format. The verdict is the same in all.
async fn refuses(enode: &str, code: i32, parts: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("results.xml");
    let only = ["--only", "ping/answered", "--junit", file.to_str().expect("text")];
    for format in [None, Some("--json"), Some("--tap")] {
        let start = Instant::now();
        let args: Vec<_> = ["conformance", enode].into_iter().chain(only).chain(format).collect();
        let finished = run(&args).await;
        assert!(start.elapsed() < PATIENCE, "{format:?}");
        finished.fails_with(code, parts);
        match format {
            None => assert!(finished.stdout.contains("MUST         0       0             0        0        1")),
            Some("--json") => {
                let document = finished.json();
                assert!(document["node"].is_null() && document["passed"] == false, "{document}");
                assert_eq!(document["cases"][0]["outcome"], "not_run", "{document}");
            }
            _ => assert!(finished.stdout.contains("\n1..1\nBail out! "), "{finished:?}"),
        }
        let xml = std::fs::read_to_string(&file).expect("it is written");
        assert!(xml.contains(r#"tests="1" skipped="0" failures="0" errors="1""#), "{xml}");
    }
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let enode = Enode::new(NodeKey::random().public_key(), listener.local_addr().unwrap()).to_string();
    drop(listener);
    refuses(&enode, 3, &["cannot connect to 127.0.0.1:", "check that the node runs"]).await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unreachable() {
    let enode = format!("enode://{}@no.such.name.invalid:30303", NodeKey::random().public_key());
    run(&["conformance", &enode]).await.fails_with(3, &["no.such.name.invalid:30303"]);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_no_node() {
    let enode = stranger(|mut stream| async move { while let Ok(1..) = stream.read(&mut [0; 1024]).await {} }).await;
    refuses(&enode, 4, &["no encryption handshake", "capmux ping"]).await;
}

#[tokio::test]
async fn a_server_that_closes_at_once_is_no_node() {
    let enode = stranger(|stream| async move { drop(stream) }).await;
    refuses(&enode, 4, &["no encryption handshake"]).await;
}

#[tokio::test]
async fn a_server_that_sends_garbage_is_no_node() {
    let enode = stranger(|mut stream| async move { while stream.write_all(&[0x01; 4096]).await.is_ok() {} }).await;
    refuses(&enode, 4, &["no encryption handshake"]).await;
}

#[tokio::test]
async fn an_http_server_is_no_node() {
    let enode = stranger(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    })
    .await;
    refuses(&enode, 4, &["no encryption handshake"]).await;
}

#[tokio::test]
async fn a_node_with_another_key_is_not_the_one() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let mut enode: Enode = node.enode.parse().unwrap();
    enode.public_key = NodeKey::random().public_key();
    refuses(&enode.to_string(), 4, &["has another key"]).await;
}

#[tokio::test]
async fn a_node_without_a_hello_is_told_apart() {
    let key = NodeKey::random();
    let (listener, public_key) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), key.public_key());
    let enode = Enode::new(public_key, listener.local_addr().unwrap()).to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(Connection::accept(stream, &key).await);
        }
    });
    refuses(&enode, 4, &["sends no Hello", "has room for more peers"]).await;
}

#[tokio::test]
async fn a_node_that_has_no_room_for_anybody_shows_nothing() {
    let key = NodeKey::random();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let enode = Enode::new(key.public_key(), listener.local_addr().unwrap()).to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(send_away(stream, key.clone()));
        }
    });
    let finished = run(&["conformance", &enode, "--json", "--only", "p2p/ping/answered"]).await;
    finished.fails_with(6, &["nothing could be told: 1 of 1 cases that count are inconclusive"]);
    let document = finished.json();
    assert!(document["passed"] == false && document["ended"].is_null(), "{document}");
    assert_eq!(document["summary"]["must"]["inconclusive"], 1, "{document}");
}

/// Ends a connection as a node does that has too many peers.
async fn send_away(stream: TcpStream, key: NodeKey) {
    let Ok(mut connection) = Connection::accept(stream, &key).await else { return };
    let said = connection.send_hello(&hello(&key, b"full", &["echo"])).await;
    if said.is_ok() && connection.recv_hello(&key.public_key()).await.is_ok() {
        let _ = connection.send_base(BaseMessage::Disconnect(DisconnectReason::TooManyPeers)).await;
        let _ = timeout(Duration::from_secs(2), connection.recv_frame(1 << 16)).await;
    }
}

/// A node that takes `connections` connections, answers Pings on them, and then does `then` with its listener.
async fn mortal(connections: usize, then: impl FnOnce(TcpListener) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let key = NodeKey::random();
    let enode = Enode::new(key.public_key(), listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        for _ in 0..connections {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(serve(stream, key.clone()));
        }
        then(listener);
    });
    enode.to_string()
}

async fn serve(stream: TcpStream, key: NodeKey) {
    let Ok(mut connection) = Connection::accept(stream, &key).await else { return };
    let said = connection.send_hello(&hello(&key, b"mortal", &["echo"])).await;
    if said.is_err() || connection.recv_hello(&key.public_key()).await.is_err() {
        return;
    }
    while let Ok(mut frame) = connection.recv_frame(1 << 16).await {
        match MessageId::take(&mut frame) {
            Some(MessageId::PING) => drop(connection.send_base(BaseMessage::Pong).await),
            Some(MessageId::DISCONNECT) => return,
            _ => {}
        }
    }
}

const TWO: [&str; 6] = ["--jobs", "1", "--only", "p2p/ping/answered", "--only", "p2p/disconnect/closes"];

/// That the first of two cases has its result, and that the suite ended in the second.
fn is_half(finished: &Finished, ended: &str) {
    let document = finished.json();
    let outcomes: Vec<_> = document["cases"].as_array().expect("a list").iter().map(|case| &case["outcome"]).collect();
    assert_eq!(outcomes[0], "passed", "{document}");
    assert_ne!(outcomes[1], "passed", "{document}");
    assert!(document["ended"].as_str().is_none_or(|why| why.contains(ended)), "{document}");
    assert_eq!(document["passed"], false, "{document}");
}

#[tokio::test]
async fn a_node_that_is_gone_in_the_middle_leaves_the_results_so_far() {
    // The probe, the first case, and the honest connection behind it.
    let enode = mortal(3, drop).await;
    let only = [&TWO[..], &["--only", "rlpx/auth/honest", "--json"]].concat();
    let finished = run(&[&["conformance", &enode][..], &only].concat()).await;
    finished.fails_with(6, &["cases were not run", "the node stopped answering"]);
    let document = finished.json();
    assert_eq!(document["ended"], "the node stopped answering");
    let outcomes: Vec<_> = document["cases"].as_array().unwrap().iter().map(|case| &case["outcome"]).collect();
    let count = |name: &str| outcomes.iter().filter(|outcome| **outcome == name).count();
    assert_eq!((count("passed"), count("failed")), (1, 1), "{document}");
    assert_eq!(count("not_run"), outcomes.len() - 2, "{document}");
    let failed = document["cases"].as_array().unwrap().iter().find(|case| case["outcome"] == "failed").unwrap();
    assert!(failed["seen"].as_str().unwrap().contains("afterwards the node is gone"), "{failed}");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_takes_nothing_from_what_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.xml");
    let path = folder.path().to_owned();
    let enode = mortal(3, move |_| std::fs::remove_dir_all(path).expect("it is there")).await;
    let args = ["conformance", &enode, "--json", "--junit", file.to_str().unwrap()];
    let finished = run(&[&args[..], &TWO].concat()).await;
    finished.fails_with(1, &["cannot write", "results.xml"]);
    is_half(&finished, "the node stopped answering");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_below_stdout_ends_the_suite_and_the_file_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.xml");
    // The second case would find a listener that takes nothing.
    let enode = mortal(3, std::mem::forget).await;
    let args = ["conformance", &enode, "--junit", file.to_str().unwrap()];
    let mut child = command(&[&args[..], &TWO].concat());
    child.stdout(std::fs::File::create("/dev/full").unwrap()).stderr(std::process::Stdio::piped());
    let start = Instant::now();
    let output = child.spawn().unwrap().wait_with_output();
    let finished = Finished::from(timeout(PATIENCE, output).await.expect("it ends").unwrap());
    finished.fails_with(1, &["cannot write to standard output"]);
    let xml = std::fs::read_to_string(&file).expect("it is written");
    assert!(xml.contains(r#"tests="2" skipped="0" failures="0" errors="1""#), "after {:?}: {xml}", start.elapsed());
}

#[tokio::test]
async fn a_node_that_hangs_ends_a_case_and_then_the_suite() {
    // Its listener stays, and nobody takes from it.
    let enode = mortal(3, std::mem::forget).await;
    let only = [&TWO[..], &["--tap"]].concat();
    let args = [&["conformance", &enode][..], &only].concat();
    let output = timeout(3 * PATIENCE, command(&args).output()).await.expect("it ends").unwrap();
    let finished = Finished::from(output);
    finished.fails_with(6, &["the node stopped answering"]);
    assert!(finished.stdout.contains("\nok 1 - ") && finished.stdout.contains("\nnot ok 2 - "), "{finished:?}");
    assert!(finished.stdout.ends_with("Bail out! the node stopped answering\n"), "{finished:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_leaves_the_results_so_far() {
    use rustix::process::{Pid, Signal, kill_process};

    let (sender, hangs) = tokio::sync::oneshot::channel();
    let enode = mortal(3, |listener| {
        tokio::spawn(async move {
            let held = listener.accept().await;
            sender.send(()).expect("the test waits");
            tokio::time::sleep(Duration::from_secs(3600)).await;
            drop(held);
        });
    })
    .await;
    let child = command(&[&["conformance", &enode, "--json"][..], &TWO].concat()).spawn().unwrap();
    timeout(PATIENCE, hangs).await.expect("the second case begins").unwrap();
    let id = i32::try_from(child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
    let finished = Finished::from(timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap());
    finished.fails_with(6, &["1 of 2 cases were not run", "interrupted"]);
    is_half(&finished, "interrupted");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_before_the_first_answer_is_an_end_too() {
    use rustix::process::{Pid, Signal, kill_process};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let enode = Enode::new(NodeKey::random().public_key(), listener.local_addr().unwrap()).to_string();
    let child = command(&["conformance", &enode, "--json"]).spawn().unwrap();
    let _held = timeout(PATIENCE, listener.accept()).await.expect("it dials").unwrap();
    kill_process(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap(), Signal::INT).unwrap();
    let finished = Finished::from(timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap());
    finished.fails_with(6, &["interrupted before the node had answered"]);
    assert!(finished.json()["node"].is_null());
}
