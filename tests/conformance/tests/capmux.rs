//! The suite against capmux.

use std::sync::Arc;

use capmux::testing::node;
use capmux_conformance::{Dial, Level, Outcome, Suite};

#[tokio::test]
async fn a_server_passes_all_of_must_and_should() {
    let echo = capmux::Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
        while let Some(message) = channel.recv().await {
            channel.send(1, message.payload).await?;
        }
        Ok(())
    });
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let server = node().listen(loopback).protocol(echo).start().await.expect("the server starts");
    let enode = server.enode().expect("it listens");
    let server = Arc::new(server);
    let dialler = server.clone();
    let dial = Dial::tell(move |enode| {
        let server = dialler.clone();
        async move {
            // That it fails is what most cases want.
            let _ = server.dial(&enode).await;
            Ok(())
        }
    });
    let report = Suite::new().listen(loopback, dial).run(&enode).await.expect("it answers");
    let bad: Vec<_> = report.results().iter().filter(|result| result.outcome != Outcome::Passed).collect();
    assert!(report.is_passed(Level::Should) && bad.is_empty(), "{bad:#?}");
}
