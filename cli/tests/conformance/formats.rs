//! What is printed of nodes that do well, and of those that do not.

use capmux::p2p::{BaseMessage, MessageId};
use capmux::{Connection, Enode, NodeKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::common::{Node, hello, run};

/// A node that answers Pings and shrugs at a Disconnect.
async fn stubborn() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let key = NodeKey::random();
    let enode = Enode::new(key.public_key(), listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let key = key.clone();
            tokio::spawn(async move {
                let mut connection = Connection::accept(stream, &key).await?;
                connection.send_hello(&hello(&key, b"stubborn #1", &["echo"])).await?;
                connection.recv_hello(&key.public_key()).await?;
                loop {
                    let mut frame = connection.recv_frame(1 << 16).await?;
                    if MessageId::take(&mut frame) == Some(MessageId::PING) {
                        connection.send_base(BaseMessage::Pong).await?;
                    }
                }
                #[expect(unreachable_code, reason = "it names the type of the error")]
                Ok::<_, capmux::PeerError>(())
            });
        }
    });
    enode.to_string()
}

const ONLY: [&str; 4] = ["--only", "p2p/ping/answered", "--only", "p2p/disconnect/closes"];

#[tokio::test]
async fn the_text_has_a_line_for_each_case_and_a_table() {
    let node = Node::start(&["--protocol", "echo"]).await;
    let finished = run(&[&["conformance", &node.enode][..], &ONLY].concat()).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{finished:?}");
    let lines: Vec<_> = finished.stdout.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with("passed       MUST   p2p/")).count(), 2, "{finished:?}");
    assert!(lines.contains(&"MUST         2       0             0        0        0"), "{finished:?}");
    assert!(!finished.stdout.contains('\u{1b}'), "no colours where there is no terminal");
}

#[tokio::test]
async fn a_failure_is_shown_with_what_went_over_the_wire() {
    let enode = stubborn().await;
    let finished = run(&[&["conformance", &enode][..], &ONLY].concat()).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (1, ""), "{finished:?}");
    for part in [
        "failed       MUST   p2p/disconnect/closes",
        "    rlpx.md, Disconnect (0x01): the suite sends a Disconnect",
        "    expected: the node closes the connection",
        "    seen: open after",
        "    suite: Disconnect 0x08, ",
        "    node: Hello version 5 of \"stubborn #1\", echo/1, ",
    ] {
        assert!(finished.stdout.contains(part), "{part:?} is not in {}", finished.stdout);
    }
}

#[tokio::test]
async fn the_document_has_the_promised_fields() {
    let enode = stubborn().await;
    let finished = run(&[&["conformance", &enode, "--json"][..], &ONLY].concat()).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (1, ""), "{finished:?}");
    assert_eq!(finished.stdout.lines().count(), 1);
    let document = finished.json();
    let promised = ["cases", "ended", "enode", "level", "node", "passed", "suite", "summary"];
    assert_eq!(fields(&document), promised);
    assert_eq!(document["node"], json!({"client": "stubborn #1", "p2p_version": 5, "capabilities": ["echo/1"]}));
    assert_eq!(
        (&document["passed"], &document["ended"], &document["enode"]),
        (&json!(false), &Value::Null, &json!(enode))
    );
    let none = json!({"passed": 0, "failed": 0, "inconclusive": 0, "skipped": 0, "not_run": 0});
    let must = json!({"passed": 1, "failed": 1, "inconclusive": 0, "skipped": 0, "not_run": 0});
    assert_eq!(document["summary"], json!({"must": must, "should": none, "may": none}));
    let cases = document["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    let promised =
        ["does", "duration_ms", "expects", "last", "level", "name", "outcome", "role", "rows", "section", "seen"];
    assert!(cases.iter().all(|case| fields(case) == promised), "{document}");
    let failed = cases.iter().find(|case| case["outcome"] == "failed").unwrap();
    assert_eq!(failed["name"], "p2p/disconnect/closes");
    assert!(failed["duration_ms"].as_f64().unwrap() > 1000.0, "{failed}");
    assert_eq!(fields(&failed["last"][0]), ["decoded", "hex", "length_bytes", "sent"]);
}

fn fields(value: &Value) -> Vec<&str> {
    let mut fields: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    fields
}

#[tokio::test]
async fn tap_has_a_point_for_each_case() {
    let enode = stubborn().await;
    let finished = run(&[&["conformance", &enode, "--tap", "--jobs", "1"][..], &ONLY].concat()).await;
    assert_eq!(finished.code, 1, "{finished:?}");
    let lines: Vec<_> = finished.stdout.lines().collect();
    assert_eq!(lines[..2], ["TAP version 14", "1..2"]);
    let points: Vec<_> = lines.iter().filter(|line| line.starts_with(['o', 'n'])).collect();
    assert_eq!(points, [&"ok 1 - p2p/ping/answered", &"not ok 2 - p2p/disconnect/closes"]);
    for part in ["  ---\n", "  ...\n", "  level: \"MUST\"\n", "  outcome: \"failed\"\n", "  seen: \"open after"] {
        assert!(finished.stdout.contains(part), "{part:?} is not in {}", finished.stdout);
    }
}

#[tokio::test]
async fn junit_has_a_test_case_for_each() {
    let enode = stubborn().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.xml");
    let junit = ["--junit", file.to_str().unwrap()];
    let finished = run(&[&["conformance", &enode][..], &ONLY, &junit].concat()).await;
    assert_eq!(finished.code, 1, "{finished:?}");
    let xml = std::fs::read_to_string(&file).unwrap();
    assert!(xml.contains(r#"tests="2" skipped="0" failures="1" errors="0""#), "{xml}");
    assert!(xml.contains(r#"name="p2p/disconnect/closes" classname="p2p/disconnect""#), "{xml}");
    assert!(xml.contains(r#"<failure message="open after"#), "{xml}");
}
