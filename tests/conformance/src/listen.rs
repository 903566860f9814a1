//! The role in which the node dials: one listener for all cases, each of which has a key of its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capmux::{Enode, NodeKey};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::dialled::Dialled;
use crate::model::{self, handshake};
use crate::outcome::Stop;
use crate::script::Script;
use crate::transcript::Transcript;

/// How long a node that is told to dial may take to come.
const TOLD: Duration = Duration::from_secs(20);

/// How long the node may take to dial what somebody has to add to it by hand, all cases together.
const ANNOUNCED: Duration = Duration::from_secs(120);

/// How long a connection that has come is waited for after its dial has failed.
const CROSSING: Duration = Duration::from_secs(1);

/// How long an auth may take to arrive.
const AUTH: Duration = Duration::from_secs(10);

/// How many connections may be sending their auth at once. Further ones wait in the backlog.
const PENDING: usize = 64;

type Told = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
type Tell = dyn Fn(Enode) -> Told + Send + Sync;
type Announce = dyn Fn(&[Enode]) + Send + Sync;

/// How the node under test comes to dial the suite.
#[derive(Clone)]
pub struct Dial(Mode);

#[derive(Clone)]
enum Mode {
    Told(Arc<Tell>),
    Announced(Arc<Announce>),
}

impl Dial {
    /// The node can be told to dial an enode once, which `tell` does for each case. Its future may end before the
    /// connection comes, or stay until the connection has ended, and is dropped with the case at the latest. Its error
    /// says that the node cannot dial; that a dial fails later, as the cases want it, is no error of the case.
    pub fn tell<F>(tell: impl Fn(Enode) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Mode::Told(Arc::new(move |enode| Box::pin(tell(enode)))))
    }

    /// Somebody adds the enodes to the node, which dials them by itself: `announce` gets those of all cases at the
    /// start. Each case then waits for its dial, for two minutes at most, while others run.
    pub fn announce(announce: impl Fn(&[Enode]) + Send + Sync + 'static) -> Self {
        Self(Mode::Announced(Arc::new(announce)))
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Mode::Told(_) => "Dial::tell",
            Mode::Announced(_) => "Dial::announce",
        })
    }
}

/// The listener of a suite. Dropping it ends it.
pub(crate) struct Listener {
    address: SocketAddr,
    dial: Dial,
    waiting: Arc<Waiting>,
    accepting: JoinHandle<()>,
}

/// The cases that wait, and what else has come.
#[derive(Default)]
struct Waiting {
    cases: Mutex<Vec<(model::Node, Transcript, oneshot::Sender<Dialled>)>>,
    strangers: AtomicUsize,
}

/// A case's wait for its dial. Dropping it gives the place up.
pub(crate) struct Expected {
    /// Where the node should dial.
    pub(crate) enode: Enode,
    public_key: [u8; 64],
    dialled: oneshot::Receiver<Dialled>,
    listener: Arc<Listener>,
}

impl Listener {
    /// Listens. Where the address is unspecified, the node is told the one by which this machine reaches it.
    pub(crate) async fn bind(address: SocketAddr, dial: Dial, node: &Enode) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(address).await?;
        let mut address = listener.local_addr()?;
        if address.ip().is_unspecified() {
            address.set_ip(local_address(address, node).await?.ip());
        }
        let waiting = Arc::<Waiting>::default();
        let accepting = tokio::spawn(accept(listener, waiting.clone()));
        Ok(Arc::new(Self { address, dial, waiting, accepting }))
    }

    /// Begins to wait for a dial.
    pub(crate) fn expect(self: &Arc<Self>, transcript: Transcript) -> Result<Expected, Stop> {
        let identity = model::Node::random().map_err(|error| Stop::unclear(format!("no random numbers: {error}")))?;
        let public_key = identity.public_key();
        let key = NodeKey::from_bytes(&identity.key.to_secret_bytes()).expect("a secret key of the same curve");
        let (sender, dialled) = oneshot::channel();
        self.waiting.cases().push((identity, transcript, sender));
        Ok(Expected { enode: Enode::new(key.public_key(), self.address), public_key, dialled, listener: self.clone() })
    }

    /// Whether the node dials by itself, so that all cases wait from the start.
    pub(crate) fn is_announced(&self) -> bool {
        matches!(self.dial.0, Mode::Announced(_))
    }

    /// Says where the cases wait, if somebody has to know.
    pub(crate) fn announce(&self, enodes: &[Enode]) {
        if let Mode::Announced(announce) = &self.dial.0 {
            announce(enodes);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Expected {
    /// Has the node dial, and waits for it. What tells the node goes on in the set.
    ///
    /// # Errors
    /// [`Stop::Unclear`] when it does not come.
    pub(crate) async fn dialled(mut self) -> Result<(Dialled, JoinSet<Result<(), String>>), Stop> {
        let mut telling = JoinSet::new();
        let patience = match &self.listener.dial.0 {
            Mode::Told(tell) => {
                telling.spawn(tell(self.enode.clone()));
                TOLD
            }
            Mode::Announced(_) => ANNOUNCED,
        };
        let why = tokio::select! {
            biased;
            dialled = &mut self.dialled => match dialled {
                Ok(dialled) => return Ok((dialled, telling)),
                Err(_) => "the listener has ended".to_owned(),
            },
            error = refused(&mut telling) => error,
            () = sleep(patience) => format!("it did not come within {} s", patience.as_secs()),
        };
        let strangers = match self.listener.waiting.strangers.load(Ordering::Relaxed) {
            0 => String::new(),
            count => format!("; {count} other connections brought no auth for a key of the suite"),
        };
        Err(Stop::unclear(format!("no dial of the node: {why}{strangers}")))
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.listener.waiting.cases().retain(|(identity, ..)| identity.public_key() != self.public_key);
    }
}

impl Waiting {
    fn cases(&self) -> MutexGuard<'_, Vec<(model::Node, Transcript, oneshot::Sender<Dialled>)>> {
        self.cases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the connection to the case for whose key the auth is sealed.
    fn hand_over(&self, stream: TcpStream, auth: Vec<u8>) -> bool {
        let mut cases = self.cases();
        let Some(place) = cases.iter().position(|(identity, ..)| handshake::open(&identity.key, &auth).is_ok()) else {
            return false;
        };
        let (identity, transcript, case) = cases.swap_remove(place);
        drop(cases);
        transcript.received("auth", &auth);
        case.send(Dialled { script: Script::new(stream, identity, transcript), auth }).is_ok()
    }
}

/// Why the node cannot be told to dial. Pending while it may come.
async fn refused(telling: &mut JoinSet<Result<(), String>>) -> String {
    while let Some(told) = telling.join_next().await {
        if let Err(error) = told.unwrap_or_else(|error| Err(error.to_string())) {
            sleep(CROSSING).await;
            return error;
        }
    }
    std::future::pending().await
}

/// Takes connections until it is dropped, which drops those that have not brought their auth.
async fn accept(listener: TcpListener, waiting: Arc<Waiting>) {
    let places = Arc::new(Semaphore::new(PENDING));
    let mut reading = JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        while reading.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let waiting = waiting.clone();
                reading.spawn(async move {
                    receive(stream, &waiting).await;
                    drop(place);
                });
            }
            // No descriptors are left: others come free.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn receive(mut stream: TcpStream, waiting: &Waiting) {
    let is_expected = match timeout(AUTH, auth(&mut stream)).await {
        Ok(Ok(auth)) => waiting.hand_over(stream, auth),
        _ => false,
    };
    if !is_expected {
        waiting.strangers.fetch_add(1, Ordering::Relaxed);
    }
}

/// A whole auth, as long as its first two bytes say.
async fn auth(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    stream.set_nodelay(true)?;
    let size = stream.read_u16().await?;
    let mut auth = size.to_be_bytes().to_vec();
    auth.resize(2 + usize::from(size), 0);
    stream.read_exact(&mut auth[2..]).await?;
    Ok(auth)
}

/// The address of this machine on the way to the node. Nothing is sent.
async fn local_address(unspecified: SocketAddr, node: &Enode) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((unspecified.ip(), 0)).await?;
    let host = node.host.to_string();
    socket.connect((host.trim_matches(['[', ']']), node.tcp_port)).await?;
    socket.local_addr()
}
