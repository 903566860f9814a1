use super::*;

const LIMITS: AcceptLimits =
    AcceptLimits { max_pending: 50, max_per_address: 8, max_per_subnet: 16, limit_local_addresses: false };

fn ip(address: &str) -> Option<IpAddr> {
    Some(address.parse().unwrap())
}

fn nth(number: u32) -> Option<IpAddr> {
    Some(std::net::Ipv4Addr::from_bits(0x0800_0000 + number).into())
}

#[test]
fn so_many_are_pending_and_no_more_wherever_they_come_from() {
    let (gate, now) = (Gate::new(LIMITS), Instant::now());
    for from in [ip("127.0.0.1"), ip("10.0.0.1"), ip("fe80::1"), None] {
        let mut tickets: Vec<_> = (0..50).map(|_| gate.admit(from, now).unwrap()).collect();
        assert_eq!(gate.admit(from, now).unwrap_err(), Refusal::Pending, "R44 H19: {from:?}");
        assert_eq!(gate.pending(), 50, "R44 H19");
        tickets[0].settle();
        let another = gate.admit(from, now).expect("R44: who is a peer is not pending");
        drop((tickets, another));
        assert_eq!(gate.pending(), 0, "R44: every ticket gives its place back, once");
    }
    assert!(gate.lock().counts.is_empty(), "H19: nothing is left");
}

#[test]
fn the_same_public_address_comes_once_in_30_s() {
    for (first, again, other) in [
        ("8.8.8.8", "8.8.8.8", "8.8.8.9"),
        ("8.8.4.4", "::ffff:8.8.4.4", "8.8.4.5"),
        ("2001:db8:1:1::1", "2001:db8:1:1:ffff::2", "2001:db8:1:2::1"),
    ] {
        let (gate, start) = (Gate::new(LIMITS), Instant::now());
        drop(gate.admit(ip(first), start).expect("H20: the first"));
        for late in [Duration::ZERO, THROTTLE - Duration::from_nanos(1)] {
            assert_eq!(gate.admit(ip(again), start + late).unwrap_err(), Refusal::TooSoon, "H20: {again}");
        }
        assert!(gate.admit(ip(other), start + Duration::from_secs(29)).is_ok(), "H20: {other} is another");
        assert!(gate.admit(ip(again), start + THROTTLE).is_ok(), "H20: after 30 s");
    }
}

#[test]
fn local_and_trusted_addresses_are_not_throttled() {
    let (gate, now) = (Gate::new(LIMITS), Instant::now());
    gate.set_exempt(ip("8.8.8.8"));
    for from in ["127.0.0.1", "::1", "192.168.1.1", "fd00::1", "8.8.8.8", "::ffff:8.8.8.8"] {
        for _ in 0..2 {
            drop(gate.admit(ip(from), now).unwrap_or_else(|refusal| panic!("H20: {from}: {refusal}")));
        }
    }
    gate.set_exempt(None);
    drop(gate.admit(ip("8.8.8.8"), now).expect("H20: it was not remembered while it was exempt"));
    assert_eq!(gate.admit(ip("8.8.8.8"), now).unwrap_err(), Refusal::TooSoon, "H20: it is no longer trusted");
    gate.set_limits(AcceptLimits { limit_local_addresses: true, ..LIMITS });
    drop(gate.admit(ip("127.0.0.1"), now).unwrap());
    assert_eq!(gate.admit(ip("127.0.0.1"), now).unwrap_err(), Refusal::TooSoon, "H20: as set");
}

#[test]
fn an_address_and_its_subnet_have_so_many_connections_peers_included() {
    let (gate, mut now) = (Gate::new(LIMITS), Instant::now());
    let mut come = |from: Option<IpAddr>| {
        now += THROTTLE;
        gate.admit(from, now)
    };
    let mut peers: Vec<_> = (0..8).map(|_| come(nth(1)).unwrap()).collect();
    peers.iter_mut().for_each(Ticket::settle);
    assert_eq!(come(nth(1)).unwrap_err(), Refusal::Address, "R44");
    peers.extend((2..10).map(|number| come(nth(number)).unwrap()));
    assert_eq!(come(nth(10)).unwrap_err(), Refusal::Subnet, "R44");
    let other = come(nth(256)).expect("R44: another /24 has its own places");
    peers.swap_remove(0);
    assert!(come(nth(1)).is_ok(), "R44: the place of a peer that has ended is free");
    drop((peers, other));
    assert!(gate.lock().counts.is_empty(), "R44: every ticket gives its places back");
}

#[test]
fn a_subnet_leaves_half_of_the_pending_places_to_others() {
    let gate = Gate::new(AcceptLimits { max_per_address: 100, max_per_subnet: 100, ..LIMITS });
    let now = Instant::now();
    let silent: Vec<_> = (0..200).filter_map(|number| gate.admit(nth(number), now).ok()).collect();
    assert_eq!(silent.len(), 25, "H19");
    assert_eq!(gate.admit(nth(200), now).unwrap_err(), Refusal::Subnet, "H19");
    assert!(gate.admit(nth(1000), now).is_ok(), "H19: an honest peer from elsewhere comes in during the flood");
}

#[test]
fn many_addresses_do_not_grow_it() {
    let (gate, start) = (Gate::new(LIMITS), Instant::now());
    for number in 0..100_000 {
        drop(gate.admit(nth(number), start).unwrap());
    }
    let remembered = gate.lock().history.len();
    assert_eq!(remembered, REMEMBERED, "H20: memory is bounded");
    assert!(gate.admit(nth(0), start).is_ok(), "H20: the oldest are forgotten");
    assert_eq!(gate.admit(nth(99_999), start).unwrap_err(), Refusal::TooSoon, "H20: not the youngest");
    drop(gate.admit(nth(1), start + THROTTLE).unwrap());
    assert_eq!(gate.lock().history.len(), 1, "H20: what is past is forgotten");
    assert!(gate.lock().counts.is_empty(), "H20: memory is bounded");
}

#[test]
fn refusals_are_told_of_once_a_second() {
    let (gate, start) = (Gate::new(LIMITS), Instant::now());
    assert_eq!(gate.tell(start), Some(1), "R44: the first at once");
    for tenth in 1..10 {
        assert_eq!(gate.tell(start + Duration::from_millis(100 * tenth)), None, "H19: a flood is no flood of events");
    }
    assert_eq!(gate.tell(start + TELL), Some(10), "R44: none is lost");
}

#[tokio::test]
async fn a_peer_counts_for_its_address_until_it_has_ended() {
    use crate::Event;
    use crate::testing::{manual, node};

    let (protocol, _opened) = manual("aaa", 1, 1);
    let listening = node().listen("127.0.0.1:0".parse().unwrap()).limit_local_addresses(true);
    let server = listening.protocol(protocol).start().await.unwrap();
    let mut events = server.events();
    let (protocol, _also_opened) = manual("aaa", 1, 1);
    let client = node().protocol(protocol).start().await.unwrap();
    let peer = client.dial(&server.enode().unwrap()).await.unwrap();
    assert!(matches!(events.recv().await, Some(Event::Added { .. })));
    let gate = &server.shared.gate;
    let counts = || gate.lock().counts.values().map(|count| (count.pending, count.peers)).collect::<Vec<_>>();
    assert_eq!((gate.pending(), counts()), (0, vec![(0, 1); 2]), "R44: of the address and of its subnet");
    peer.disconnect(crate::DisconnectReason::Requested);
    assert!(matches!(events.recv().await, Some(Event::Dropped { .. })));
    assert_eq!(counts(), [], "R44: who is told of the end finds the place free");
}
