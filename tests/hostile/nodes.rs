//! What is kept of nodes, and shown of them: H75, H77, H78, H80, H81 and H83.

use std::fs;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use capmux::book::{AddressBook, Refusal, SharedBook, Source};
use capmux::node::KeyFileError;
use capmux::rlpx::{HandshakeRandom, Initiator, Recipient};
use capmux::testing::{Network, node};
use capmux::{Address, NodeAddr, NodeKey, PublicKey, Server, ServerBuilder};
use capmux_conformance::{Node, Visit};
use tokio::time::{sleep, timeout};

use crate::arena::{HOST, HOSTILE, Scene, TIMES, runtime, together};
use crate::session::id;
use crate::support::{echo, start};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Keys that nobody needs the secrets of.
static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| (0..2_000).map(|_| NodeKey::random().public_key()).collect());

/// A node at this address, with the key of this number.
fn at(number: usize, ip: IpAddr, port: u16) -> NodeAddr {
    NodeAddr::new(KEYS[number % KEYS.len()], [Address::Ip((ip, port).into())])
}

/// Somebody with a public address.
fn source(number: usize) -> Source {
    let [.., high, low] = number.to_be_bytes();
    Source::Peer { id: KEYS[number % 100].node_id(), ip: Some([20 + low % 70, high, low, 1].into()) }
}

#[test]
pub(crate) fn one_network_gets_ten_places_in_the_book() {
    let _turn = together();
    for round in 0..TIMES {
        let mut book = AddressBook::new(10_000, [round as u8; 16]);
        let ids = 2_000;
        for number in 0..ids {
            let node = at(number, [9, 9, round as u8, (number % 256) as u8].into(), 1 + number as u16);
            let _ = book.offer(&node, &source(number), now());
        }
        assert!((1..=10).contains(&book.len()), "H75: {} of {ids} ids from one /24", book.len());
    }
}

#[test]
pub(crate) fn useless_addresses_from_a_public_source_are_not_dialled() {
    let _turn = together();
    let own = [9, 8, 7, 6].into();
    let mut book = AddressBook::new(1_000, [7; 16]);
    book.set_own(NodeKey::random().node_id(), vec![(own, 30_303).into()]);
    for number in 0..TIMES {
        let low = number as u8;
        let ips: [IpAddr; 7] = [
            [10, 0, 0, low].into(),
            [192, 168, low, 1].into(),
            [127, 0, 0, low].into(),
            [224, 0, low, 1].into(),
            [0, 0, 0, 0, 0, 0, 0, 1].into(),
            [0xfe80, 0, 0, 0, 0, 0, 0, u16::from(low)].into(),
            [0, 0, 0, 0, 0, 0xffff, 0x0a00, u16::from(low)].into(),
        ];
        for ip in ips {
            let refused = book.offer(&at(number, ip, 30_303), &source(number), now());
            assert!(matches!(refused, Err(Refusal::NotRoutable(_))), "H77: {ip}: {refused:?}");
        }
        let refused = book.offer(&at(number, [8, 8, 8, low].into(), 0), &source(number), now());
        assert!(matches!(refused, Err(Refusal::PortZero(_))), "H77: {refused:?}");
        let refused = book.offer(&at(number, own, 30_303), &source(number), now());
        assert!(matches!(refused, Err(Refusal::OwnAddress(_))), "H77: {refused:?}");
    }
    assert!(book.is_empty(), "H77: none of it is dialled");
}

/// A network with a node that listens, and the settings of one whose book an attacker has filled.
async fn poisoned(round: usize) -> (Network, Server, ServerBuilder) {
    let network = Network::new(round as u64);
    let listen = |name: &str| {
        let host = network.host(name);
        node().protocol(echo()).listen_on(host.address()).transport(host)
    };
    let mut book = AddressBook::new(500, [round as u8; 16]);
    for number in 0..1_000 {
        let [.., high, low] = usize::to_be_bytes(number);
        let _ =
            book.offer(&at(number, [20 + low % 100, low, high, 1].into(), 30_303), &source(number), SystemTime::now());
    }
    assert!(book.len() > 100, "H78: it is full of the attacker's nodes: {}", book.len());
    let wanted = start(listen("10.0.8.1")).await;
    let settings = listen(HOST).address_book(SharedBook::new(book));
    (network, wanted, settings)
}

/// The server becomes a peer of this one within a minute.
async fn assert_dials(server: &Server, wanted: &Server, row: &str) {
    let dialled = timeout(Duration::from_secs(60), async {
        while server.peer(&wanted.id()).is_none() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(dialled.await.is_ok(), "{row}: {:?}", server.peers());
}

#[test]
pub(crate) fn persistent_nodes_and_bootnodes_are_dialled_whatever_the_book_holds() {
    let _turn = together();
    for round in 0..TIMES {
        runtime(true).block_on(async {
            let (_network, wanted, settings) = poisoned(round).await;
            let address = wanted.node_addr().expect("it listens");
            let settings = match round % 2 {
                0 => settings.persistent(address),
                _ => settings.bootnodes([address]),
            };
            assert_dials(&start(settings).await, &wanted, "H78").await;
        });
    }
}

#[test]
pub(crate) fn an_attacker_who_comes_by_himself_keeps_no_node_from_its_bootnodes() {
    let _turn = together();
    for round in 0..TIMES {
        runtime(true).block_on(async {
            let (network, wanted, settings) = poisoned(round).await;
            let server = start(settings.bootnodes(wanted.node_addr())).await;
            let enode = server.enode().expect("it listens");
            let probed = Node::probe_over(network.host(HOSTILE), &enode).await.expect("it answers");
            let _inbound = Visit::new(probed.into()).greet().await.expect("it answers");
            assert_dials(&server, &wanted, "H78: with a peer that the attacker has dialled").await;
        });
    }
}

#[test]
pub(crate) fn key_files_that_are_open_or_corrupt_are_errors_and_stay_as_they_are() {
    use std::os::unix::fs::PermissionsExt;
    let _turn = together();
    let folder = tempfile::tempdir().unwrap();
    for number in 0..TIMES {
        let path = folder.path().join(format!("{number}.key"));
        let key = NodeKey::random();
        key.save_new(&path).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600, "H80: created with 0600");
        assert!(matches!(key.save_new(&path), Err(KeyFileError::Exists { .. })), "H80: never replaced");
        assert_eq!(NodeKey::load(&path).unwrap().node_id(), key.node_id(), "H80");
        let others = 1 << (number % 6);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600 | others)).unwrap();
        assert!(matches!(NodeKey::load(&path), Err(KeyFileError::TooOpen { .. })), "H80: readable by others");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut text = fs::read(&path).unwrap();
        text[number] = b'x';
        fs::write(&path, &text).unwrap();
        assert!(matches!(NodeKey::load(&path), Err(KeyFileError::Corrupt { .. })), "H80: byte {number}");
        assert_eq!(fs::read(&path).unwrap(), text, "H80: never silently replaced");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), TIMES, "H80: no other file is left");
}

#[test]
pub(crate) fn hostile_client_ids_are_escaped_and_cut_wherever_they_are_shown() {
    Scene::of("H81").at_once(10).repeat(async |arena, number| {
        let visit = Visit::new(arena.node.clone());
        let mut client = b"a\nb\x1b[31mc\xe2\x80\xaed\xff\xc3".to_vec();
        client.extend(vec![b'a' + (number % 20) as u8; 20 * (number % TIMES)]);
        let script = visit.greet_with(|hello| hello.client = client).await.expect("the server answers");
        let peer = loop {
            match arena.server.peer(&id(&script)) {
                Some(peer) => break peer,
                None => tokio::task::yield_now().await,
            }
        };
        for shown in [peer.client_id().to_string(), format!("{:?}", peer.client_id())] {
            let is_plain = |letter: char| !letter.is_control() && !('\u{202a}'..='\u{202e}').contains(&letter);
            assert!(shown.chars().all(is_plain), "H81: {shown:?}");
        }
        let shown = peer.client_id().to_string();
        let letters = shown.strip_suffix('…').unwrap_or(&shown).chars().count();
        assert!(letters <= 64 && shown.starts_with('a'), "H81: {shown:?}");
        let status = format!("{:?}", arena.server.status());
        assert!(!status.contains('\n') && !status.contains('\x1b'), "H81: {status:?}");
    });
}

#[test]
pub(crate) fn no_value_shows_its_secrets() {
    let _turn = together();
    for number in 0..TIMES {
        let (key, ephemeral) = (NodeKey::random(), NodeKey::random());
        let random =
            || HandshakeRandom::from_os().expect("random numbers").with_ephemeral(ephemeral.clone(), [0x5a; 32]);
        let (initiator, _) = Initiator::new(&key, NodeKey::random().public_key(), random()).expect("other keys");
        let recipient = Recipient::new(key.clone(), random());
        let network = Network::new(1);
        let settings = Server::builder(key.clone()).protocol(echo()).transport(network.host(HOSTILE));
        let shown = format!("{key:?} {initiator:?} {recipient:?} {:?} {settings:?}", random());
        for secret in [&key, &ephemeral] {
            let digits = secret.to_hex();
            let bytes: Vec<u8> =
                (0..64).step_by(2).filter_map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect();
            let list = format!("{:?}", &bytes[..8]);
            let list = list.trim_matches(['[', ']']);
            assert!(!shown.contains(&digits[..16]) && !shown.contains(list), "H83: round {number}");
        }
        assert!(!shown.contains("5a5a5a5a") && !shown.contains("90, 90, 90"), "H83: the nonce, round {number}");
    }
}
