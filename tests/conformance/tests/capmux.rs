//! The suite against capmux.

use capmux::testing::node;
use capmux_conformance::{Level, Outcome, Suite};

#[tokio::test]
async fn a_server_passes_all_of_must_and_should() {
    let echo = capmux::Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
        while let Some(message) = channel.recv().await {
            channel.send(1, message.payload).await?;
        }
        Ok(())
    });
    let listen = "127.0.0.1:0".parse().expect("an address");
    let server = node().listen(listen).protocol(echo).start().await.expect("the server starts");
    let report = Suite::new().run(&server.enode().expect("it listens")).await.expect("it answers");
    let bad: Vec<_> = report.results().iter().filter(|result| result.outcome != Outcome::Passed).collect();
    assert!(report.is_passed(Level::Should) && bad.is_empty(), "{bad:#?}");
    server.shutdown().await;
}
