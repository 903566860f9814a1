//! What a server counts, as OpenMetrics has it. The names are listed in `docs/metrics.md`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::ends::{Ends, PARTIES, STAGES, Table};
use super::{COUNTED_CODES, Load, Meters, ProtocolMeter, TIME_BOUNDS_US, Tally, Times};
use crate::peer::Traffic;

const DIRECTIONS: [&str; 2] = ["inbound", "outbound"];

/// Writes everything once.
pub(crate) fn encode(encoder: DescriptorEncoder<'_>, meters: &Meters, traffic: Traffic, load: Load) -> fmt::Result {
    let mut page = Page(encoder);
    page.load(load)?;
    page.ends(&meters.ends)?;
    page.traffic(traffic)?;
    page.messages(&meters.protocols)?;
    page.lagged(&meters.protocols)?;
    page.times(meters)?;
    page.panics(meters)
}

/// The labels of a sample.
type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn load(&mut self, load: Load) -> fmt::Result {
        let mut peers = self.family("peers", "Peers that are connected", None, MetricType::Gauge)?;
        for (direction, count) in DIRECTIONS.into_iter().zip(load.peers) {
            gauge(&mut peers, [("direction", direction)], count)?;
        }
        let mut pending =
            self.family("pending_connections", "Connections that are being set up", None, MetricType::Gauge)?;
        for (direction, count) in DIRECTIONS.into_iter().zip(load.pending) {
            gauge(&mut pending, [("direction", direction)], count)?;
        }
        let bytes = Some(&Unit::Bytes);
        let help = "Memory that messages from all peers take beyond what each may have in any case";
        self.family("receive_budget_used", help, bytes, MetricType::Gauge)?.encode_gauge(&load.budget_used)?;
        let help = "The most that capmux_receive_budget_used_bytes may be: a setting";
        self.family("receive_budget_limit", help, bytes, MetricType::Gauge)?.encode_gauge(&load.budget_limit)
    }

    fn ends(&mut self, ends: &Ends) -> fmt::Result {
        let [inbound, outbound] = ends.added.each_ref().map(read);
        let mut added = self.counters("peers_added", "Connections that became peers")?;
        count(&mut added, [("direction", "inbound")], inbound)?;
        count(&mut added, [("direction", "outbound")], outbound)?;
        self.table("drops", "Peers that are gone, by who ended them and why", ("by", &PARTIES), &ends.drops)?;
        let help = "Inbound connections that did not become peers";
        self.table("refusals", help, ("stage", &STAGES), &ends.refusals)?;
        let mut dials = self.counters("dials", "Dials that have ended, by what came of them")?;
        count(&mut dials, [("outcome", "ok")], outbound)?;
        count(&mut dials, [("outcome", "failed")], ends.dial_failures.read().map(|(.., count)| count).sum())?;
        count(&mut dials, [("outcome", "already_connected")], read(&ends.dials_met))?;
        self.table("dial_failures", "Dials that did not lead to a peer", ("stage", &STAGES), &ends.dial_failures)?;
        self.counter("unsent_messages", "Messages accepted for sending that were lost with their peer", &ends.unsent)?;
        self.counter("events_lagged", "Events lost to subscribers that were too slow", &ends.lagged)
    }

    fn traffic(&mut self, traffic: Traffic) -> fmt::Result {
        let Traffic { bytes_sent, bytes_received, messages_sent, messages_received } = traffic;
        let help = "Bytes on the wire after the setup of connections";
        let mut bytes = self.family("traffic", help, Some(&Unit::Bytes), MetricType::Counter)?;
        count(&mut bytes, [("direction", "sent")], bytes_sent)?;
        count(&mut bytes, [("direction", "received")], bytes_received)?;
        let mut messages =
            self.counters("traffic_messages", "Messages on the wire, those of the base protocol included")?;
        count(&mut messages, [("direction", "sent")], messages_sent)?;
        count(&mut messages, [("direction", "received")], messages_received)
    }

    fn messages(&mut self, protocols: &[std::sync::Arc<ProtocolMeter>]) -> fmt::Result {
        let mut messages = self.counters("messages", "Messages of the protocols")?;
        for protocol in protocols {
            each_code(protocol, |labels, tally| count(&mut messages, labels, read(&tally.messages)))?;
        }
        let help = "Bytes of the messages of the protocols, before compression";
        let mut bytes = self.family("message", help, Some(&Unit::Bytes), MetricType::Counter)?;
        for protocol in protocols {
            each_code(protocol, |labels, tally| count(&mut bytes, labels, read(&tally.bytes)))?;
        }
        Ok(())
    }

    fn lagged(&mut self, protocols: &[std::sync::Arc<ProtocolMeter>]) -> fmt::Result {
        let mut lagged = self.counters("broadcast_lagged", "Copies of broadcasts that peers were too slow for")?;
        for protocol in protocols {
            count(&mut lagged, [("protocol", &*protocol.capability.to_string())], read(&protocol.lagged))?;
        }
        Ok(())
    }

    fn times(&mut self, meters: &Meters) -> fmt::Result {
        let mut setup = self.seconds("setup", "How long the stages of setups took that led to peers")?;
        histogram(&mut setup.encode_family(&[("stage", "encryption")])?, &meters.encryption_times)?;
        histogram(&mut setup.encode_family(&[("stage", "hello")])?, &meters.hello_times)?;
        let mut round_trip = self.seconds("round_trip", "Round-trip times of Pings")?;
        histogram(&mut round_trip, &meters.round_trips)?;
        let mut queue =
            self.seconds("queue", "From the queue of a protocol into the socket, of a sample of messages")?;
        for protocol in &meters.protocols {
            let labels = [("protocol", protocol.capability.to_string())];
            histogram(&mut queue.encode_family(&labels)?, &protocol.queue_times)?;
        }
        Ok(())
    }

    fn panics(&mut self, meters: &Meters) -> fmt::Result {
        let mut panics = self.counters("handler_panics", "Handlers that panicked")?;
        for protocol in &meters.protocols {
            count(&mut panics, [("protocol", &*protocol.capability.to_string())], read(&protocol.panics))?;
        }
        let help = "Connections that a defect of capmux ended, a panic of one of its tasks";
        self.counter("internal_errors", help, &meters.ends.internal_errors)
    }

    fn table<const ROWS: usize>(
        &mut self,
        name: &str,
        help: &str,
        (label, rows): (&'static str, &[&str; ROWS]),
        table: &Table<ROWS>,
    ) -> fmt::Result {
        let mut family = self.counters(name, help)?;
        table.read().try_for_each(|(row, reason, n)| count(&mut family, [(label, rows[row]), ("reason", reason)], n))
    }

    fn counter(&mut self, name: &str, help: &str, value: &AtomicU64) -> fmt::Result {
        self.counters(name, help)?.encode_counter::<NoLabelSet, _, u64>(&read(value), None)
    }

    fn counters<'s>(&'s mut self, name: &'s str, help: &str) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.family(name, help, None, MetricType::Counter)
    }

    fn seconds<'s>(&'s mut self, name: &'s str, help: &str) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.family(name, help, Some(&Unit::Seconds), MetricType::Histogram)
    }

    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }
}

/// Calls `tell` for each code of a protocol that has been sent or received, and for the rest together.
fn each_code(protocol: &ProtocolMeter, mut tell: impl FnMut(Labels<'_, 3>, &Tally) -> fmt::Result) -> fmt::Result {
    let capability = protocol.capability.to_string();
    for (direction, tallies) in [("sent", &protocol.sent), ("received", &protocol.received)] {
        let counted = tallies.iter().enumerate().filter(|(_, tally)| read(&tally.messages) > 0);
        for (code, tally) in counted {
            let code = if code as u64 == COUNTED_CODES { "other".to_owned() } else { code.to_string() };
            tell([("protocol", &capability), ("direction", direction), ("code", &code)], tally)?;
        }
    }
    Ok(())
}

fn count<const N: usize>(family: &mut MetricEncoder<'_>, labels: Labels<'_, N>, value: u64) -> fmt::Result {
    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn gauge<const N: usize>(family: &mut MetricEncoder<'_>, labels: Labels<'_, N>, value: usize) -> fmt::Result {
    family.encode_family(&labels)?.encode_gauge(&value)
}

fn histogram(encoder: &mut MetricEncoder<'_>, times: &Times) -> fmt::Result {
    const SECOND: f64 = 1e6;
    let bounds = TIME_BOUNDS_US.iter().map(|bound| *bound as f64 / SECOND).chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(times.buckets.iter().map(read)).collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    encoder.encode_histogram::<NoLabelSet>(read(&times.sum_us) as f64 / SECOND, count, &buckets, None)
}

fn read(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}
