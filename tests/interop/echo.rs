//! Payloads of all sizes, compressible and not, both ways.

use capmux::bytes::Bytes;
use capmux::{Channel, testing};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::json::Json;
use crate::local::{Local, manual, next_message};
use crate::matrix::Case;
use crate::remote::Remote;

/// Around a block of the cipher and the steps of lengths in RLP and snappy, and a frame of ten mebibytes. That comes
/// first: ethereumjs sends its first Ping 15 s after Hello, and the Pong must not wait behind it for 10 s.
const SIZES: [usize; 9] = [10 * 1024 * 1024, 65_536, 65_535, 1024, 17, 16, 15, 1, 0];

const FILLS: [&str; 2] = ["random", "zeros"];

/// One of these tests at a time, for the same reason.
static TURN: Mutex<()> = Mutex::const_new(());

with_every_node!(we_send, they_send);

async fn we_send(case: Case) {
    let _turn = TURN.lock().await;
    let (local, mut remote, mut channel) = connected(&case).await;
    for (size, fill) in cases() {
        let payload = payload(size, fill);
        channel.send(0, payload.clone()).await.expect("it is sent");
        assert_event(&remote.expect_of("message", &local.id()).await, 0, &payload);
        let answer = next_message(&mut channel, 1).await;
        assert!(answer == payload, "R14 R20: {size} bytes of {fill} come back as they went");
    }
    assert_connected(&local, &mut remote).await;
}

async fn they_send(case: Case) {
    let _turn = TURN.lock().await;
    let (local, mut remote, mut channel) = connected(&case).await;
    for (size, fill) in cases() {
        remote.send(&local.id(), "echo", 0, size, fill).await;
        let payload = next_message(&mut channel, 0).await;
        assert_eq!(payload.len(), size, "R20 R43");
        assert_event(&remote.expect_of("sent", &local.id()).await, 0, &payload);
        channel.send(1, payload.clone()).await.expect("it is sent");
        assert_event(&remote.expect_of("message", &local.id()).await, 1, &payload);
    }
    assert_connected(&local, &mut remote).await;
}

async fn connected(case: &Case) -> (Local, Remote, Channel) {
    let mut remote = case.remote(&[]).await;
    let (echo, mut opened) = manual("echo", 1, 2);
    let mut local = Local::start(testing::node().protocol(echo)).await;
    local.connect(&mut remote, case.direction).await;
    let (_, channel) = opened.next().await;
    (local, remote, channel)
}

fn cases() -> impl Iterator<Item = (usize, &'static str)> {
    SIZES.into_iter().flat_map(|size| FILLS.map(|fill| (size, fill)))
}

fn payload(size: usize, fill: &str) -> Bytes {
    let mut payload = vec![0; size];
    if fill == "random" {
        getrandom::fill(&mut payload).expect("there are random numbers");
    }
    payload.into()
}

fn assert_event(event: &Json, code: u64, payload: &[u8]) {
    assert_eq!(event.number("code"), Some(code), "R6");
    assert_eq!(event.number("size"), Some(payload.len() as u64));
    assert_eq!(event.text("sha256"), hex::encode(Sha256::digest(payload)), "R14: {} bytes", payload.len());
}

/// After all that both ends are still peers.
async fn assert_connected(local: &Local, remote: &mut Remote) {
    assert_eq!(local.server.peers().len(), 1);
    assert_eq!(remote.peers().await, [local.id()]);
}
