//! Requests and answers with a node that has the protocol kv from its description alone, in Go.

use capmux::typed::{Breach, RequestError};
use capmux::{DisconnectReason, Ending, Party, Peer, PeerError, Stage, testing};
use capmux_kv::{Kv, KvError, MAX_VALUE_SIZE, Settings, Violation};

use crate::json::Json;
use crate::local::{Local, ending, within};
use crate::matrix::Case;
use crate::remote::Remote;

/// Makes two tests of each `async fn(Case)`: ethereumjs has no kv.
macro_rules! with_geth {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            with_every_node! { @one $test geth_is_dialled Geth Outbound }
            with_every_node! { @one $test geth_dials Geth Inbound }
        }
    )+ };
}

with_geth!(
    both_ends_ask_and_answer,
    the_largest_entries_fit,
    an_answer_nobody_asked_for_is_told_as_0x10,
    an_answer_given_twice_is_told_as_0x10,
    a_count_out_of_bounds_is_told_as_0x10,
    a_peer_that_has_left_cannot_be_asked,
);

struct Nodes {
    local: Local,
    remote: Remote,
    kv: Kv,
    peer: Peer,
}

impl Nodes {
    async fn connected(case: &Case) -> Self {
        let mut remote = case.remote(&["--protocol", "kv/1/6"]).await;
        let (protocol, kv) = Kv::new(Settings::default());
        let mut local = Local::start(testing::node().protocol(protocol)).await;
        let (peer, _) = local.connect(&mut remote, case.direction).await;
        Self { local, remote, kv, peer }
    }

    /// Has the other node do something.
    async fn tell(&mut self, operation: &str) {
        self.remote.kv(&self.local.id(), operation).await;
    }

    /// Has the other node ask, and returns the answer as it was understood there.
    async fn asked(&mut self, operation: &str) -> Json {
        self.tell(operation).await;
        self.remote.expect_of("kv_answer", &self.local.id()).await
    }

    /// What we have found to be wrong, after the other end has been told as 0x10.
    async fn refused(mut self) -> Ending {
        let drop = self.remote.expect_of("drop", &self.local.id()).await;
        assert_eq!((drop.number("code"), drop.flag("remote")), (Some(0x10), Some(true)), "H57 H62 {drop:?}");
        let ending = ending(&self.peer).await;
        assert_eq!((ending.stage(), ending.by()), (Stage::Session, Party::Local), "H62 {ending}");
        assert_eq!(ending.reason(), Some(DisconnectReason::SubprotocolError), "H62 {ending}");
        ending
    }
}

async fn both_ends_ask_and_answer(case: Case) {
    let mut nodes = Nodes::connected(&case).await;
    let (kv, peer) = (nodes.kv.clone(), nodes.peer.clone());
    // We ask.
    assert_eq!(within("an answer", kv.get(&peer, "colour")).await, Ok(None), "R1");
    for (key, value) in [("shape", "round"), ("colour", "red"), ("colour", "green"), ("empty", "")] {
        assert_eq!(within("an answer", kv.put(&peer, key, value)).await, Ok(()), "R1 {key}");
    }
    assert_eq!(within("an answer", kv.get(&peer, "colour")).await, Ok(Some("green".into())), "R1");
    assert_eq!(within("an answer", kv.get(&peer, "empty")).await, Ok(Some("".into())), "R1");
    let keys = within("an answer", kv.list(&peer, "", 256)).await.expect("they are listed");
    assert_eq!(keys, ["colour", "empty", "shape"], "R1");
    let keys = within("an answer", kv.list(&peer, "colour", 1)).await.expect("they are listed");
    assert_eq!(keys, ["empty"], "R1");
    // They ask, and we have a store of our own.
    assert_eq!(nodes.asked(r#""get","key":"61""#).await.flag("found"), Some(false), "R1");
    assert_eq!(nodes.asked(r#""put","key":"61","value":"cafe""#).await.flag("stored"), Some(true), "R1");
    assert_eq!(kv.store().get(b"a").expect("they have stored it"), &b"\xca\xfe"[..]);
    assert_eq!(nodes.asked(r#""put","key":"00ff","value":"""#).await.flag("stored"), Some(true), "R1");
    assert_eq!(nodes.asked(r#""get","key":"61""#).await.text("value"), "cafe", "R1");
    assert_eq!(nodes.asked(r#""get","key":"00ff""#).await.flag("found"), Some(true), "R1");
    assert_eq!(nodes.asked(r#""list","count":2"#).await.text("keys"), "00ff,61", "R1");
    assert_eq!(nodes.asked(r#""list","key":"00ff","count":2"#).await.text("keys"), "61", "R1");
    assert_eq!(nodes.remote.peers().await, [nodes.local.id()]);
}

async fn the_largest_entries_fit(case: Case) {
    let mut nodes = Nodes::connected(&case).await;
    let mut value = vec![0; MAX_VALUE_SIZE];
    getrandom::fill(&mut value).expect("there are random numbers");
    for number in 0..256 {
        let put = nodes.kv.put(&nodes.peer, format!("{number:064}"), value.clone());
        assert_eq!(within("an answer", put).await, Ok(()), "R20");
    }
    let keys = within("an answer", nodes.kv.list(&nodes.peer, "", 256)).await.expect("they are listed");
    assert_eq!(keys.len(), 256, "R20: the longest answer");
    let got = within("an answer", nodes.kv.get(&nodes.peer, keys[255].clone())).await;
    assert!(got == Ok(Some(value.clone().into())), "R20");
    let value = hex::encode(value);
    let put = format!(r#""put","key":"{}","value":"{value}""#, "ab".repeat(64));
    assert_eq!(nodes.asked(&put).await.flag("stored"), Some(true), "R20");
    let got = nodes.asked(&format!(r#""get","key":"{}""#, "ab".repeat(64))).await;
    assert!(got.text("value") == value, "R20");
}

async fn an_answer_nobody_asked_for_is_told_as_0x10(case: Case) {
    let mut nodes = Nodes::connected(&case).await;
    nodes.tell(r#""forge","request":7,"value":"00""#).await;
    let ending = nodes.refused().await;
    let PeerError::HandlerFailed { source, .. } = ending.error() else { panic!("H62 {ending}") };
    assert!(matches!(source.downcast_ref(), Some(Breach::Unsolicited { code: 1, id: 7, .. })), "H62 {ending}");
}

async fn an_answer_given_twice_is_told_as_0x10(case: Case) {
    let mut nodes = Nodes::connected(&case).await;
    nodes.tell(r#""twice""#).await;
    // The program takes commands in their order: this one is carried out, too.
    nodes.remote.peers().await;
    assert_eq!(within("an answer", nodes.kv.get(&nodes.peer, "a")).await, Ok(None), "H62: the first one counts");
    let ending = nodes.refused().await;
    let PeerError::HandlerFailed { source, .. } = ending.error() else { panic!("H62 {ending}") };
    assert!(matches!(source.downcast_ref(), Some(Breach::Unsolicited { code: 1, .. })), "H62 {ending}");
}

async fn a_count_out_of_bounds_is_told_as_0x10(case: Case) {
    for count in [0, 257, u64::MAX] {
        let mut nodes = Nodes::connected(&case).await;
        nodes.tell(&format!(r#""list","count":{count}"#)).await;
        let ending = nodes.refused().await;
        let PeerError::HandlerFailed { source, .. } = ending.error() else { panic!("H62 {ending}") };
        assert_eq!(source.downcast_ref(), Some(&Violation::Count { count }), "H62 {ending}");
    }
}

async fn a_peer_that_has_left_cannot_be_asked(case: Case) {
    let mut nodes = Nodes::connected(&case).await;
    let local = nodes.local.id();
    nodes.remote.disconnect(&local, 0x08).await;
    let ending = ending(&nodes.peer).await;
    assert_eq!((ending.reason(), ending.by()), (Some(DisconnectReason::ClientQuitting), Party::Remote), "R38");
    let answer = within("an error", nodes.kv.get(&nodes.peer, "a")).await;
    assert_eq!(answer, Err(KvError::Request(RequestError::Gone)));
}
