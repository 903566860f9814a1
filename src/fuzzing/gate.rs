//! The gate for inbound connections, compared with one that counts everything anew each time.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};

use super::choice;
use crate::server::gate::{Gate, THROTTLE, Ticket};
use crate::server::{AcceptLimits, Refusal};

/// Addresses of all kinds, several of one subnet among them, and one that is written in two ways.
const ADDRESSES: [&str; 15] = [
    "8.8.8.8",
    "8.8.8.9",
    "8.8.8.10",
    "::ffff:8.8.8.9",
    "8.8.9.8",
    "1.1.1.1",
    "2a00:1:1:1::1",
    "2a00:1:1:1::2",
    "2a00:1:1:2::1",
    "10.0.0.1",
    "10.0.0.2",
    "127.0.0.1",
    "fe80::1",
    "fd00::1",
    "::1",
];

/// Connections that come, settle and end from a few addresses, in virtual time: let in or refused, for the reason that
/// a list of all of them gives. Returns how many were let in.
///
/// The input: three limits (1 byte each), and operations of a byte and what belongs to it.
pub fn gate(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

/// A connection as the model knows it.
struct Known {
    ticket: Ticket,
    ip: Option<IpAddr>,
    is_peer: bool,
}

struct Model {
    limits: AcceptLimits,
    exempt: Vec<IpAddr>,
    connections: Vec<Known>,
    /// Who came when.
    came: Vec<(Instant, IpAddr)>,
    now: Instant,
    untold: u64,
    told: Option<Instant>,
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let limits = limits(input)?;
    let gate = Gate::new(limits);
    let now = Instant::now();
    let mut model =
        Model { limits, exempt: Vec::new(), connections: Vec::new(), came: Vec::new(), now, untold: 0, told: None };
    let mut admitted = 0;
    while !input.is_empty() {
        let (operation, argument) = (choice(input, 16)?, input.arbitrary::<u8>()?);
        match operation {
            0..7 => {
                let ip = ADDRESSES.get(usize::from(argument) % 16).map(|ip| ip.parse().expect("an address"));
                let expected = model.verdict(ip);
                match gate.admit(ip, model.now) {
                    Ok(ticket) => {
                        assert_eq!(expected, None, "R44: {ip:?} is let in");
                        model.let_in(ticket, ip);
                        admitted += 1;
                    }
                    Err(refusal) => assert_eq!(expected, Some(refusal), "R44: {ip:?}"),
                }
            }
            7 | 8 => model.settle(argument),
            9 | 10 if !model.connections.is_empty() => {
                let place = usize::from(argument) % model.connections.len();
                model.connections.swap_remove(place);
            }
            11 | 12 => model.now += Duration::from_millis(137) * argument.into(),
            13 => {
                model.limits = self::limits(input)?;
                gate.set_limits(model.limits);
            }
            14 => gate.set_exempt(model.exempt(argument)),
            _ => model.check_told(gate.tell(model.now)),
        }
        let pending = model.connections.iter().filter(|known| !known.is_peer).count();
        assert_eq!((gate.pending(), gate.limits()), (pending, model.limits), "R44 H19");
    }
    model.connections.clear();
    assert_eq!(gate.pending(), 0, "R44: every place is free again");
    Ok(admitted)
}

fn limits(input: &mut Unstructured<'_>) -> Result<AcceptLimits> {
    Ok(AcceptLimits {
        max_pending: 1 + usize::from(choice(input, 12)?),
        max_per_address: 1 + usize::from(choice(input, 4)?),
        max_per_subnet: 1 + usize::from(choice(input, 6)?),
        limit_local_addresses: choice(input, 2)? == 1,
    })
}

impl Model {
    /// Why a connection from there is refused; `None` if it is not.
    fn verdict(&self, ip: Option<IpAddr>) -> Option<Refusal> {
        let pending = |known: &&Known| !known.is_peer;
        if self.connections.iter().filter(pending).count() >= self.limits.max_pending {
            return Some(Refusal::Pending);
        }
        let ip = self.limited(ip)?;
        let is_recent =
            |(time, other): &(Instant, IpAddr)| self.now < *time + THROTTLE && end_user(*other) == end_user(ip);
        let counted = |is_same: &dyn Fn(IpAddr) -> bool| -> Vec<&Known> {
            self.connections.iter().filter(|known| known.ip.is_some_and(is_same)).collect()
        };
        let (same, near) = (counted(&|other| other == ip), counted(&|other| subnet(other) == subnet(ip)));
        let half = near.iter().filter(|known| !known.is_peer).count() * 2 >= self.limits.max_pending;
        match () {
            () if self.came.iter().any(is_recent) => Some(Refusal::TooSoon),
            () if same.len() >= self.limits.max_per_address => Some(Refusal::Address),
            () if near.len() >= self.limits.max_per_subnet || half => Some(Refusal::Subnet),
            () => None,
        }
    }

    /// The address in its only form, if its connections are limited now.
    fn limited(&self, ip: Option<IpAddr>) -> Option<IpAddr> {
        let ip = canonical(ip?);
        let text = ip.to_string();
        let is_local = ["10.", "127.", "fe80:", "fd00:"].iter().any(|start| text.starts_with(start)) || text == "::1";
        (!self.exempt.contains(&ip) && (self.limits.limit_local_addresses || !is_local)).then_some(ip)
    }

    fn let_in(&mut self, ticket: Ticket, ip: Option<IpAddr>) {
        let ip = self.limited(ip);
        self.came.extend(ip.map(|ip| (self.now, ip)));
        self.connections.push(Known { ticket, ip, is_peer: false });
    }

    /// Makes up to three addresses exempt, in the place of those before them.
    fn exempt(&mut self, chosen: u8) -> impl Iterator<Item = IpAddr> {
        let chosen = ADDRESSES.iter().enumerate().filter(|(place, _)| chosen >> (place % 8) & 1 == 1);
        self.exempt = chosen.take(3).map(|(_, ip)| canonical(ip.parse().expect("an address"))).collect();
        self.exempt.iter().copied()
    }

    fn settle(&mut self, place: u8) {
        let count = self.connections.len().max(1);
        if let Some(known) = self.connections.get_mut(usize::from(place) % count) {
            known.ticket.settle();
            known.is_peer = true;
        }
    }

    fn check_told(&mut self, told: Option<u64>) {
        self.untold += 1;
        let is_due = self.told.is_none_or(|told| self.now >= told + Duration::from_secs(1));
        assert_eq!(told, is_due.then_some(self.untold), "R44: all are told of, once a second");
        if is_due {
            (self.untold, self.told) = (0, Some(self.now));
        }
    }
}

fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// What one user has: an address of IPv4, the first half of one of IPv6.
fn end_user(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets()[..8].to_vec(),
    }
}

fn subnet(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3].to_vec(),
        IpAddr::V6(ip) => ip.octets()[..8].to_vec(),
    }
}
