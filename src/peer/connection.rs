//! An encrypted connection: the handshake driven over a stream of bytes, and frames read from and written to it.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::ending::PeerError;
use crate::node::{NodeKey, PublicKey};
use crate::p2p::{BaseMessage, FIRST_FRAME_LIMIT, Hello, MessageEncoder, MessageId, receive_hello};
use crate::rlpx::{Established, FrameError, HandshakeRandom, Ingress, Initiator, Recipient, Step};
use crate::transport::{BoxedReader, BoxedWriter, ByteStream};

/// How much is read at a time: little until the other end has proved who it is. A larger frame gets room as its bytes
/// come.
const FIRST_CHUNK: usize = 2 * 1024;
const READ_CHUNK: usize = 16 * 1024;

/// A buffer that a large message left behind is given back above this size.
const KEPT_BUFFER: usize = 256 * 1024;

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
}

impl Connection {
    /// Makes the encryption handshake as the end that dialled the node with the key `remote`.
    ///
    /// # Errors
    /// [`PeerError::Handshake`], [`PeerError::Io`] and [`PeerError::Closed`].
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
    pub async fn accept(stream: impl Into<ByteStream>, key: &NodeKey) -> Result<Self, PeerError> {
        let mut stream = stream.into();
        let mut state = Recipient::new(key.clone(), random()?);
        let mut buffer = [0; READ_STEP];
        loop {
            let mut input = read_some(&mut stream.reader, &mut buffer, state.wants()).await?;
            match state.receive(&mut input)? {
                Step::More(next) => state = next,
                Step::Done((ack, established)) => {
                    stream.writer.write_all(&ack).await.map_err(PeerError::Io)?;
                    return Ok(Self::new(stream, established));
                }
            }
        }
    }

    fn new(stream: ByteStream, established: Established) -> Self {
        let Established { remote, egress, ingress } = established;
        let reader = FrameReader { io: stream.reader, ingress, buffer: BytesMut::new(), chunk: FIRST_CHUNK };
        let writer = FrameWriter { io: stream.writer, encoder: MessageEncoder::new(egress), buffer: BytesMut::new() };
        Self { reader, writer, remote }
    }

    /// The public key of the other end. To the end that was dialled it is a claim until the first frame has opened: only
    /// who holds the key can seal one.
    pub fn remote(&self) -> &PublicKey {
        &self.remote
    }

    /// Sends a Hello.
    ///
    /// # Errors
    /// [`PeerError::Io`], and [`PeerError::Frame`] when it fits no frame.
    pub async fn send_hello(&mut self, hello: &Hello) -> Result<(), PeerError> {
        self.writer.encoder.hello(hello, &mut self.writer.buffer)?;
        self.writer.flush().await.map_err(PeerError::Io)
    }

    /// Reads the first message of the other end, which must be its Hello. If that is of version 5 or more, messages
    /// are compressed from here on.
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
        self.reader.chunk = READ_CHUNK;
        if hello.version >= crate::p2p::SNAPPY_VERSION {
            self.writer.encoder.enable_snappy();
        }
        Ok(hello)
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
            if let Some(content) = self.reader.next_frame(limit)? {
                return Ok(content);
            }
            self.reader.fill().await?;
        }
    }

    /// Sends a message with an absolute id, compressed if that is in force.
    ///
    /// # Errors
    /// [`PeerError::Io`], and [`PeerError::Frame`] when it fits no frame.
    pub async fn send(&mut self, id: MessageId, data: &[u8]) -> Result<(), PeerError> {
        self.writer.encoder.message(id, data, &mut self.writer.buffer)?;
        self.writer.flush().await.map_err(PeerError::Io)
    }

    /// Sends a message of the base protocol.
    ///
    /// # Errors
    /// [`PeerError::Io`].
    pub async fn send_base(&mut self, message: BaseMessage) -> Result<(), PeerError> {
        self.writer.encoder.base(message, &mut self.writer.buffer);
        self.writer.flush().await.map_err(PeerError::Io)
    }

    /// Sends a Disconnect, closes the sending direction, and gives the other end two seconds to close the other.
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

/// The receiving half of a connection.
pub(crate) struct FrameReader {
    io: BoxedReader,
    ingress: Ingress,
    buffer: BytesMut,
    /// How much is read at a time.
    chunk: usize,
}

impl FrameReader {
    /// The content of the next frame, if it has come whole.
    pub(crate) fn next_frame(&mut self, limit: usize) -> Result<Option<Bytes>, FrameError> {
        Ok(self.ingress.open(&mut self.buffer, limit)?.map(BytesMut::freeze))
    }

    /// Whether bytes of a frame have come that is not whole, when [`FrameReader::next_frame`] finds no other.
    pub(crate) fn is_inside_frame(&self) -> bool {
        !self.buffer.is_empty() || self.ingress.is_inside_frame()
    }

    /// Reads what has come, and returns how many bytes. The end of the stream is an error.
    ///
    /// The buffer grows with what has come, not with what a header announces.
    ///
    /// # Cancel safety
    /// No byte is lost when the future is dropped.
    pub(crate) async fn fill(&mut self) -> Result<usize, PeerError> {
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = BytesMut::new();
        }
        let missing = self.ingress.wants().saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.min(self.buffer.len()).max(self.chunk));
        match self.io.read_buf(&mut self.buffer).await.map_err(PeerError::Io)? {
            0 => Err(PeerError::Closed { inside_message: self.is_inside_frame() }),
            read => Ok(read),
        }
    }

    /// Reads and forgets until the other end closes or `deadline` passes, so that it can read what was sent last:
    /// closing a socket with unread bytes in it would discard them.
    pub(crate) async fn drain(&mut self, deadline: Instant) {
        self.buffer = BytesMut::new();
        // An end that floods is always ready: the time has to be looked at, not only waited for.
        while Instant::now() < deadline {
            self.buffer.clear();
            self.buffer.reserve(READ_CHUNK);
            match timeout_at(deadline, self.io.read_buf(&mut self.buffer)).await {
                Ok(Ok(read)) if read > 0 => {}
                _ => return,
            }
        }
    }
}

/// The sending half of a connection.
pub(crate) struct FrameWriter {
    io: BoxedWriter,
    pub(crate) encoder: MessageEncoder,
    pub(crate) buffer: BytesMut,
}

impl FrameWriter {
    /// Writes out what is in the buffer.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            self.write_some().await?;
        }
        Ok(())
    }

    /// Writes a part of what is in the buffer and returns how many bytes.
    ///
    /// # Cancel safety
    /// No byte is lost or written twice when the future is dropped.
    pub(crate) async fn write_some(&mut self) -> io::Result<usize> {
        let written = self.io.write_buf(&mut self.buffer).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if self.buffer.is_empty() {
            if self.buffer.capacity() > KEPT_BUFFER {
                self.buffer = BytesMut::new();
            }
            self.io.flush().await?;
        }
        Ok(written)
    }

    /// Closes the sending direction.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }
}
