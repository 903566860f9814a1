//! A connection over TCP whose bytes are in the hands of the test.

use bytes::BytesMut;
use capmux::p2p::{Hello, MessageEncoder, MessageId};
use capmux::rlpx::{HandshakeRandom, Initiator, Step};
use capmux::{Enode, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep};

use super::soon;

/// An encrypted connection, of which nothing is read after the `ack`.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) encoder: MessageEncoder,
}

pub(crate) async fn connect(server: &Server) -> TcpStream {
    let address = server.local_addr().expect("the server listens");
    soon(TcpStream::connect(address)).await.expect("the server accepts")
}

/// The `auth` for this node, and what waits for its `ack`.
pub(crate) fn auth(enode: &Enode, key: &capmux::NodeKey) -> (Initiator, Vec<u8>) {
    let random = HandshakeRandom::from_os().expect("random numbers");
    Initiator::new(key, enode.public_key, random).expect("the keys differ")
}

impl Raw {
    /// Makes the encryption handshake with a server.
    pub(crate) async fn handshake(server: &Server, key: &capmux::NodeKey) -> Self {
        let mut stream = connect(server).await;
        let (mut state, auth) = auth(&super::enode(server), key);
        stream.write_all(&auth).await.expect("written");
        loop {
            let mut bytes = vec![0; state.wants()];
            let read = soon(stream.read(&mut bytes)).await.expect("an ack");
            assert!(read > 0, "the server closed the connection");
            match state.receive(&mut &bytes[..read]).expect("a good ack") {
                Step::More(next) => state = next,
                Step::Done(established) => return Self { stream, encoder: MessageEncoder::new(established.egress) },
            }
        }
    }

    /// Becomes a peer of a server.
    pub(crate) async fn greet(server: &Server, key: &capmux::NodeKey, capabilities: &[(&str, u64)]) -> Self {
        let mut events = server.events();
        let mut raw = Self::handshake(server, key).await;
        let hello = raw.hello(&super::hello(key, capabilities));
        raw.stream.write_all(&hello).await.expect("written");
        assert_eq!(super::added(&mut events).await.id(), key.node_id());
        raw
    }

    /// The frame with this Hello. What follows it is compressed.
    pub(crate) fn hello(&mut self, hello: &Hello) -> BytesMut {
        let mut frame = BytesMut::new();
        self.encoder.hello(hello, &mut frame).expect("it fits");
        self.encoder.enable_snappy();
        frame
    }

    pub(crate) fn message(&mut self, id: u64, data: &[u8]) -> BytesMut {
        let mut frame = BytesMut::new();
        self.encoder.message(MessageId::new(id), data, &mut frame).expect("it fits");
        frame
    }
}

/// Sends bytes one by one until they are sent or the connection is closed.
pub(crate) async fn drip(stream: &mut TcpStream, bytes: &[u8], pause: Duration) {
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        sleep(pause).await;
    }
}

/// Reads until the other end closes the connection, in whichever way, and returns how many bytes came.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> usize {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = soon(stream.read_to_end(&mut bytes)).await;
    bytes.len()
}
