//! What a case has to work with.

use std::sync::{Arc, Mutex, PoisonError};

use crate::dialled::Dialled;
use crate::hello::RawHello;
use crate::node::{self, Node};
use crate::outcome::Stop;
use crate::script::Script;
use crate::transcript::Transcript;

/// The visit of one case to the node.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The node.
    pub node: Arc<Node>,
    /// What went over the wire.
    pub transcript: Transcript,
    dialled: Arc<Mutex<Option<Dialled>>>,
}

impl Visit {
    /// A visit to this node.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, transcript: Transcript::default(), dialled: Arc::default() }
    }

    /// The same visit, in which the node has dialled.
    #[must_use]
    pub fn with_dialled(self, dialled: Dialled) -> Self {
        Self { dialled: Arc::new(Mutex::new(Some(dialled))), ..self }
    }

    /// The node's public key.
    pub fn key(&self) -> [u8; 64] {
        self.node.enode.public_key.to_bytes()
    }

    /// The node's dial, in the cases in which the node dials; once.
    ///
    /// # Errors
    /// [`Stop::Skipped`] when it was not told to.
    pub fn accept(&self) -> Result<Dialled, Stop> {
        let dialled = self.dialled.lock().unwrap_or_else(PoisonError::into_inner).take();
        dialled.ok_or_else(|| Stop::skipped("the suite does not listen, or nothing tells the node to dial"))
    }

    /// A connection, over TCP unless the node was probed over something else.
    ///
    /// # Errors
    /// [`Stop::Unclear`] when there is none.
    pub async fn open(&self) -> Result<Script, Stop> {
        let opened = self.node.open(self.transcript.clone()).await;
        opened.map_err(|error| Stop::unclear(format!("no connection: {error}")))
    }

    /// A connection after an honest encryption handshake.
    ///
    /// # Errors
    /// [`Stop::Unclear`] when there is none.
    pub async fn handshake(&self) -> Result<Script, Stop> {
        let mut script = self.open().await?;
        let made = node::handshake(&self.node.enode, &mut script).await;
        made.map_err(|seen| Stop::unclear(format!("no encryption handshake: {seen}")))?;
        Ok(script)
    }

    /// A connection after honest Hellos. Ours claims what the node claims.
    ///
    /// # Errors
    /// [`Stop::Unclear`] when there is none.
    pub async fn greet(&self) -> Result<Script, Stop> {
        self.greet_with(|_| ()).await
    }

    /// A connection after the Hellos, of which ours is changed first.
    ///
    /// # Errors
    /// [`Stop::Unclear`] when the node does not say its own.
    pub async fn greet_with(&self, change: impl FnOnce(&mut RawHello)) -> Result<Script, Stop> {
        let mut script = self.handshake().await?;
        let mut own = self.node.mirror(&script.identity.public_key());
        change(&mut own);
        node::greet(&mut script, &own).await?;
        Ok(script)
    }
}
