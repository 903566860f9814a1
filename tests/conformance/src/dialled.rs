//! What a case has to work with when the node has dialled.

use std::fmt;

use crate::model::Broken;
use crate::model::frames::Connection;
use crate::model::handshake::{Ack, ReadAuth};
use crate::node::{self, Node};
use crate::outcome::Stop;
use crate::script::Script;

/// A dial of the node whose auth has come whole. The suite's identity is in the script: the node has dialled its key.
pub struct Dialled {
    /// The connection. Nothing has been sent on it.
    pub script: Script,
    /// The auth, as it came.
    pub auth: Vec<u8>,
}

impl Dialled {
    /// What the auth says.
    ///
    /// # Errors
    /// [`Stop::Failed`] with what is wrong with it.
    pub fn read(&self) -> Result<ReadAuth, Stop> {
        self.script.identity.read_auth(&self.auth).map_err(unreadable)
    }

    /// The ack as it should be.
    ///
    /// # Errors
    /// [`Stop::Failed`] with what is wrong with the node's auth.
    pub fn honest(&self) -> Result<Ack, Stop> {
        let recipient = self.read()?.public_key;
        Ok(self.script.identity.ack(recipient))
    }

    /// The ack as it should be after this change, and what the connection would be then. It is not sent.
    ///
    /// # Errors
    /// [`Stop::Failed`] with what is wrong with the node's auth.
    pub fn ack(&self, change: impl FnOnce(Ack) -> Ack) -> Result<(Vec<u8>, Connection), Stop> {
        let answer = self.script.identity.answer(self.auth.clone(), change);
        answer.map_err(unreadable)
    }

    /// The connection after this ack.
    ///
    /// # Errors
    /// [`Stop::Failed`] with what is wrong with the node's auth.
    pub async fn answer(mut self, change: impl FnOnce(Ack) -> Ack) -> Result<Script, Stop> {
        let (ack, connection) = self.ack(change)?;
        self.script.send_raw("ack", &ack).await;
        self.script.encrypt(connection);
        Ok(self.script)
    }

    /// The connection after an honest ack and honest Hellos. Ours claims what the node claims.
    ///
    /// # Errors
    /// [`Stop::Failed`] with what is wrong with the node's auth, [`Stop::Unclear`] when it does not say its Hello.
    pub async fn greet(self, node: &Node) -> Result<Script, Stop> {
        let mut script = self.answer(|ack| ack).await?;
        let own = node.mirror(&script.identity.public_key());
        node::greet(&mut script, &own).await?;
        Ok(script)
    }
}

fn unreadable(broken: Broken) -> Stop {
    Stop::failed(format!("the node's auth is {broken}"))
}

impl fmt::Debug for Dialled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialled").field("auth", &self.auth.len()).finish_non_exhaustive()
    }
}
