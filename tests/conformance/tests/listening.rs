//! The role in which the node dials, whoever has it dial.

use std::sync::{Arc, Mutex};

use capmux::testing::node;
use capmux::{Enode, Protocol, Server};
use capmux_conformance::{Case, Dial, Outcome, Role, Suite, SuiteError};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const LOOPBACK: &str = "127.0.0.1:0";

async fn server() -> (Arc<Server>, Enode) {
    let sink = Protocol::from_fn("sink", 1, 1, |_peer, mut channel| async move {
        while channel.recv().await.is_some() {}
        Ok(())
    });
    let server = node().listen(LOOPBACK.parse().expect("an address")).protocol(sink).start().await.expect("it starts");
    let enode = server.enode().expect("it listens");
    (Arc::new(server), enode)
}

fn suite(name: &str) -> Suite {
    Suite::new().retain(|case| case.name.starts_with(name))
}

fn loopback() -> std::net::SocketAddr {
    LOOPBACK.parse().expect("an address")
}

#[tokio::test]
async fn without_a_listener_its_cases_are_skipped() {
    let (_server, enode) = server().await;
    let report = Suite::new().retain(|case| case.role == Role::Listens).run(&enode).await.expect("it answers");
    assert!(report.results().len() > 40);
    for result in report.results() {
        assert_eq!(result.outcome, Outcome::Skipped, "{}", result.case.name);
        assert!(result.seen.contains("does not listen"), "{}", result.seen);
    }
}

#[tokio::test]
async fn a_node_that_cannot_dial_leaves_its_cases_open() {
    let (_server, enode) = server().await;
    let dial = Dial::tell(|_| async { Err("no such command".to_owned()) });
    let report = suite("rlpx/ack/honest").listen(loopback(), dial).run(&enode).await.expect("it answers");
    assert_eq!(report.results()[0].outcome, Outcome::Inconclusive);
    assert!(report.results()[0].seen.contains("no such command"), "{}", report.results()[0].seen);
}

#[tokio::test]
async fn connections_for_no_case_are_counted_and_disturb_none() {
    let (server, enode) = server().await;
    let dial = Dial::tell(move |enode| {
        let server = server.clone();
        async move {
            // Zeros as an auth, and one that is for nobody, before the right one.
            let address = format!("{}:{}", enode.host, enode.tcp_port);
            for size in [0, 300] {
                let mut stream = TcpStream::connect(&address).await.map_err(|error| error.to_string())?;
                let message = [&[(size >> 8) as u8, size as u8][..], &vec![0; size]].concat();
                stream.write_all(&message).await.map_err(|error| error.to_string())?;
            }
            let _ = server.dial(&enode).await;
            Ok(())
        }
    });
    let report = suite("rlpx/ack/honest").listen(loopback(), dial).run(&enode).await.expect("it answers");
    assert_eq!(report.results()[0].outcome, Outcome::Passed, "{}", report.results()[0].seen);
}

#[tokio::test]
async fn a_node_that_dials_by_itself_is_told_of_all_cases_at_once() {
    let (server, enode) = server().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let (dialler, all) = (server.clone(), told.clone());
    let dial = Dial::announce(move |enodes| {
        *all.lock().expect("no panic") = enodes.to_vec();
        for enode in enodes {
            let (server, enode) = (dialler.clone(), enode.clone());
            tokio::spawn(async move { server.dial(&enode).await.map(drop) });
        }
    });
    let wanted = |case: &Case| case.name.starts_with("rlpx/ack/padding") || case.name.starts_with("rlpx/auth/padding");
    let suite = Suite::new().jobs(1).retain(wanted).listen(loopback(), dial);
    let report = suite.run(&enode).await.expect("it answers");
    let listening = report.results().iter().filter(|result| result.case.role == Role::Listens).count();
    assert_eq!(told.lock().expect("no panic").len(), listening);
    assert!(listening >= 4 && report.results().len() >= 8);
    for result in report.results() {
        assert_eq!(result.outcome, Outcome::Passed, "{}: {}", result.case.name, result.seen);
    }
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let (_server, enode) = server().await;
    let taken = TcpListener::bind(loopback()).await.expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let dial = Dial::announce(|_| ());
    let error = suite("rlpx/ack/honest").listen(address, dial).run(&enode).await.err();
    assert!(matches!(error, Some(SuiteError::Listen { .. })), "{error:?}");
}

#[tokio::test]
async fn an_unspecified_address_is_told_as_the_one_that_reaches_the_node() {
    let (server, enode) = server().await;
    let told = Arc::new(Mutex::new(None));
    let seen = told.clone();
    let dial = Dial::tell(move |enode: Enode| {
        *seen.lock().expect("no panic") = Some(enode.host.to_string());
        let server = server.clone();
        async move {
            let _ = server.dial(&enode).await;
            Ok(())
        }
    });
    let any = "0.0.0.0:0".parse().expect("an address");
    let report = suite("rlpx/ack/honest").listen(any, dial).run(&enode).await.expect("it answers");
    assert_eq!(told.lock().expect("no panic").as_deref(), Some("127.0.0.1"));
    assert_eq!(report.results()[0].outcome, Outcome::Passed, "{}", report.results()[0].seen);
}
