//! One connection with the node, in the hands of a case.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rlp::Rlp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::ending::{Closed, Ending};
use crate::hello::RawHello;
use crate::incoming::{Incoming, describe, reason, uncompressed};
use crate::model::frames::{Connection, HEADER, Half, LARGEST, MAC};
use crate::model::{self, Broken};
use crate::outcome::Stop;
use crate::stream::Stream;
use crate::transcript::Transcript;

/// How long a write may make no end. The node may stop reading.
const WRITE: Duration = Duration::from_secs(20);

/// The pause after a piece of a message in pieces.
const BETWEEN: Duration = Duration::from_millis(2);

/// How many pieces have a pause each. Of the others, only one in as many has.
const PAUSES: usize = 16;

/// How many bytes that have come are kept at most while a case writes: two of the largest frames.
const UNREAD: usize = 2 * LARGEST;

/// How long the answer to a Ping may take.
const PONG: Duration = Duration::from_secs(5);

/// A connection of a case. Dropping it closes the socket.
pub struct Script {
    /// Who the suite is on this connection.
    pub identity: model::Node,
    /// What the node says of itself, once that was read.
    pub hello: Option<RawHello>,
    /// The reason of the node's last Disconnect, if it sent one: `None` inside when it names none.
    pub disconnect: Option<Option<u64>>,
    /// The data of that Disconnect as it stood in the frame.
    pub disconnect_data: Option<Vec<u8>>,
    stream: Stream,
    connection: Option<Connection>,
    is_compressed: bool,
    answers_pings: bool,
    buffer: BytesMut,
    closed: Option<Closed>,
    transcript: Transcript,
}

impl Script {
    /// A connection over this stream, before the encryption handshake.
    pub fn new(stream: impl Into<Stream>, identity: model::Node, transcript: Transcript) -> Self {
        Self {
            identity,
            hello: None,
            disconnect: None,
            disconnect_data: None,
            stream: stream.into(),
            connection: None,
            is_compressed: false,
            answers_pings: true,
            buffer: BytesMut::new(),
            closed: None,
            transcript,
        }
    }

    /// Goes on with encryption.
    pub fn encrypt(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    /// Compresses from now on, or no longer.
    pub fn set_compressed(&mut self, is_compressed: bool) {
        self.is_compressed = is_compressed;
    }

    /// Answers Pings from now on, as it does at first, or no longer.
    pub fn set_answering(&mut self, answers_pings: bool) {
        self.answers_pings = answers_pings;
    }

    /// Whether the end of the connection has been read.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// What this end sends.
    ///
    /// # Panics
    /// Before [`encrypt`](Self::encrypt).
    pub fn egress(&mut self) -> &mut Half {
        &mut self.connection.as_mut().expect("the case has made the handshake").egress
    }

    /// Sends bytes as they are. What the node says meanwhile is kept. That it closes the connection is no error: what
    /// is read next tells.
    pub async fn send_raw(&mut self, what: &str, bytes: &[u8]) {
        self.transcript.sent(what, bytes);
        self.write(bytes).await;
    }

    /// Sends bytes as they are, so many at a time, each in a segment of its own if the system takes it so.
    pub async fn send_in_pieces(&mut self, what: &str, bytes: &[u8], size: usize) {
        self.send_pieces(what, &bytes.chunks(size).collect::<Vec<_>>()).await;
    }

    /// Sends bytes in pieces, each in a segment of its own if the system takes it so.
    pub async fn send_pieces(&mut self, what: &str, pieces: &[&[u8]]) {
        self.transcript.sent(what, &pieces.concat());
        for (place, piece) in pieces.iter().enumerate() {
            self.write(piece).await;
            // Hundreds of pauses on a busy machine would outlast the node's patience.
            if place < PAUSES || place % PAUSES == 0 {
                sleep(BETWEEN).await;
            }
        }
    }

    /// Sends bytes as they are without reading, as far as the node takes them, and says whether it took all by then.
    pub async fn send_without_reading(&mut self, what: &str, bytes: &[u8], until: Instant) -> bool {
        self.transcript.sent(what, bytes);
        matches!(timeout_at(until, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Sends a frame with this content, sealed as it should be.
    pub async fn send_frame(&mut self, what: &str, content: &[u8]) {
        self.transcript.sent(what, content);
        let frame = self.egress().seal(content);
        self.write(&frame).await;
    }

    /// Sends a message, compressed if the connection is.
    pub async fn send(&mut self, what: &str, id: u64, data: &[u8]) {
        let content = self.content(id, data);
        self.send_frame(what, &content).await;
    }

    /// The content of a frame with this message, compressed if the connection is.
    pub fn content(&self, id: u64, data: &[u8]) -> Vec<u8> {
        let data = match self.is_compressed {
            true => snap::raw::Encoder::new().compress_vec(data).expect("it is smaller than 4 GiB"),
            false => data.to_vec(),
        };
        [&rlp::encode(&id)[..], &data].concat()
    }

    /// Closes this end for writing, as a FIN.
    pub async fn finish(&mut self) {
        self.transcript.sent("the end of the stream", &[]);
        let _ = self.stream.shutdown().await;
    }

    /// Closes the connection with a reset.
    pub fn reset(self) {
        self.transcript.sent("a reset", &[]);
        self.stream.reset();
    }

    /// Reads `count` bytes as they are.
    ///
    /// # Errors
    /// How the connection ended before that.
    pub async fn receive_raw(&mut self, count: usize, within: Duration) -> Result<Vec<u8>, Ending> {
        let start = Instant::now();
        while self.buffer.len() < count {
            if !self.fill(start + within).await {
                return Err(Ending { closed: self.closed, bytes: self.buffer.len(), ..Ending::open(start.elapsed()) });
            }
        }
        Ok(self.buffer.split_to(count).to_vec())
    }

    /// The next message.
    ///
    /// # Errors
    /// [`Stop::Failed`] for a frame or data that are not sound.
    pub async fn receive(&mut self, within: Duration) -> Result<Incoming, Stop> {
        self.receive_until(Instant::now() + within).await
    }

    /// The data of the next message with this id. Pings are answered, and other messages passed over.
    ///
    /// # Errors
    /// [`Stop::Failed`] with what came instead.
    pub async fn expect(&mut self, id: u64, within: Duration) -> Result<Vec<u8>, Stop> {
        let start = Instant::now();
        let mut ending = Ending::open(within);
        loop {
            match self.receive_until(start + within).await? {
                Incoming::Message { id: came, data } if came == id => return Ok(data),
                Incoming::Message { id: came, data } => self.notice(came, &data, &mut ending).await,
                Incoming::Closed(closed) => {
                    (ending.closed, ending.after) = (Some(closed), start.elapsed());
                    break;
                }
                Incoming::Nothing => break,
            }
        }
        Err(Stop::failed(format!("no message with id {id:#04x} came: {ending}")))
    }

    /// A Ping gets its Pong.
    ///
    /// # Errors
    /// [`Stop::Failed`] with what came instead.
    pub async fn ping(&mut self) -> Result<(), Stop> {
        self.send("Ping", 2, &[0xc0]).await;
        self.expect(3, PONG).await.map(drop)
    }

    /// Reads until the node closes the connection, for this long at most. Pings are answered.
    ///
    /// # Errors
    /// [`Stop::Failed`] for a frame that is not sound.
    pub async fn ending(&mut self, within: Duration) -> Result<Ending, Stop> {
        let start = Instant::now();
        let mut ending = Ending::open(within);
        loop {
            let incoming = match self.connection {
                Some(_) => self.receive_until(start + within).await?,
                None => self.discard(start + within, &mut ending.bytes).await,
            };
            match incoming {
                Incoming::Message { id, data } => {
                    ending.bytes += data.len() + 1;
                    self.notice(id, &data, &mut ending).await;
                }
                Incoming::Closed(closed) => {
                    // The end of a frame that is cut off.
                    ending.bytes += self.buffer.len();
                    (ending.closed, ending.after) = (Some(closed), start.elapsed());
                    self.transcript.received(ending.to_string(), &[]);
                    return Ok(ending);
                }
                Incoming::Nothing => return Ok(ending),
            }
        }
    }

    async fn notice(&mut self, id: u64, data: &[u8], ending: &mut Ending) {
        match id {
            1 => {
                ending.disconnect = Some(reason(data));
                ending.disconnects += 1;
            }
            2 if self.answers_pings => self.send("Pong", 3, &[0xc0]).await,
            _ => {}
        }
        if id != 1 && ending.messages.len() < 16 {
            ending.messages.push(id);
        }
    }

    async fn receive_until(&mut self, deadline: Instant) -> Result<Incoming, Stop> {
        loop {
            // However much has come already: no case outlasts its deadline.
            if Instant::now() >= deadline {
                return Ok(Incoming::Nothing);
            }
            if let Some(content) = self.open().map_err(|broken| Stop::failed(format!("the node sent {broken}")))? {
                return self.message(content);
            }
            if !self.fill(deadline).await {
                return Ok(self.closed.map_or(Incoming::Nothing, Incoming::Closed));
            }
        }
    }

    /// Passes over whatever comes.
    async fn discard(&mut self, deadline: Instant, bytes: &mut usize) -> Incoming {
        while self.fill(deadline).await {
            self.transcript.received("bytes", &self.buffer);
            *bytes += self.buffer.len();
            self.buffer.clear();
        }
        self.closed.map_or(Incoming::Nothing, Incoming::Closed)
    }

    /// The content of the frame that the buffer begins with, if it is whole.
    fn open(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        let Some(header) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        // The state before the header is needed again if the body is not there.
        let mut ingress = connection.ingress.clone();
        let (size, _) = ingress.open_header(header)?;
        let end = HEADER + size.next_multiple_of(16) + MAC;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let mut content = ingress.open_body(&self.buffer[HEADER..end])?;
        connection.ingress = ingress;
        content.truncate(size);
        self.buffer.advance(end);
        Ok(Some(content))
    }

    fn message(&mut self, content: Vec<u8>) -> Result<Incoming, Stop> {
        let id_length = Rlp::new(&content).payload_info().map_or(content.len(), |info| info.total());
        let id: u64 = match rlp::decode(&content) {
            Ok(id) => id,
            Err(error) => {
                self.transcript.received("a frame without a message id", &content);
                return Err(Stop::failed(format!("the node sent a frame without a message id: {error}")));
            }
        };
        let data = content[id_length.min(content.len())..].to_vec();
        if id == 1 {
            self.disconnect_data = Some(data.clone());
        }
        // Hello never is.
        let data = match (self.is_compressed && id != 0).then(|| uncompressed(&data)) {
            None => data,
            Some(Some(uncompressed)) => uncompressed,
            // Some nodes never compress it.
            Some(None) if id == 1 => data,
            Some(None) => {
                self.transcript.received(format!("message {id:#04x}, not compressed"), &content);
                let seen = "and did not compress it, or to more than 16 MiB";
                return Err(Stop::failed(format!("the node sent message {id:#04x} {seen}")));
            }
        };
        self.transcript.received(describe(id, &data), &content);
        if id == 1 {
            self.disconnect = Some(reason(&data));
        }
        Ok(Incoming::Message { id, data })
    }

    /// Reads more, and says whether something came.
    async fn fill(&mut self, deadline: Instant) -> bool {
        if self.closed.is_some() {
            return false;
        }
        match timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await {
            Err(_) => return false,
            Ok(Ok(0)) => self.closed = Some(Closed::End),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => self.closed = Some(Closed::Reset),
        }
        self.closed.is_none()
    }

    /// Writes and reads at once: a node that waits to be read would never read.
    async fn write(&mut self, mut bytes: &[u8]) {
        let deadline = Instant::now() + WRITE;
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        while !bytes.is_empty() {
            tokio::select! {
                read = reader.read_buf(&mut self.buffer), if self.closed.is_none() && self.buffer.len() < UNREAD => match read {
                    Ok(0) => self.closed = Some(Closed::End),
                    Ok(_) => {}
                    Err(_) => self.closed = Some(Closed::Reset),
                },
                written = writer.write(bytes) => match written {
                    Ok(count) => bytes = &bytes[count..],
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return,
                },
                () = sleep_until(deadline) => return,
            }
        }
    }
}
