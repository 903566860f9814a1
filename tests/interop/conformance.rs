//! The conformance suite against the other implementations: they do what is recorded of them in
//! `tests/conformance/expected`, no worse and no better.

use std::convert::Infallible;

use capmux::Enode;
use capmux_conformance::recorded::{self, Came};
use capmux_conformance::{Dial, Suite};
use tokio::sync::mpsc;

use crate::remote::Remote;
use crate::tools::{Implementation, skipped};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn geth_does_what_is_recorded() {
    let module = include_str!("geth/go.mod");
    let version = between(module, "github.com/ethereum/go-ethereum v", "\n");
    check(Implementation::Geth, "geth", &format!("go-ethereum {version}"), "geth_does_what_is_recorded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ethereumjs_does_what_is_recorded() {
    let package = include_str!("ethereumjs/package.json");
    let version = between(package, "\"@ethereumjs/devp2p\": \"", "\"");
    let test = "ethereumjs_does_what_is_recorded";
    check(Implementation::EthereumJs, "ethereumjs", &format!("ethereumjs {version}"), test).await;
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> &'a str {
    let found = text.split_once(before).and_then(|(_, rest)| rest.split_once(behind));
    found.expect("the version is pinned").0.trim()
}

async fn check(implementation: Implementation, file: &str, node: &str, test: &str) {
    let program = match implementation.program().await {
        Ok(program) => program,
        Err(missing) => return skipped(&format!("{}::{test}", module_path!()), &missing),
    };
    let run = async |suite: Suite, key: &str| {
        // There is room for all connections that the suite has at once.
        let remote = Remote::start(&program, &["--key", key, "--max-peers", "100"]).await;
        let enode = remote.enode().clone();
        let (dials, wanted) = mpsc::channel(16);
        let dial = Dial::tell(move |enode| {
            let dials = dials.clone();
            async move { dials.send(enode).await.map_err(|_| "the node has ended".to_owned()) }
        });
        let suite = suite.listen("127.0.0.1:0".parse().expect("an address"), dial);
        let report = tokio::select! {
            report = suite.run(&enode) => report.expect("it answers"),
            never = drive(remote, implementation, wanted) => match never {},
        };
        report.results().iter().map(Came::from).collect()
    };
    recorded::check(file, node, run).await.unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// Has the node dial what is wanted, and lets pass what it tells. It lives as long as this.
async fn drive(mut remote: Remote, implementation: Implementation, mut wanted: mpsc::Receiver<Enode>) -> Infallible {
    loop {
        tokio::select! {
            Some(enode) = wanted.recv() => match implementation {
                // Its own schedule would have it wait.
                Implementation::Geth => remote.dial_at_once(&enode).await,
                Implementation::EthereumJs => remote.dial(&enode).await,
            },
            () = remote.pass() => {}
        }
    }
}
