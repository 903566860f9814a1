//! The whole suite against `capmux node`.

use std::time::Duration;

use capmux::NodeKey;
use capmux_conformance::recorded::{self, Came};
use capmux_conformance::{Level, Outcome, Suite, cases};
use serde::Deserialize;
use tokio::time::timeout;

use crate::common::{Finished, Node, PROGRAM, command};

/// How long the whole suite may take on a machine with other work to do. It is to take less than three minutes.
const WHOLE: Duration = Duration::from_secs(400);

#[tokio::test]
async fn capmux_node_passes_the_conformance_suite_as_recorded() {
    let node = concat!("capmux ", env!("CARGO_PKG_VERSION"));
    recorded::check("capmux", node, run).await.unwrap_or_else(|wrong| panic!("{wrong}"));
    let recorded = recorded::read("capmux").unwrap();
    for case in cases().iter().filter(|case| case.level <= Level::Should) {
        let outcome = recorded.case(case.name).map(|case| case.outcome);
        assert_eq!(outcome, Some(Outcome::Passed), "{}", case.name);
    }
}

/// Runs the command against a new node; for cases in which the node dials, each time another one with the same key.
async fn run(suite: Suite, key: &str) -> Vec<Came> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key").to_str().expect("text").to_owned();
    let key: [u8; 32] = hex::decode(key).expect("digits").try_into().expect("64 of them");
    NodeKey::from_bytes(&key).expect("a key").save_new(&file).expect("it is written");
    let node = Node::start(&["--protocol", "echo", "--key", &file]).await;
    let dial = format!("exec '{PROGRAM}' node --listen 127.0.0.1:0 --protocol echo --key '{file}' --peer {{}}");
    let mut args = vec!["conformance", &node.enode, "--json"];
    if cfg!(unix) {
        args.extend(["--listen", "127.0.0.1:0", "--dial-with", &dial]);
    }
    let names: Vec<_> = suite.cases().iter().map(|case| case.name).collect();
    if names.len() < cases().len() {
        args.extend(names.iter().flat_map(|name| ["--only", name]));
    }
    let jobs = suite.at_once().to_string();
    args.extend(["--jobs", &jobs]);
    let output = timeout(WHOLE, command(&args).output()).await.expect("it ends").expect("it can be run");
    #[derive(Deserialize)]
    struct Document {
        cases: Vec<Came>,
    }
    let document: Document = serde_json::from_value(Finished::from(output).json()).expect("a document");
    document.cases
}
