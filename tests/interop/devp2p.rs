//! go-ethereum's own client, `devp2p rlpx ping`, shows our Hello.

use capmux::{Party, Stage};

use crate::local::{CLIENT_ID, Local, within};
use crate::tools;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rlpx_ping_shows_our_hello() {
    match tools::devp2p().await {
        Ok(program) => ping(&program).await,
        Err(missing) => tools::skipped(concat!(module_path!(), "::rlpx_ping_shows_our_hello"), &missing),
    }
}

async fn ping(program: &tools::Program) {
    let mut local = Local::echoing().await;
    let mut command = program.command();
    command.args(["rlpx", "ping", &local.enode().to_string()]);
    let output = within("the client's end", command.output()).await.expect("it can be run");

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("Version:5 "), "R36 {said}");
    assert!(said.contains(&format!("Name:{CLIENT_ID} ")), "R36 {said}");
    assert!(said.contains("Caps:[echo/1]"), "R2 {said}");
    assert!(said.contains("Rest:[]"), "R36: five elements and no more: {said}");
    let port = local.enode().tcp_port;
    assert!(said.contains(&format!("ListenPort:{port} ")), "R36 {said}");
    let ending = local.refused().await;
    assert_eq!((ending.stage(), ending.by()), (Stage::Hello, Party::Remote), "R65 {ending}");
}
