//! An encrypted connection: the handshake driven over a stream of bytes, and frames read from and written to it.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::ending::PeerError;
use super::scratch;
use crate::node::{NodeKey, PublicKey};
use crate::p2p::{BaseMessage, FIRST_FRAME_LIMIT, Hello, MessageEncoder, MessageId, receive_hello};
use crate::rlpx::{Established, FrameError, HandshakeRandom, Ingress, Initiator, Recipient, Step};
use crate::transport::{BoxedReader, BoxedWriter, ByteStream};

/// How much is read at a time until the other end has proved who it is.
const FIRST_READ: usize = 2 * 1024;

/// A frame of which more than this is missing is read into a buffer of its own, which gets so much room at first, and
/// then as much again as has come.
const OWN_BUFFER: usize = 64 * 1024;

/// How much is read at a time when it is only to be forgotten.
const DRAIN_READ: usize = 16 * 1024;

/// A buffer that a large message left behind is given back above this size.
const KEPT_BUFFER: usize = 64 * 1024;

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
        let (encoder, buffer) = (MessageEncoder::new(egress), BytesMut::new());
        let reader = FrameReader {
            io: stream.reader,
            ingress,
            buffer: buffer.clone(),
            is_borrowed: false,
            spare: buffer.clone(),
            most: FIRST_READ,
        };
        let writer = FrameWriter { io: stream.writer, encoder, buffer, is_flushed: true };
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
        self.reader.most = usize::MAX;
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

/// What becomes of the content of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// It is kept, and must not hold a buffer that is larger than itself.
    Content,
    /// It is dropped before the next read.
    Nothing,
}

/// The receiving half of a connection.
///
/// While nothing has come it holds no buffer. It reads into a buffer of the thread, and keeps what is left of it when a
/// frame is not whole.
pub(crate) struct FrameReader {
    io: BoxedReader,
    ingress: Ingress,
    buffer: BytesMut,
    /// The buffer is the thread's.
    is_borrowed: bool,
    /// A small buffer that is not needed now.
    spare: BytesMut,
    /// How much is read at a time.
    most: usize,
}

impl FrameReader {
    /// The content of the next frame, if it has come whole.
    pub(crate) fn next_frame(&mut self, limit: usize, keep: Keep) -> Result<Option<Bytes>, FrameError> {
        let content = self.ingress.open(&mut self.buffer, limit)?;
        if content.is_none() {
            self.settle();
        }
        Ok(content.map(|content| match keep {
            Keep::Content if self.is_borrowed => Bytes::copy_from_slice(&content),
            _ => content.freeze(),
        }))
    }

    /// Gives the thread's buffer back.
    fn settle(&mut self) {
        if std::mem::take(&mut self.is_borrowed) {
            let mut rest = std::mem::take(&mut self.spare);
            if !self.buffer.is_empty() {
                let room = if self.missing() > OWN_BUFFER { self.growth() } else { 0 };
                rest.reserve(self.buffer.len() + room);
                rest.extend_from_slice(&self.buffer);
            }
            scratch::give_read_buffer(std::mem::replace(&mut self.buffer, rest));
        } else if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Gives back what is kept for the rest of a frame that has come in part.
    pub(crate) fn release_memory(&mut self) {
        self.spare = BytesMut::new();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// How many bytes are missing for the next step.
    fn missing(&self) -> usize {
        self.ingress.wants().saturating_sub(self.buffer.len())
    }

    /// How much room a buffer of a frame's own gets beyond what it holds.
    fn growth(&self) -> usize {
        self.missing().min(self.buffer.len().max(OWN_BUFFER))
    }

    /// How many bytes have been read and not opened.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether bytes of a frame have come that is not whole, when [`FrameReader::next_frame`] finds no other.
    pub(crate) fn is_inside_frame(&self) -> bool {
        !self.buffer.is_empty() || self.ingress.is_inside_frame()
    }

    /// Reads what has come, `most` bytes of it at most, and returns how many. The end of the stream is an error.
    ///
    /// Memory grows with what has come, not with what a header announces.
    ///
    /// # Cancel safety
    /// No byte is lost when the future is dropped.
    pub(crate) async fn fill(&mut self, most: usize) -> Result<usize, PeerError> {
        let most = most.min(self.most);
        match std::future::poll_fn(|context| self.poll_fill(context, most)).await.map_err(PeerError::Io)? {
            0 => Err(PeerError::Closed { inside_message: self.is_inside_frame() }),
            read => Ok(read),
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let missing = self.missing();
        if missing > OWN_BUFFER || self.buffer.len() > OWN_BUFFER {
            if self.buffer.len() == self.buffer.capacity() {
                self.buffer.reserve(self.growth());
            }
            let room = missing.min(self.buffer.capacity() - self.buffer.len()).min(most);
            return pin!(self.io.read_buf(&mut (&mut self.buffer).limit(room))).poll(context);
        }
        let mut buffer = scratch::take_read_buffer();
        buffer.extend_from_slice(&self.buffer);
        let room = most.min(scratch::READ_BUFFER);
        let read = pin!(self.io.read_buf(&mut (&mut buffer).limit(room))).poll(context);
        match read {
            Poll::Ready(Ok(1..)) => {
                self.spare = std::mem::replace(&mut self.buffer, buffer);
                self.spare.clear();
                self.is_borrowed = true;
            }
            _ => scratch::give_read_buffer(buffer),
        }
        read
    }

    /// Reads and forgets until the other end closes or `deadline` passes, so that it can read what was sent last:
    /// closing a socket with unread bytes in it would discard them.
    pub(crate) async fn drain(&mut self, deadline: Instant) {
        self.buffer = BytesMut::new();
        // An end that floods is always ready: the time has to be looked at, not only waited for.
        while Instant::now() < deadline {
            self.buffer.clear();
            self.buffer.reserve(DRAIN_READ);
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
    /// Nothing is left in a buffer of the stream's own.
    is_flushed: bool,
}

impl FrameWriter {
    /// Whether everything is written.
    pub(crate) fn is_idle(&self) -> bool {
        self.buffer.is_empty() && self.is_flushed
    }

    /// Writes out what is in the buffer.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.is_idle() {
            std::future::poll_fn(|context| self.poll_write(context, usize::MAX)).await?;
        }
        // What was written from its front is not in its capacity until it is reclaimed.
        if self.buffer.try_reclaim(KEPT_BUFFER + 1) {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }

    /// Writes at most `limit` bytes of what is in the buffer, and returns how many; 0 when only the stream's own buffer
    /// was left to be written.
    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        let mut written = 0;
        if !self.buffer.is_empty() {
            let limit = limit.min(self.buffer.len());
            written = ready!(Pin::new(&mut self.io).poll_write(context, &self.buffer[..limit]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(written);
            self.is_flushed = false;
        }
        if self.buffer.is_empty() && !self.is_flushed {
            match Pin::new(&mut self.io).poll_flush(context)? {
                Poll::Ready(()) => self.is_flushed = true,
                Poll::Pending if written == 0 => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        Poll::Ready(Ok(written))
    }

    /// Closes the sending direction.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }
}
