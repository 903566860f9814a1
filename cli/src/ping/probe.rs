//! The connection of a ping, from the dial to the last Pong.

use std::time::{Duration, Instant};

use capmux::p2p::{
    BaseMessage, Capability, Event, Hello, MAX_BASE_MESSAGE_SIZE, MAX_MESSAGE_SIZE, P2P_VERSION, Registered, Session,
    SessionSettings,
};
use capmux::{Connection, DisconnectReason, Enode, NodeKey, PeerError, Stage, connect_tcp};
use tokio::time::{timeout, timeout_at};

use super::Args;
use super::report::Report;

/// How long the node's Hello is awaited before ours goes out.
const THEIR_HELLO: Duration = Duration::from_secs(1);

/// The pause between two round trips: nodes bound the Pings that they answer.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a node that shares nothing with us has to say so before it is pinged. A Ping that reaches a closed socket
/// would make the system throw the node's last word away.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What is left of a last word after a write that failed is there already.
const LEFT_OVER: Duration = Duration::from_millis(200);

/// How long saying goodbye may take in any case, and at most.
const FAREWELL: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// More message codes than any subprotocol has, and few enough for their sum over one Hello.
const CODES: u64 = 1 << 32;

/// When everything has to be over.
#[derive(Debug)]
pub(super) struct Deadline {
    at: tokio::time::Instant,
    limit: Duration,
}

/// What stopped a ping, and at which stage.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) stage: Stage,
    pub(super) error: PeerError,
}

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        Self { at: tokio::time::Instant::now() + limit, limit }
    }

    fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(tokio::time::Instant::now())
    }

    /// Does the work of one stage, until the time is up.
    async fn within<T>(&self, stage: Stage, work: impl Future<Output = Result<T, PeerError>>) -> Result<T, Stopped> {
        let late = Err(PeerError::Timeout { stage, limit: self.limit });
        timeout_at(self.at, work).await.unwrap_or(late).map_err(|error| Stopped { stage, error })
    }
}

/// Visits the node and notes what is learned. Returns the connection, if there is one, and what stopped the visit
/// before it was complete.
pub(super) async fn probe(
    args: &Args,
    key: &NodeKey,
    deadline: &Deadline,
    report: &mut Report,
) -> (Option<Connection>, Option<Stopped>) {
    let mut connection = match connect(&args.enode, key, deadline, report).await {
        Ok(connection) => connection,
        Err(stopped) => return (None, Some(stopped)),
    };
    let visited = visit(args, key, &mut connection, deadline, report).await;
    (Some(connection), visited.err())
}

async fn connect(
    enode: &Enode,
    key: &NodeKey,
    deadline: &Deadline,
    report: &mut Report,
) -> Result<Connection, Stopped> {
    let start = Instant::now();
    let stream = deadline.within(Stage::Dial, connect_tcp(enode, deadline.limit)).await?;
    let refused = |error| Stopped { stage: Stage::Dial, error: PeerError::Io(error) };
    let address = stream.peer_addr().map_err(refused)?;
    report.dialled(address, start.elapsed());
    let start = Instant::now();
    let handshake = Connection::initiate(stream, key, enode.public_key);
    let connection = deadline.within(Stage::Encryption, handshake).await?;
    report.encrypted(start.elapsed());
    Ok(connection)
}

async fn visit(
    args: &Args,
    key: &NodeKey,
    connection: &mut Connection,
    deadline: &Deadline,
    report: &mut Report,
) -> Result<(), Stopped> {
    let start = Instant::now();
    let exchange = exchange_hellos(connection, key, !args.no_mirror, report);
    let session = deadline.within(Stage::Hello, exchange).await?;
    report.greeted(start.elapsed());
    let mut pings = Pings { connection, session };
    deadline.within(Stage::Session, pings.run(args.count, report)).await
}

/// Awaits the node's Hello and answers it in kind.
async fn exchange_hellos(
    connection: &mut Connection,
    key: &NodeKey,
    mirror: bool,
    report: &mut Report,
) -> Result<Session, PeerError> {
    let own = key.public_key();
    let mut hello = Hello {
        version: P2P_VERSION,
        client_id: concat!("capmux/", env!("CARGO_PKG_VERSION")).into(),
        capabilities: Vec::new(),
        listen_port: 0,
        public_key: own,
    };
    let first = timeout(THEIR_HELLO, connection.recv_hello(&own)).await;
    let remote = match first {
        Ok(remote) => {
            let remote = remote?;
            if mirror {
                claim(&remote.capabilities, &mut hello);
            }
            connection.send_hello(&hello).await?;
            remote
        }
        Err(_) => {
            connection.send_hello(&hello).await?;
            connection.recv_hello(&own).await?
        }
    };
    report.hello(&remote);
    let registered: Vec<_> = hello.capabilities.into_iter().map(ignored).collect();
    Ok(Session::new(remote, &registered, SessionSettings::default(), Instant::now()))
}

/// Adds the capabilities to a Hello: what a node can mean by one, once, and as many as there is room for.
fn claim(capabilities: &[Capability], hello: &mut Hello) {
    for capability in capabilities {
        let valid = Capability::new(capability.name(), capability.version()).is_ok();
        if !valid || hello.capabilities.contains(capability) {
            continue;
        }
        hello.capabilities.push(capability.clone());
        if hello.encode().len() > MAX_BASE_MESSAGE_SIZE {
            hello.capabilities.pop();
            return;
        }
    }
}

/// A subprotocol of which every message is acceptable, for none is looked at.
fn ignored(capability: Capability) -> Registered {
    Registered { capability, length: CODES, max_message_size: MAX_MESSAGE_SIZE, rate: None }
}

/// A session in which nothing but Pings are exchanged.
struct Pings<'a> {
    connection: &'a mut Connection,
    session: Session,
}

impl Pings<'_> {
    async fn run(&mut self, count: u32, report: &mut Report) -> Result<(), PeerError> {
        if self.session.shared().is_empty() && count > 0 {
            self.listen(LAST_WORD).await?;
        }
        for turn in 0..count {
            if turn > 0 {
                self.listen(PAUSE).await?;
            }
            report.round_trip(self.round_trip().await?);
        }
        Ok(())
    }

    async fn round_trip(&mut self) -> Result<Duration, PeerError> {
        self.session.ping(Instant::now());
        self.send(BaseMessage::Ping).await?;
        self.session.ping_written(Instant::now());
        loop {
            if let Event::Pong(Some(time)) = self.next_event().await? {
                return Ok(time);
            }
        }
    }

    /// Takes what comes for a while.
    async fn listen(&mut self, time: Duration) -> Result<(), PeerError> {
        let end = tokio::time::Instant::now() + time;
        while let Ok(event) = timeout_at(end, self.next_event()).await {
            event?;
        }
        Ok(())
    }

    /// The next event, after the answer to it.
    async fn next_event(&mut self) -> Result<Event, PeerError> {
        let event = self.receive().await?;
        if event == Event::Ping {
            self.send(BaseMessage::Pong).await?;
        }
        Ok(event)
    }

    async fn receive(&mut self) -> Result<Event, PeerError> {
        let content = self.connection.recv_frame(self.session.frame_limit()).await?;
        Ok(self.session.receive(content, Instant::now())?)
    }

    /// Sends a message. If the other end is gone, what it said last is the error.
    async fn send(&mut self, message: BaseMessage) -> Result<(), PeerError> {
        let Err(error) = self.connection.send_base(message).await else { return Ok(()) };
        let last_word = async {
            loop {
                match self.receive().await {
                    Ok(_) => {}
                    Err(PeerError::Session(said)) => return Err(PeerError::Session(said)),
                    Err(_) => return Err(error),
                }
            }
        };
        timeout(LEFT_OVER, last_word).await.unwrap_or(Err(PeerError::Closed { inside_message: false }))
    }
}

/// Says goodbye to a node that is still there.
pub(super) async fn farewell(connection: Connection, stopped: Option<&Stopped>, deadline: &Deadline) {
    let reason = match stopped.map(|stopped| &stopped.error) {
        None | Some(PeerError::Timeout { .. }) => Some(DisconnectReason::Requested),
        Some(error) => error.disconnect_reason(),
    };
    if let Some(reason) = reason {
        let [least, most] = FAREWELL;
        let time = deadline.remaining().clamp(least, most);
        // A node that does not close in time is left to itself.
        let _ = timeout(time, connection.disconnect(reason)).await;
    }
}
