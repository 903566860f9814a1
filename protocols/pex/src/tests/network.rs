//! Nodes with addresses, in a simulated network.

use capmux::testing::{Network, Opened, manual, node};
use capmux::{Channel, Peer, Server, ServerBuilder};

use super::*;

async fn listening(network: &Network, host: &str, builder: ServerBuilder, protocol: Protocol) -> Server {
    let host = network.host(host);
    let builder = builder.protocol(protocol).listen_on(host.address()).transport(host);
    builder.start().await.expect("it starts")
}

/// A node at `host` with a book of its own, which says where it listens.
async fn started(network: &Network, host: &str, seed: u64) -> (Server, SharedBook, Pex) {
    let book = book_of(1_000);
    let (protocol, pex) = Pex::new(book.clone(), PexSettings { seed: Some(seed), ..PexSettings::default() });
    let server = listening(network, host, Server::builder(key(seed)), protocol).await;
    pex.announce_port(server.local_addr().expect("it listens").port());
    (server, book, pex)
}

/// Nodes that have all dialled the first, and nobody else, after a minute.
async fn around_a_bootnode(hosts: [&str; 4]) -> Vec<(Server, SharedBook, Pex)> {
    let network = Network::new(1);
    let mut nodes = Vec::new();
    for (host, seed) in hosts.into_iter().zip(1..) {
        nodes.push(started(&network, host, seed).await);
    }
    let bootnode = nodes[0].0.node_addr().expect("it listens");
    for (server, book, _) in &nodes[1..] {
        add(book, &bootnode);
        server.dial(bootnode.clone()).await.expect("it is there");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    nodes
}

#[tokio::test(start_paused = true)]
async fn newcomers_come_to_know_each_other_where_they_listen() {
    for hosts in [["8.8.8.1", "9.9.9.2", "11.1.1.3", "2600::4"], ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]] {
        let nodes = around_a_bootnode(hosts).await;
        assert_eq!(nodes[0].2.status().announced, 3, "R56: at {}", hosts[0]);
        for (knower, (_, book, _)) in nodes.iter().enumerate().skip(1) {
            for (number, host) in hosts.iter().enumerate().filter(|(number, _)| *number != knower) {
                let known = book.with(|book, now| book.find(&key(number as u64 + 1).node_id(), now));
                let known = known.unwrap_or_else(|| panic!("R56: {} does not know {host}", hosts[knower]));
                let address = Address::Ip((host.parse::<std::net::IpAddr>().unwrap(), 30_303).into());
                assert_eq!(known.node.addresses, [address], "R56");
            }
        }
    }
}

/// A node at `at` that has dialled the test at `peer_at`.
async fn dialled(at: &str, peer_at: &str) -> (Channel, Opened, SharedBook, Pex, [Server; 2], Peer) {
    let network = Network::new(1);
    let (own, mut opened) = manual(NAME, 1, LENGTH);
    let other = listening(&network, peer_at, node(), own).await;
    let (server, book, pex) = started(&network, at, 1).await;
    let peer = server.dial(other.node_addr().expect("it listens")).await.expect("it is there");
    let (_, channel) = opened.next().await;
    (channel, opened, book, pex, [server, other], peer)
}

/// The id of the first request, behind the announcement.
async fn first_request(channel: &mut Channel) -> u64 {
    loop {
        let message = timeout(LONG, channel.recv()).await.expect("it asks").expect("it is there");
        if message.code == GET_NODES {
            return capmux::rlp::Rlp::new(&message.payload).val_at(0).expect("an id");
        }
        assert_eq!((message.code, hex::encode(&message.payload)), (ANNOUNCE, "c382765f".into()), "its port");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_source_tells_that_it_cannot_know_is_not_taken() {
    let addresses =
        ["10.0.0.9:1", "127.0.0.1:1", "169.254.1.1:1", "224.0.0.1:1", "8.8.8.8:0", "8.8.4.4:1", "[fc00::1]:1"];
    let own = "8.1.1.1:30303";
    for (peer_at, expected) in [("9.9.9.9", &[5][..]), ("10.0.0.2", &[0, 2, 5, 6])] {
        let (mut channel, _opened, book, pex, _servers, peer) = dialled("8.1.1.1", peer_at).await;
        book.with(|book, _| book.set_own(key(1).node_id(), vec![own.parse().unwrap()]));
        let id = first_request(&mut channel).await;
        let all = addresses.iter().chain([&own]).zip(100..);
        let records: Vec<_> = all.map(|(address, number)| plain(number, address.parse().unwrap())).collect();
        channel.send(NODES, nodes(id, &records)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let taken: Vec<u64> = (0..=addresses.len() as u64).filter(|number| knows(&book, 100 + number)).collect();
        assert_eq!(taken, expected, "H77: from {peer_at}");
        assert_eq!(pex.status().useless as usize, addresses.len() - expected.len(), "H77: our own is nobody's fault");
        assert!(peer.ending().is_none(), "H77: useless addresses end nobody");
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_the_neighbourhood_can_reach_is_told_to_nobody_far_away() {
    for (peer_at, expected) in [("9.9.9.9", &[1][..]), ("10.0.0.2", &[1, 2])] {
        let (mut channel, _opened, book, _pex, _servers, _peer) = dialled("8.1.1.1", peer_at).await;
        for (number, address) in
            [(1, public(1)), (2, "10.0.0.7:1".parse().unwrap()), (3, "127.0.0.1:1".parse().unwrap())]
        {
            add(&book, &at(number + 100, address));
        }
        channel.send(GET_NODES, get_nodes(1, 30)).await.unwrap();
        let answer = loop {
            let message = channel.recv().await.unwrap();
            if message.code == NODES {
                break message;
            }
        };
        let Nodes(records) = capmux::rlp::Rlp::new(&answer.payload).val_at(1).unwrap();
        let is_told = |number: &u64| {
            records.iter().any(|record| record.node_addr().unwrap().node_id() == key(100 + number).node_id())
        };
        assert_eq!((1..=3).filter(is_told).collect::<Vec<u64>>(), expected, "H77: to {peer_at}");
    }
}

/// A node at 8.1.1.1 that the test with `key` has dialled from 9.9.9.9, and has told this.
async fn told(key: &NodeKey, announcement: Announcement) -> (SharedBook, Pex) {
    let network = Network::new(1);
    let (server, book, pex) = started(&network, "8.1.1.1", 1).await;
    let (own, mut opened) = manual(NAME, 1, LENGTH);
    let client = Server::builder(key.clone()).protocol(own).transport(network.host("9.9.9.9"));
    let client = client.start().await.unwrap();
    client.dial(server.node_addr().unwrap()).await.unwrap();
    let (_, channel) = opened.next().await;
    channel.send(ANNOUNCE, Announce(announcement).rlp_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    (book, pex)
}

#[tokio::test(start_paused = true)]
async fn only_the_address_that_a_node_is_seen_at_is_believed_of_it() {
    let seen: SocketAddr = "9.9.9.9:4000".parse().unwrap();
    for (announcement, is_believed) in [
        (Announcement::Port(4000), true),
        (Announcement::Port(0), false),
        (Announcement::Signed(Enr::sign(&key(5), 1, Some(seen))), true),
        (Announcement::Signed(Enr::sign(&key(5), 1, Some(public(5)))), false),
        (Announcement::Signed(Enr::sign(&key(5), 1, None)), false),
    ] {
        let is_signed = matches!(announcement, Announcement::Signed(_));
        let (book, pex) = told(&key(5), announcement.clone()).await;
        let known = book.with(|book, now| book.find(&key(5).node_id(), now));
        assert_eq!(known.is_some(), is_believed, "R56: {announcement:?}");
        assert_eq!(pex.status().announced, u64::from(is_believed));
        if let Some(known) = known {
            assert_eq!(known.node.addresses, [Address::Ip(seen)], "R56");
            assert_eq!(known.record.is_some(), is_signed, "R56: the record is kept");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_course() {
    let hosts = ["8.8.8.1", "9.9.9.2", "11.1.1.3", "12.1.1.4"];
    let mut courses = Vec::new();
    for _ in 0..2 {
        let nodes = around_a_bootnode(hosts).await;
        courses.push(nodes.iter().map(|(_, _, pex)| pex.status()).collect::<Vec<_>>());
    }
    assert_eq!(courses[0], courses[1]);
}
