//! What a server counts, for Prometheus.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::Server;
use super::shared::Shared;
use crate::metrics::{Load, Meters, prometheus};
use crate::peer::Counters;

impl Server {
    /// Everything that the server counts, in the text format of OpenMetrics: what is answered to Prometheus, with the
    /// content type `application/openmetrics-text; version=1.0.0; charset=utf-8`. The names are in `docs/metrics.md`.
    pub fn metrics_text(&self) -> String {
        let mut registry = Registry::default();
        self.register_metrics(&mut registry);
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("a String takes everything");
        page
    }

    /// Adds everything that the server counts to a registry of yours, where it is read each time that the registry is
    /// encoded. Names begin with the prefix of the registry, if it has one, and `capmux_`. Give each of several servers
    /// a [prefix](Registry::sub_registry_with_prefix) of its own, as a registry must not hold a name twice.
    ///
    /// The registry does not keep the server alive. When that is gone, the counters keep their values and the gauges
    /// are 0.
    ///
    /// ```
    /// use capmux::prometheus_client::registry::Registry;
    /// use capmux::{NodeKey, Server};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), capmux::StartError> {
    /// let server = Server::builder(NodeKey::random()).start().await?;
    /// let mut registry = Registry::with_prefix("relay");
    /// server.register_metrics(&mut registry);
    /// // relay_capmux_peers{direction="inbound"} 0
    /// # Ok(())
    /// # }
    /// ```
    pub fn register_metrics(&self, registry: &mut Registry) {
        let collector = ServerCollector {
            meters: self.shared.config.meters.clone(),
            traffic: self.shared.traffic.clone(),
            budget_limit: self.shared.config.budget.limit(),
            shared: Arc::downgrade(&self.shared),
        };
        registry.sub_registry_with_prefix("capmux").register_collector(Box::new(collector));
    }
}

/// What is read of a server when a registry is encoded.
#[derive(Debug)]
struct ServerCollector {
    meters: Arc<Meters>,
    traffic: Counters,
    budget_limit: usize,
    /// While anything of the server runs.
    shared: Weak<Shared>,
}

impl Collector for ServerCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let idle = Load { budget_limit: self.budget_limit, ..Load::default() };
        let load = self.shared.upgrade().map_or(idle, |shared| shared.load());
        prometheus::encode(encoder, &self.meters, self.traffic.read(), load)
    }
}
