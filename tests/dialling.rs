//! Whom a server dials of its own accord, and whom it keeps, in a simulated network.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use capmux::book::{AddressBook, Flags, SharedBook, Source, State};
use capmux::p2p::DisconnectReason;
use capmux::testing::{Network, manual, node};
use capmux::{
    Address, Direction, Event, EventKind, EventStream, Listener, NodeAddr, NodeKey, PeerError, Server, ServerBuilder,
    StartError, Transport,
};
use support::{added, settle, sink, start};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::Stream;

const MINUTE: Duration = Duration::from_secs(60);

/// A book whose clock is that of the test.
fn book() -> SharedBook {
    shared(AddressBook::new(100, [7; 16]))
}

fn shared(book: AddressBook) -> SharedBook {
    let begin = Instant::now();
    SharedBook::with_clock(book, move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000) + begin.elapsed())
}

fn at(network: &Network, host: &str) -> ServerBuilder {
    let host = network.host(host);
    node().protocol(sink("aaa", 1)).listen_on(host.address()).transport(host).seed(1)
}

fn addr(server: &Server) -> NodeAddr {
    server.node_addr().expect("it listens")
}

/// The next event of this kind, however long it takes.
async fn next(events: &mut EventStream, kind: EventKind) -> Event {
    loop {
        let event = events.recv().await.expect("the server is there");
        if event.kind() == kind {
            return event;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_feeler_leaves_after_hello_and_the_book_knows_that_the_node_works() {
    let network = Network::new(1);
    let found = start(at(&network, "8.8.8.8")).await;
    let book = book();
    book.with(|book, now| book.offer(&addr(&found), &Source::Local, now)).unwrap();
    let server = start(at(&network, "9.9.9.9").max_outbound(0).address_book(book.clone())).await;
    let mut events = found.events();
    timeout(3 * MINUTE, next(&mut events, EventKind::Dropped)).await.expect("R53: it is looked at");
    settle().await;
    let known = book.with(|book, now| book.find(&found.id(), now)).expect("it stays in the book");
    assert_eq!((known.state, known.connections), (State::Tried, 1), "R53: it works, and is not connected");
    assert!(server.peers().is_empty(), "R53");
}

#[tokio::test(start_paused = true)]
async fn a_banned_persistent_node_is_dialled_again_when_the_ban_ends() {
    let network = Network::new(1);
    let other = start(at(&network, "8.8.8.8")).await;
    let server = start(at(&network, "9.9.9.9").persistent(addr(&other)).address_book(book())).await;
    let mut events = server.events();
    let peer = added(&mut events).await;
    server.ban(peer.id(), 10 * MINUTE).expect("it is a peer");
    next(&mut events, EventKind::Dropped).await;
    let is_early = timeout(9 * MINUTE, next(&mut events, EventKind::Added)).await.is_ok();
    assert!(!is_early && other.peers().is_empty(), "R54: no connection during the ban");
    let again = timeout(12 * MINUTE, next(&mut events, EventKind::Added)).await;
    assert!(again.is_ok(), "R54: the ban has ended, and R46: it is still persistent");
}

#[tokio::test(start_paused = true)]
async fn those_that_were_peers_in_the_last_run_are_dialled_first() {
    let network = Network::new(1);
    let mut others = Vec::new();
    let known = book();
    for number in 1..=20 {
        let other = start(at(&network, &format!("{}.8.8.8", 20 + number))).await;
        known.with(|book, now| book.offer(&addr(&other), &Source::Local, now)).unwrap();
        others.push(other);
    }
    let dialled = addr(&others[13]).addresses.remove(0);
    known.with(|book, now| book.connected(&others[13].id(), Some(&dialled), now));
    let saved = AddressBook::from_json(&known.snapshot().to_json(), 100).unwrap();
    let server = start(at(&network, "9.9.9.9").max_outbound(1).address_book(shared(saved.book))).await;
    let mut events = server.events();
    assert_eq!(added(&mut events).await.id(), others[13].id(), "R55");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_listens_elsewhere_keeps_its_peers() {
    let network = Network::new(1);
    let server = start(at(&network, "8.8.8.8")).await;
    let (early, late) = (start(at(&network, "9.9.9.9")).await, start(at(&network, "11.11.11.11")).await);
    let old = addr(&server);
    let peer = early.dial(old.clone()).await.unwrap();
    let new: Address = "8.8.8.8:4000".parse().unwrap();
    assert_eq!(server.set_listen(Some(new.clone())).await.unwrap(), Some(new.clone()), "R67");
    assert!(late.dial(old.clone()).await.is_err(), "R67: nobody listens there any more");
    late.dial(addr(&server)).await.expect("R67: it listens here");
    assert_eq!(server.set_listen(None).await.unwrap(), None, "R67");
    assert!(peer.ending().is_none() && server.peers().len() == 2, "R67: peers stay");
    assert_eq!(server.local_address(), None, "R67");
}

/// Counts what is taken.
fn counted(nodes: impl Iterator<Item = NodeAddr> + Send + 'static) -> (impl Stream<Item = NodeAddr>, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    (tokio_stream::iter(nodes.inspect(move |_| _ = count.fetch_add(1, Ordering::Relaxed))), taken)
}

#[tokio::test(start_paused = true)]
async fn candidates_are_taken_only_while_there_are_places() {
    let network = Network::new(1);
    let mut others = Vec::new();
    for number in 0..20 {
        others.push(start(at(&network, &format!("{}.8.8.8", 20 + number))).await);
    }
    let nodes: Vec<_> = others.iter().map(addr).collect();
    let (candidates, taken) = counted(nodes.into_iter());
    let server = start(at(&network, "9.9.9.9").max_outbound(3).candidates(candidates)).await;
    sleep(MINUTE).await;
    assert_eq!(server.peers().len(), 3, "R57: all places are taken");
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken <= 9, "R57: {taken} candidates were taken for three places");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_says_the_same_for_ever_does_not_keep_the_server_busy() {
    let network = Network::new(1);
    let (other, gone) = (start(at(&network, "8.8.8.8")).await, start(at(&network, "7.7.7.7")).await);
    let dead = addr(&gone);
    drop(gone);
    let (candidates, taken) = counted(std::iter::repeat(dead));
    let server = start(at(&network, "9.9.9.9").candidates(candidates)).await;
    other.dial(addr(&server)).await.expect("R51: the server accepts meanwhile");
    sleep(MINUTE).await;
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken <= 700, "R51: {taken} candidates in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_node_with_several_addresses_is_found_at_the_one_that_works() {
    let network = Network::new(1);
    let other = start(at(&network, "8.8.8.8")).await;
    let mut addresses: Vec<Address> = vec!["7.7.7.7:30303".parse().unwrap(), "6.6.6.6:30303".parse().unwrap()];
    addresses.extend(addr(&other).addresses);
    let node = NodeAddr::new(addr(&other).public_key, addresses);
    let server = start(at(&network, "9.9.9.9").persistent(node).address_book(book())).await;
    let mut events = server.events();
    added(&mut events).await;
    let known = server.book().with(|book, now| book.find(&other.id(), now)).unwrap();
    assert_eq!(known.node.addresses.first(), other.local_address().as_ref(), "R59: what has worked is first");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_node_that_is_being_dialled_waits_for_that_dial() {
    let network = Network::new(1);
    network.set_latency(Duration::from_millis(100), Duration::ZERO);
    let other = start(at(&network, "8.8.8.8")).await;
    let server = start(at(&network, "9.9.9.9")).await;
    let (one, two) = tokio::join!(server.dial(addr(&other)), server.dial(addr(&other)));
    assert_eq!(one.unwrap(), two.unwrap(), "R45");
    assert_eq!(network.connections(), 1, "R45");
    let nobody = NodeAddr::new(capmux::NodeKey::random().public_key(), addr(&other).addresses);
    let (one, two) = tokio::join!(server.dial(nobody.clone()), server.dial(nobody));
    assert!(one.is_err() && two.is_err(), "R45: both learn that it failed");
}

#[tokio::test(start_paused = true)]
async fn the_youngest_outbound_peer_makes_room_now_and_then_and_there_are_never_more_for_long() {
    let network = Network::new(1);
    let (mut others, book) = (Vec::new(), book());
    for number in 0..8 {
        let other = start(at(&network, &format!("{}.8.8.8", 20 + number))).await;
        book.with(|book, now| book.offer(&addr(&other), &Source::Local, now)).unwrap();
        others.push(other);
    }
    let server = start(at(&network, "9.9.9.9").max_outbound(3).address_book(book)).await;
    sleep(MINUTE).await;
    let first: Vec<_> = server.peers().iter().map(capmux::Peer::id).collect();
    sleep(60 * MINUTE).await;
    let last: Vec<_> = server.peers().iter().map(capmux::Peer::id).collect();
    assert_eq!(last.len(), 3, "the limit holds");
    let stayed = last.iter().filter(|id| first.contains(id)).count();
    assert!(stayed >= 2, "what has lasted stays");
    assert!(others.iter().filter(|other| other.traffic().bytes_received > 0).count() > 3, "one place goes round");
}

#[tokio::test(start_paused = true)]
async fn a_message_rate_changes_for_the_peers_there_are_and_those_that_come() {
    let network = Network::new(1);
    let (own, mut opened) = manual("test", 1, 1);
    let server =
        start(node().protocol(own).listen_on(network.host("8.8.8.8").address()).transport(network.host("8.8.8.8")))
            .await;
    let limit = capmux::RateLimit::new(10, 1).unwrap();
    let unknown = server.set_rate_limit("test", 2, limit).unwrap_err();
    assert_eq!((unknown.name.as_str(), unknown.version), ("test", 2), "R67");
    let mut took = Vec::new();
    for (number, limit) in [None, Some(limit), Some(limit), None].into_iter().enumerate() {
        let (theirs, mut at_other) = manual("test", 1, 1);
        let host = network.host(&format!("9.9.9.{number}"));
        let other = start(node().protocol(theirs).transport(host)).await;
        let before = number % 2 == 1;
        if before {
            server.set_rate_limit("test", 1, limit).unwrap();
        }
        other.dial(addr(&server)).await.unwrap();
        let ((_, mut channel), (_, sender)) = (opened.next().await, at_other.next().await);
        if !before {
            server.set_rate_limit("test", 1, limit).unwrap();
        }
        let since = tokio::time::Instant::now();
        for _ in 0..50 {
            sender.send(0, "").await.unwrap();
        }
        for _ in 0..50 {
            channel.recv().await.unwrap();
        }
        took.push(since.elapsed() > Duration::from_secs(4));
    }
    assert_eq!(took, [false, true, true, false], "R67: fifty messages take five seconds at ten a second");
}

#[tokio::test(start_paused = true)]
async fn who_is_removed_while_being_dialled_does_not_stay_a_peer() {
    let network = Network::new(1);
    network.set_latency(Duration::from_millis(100), Duration::ZERO);
    let other = start(at(&network, "8.8.8.8")).await;
    let server = start(at(&network, "9.9.9.9")).await;
    server.add_peer(addr(&other)).unwrap();
    sleep(Duration::from_millis(250)).await;
    assert_eq!(server.status().dialling, 1, "R52: it is being dialled");
    assert!(server.remove_peer(&other.id()).unwrap().is_none(), "R52: it is no peer yet");
    sleep(MINUTE).await;
    assert!(server.peers().is_empty() && other.peers().is_empty(), "R52: it does not stay");
    server.add_peer(addr(&other)).unwrap();
    sleep(Duration::from_millis(250)).await;
    server.remove_peer(&other.id()).unwrap();
    server.add_peer(addr(&other)).unwrap();
    sleep(MINUTE).await;
    assert_eq!(server.peers().len(), 1, "R46: it is wanted again");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_node_that_is_removed_is_told() {
    let network = Network::new(1);
    network.set_latency(Duration::from_millis(100), Duration::ZERO);
    let other = start(at(&network, "8.8.8.8")).await;
    let server = start(at(&network, "9.9.9.9")).await;
    let remove = async {
        sleep(Duration::from_millis(250)).await;
        server.remove_peer(&other.id())
    };
    let (dialled, removed) = tokio::join!(server.dial(addr(&other)), remove);
    assert!(matches!(dialled.unwrap_err().error(), PeerError::Requested(_)), "R52");
    assert!(removed.expect("R52: it was asked for").is_none());
    sleep(MINUTE).await;
    assert!(server.peers().is_empty(), "R52");
}

#[tokio::test(start_paused = true)]
async fn who_dials_first_is_not_dialled_again_when_it_leaves() {
    let network = Network::new(1);
    let (other, silent) = (start(at(&network, "8.8.8.8")).await, network.host("7.7.7.7"));
    let mut silent_listener = silent.listen(&silent.address()).await.unwrap();
    let server = start(at(&network, "9.9.9.9").max_dials(1)).await;
    let nobody = NodeAddr::new(NodeKey::random().public_key(), [silent.address()]);
    // It has the only place for dials.
    let blocked = tokio::spawn(async move {
        let accepted = silent_listener.accept().await;
        std::future::pending::<()>().await;
        drop(accepted);
    });
    let asked = async {
        let (first, second) = tokio::join!(server.dial(nobody), server.dial(addr(&other)));
        assert!(first.is_err(), "nobody answers");
        second.expect("R45: it has dialled meanwhile")
    };
    let (peer, _) = tokio::join!(asked, async {
        sleep(Duration::from_millis(100)).await;
        other.dial(addr(&server)).await.expect("it is accepted")
    });
    assert_eq!(peer.direction(), Direction::Inbound);
    peer.disconnect(DisconnectReason::Requested);
    sleep(MINUTE).await;
    assert!(server.peers().is_empty(), "R52: it was asked for once, and has been a peer");
    blocked.abort();
}

#[tokio::test(start_paused = true)]
async fn a_node_in_a_banned_network_is_not_dialled() {
    let network = Network::new(1);
    let other = start(at(&network, "8.8.8.8")).await;
    let server = start(at(&network, "9.9.9.9").persistent(addr(&other))).await;
    let mut events = server.events();
    added(&mut events).await;
    assert_eq!(server.ban_subnet("8.8.8.0/24".parse().unwrap(), 10 * MINUTE).len(), 1, "R54");
    sleep(9 * MINUTE).await;
    assert!(server.peers().is_empty(), "R54: no connection during the ban");
    assert!(matches!(server.dial(addr(&other)).await.unwrap_err().error(), PeerError::Banned), "R54");
    server.unban_subnet(&"8.8.8.0/24".parse().unwrap());
    sleep(11 * MINUTE).await;
    assert_eq!(server.peers().len(), 1, "R46: it is still persistent");
    server.book().with(|book, now| book.ban_subnet("8.8.8.0/24".parse().unwrap(), now + MINUTE, now));
    assert_eq!(server.drop_banned().len(), 1, "R54: by its network, too");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_candidates_that_panics_is_the_end_of_it_alone() {
    let network = Network::new(1);
    let other = start(at(&network, "8.8.8.8")).await;
    let nodes = std::iter::once_with(|| panic!("a defect"));
    let server = start(at(&network, "9.9.9.9").candidates(tokio_stream::iter(nodes))).await;
    settle().await;
    server.dial(addr(&other)).await.expect("R76: the server goes on");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_been_shut_down_listens_nowhere() {
    let network = Network::new(1);
    let server = start(at(&network, "8.8.8.8")).await;
    let elsewhere: Address = "8.8.8.8:4000".parse().unwrap();
    server.shutdown().await;
    assert_eq!(server.set_listen(Some(elsewhere)).await.unwrap(), None, "R67");
    assert_eq!(server.local_address(), Some("8.8.8.8:30303".parse().unwrap()), "R67: nothing has changed");
}

#[tokio::test(start_paused = true)]
async fn a_known_node_is_made_private_and_persistent_with_all_of_its_addresses() {
    let network = Network::new(1);
    let server = start(at(&network, "9.9.9.9").address_book(book())).await;
    let key = NodeKey::random().public_key();
    let [one, two]: [Address; 2] = ["8.8.8.8:1", "7.7.7.7:1"].map(|address| address.parse().unwrap());
    let nameless = NodeAddr::new(key, []);
    assert!(server.set_private(nameless.clone(), true).is_err(), "R48: it would be told of, when it is known");
    server.add_peer(NodeAddr::new(key, [one.clone()])).unwrap();
    server.add_peer(NodeAddr::new(key, [two.clone()])).unwrap();
    server.set_private(nameless.clone(), true).unwrap();
    let known = server.book().with(|book, now| book.find(&nameless.node_id(), now)).unwrap();
    assert!(known.flags == Flags::PRIVATE.and(Flags::PERSISTENT), "R46, R48");
    assert!(known.node.addresses.contains(&one) && known.node.addresses.contains(&two), "R59: addresses are added");
    let refused = at(&network, "6.6.6.6").private(nameless).start().await;
    assert!(matches!(refused, Err(StartError::Private { .. })), "R48");
}

#[tokio::test(start_paused = true)]
async fn settings_that_make_no_sense_are_refused() {
    let network = Network::new(1);
    for interval in [Duration::ZERO, Duration::MAX] {
        let refused = at(&network, "8.8.8.8").save_book("/nonexistent/book.json", interval).start().await;
        assert!(matches!(refused, Err(StartError::OutOfRange { setting: "save_book" })), "R51: {interval:?}");
    }
    let persistent = |count| {
        let address: Address = "7.7.7.7:1".parse().unwrap();
        let nodes = (0..count).map(|_| NodeAddr::new(NodeKey::random().public_key(), [address.clone()]));
        nodes.fold(at(&network, "8.8.8.8"), ServerBuilder::persistent)
    };
    assert!(matches!(persistent(1001).start().await, Err(StartError::OutOfRange { setting: "persistent" })), "R46");
    let key = NodeKey::random();
    let own = NodeAddr::new(key.public_key(), ["7.7.7.7:1".parse::<Address>().unwrap()]);
    let server = start(Server::builder(key).persistent(own)).await;
    assert!(!server.is_persistent(&server.id()), "R46: a list that all nodes have in common has this one, too");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_counts_against_no_node() {
    let network = Network::new(1);
    let silent = network.host("8.8.8.8");
    let _listener = silent.listen(&silent.address()).await.unwrap();
    let (node, book) = (NodeAddr::new(NodeKey::random().public_key(), [silent.address()]), book());
    book.with(|book, now| book.offer(&node, &Source::Local, now)).unwrap();
    let server = start(at(&network, "9.9.9.9").address_book(book.clone())).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(server.status().dialling, 1, "R55");
    server.shutdown().await;
    let known = book.with(|book, now| book.find(&node.node_id(), now)).unwrap();
    assert_eq!((known.state, known.score), (State::New, 0), "R54: it has not failed");
}
