//! Connections to the node's listener that are none of a peer's.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the other end is listened to: longer than a handshake may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// The most bytes of garbage.
const MOST: usize = 4000;

/// Connects and says nothing, too little, or nonsense; and leaves at once, with a reset, or when it is thrown out.
pub(super) async fn throw(node: SocketAddr, mut random: fastrand::Rng) {
    let Ok(mut stream) = TcpStream::connect(node).await else { return };
    let mut bytes = vec![0; [0, 1, 2, random.usize(..MOST)][random.usize(..4)]];
    random.fill(&mut bytes);
    if let Some(prefix) = bytes.first_chunk_mut()
        && random.bool()
    {
        // A size that the node waits for.
        *prefix = random.u16(200..2000).to_be_bytes();
    }
    if stream.write_all(&bytes).await.is_err() {
        return;
    }
    match random.u8(..3) {
        0 => {}
        1 => drop(stream.set_zero_linger()),
        _ => drop(timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await),
    }
}
