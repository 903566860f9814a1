//! Frames that begin and do not end, on a socket.

mod support;

use std::time::Duration;

use capmux::NodeKey;
use capmux::p2p::{LivenessSettings, SessionError};
use capmux::{PeerError, Server};
use support::raw::{Raw, drip, read_to_end};
use support::{dropped, listening, sink, start};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_millis(500);

async fn server() -> Server {
    let liveness = LivenessSettings::default().frame_timeout(LIMIT);
    start(listening().protocol(sink("aaa", 1)).liveness(liveness)).await
}

#[tokio::test]
async fn a_frame_that_trickles_in_ends_at_its_deadline() {
    let server = server().await;
    let mut raw = Raw::greet(&server, &NodeKey::random(), &[("aaa", 1)]).await;
    let mut events = server.events();
    let whole = raw.message(0x10, &[1; 100]);
    raw.stream.write_all(&whole).await.unwrap();
    let frame = raw.message(0x10, &support::noise(1, 4000));
    let since = Instant::now();
    drip(&mut raw.stream, &frame, Duration::from_millis(5)).await;
    assert!(since.elapsed() >= LIMIT, "H25: not before the deadline: {:?}", since.elapsed());
    let (_, ending) = dropped(&mut events).await;
    let error = PeerError::Session(SessionError::FrameTimeout { limit: LIMIT });
    assert_eq!(ending.error().to_string(), error.to_string(), "H25");
    read_to_end(&mut raw.stream).await;
}
