//! The settings of a session.

use super::capability::{Capability, Registered, RegistrationError};
use super::chunk::{self, CHUNK_NAME};
use super::liveness::LivenessSettings;

/// What a session does beside running protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionSettings {
    liveness: LivenessSettings,
    chunking: bool,
}

impl SessionSettings {
    /// When the other end is pinged, and when it is given up.
    #[must_use]
    pub fn liveness(mut self, settings: LivenessSettings) -> Self {
        self.liveness = settings;
        self
    }

    /// The settings of the end that has dialled; see [`LivenessSettings::of_dialler`].
    #[must_use]
    pub fn of_dialler(mut self) -> Self {
        self.liveness = self.liveness.of_dialler();
        self
    }

    /// Whether large messages may come and go in chunks, if the other end does the same (`docs/chunking.md`). Default:
    /// no. It costs a capability in the Hello, and lets a peer hold memory for one unfinished message of each protocol.
    #[must_use]
    pub fn chunking(mut self, enabled: bool) -> Self {
        self.chunking = enabled;
        self
    }

    pub(super) fn liveness_settings(&self) -> LivenessSettings {
        self.liveness
    }

    /// What takes part in the negotiation beside the protocols.
    pub(super) fn hidden(&self) -> Option<Registered> {
        self.chunking.then(chunk::registered)
    }

    /// Checks that these protocols can be offered together, and with what the settings add.
    ///
    /// # Errors
    /// [`RegistrationError`]; [`RegistrationError::Reserved`] when chunking is enabled and a protocol has its name.
    pub fn check_protocols(&self, registered: &[Registered]) -> Result<(), RegistrationError> {
        let reserved = |own: &&Registered| self.chunking && own.capability.name() == CHUNK_NAME;
        if let Some(own) = registered.iter().find(reserved) {
            return Err(RegistrationError::Reserved(own.capability.clone()));
        }
        Registered::check(registered.iter().chain(&self.hidden()))
    }

    /// What the Hello of this end has to list: these protocols, and what the settings add.
    pub fn capabilities(&self, registered: &[Registered]) -> Vec<Capability> {
        registered.iter().chain(&self.hidden()).map(|own| own.capability.clone()).collect()
    }
}
