//! The suite against capmux.

use std::sync::Arc;

use capmux::testing::node;
use capmux::{NodeKey, Protocol, Server, ServerBuilder};
use capmux_conformance::{Case, CaseResult, Dial, Level, Outcome, Report, Suite};

/// The static keys of EIP-8.
const STATIC_A: &str = "49a7b37aa6f6645917e7b807e9d1c00d4fa71f18343b0d4122a4d2df64dd6fee";
const STATIC_B: &str = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291";

#[tokio::test]
async fn a_server_passes_all_of_must_and_should() {
    let report = run(node(), |_| true).await;
    // The literal vectors need its key to be that of EIP-8.
    let bad = |result: &&CaseResult| {
        let is_literal = result.case.name.starts_with("rlpx/vectors/literal-");
        result.outcome != if is_literal { Outcome::Skipped } else { Outcome::Passed }
    };
    let bad: Vec<_> = report.results().iter().filter(bad).collect();
    assert!(report.is_passed(Level::Should) && bad.is_empty(), "{bad:#?}");
}

#[tokio::test]
async fn the_literal_vectors_are_taken_by_a_server_with_their_keys() {
    for (key, prefix) in [(STATIC_A, "rlpx/vectors/literal-ack-"), (STATIC_B, "rlpx/vectors/literal-auths")] {
        let key = NodeKey::from_hex(key).expect("a key");
        let report = run(Server::builder(key), |case| case.name.starts_with(prefix)).await;
        let results = report.results();
        let passed = results.iter().all(|result| result.outcome == Outcome::Passed);
        assert!(passed && !results.is_empty(), "H12: {results:#?}");
    }
}

async fn run(node: ServerBuilder, wanted: impl FnMut(&Case) -> bool) -> Report {
    let echo = Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
        while let Some(message) = channel.recv().await {
            channel.send(1, message.payload).await?;
        }
        Ok(())
    });
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let server = Arc::new(node.listen(loopback).protocol(echo).start().await.expect("the server starts"));
    let suite = Suite::new().retain(wanted).listen(loopback, dial(&server));
    suite.run(&server.enode().expect("it listens")).await.expect("it answers")
}

/// Has the server dial once. That the dial fails is what most cases want.
fn dial(server: &Arc<Server>) -> Dial {
    let server = server.clone();
    Dial::tell(move |enode| {
        let server = server.clone();
        async move {
            let _ = server.dial(&enode).await;
            Ok(())
        }
    })
}
