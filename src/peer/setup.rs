//! From a stream of bytes to a session: encryption, then Hello, each under an absolute deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::connection::Connection;
use super::ending::{Ending, PeerError, Stage};
use super::rates::MessageRates;
use super::shaper::{ByteRates, Shapers};
use crate::metrics::Meters;
use crate::node::{NodeKey, PublicKey};
use crate::p2p::{ClientId, Hello, P2P_VERSION, Registered, Session, SessionError, SessionSettings};
use crate::protocol::Protocol;
use crate::server::EventHub;
use crate::transport::ByteStream;

/// What all connections of one node share.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) key: NodeKey,
    pub(crate) public_key: PublicKey,
    pub(crate) client_id: ClientId,
    pub(crate) listen_port: AtomicU16,
    pub(crate) protocols: Vec<Protocol>,
    /// What the base protocol knows of `protocols`, in the same order.
    pub(crate) registered: Vec<Registered>,
    /// The message rates of `protocols`.
    pub(crate) rates: Arc<MessageRates>,
    pub(crate) timeouts: Timeouts,
    pub(crate) session: SessionSettings,
    /// Messages are cut into pieces of this size, where the other end can put them together.
    pub(crate) chunk_size: Option<usize>,
    /// Of all connections together.
    pub(crate) shapers: Arc<Shapers>,
    /// Of each connection, at first.
    pub(crate) peer_rates: ByteRates,
    pub(crate) budget: Arc<Budget>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) events: Arc<EventHub>,
    /// Ends all connections in order.
    pub(crate) shutdown: CancellationToken,
    /// Ends all connections at once.
    pub(crate) abort: CancellationToken,
}

/// How long the stages of a connection may take, and its standstills.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) dial: Duration,
    pub(crate) encryption: Duration,
    pub(crate) hello: Duration,
    pub(crate) write_stall: Duration,
    pub(crate) inbox_stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(15),
            encryption: Duration::from_secs(5),
            hello: Duration::from_secs(5),
            write_stall: Duration::from_secs(20),
            inbox_stall: Duration::from_secs(20),
        }
    }
}

impl Config {
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            version: P2P_VERSION,
            client_id: self.client_id.clone(),
            capabilities: self.session.capabilities(&self.registered),
            listen_port: self.listen_port.load(Ordering::Relaxed).into(),
            public_key: self.public_key,
        }
    }
}

/// How long the stages of setting up a connection took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetupTimes {
    /// The encryption handshake.
    pub encryption: Duration,
    /// The exchange of Hellos.
    pub hello: Duration,
}

/// A session that is ready to be run.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) connection: Connection,
    pub(crate) session: Session,
    pub(crate) times: SetupTimes,
}

/// Tells when a connection may be sent this end's Hello, after which the other end can take it as a peer.
pub(crate) trait Turn: Send + Sync {
    /// Waits until it may.
    ///
    /// # Errors
    /// Why it is not to become a peer. It is told so in place of Hello.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    fn granted(&self) -> impl Future<Output = Result<(), PeerError>> + Send;

    /// The other end's Hello has come first, and proved its key.
    fn proved(&self);
}

/// At once.
impl Turn for () {
    async fn granted(&self) -> Result<(), PeerError> {
        Ok(())
    }

    fn proved(&self) {}
}

/// Sets up a connection that this end dialled. `turn` is called after the encryption handshake.
pub(crate) async fn initiate<T: Turn>(
    config: &Config,
    stream: impl Into<ByteStream>,
    remote: PublicKey,
    turn: impl FnOnce() -> T,
) -> Result<(Box<Ready>, T), Ending> {
    let start = Instant::now();
    let handshake = Connection::initiate(stream, &config.key, remote);
    let connection = within(config, Stage::Encryption, config.timeouts.encryption, handshake).await?;
    exchange_hello(config, config.session.of_dialler(), connection, turn(), start.elapsed()).await
}

/// Sets up a connection that the other end dialled. `admit` is asked as soon as the other end has claimed a key.
pub(crate) async fn accept<T: Turn>(
    config: &Config,
    stream: impl Into<ByteStream>,
    admit: impl FnOnce(&PublicKey) -> Result<T, PeerError>,
) -> Result<(Box<Ready>, T), Ending> {
    let start = Instant::now();
    // On the heap each, and only for as long as it takes: who stays silent does not pay for what follows.
    let handshake = Box::pin(Connection::accept_then(stream, &config.key, admit));
    let (connection, turn) = within(config, Stage::Encryption, config.timeouts.encryption, handshake).await?;
    match turn {
        Ok(turn) => Box::pin(exchange_hello(config, config.session, connection, turn, start.elapsed())).await,
        Err(error) => Err(refuse(connection, error).await),
    }
}

/// Runs one stage of a setup, until its limit or the shutdown.
pub(crate) async fn within<T>(
    config: &Config,
    stage: Stage,
    limit: Duration,
    work: impl Future<Output = Result<T, PeerError>>,
) -> Result<T, Ending> {
    let done = tokio::select! {
        biased;
        () = config.abort.cancelled() => Err(PeerError::Aborted),
        () = config.shutdown.cancelled() => Err(PeerError::ShuttingDown),
        done = timeout(limit, work) => done.unwrap_or(Err(PeerError::Timeout { stage, limit })),
    };
    done.map_err(|error| Ending::new(stage, error))
}

async fn exchange_hello<T: Turn>(
    config: &Config,
    settings: SessionSettings,
    mut connection: Connection,
    turn: T,
    encryption: Duration,
) -> Result<(Box<Ready>, T), Ending> {
    let start = Instant::now();
    let exchange = exchange(config, &mut connection, &turn);
    let session = match within(config, Stage::Hello, config.timeouts.hello, exchange).await {
        Ok(hello) => {
            let now = tokio::time::Instant::now().into_std();
            Session::new(hello, &config.registered, settings, now)
        }
        Err(ending) => {
            // Who waits for it need not wait for its end.
            drop(turn);
            farewell(connection, ending.error()).await;
            return Err(ending);
        }
    };
    if session.shared().is_empty() {
        drop(turn);
        return Err(refuse(connection, SessionError::NoSharedCapability.into()).await);
    }
    let times = SetupTimes { encryption, hello: start.elapsed() };
    Ok((Box::new(Ready { connection, session, times }), turn))
}

async fn exchange(config: &Config, connection: &mut Connection, turn: &impl Turn) -> Result<Hello, PeerError> {
    let early = wait_for(turn, connection, &config.public_key).await?;
    let sent = connection.send_hello(&config.hello()).await;
    if let Some(hello) = early {
        return sent.map(|()| hello);
    }
    // A node that refuses says so in place of its Hello, and may have closed by the time ours is written.
    let hello = match connection.recv_hello(&config.public_key).await {
        Err(error @ PeerError::Session(_)) => return Err(error),
        received => sent.and(received)?,
    };
    // It may have lost its turn meanwhile.
    turn.proved();
    turn.granted().await?;
    Ok(hello)
}

/// Waits until a connection may be sent Hello. The result is the other end's, if it came first.
async fn wait_for(turn: &impl Turn, connection: &mut Connection, own: &PublicKey) -> Result<Option<Hello>, PeerError> {
    let mut early = None;
    loop {
        tokio::select! {
            biased;
            granted = turn.granted() => return granted.map(|()| early),
            received = connection.recv_hello(own) => {
                let hello = received?;
                if early.replace(hello).is_some() {
                    return Err(SessionError::UnexpectedHello.into());
                }
                turn.proved();
            }
        }
    }
}

/// Ends a connection that is not to become a peer, telling the other end why.
pub(crate) async fn refuse(connection: Connection, error: PeerError) -> Ending {
    farewell(connection, &error).await;
    Ending::new(Stage::Hello, error)
}

async fn farewell(connection: Connection, error: &PeerError) {
    if let Some(reason) = error.disconnect_reason() {
        connection.disconnect(reason).await;
    }
}
