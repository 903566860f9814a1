//! The suite against capmux.

use std::sync::Arc;

use capmux::testing::node;
use capmux::{NodeKey, Protocol, Server, ServerBuilder};
use capmux_conformance::{CaseResult, Dial, Outcome, Report, Role, Suite};

/// The static keys of EIP-8.
const STATIC_A: &str = "49a7b37aa6f6645917e7b807e9d1c00d4fa71f18343b0d4122a4d2df64dd6fee";
const STATIC_B: &str = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291";

/// The whole suite runs against `capmux node`, in the tests of the command.
#[tokio::test]
async fn a_server_passes_every_case_in_which_it_dials() {
    let mut report = run(node(), Suite::new().retain(|case| case.role == Role::Listens)).await;
    assert!(!report.results().is_empty());
    let bad = failed(&report);
    if !bad.is_empty() {
        // The machine may have been too busy.
        report = run(node(), Suite::new().retain(|case| bad.contains(&case.name)).jobs(1)).await;
    }
    assert!(failed(&report).is_empty(), "{:#?}", report.results());
}

/// The cases that did not pass. Those with literal vectors need the server's key to be that of EIP-8.
fn failed(report: &Report) -> Vec<&'static str> {
    let literal = |result: &&CaseResult| {
        result.outcome == Outcome::Skipped && result.case.name.starts_with("rlpx/vectors/literal-")
    };
    let results = report.results().iter().filter(|result| result.outcome != Outcome::Passed && !literal(result));
    results.map(|result| result.case.name).collect()
}

#[tokio::test]
async fn the_literal_vectors_are_taken_by_a_server_with_their_keys() {
    for (key, prefix) in [(STATIC_A, "rlpx/vectors/literal-ack-"), (STATIC_B, "rlpx/vectors/literal-auths")] {
        let key = NodeKey::from_hex(key).expect("a key");
        let report = run(Server::builder(key), Suite::new().retain(|case| case.name.starts_with(prefix))).await;
        let results = report.results();
        let passed = results.iter().all(|result| result.outcome == Outcome::Passed);
        assert!(passed && !results.is_empty(), "H12: {results:#?}");
    }
}

async fn run(node: ServerBuilder, suite: Suite) -> Report {
    let echo = Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
        while let Some(message) = channel.recv().await {
            channel.send(1, message.payload).await?;
        }
        Ok(())
    });
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let server = Arc::new(node.listen(loopback).protocol(echo).start().await.expect("the server starts"));
    let suite = suite.listen(loopback, dial(&server));
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
