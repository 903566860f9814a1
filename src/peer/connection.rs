//! An encrypted connection: the handshake driven over a stream of bytes, and messages by their ids.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::ending::PeerError;
use super::frames::{FrameReader, FrameWriter, Keep};
use crate::node::{NodeKey, PublicKey};
use crate::p2p::{BaseMessage, FIRST_FRAME_LIMIT, Hello, MessageEncoder, MessageId, receive_hello};
use crate::rlpx::{Established, HandshakeRandom, Initiator, Recipient, Step};
use crate::transport::{BoxedReader, ByteStream};

/// How long a Disconnect may take to be written, and how long the other end then has to close, and handlers to return.
pub(super) const FAREWELL_WRITE: Duration = Duration::from_secs(1);
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// An encrypted connection on which messages are exchanged by id.
///
/// A [`Server`](crate::Server) makes its peers from it. Crawlers, probes and tests use it directly: it runs no
/// protocol, answers no Ping and keeps no deadline; wrap its calls in [`tokio::time::timeout`].
///
/// ```no_run
/// # async fn example(enode: capmux::Enode) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use capmux::{Connection, NodeKey, connect_tcp, p2p};
///
/// let key = NodeKey::random();
/// let stream = connect_tcp(&enode, Duration::from_secs(15)).await?;
/// let mut connection = Connection::initiate(stream, &key, enode.public_key).await?;
/// let hello = connection.recv_hello(&key.public_key()).await?;
/// println!("{} offers {:?}", hello.client_id, hello.capabilities);
/// connection.disconnect(p2p::DisconnectReason::Requested).await;
/// # Ok(())
/// # }
/// ```
pub struct Connection {
    pub(crate) reader: FrameReader,
    pub(crate) writer: FrameWriter,
    remote: PublicKey,
    /// Whether this end's Hello has been sent.
    has_greeted: bool,
    /// Whether the other end's Hello has come, and it reads compressed messages after ours.
    may_compress: bool,
}

impl Connection {
    /// Makes the encryption handshake as the end that dialled the node with the key `remote`.
    ///
    /// # Errors
    /// [`PeerError::Handshake`], [`PeerError::Io`] and [`PeerError::Closed`].
    ///
    /// # Cancel safety
    /// The stream is closed when the future is dropped.
    pub async fn initiate(stream: impl Into<ByteStream>, key: &NodeKey, remote: PublicKey) -> Result<Self, PeerError> {
        let mut stream = stream.into();
        let (mut state, auth) = Initiator::new(key, remote, random()?)?;
        stream.writer.write_all(&auth).await.map_err(PeerError::Io)?;
        let mut buffer = [0; READ_STEP];
        loop {
            let mut input = read_some(&mut stream.reader, &mut buffer, state.wants()).await?;
            match state.receive(&mut input)? {
                Step::More(next) => state = next,
                Step::Done(established) => return Ok(Self::new(stream, established)),
            }
        }
    }

    /// Makes the encryption handshake as the end that was dialled.
    ///
    /// # Errors
    /// As [`Connection::initiate`].
    ///
    /// # Cancel safety
    /// The stream is closed when the future is dropped.
    pub async fn accept(stream: impl Into<ByteStream>, key: &NodeKey) -> Result<Self, PeerError> {
        Self::accept_then(stream, key, |_| ()).await.map(|(connection, ())| connection)
    }

    /// [`Connection::accept`], and `claimed` is called when the other end has claimed a key, before it learns anything.
    pub(super) async fn accept_then<T>(
        stream: impl Into<ByteStream>,
        key: &NodeKey,
        claimed: impl FnOnce(&PublicKey) -> T,
    ) -> Result<(Self, T), PeerError> {
        let mut stream = stream.into();
        let mut state = Recipient::new(key.clone(), random()?);
        let mut buffer = [0; READ_STEP];
        loop {
            let mut input = read_some(&mut stream.reader, &mut buffer, state.wants()).await?;
            match state.receive(&mut input)? {
                Step::More(next) => state = next,
                Step::Done((ack, established)) => {
                    let told = claimed(&established.remote);
                    stream.writer.write_all(&ack).await.map_err(PeerError::Io)?;
                    return Ok((Self::new(stream, established), told));
                }
            }
        }
    }

    fn new(stream: ByteStream, established: Established) -> Self {
        let Established { remote, egress, ingress } = established;
        let reader = FrameReader::new(stream.reader, ingress);
        let writer = FrameWriter::new(stream.writer, MessageEncoder::new(egress));
        Self { reader, writer, remote, has_greeted: false, may_compress: false }
    }

    /// The public key of the other end. To the end that was dialled it is a claim until the first frame has opened:
    /// only who holds the key can seal one.
    pub fn remote(&self) -> &PublicKey {
        &self.remote
    }

    /// Sends a Hello.
    ///
    /// # Errors
    /// [`PeerError::Io`], and [`PeerError::Frame`] when it fits no frame.
    ///
    /// # Cancel safety
    /// What was being written goes on with the next call that sends.
    pub async fn send_hello(&mut self, hello: &Hello) -> Result<(), PeerError> {
        self.writer.encoder.hello(hello, &mut self.writer.buffer)?;
        self.has_greeted = true;
        self.compress();
        self.writer.flush().await.map_err(PeerError::Io)
    }

    /// Reads the first message of the other end, which must be its Hello. If that is of version 5 or more, messages
    /// are compressed from here on, or once a Hello has been sent.
    ///
    /// # Errors
    /// [`PeerError::Session`] for anything but a Hello, a Disconnect among it, and those of
    /// [`Connection::recv_frame`].
    ///
    /// # Cancel safety
    /// No byte is lost when the future is dropped.
    pub async fn recv_hello(&mut self, own: &PublicKey) -> Result<Hello, PeerError> {
        let content = self.recv_frame(FIRST_FRAME_LIMIT).await?;
        let hello = receive_hello(content, own, &self.remote)?;
        self.reader.trust();
        self.may_compress = hello.version >= crate::p2p::SNAPPY_VERSION;
        self.compress();
        Ok(hello)
    }

    /// Compresses what follows if both Hellos are out: what is sent in place of a Hello is read as it is.
    fn compress(&mut self) {
        if self.has_greeted && self.may_compress {
            self.writer.encoder.enable_snappy();
        }
    }

    /// Reads the content of the next frame, of `limit` bytes at most, for
    /// [`Session::receive`](crate::p2p::Session::receive) or [`MessageId::take`].
    ///
    /// # Errors
    /// [`PeerError::Frame`], [`PeerError::Io`] and [`PeerError::Closed`].
    ///
    /// # Cancel safety
    /// No byte is lost when the future is dropped.
    pub async fn recv_frame(&mut self, limit: usize) -> Result<Bytes, PeerError> {
        loop {
            if let Some(content) = self.reader.next_frame(limit, Keep::Content)? {
                return Ok(content);
            }
            self.reader.fill(usize::MAX).await?;
        }
    }

    /// Sends a message with an absolute id, compressed if that is in force.
    ///
    /// # Errors
    /// [`PeerError::Io`], and [`PeerError::Frame`] when it fits no frame.
    ///
    /// # Cancel safety
    /// What was being written goes on with the next call that sends.
    pub async fn send(&mut self, id: MessageId, data: &[u8]) -> Result<(), PeerError> {
        self.writer.encoder.message(id, data, &mut self.writer.buffer)?;
        self.writer.flush().await.map_err(PeerError::Io)
    }

    /// Sends a message of the base protocol.
    ///
    /// # Errors
    /// [`PeerError::Io`].
    ///
    /// # Cancel safety
    /// What was being written goes on with the next call that sends.
    pub async fn send_base(&mut self, message: BaseMessage) -> Result<(), PeerError> {
        self.writer.encoder.base(message, &mut self.writer.buffer);
        self.writer.flush().await.map_err(PeerError::Io)
    }

    /// Sends a Disconnect, closes the sending direction, and gives the other end two seconds to close the other.
    /// It takes three seconds at most.
    ///
    /// # Cancel safety
    /// The stream is closed when the future is dropped, and the other end may not learn the reason.
    pub async fn disconnect(mut self, reason: crate::p2p::DisconnectReason) {
        let deadline = Instant::now() + FAREWELL;
        let write = async {
            self.send_base(BaseMessage::Disconnect(reason)).await?;
            self.writer.shutdown().await.map_err(PeerError::Io)
        };
        if let Ok(Ok(())) = tokio::time::timeout(FAREWELL_WRITE, write).await {
            self.reader.drain(deadline).await;
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// Handshake messages are read in steps of this size, straight into their own buffer.
const READ_STEP: usize = 512;

fn random() -> Result<HandshakeRandom, PeerError> {
    HandshakeRandom::from_os().map_err(|error| PeerError::Io(io::Error::other(error)))
}

/// Reads at most `wants` bytes: what follows the handshake is not for it.
async fn read_some<'a>(
    reader: &mut BoxedReader,
    buffer: &'a mut [u8; READ_STEP],
    wants: usize,
) -> Result<&'a [u8], PeerError> {
    let read = reader.read(&mut buffer[..wants.min(READ_STEP)]).await.map_err(PeerError::Io)?;
    if read == 0 { Err(PeerError::Closed { inside_message: true }) } else { Ok(&buffer[..read]) }
}
