//! The node under test.

use std::time::Duration;

use capmux::{Enode, Transport};

use crate::ending::Ending;
use crate::hello::RawHello;
use crate::incoming::Incoming;
use crate::model;
use crate::outcome::Stop;
use crate::script::Script;
use crate::stream::Dialler;
use crate::transcript::Transcript;

/// How long the dial, the ack and the Hello may take, each.
pub(crate) const STEP: Duration = Duration::from_secs(5);

/// A node that has answered once.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it is, and its key.
    pub enode: Enode,
    /// What it says of itself.
    pub hello: RawHello,
    dialler: Dialler,
}

/// Why there is nothing to test.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// No TCP connection.
    #[error("cannot connect to {address}: {error}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What the system says.
        error: String,
    },
    /// What answers does not speak RLPx, or has another key.
    #[error("no encryption handshake with {address}, which is no devp2p node or has another key: {seen}")]
    Handshake {
        /// Where it is.
        address: String,
        /// What came instead of an ack.
        seen: String,
    },
    /// It speaks RLPx and sends no Hello.
    #[error("{address} sends no Hello: {seen}")]
    Hello {
        /// Where it is.
        address: String,
        /// What came instead.
        seen: String,
    },
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
}

impl Node {
    /// Connects once, honestly, and keeps what the node says of itself.
    ///
    /// # Errors
    /// Why there is nothing to test.
    pub async fn probe(enode: &Enode) -> Result<Self, ProbeError> {
        Self::probe_with(Dialler::default(), enode).await
    }

    /// [`Node::probe`] over another transport than TCP, which all cases with the node use then.
    ///
    /// # Errors
    /// Why there is nothing to test.
    pub async fn probe_over(transport: impl Transport, enode: &Enode) -> Result<Self, ProbeError> {
        Self::probe_with(Dialler::new(transport), enode).await
    }

    /// The same node, dialled over this transport from now on.
    #[must_use]
    pub fn over(&self, transport: impl Transport) -> Self {
        Self { dialler: Dialler::new(transport), ..self.clone() }
    }

    async fn probe_with(dialler: Dialler, enode: &Enode) -> Result<Self, ProbeError> {
        let address = format!("{}:{}", enode.host, enode.tcp_port);
        let mut script = match open(&dialler, enode, Transcript::default()).await {
            Ok(script) => script,
            Err(error) => return Err(ProbeError::Unreachable { address, error }),
        };
        if let Err(seen) = handshake(enode, &mut script).await {
            return Err(ProbeError::Handshake { address, seen });
        }
        let own = RawHello::new(&script.identity.public_key(), Vec::new());
        match greet(&mut script, &own).await {
            Ok(hello) => Ok(Self { enode: enode.clone(), hello, dialler }),
            Err(seen) => Err(ProbeError::Hello { address, seen: seen.to_string() }),
        }
    }

    /// The Hello that claims what the node claims, so that it stays connected.
    pub fn mirror(&self, id: &[u8; 64]) -> RawHello {
        RawHello::new(id, self.hello.capabilities.clone())
    }

    /// A connection with a key of its own.
    pub(crate) async fn open(&self, transcript: Transcript) -> Result<Script, String> {
        open(&self.dialler, &self.enode, transcript).await
    }

    /// Whether it is there: it answers an honest Hello and a Ping, or says Disconnect.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn is_alive(&self) -> Result<(), String> {
        let mut script = self.open(Transcript::default()).await?;
        handshake(&self.enode, &mut script).await?;
        let own = self.mirror(&script.identity.public_key());
        let answered = match greet(&mut script, &own).await {
            Ok(_) => script.ping().await,
            Err(stop) => Err(stop),
        };
        match answered {
            Ok(()) => {
                script.send("Disconnect 0x08", 1, &[0xc1, 0x08]).await;
                Ok(())
            }
            // It has no place, or no use for us: it is there.
            Err(_) if script.disconnect.is_some() => Ok(()),
            Err(stop) => Err(stop.to_string()),
        }
    }
}

async fn open(dialler: &Dialler, enode: &Enode, transcript: Transcript) -> Result<Script, String> {
    let identity = model::Node::random().map_err(|error| format!("no random numbers: {error}"))?;
    let stream = dialler.dial(enode, STEP).await.map_err(|error| error.to_string())?;
    Ok(Script::new(stream, identity, transcript))
}

/// Makes the encryption handshake, as the initiator. The error is what came instead of an ack.
pub(crate) async fn handshake(enode: &Enode, script: &mut Script) -> Result<(), String> {
    let auth = script.identity.auth(&enode.public_key.to_bytes()).seal();
    script.send_raw("auth", &auth).await;
    read_ack(script, auth).await
}

/// Goes on encrypted, as the ack to this auth has it. The error is what came instead.
pub(crate) async fn read_ack(script: &mut Script, auth: Vec<u8>) -> Result<(), String> {
    let ack = ack(script).await.map_err(|ending| ending.to_string())?;
    let connection = script.identity.read_ack(auth, ack).map_err(|broken| broken.to_string())?;
    script.encrypt(connection);
    Ok(())
}

/// A whole handshake message.
pub(crate) async fn ack(script: &mut Script) -> Result<Vec<u8>, Ending> {
    let size = script.receive_raw(2, STEP).await?;
    let rest = script.receive_raw(usize::from(u16::from_be_bytes([size[0], size[1]])), STEP).await?;
    Ok([size, rest].concat())
}

/// Exchanges Hellos.
pub(crate) async fn greet(script: &mut Script, own: &RawHello) -> Result<RawHello, Stop> {
    script.send(&own.to_string(), 0, &own.encode()).await;
    let hello = match script.receive(STEP).await? {
        Incoming::Message { id: 0, data } => RawHello::decode(&data).map_err(Stop::failed)?,
        other => return Err(Stop::unclear(format!("{other} in place of a Hello"))),
    };
    script.set_compressed(own.version >= 5 && hello.version >= 5);
    script.hello = Some(hello.clone());
    Ok(hello)
}
