//! What holders of handles see when a server is dropped, and what is shown of errors with foreign text in them.

mod support;

use capmux::testing::{self, manual, node};
use capmux::{Protocol, SendError};
use support::{echo, enode, listening, soon, start};

#[tokio::test]
async fn senders_learn_that_a_dropped_server_is_gone() {
    let (protocol, mut opened) = manual("echo", 1, 2);
    let server = start(listening().protocol(protocol)).await;
    let other = start(node().protocol(echo())).await;
    let _peer = soon(other.dial(&enode(&server))).await.unwrap();
    let (peer, channel) = soon(opened.next()).await;
    let (sender, mut receiver) = channel.split();
    drop(server);
    soon(sender.closed()).await;
    assert_eq!(sender.try_send(0, "late"), Err(SendError::Closed), "R63");
    assert_eq!(soon(sender.send(0, "late")).await, Err(SendError::Closed), "R63");
    assert!(soon(receiver.recv()).await.is_none(), "R63");
    soon(peer.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn an_ending_is_one_line_whatever_a_handler_has_put_into_its_error() {
    let hostile = Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
        let message = channel.recv().await.ok_or("no message")?;
        Err(format!("the peer said {}", message.decode::<String>()?).into())
    });
    let other = testing::drive("echo", 1, 2, hostile).await;
    let text = "\n\x1b[31mred\u{202e}".to_owned() + &"x".repeat(100_000);
    other.channel.send_rlp(0, &text).await.unwrap();
    let shown = other.pair.at_second.closed().await.to_string();
    assert!(
        shown.starts_with("the handler of echo/1 failed: the peer said \\n\\u{1b}[31mred\\u{202e}xxx"),
        "H81 {shown}"
    );
    assert!(shown.chars().count() <= 513, "H50: the log stays one short line");
}
