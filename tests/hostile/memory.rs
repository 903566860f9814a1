//! What peers make a server hold: H1, H24, H25, H34 and H48, in bytes.

use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use capmux::p2p::MAX_MESSAGE_SIZE;
use capmux::testing::Network;
use capmux::{NodeKey, Protocol, Server, ServerBuilder};
use capmux_conformance::{Node, Script, Visit, model};
use tokio::time::sleep;

use crate::arena::{HOST, HOSTILE, TIMES, at_once, runtime, together};
use crate::support::{echo, settle, sink, soon};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// `bulk` has the ids before those of `echo`.
const FIRST: u64 = 0x10;

/// A server in memory, and fifty of its peers.
async fn peers(settings: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Network, Server, Vec<Script>) {
    let network = Network::new(1);
    let own = network.host(HOST);
    let node = Server::builder(NodeKey::random());
    let node = node.protocol(echo()).max_peers(100).max_inbound(90).listen_on(own.address()).transport(own);
    let server = settings(node).start().await.expect("the settings are good");
    let enode = server.enode().expect("it listens");
    let node = Node::probe_over(network.host(HOSTILE), &enode).await.expect("the server answers");
    let visit = Visit::new(node.into());
    let mut scripts = Vec::new();
    for _ in 0..TIMES {
        scripts.push(visit.greet().await.expect("the server answers"));
    }
    settle().await;
    (network, server, scripts)
}

/// `bulk`, with messages of the largest size.
fn large(node: ServerBuilder) -> ServerBuilder {
    node.protocol(sink("bulk", 1).max_message_size(MAX_MESSAGE_SIZE))
}

/// Everything is in the server's hands, and what a script keeps for reading is no more than before.
async fn send_all(scripts: &mut [Script], bytes: &[Bytes]) {
    at_once(scripts.iter_mut().zip(bytes).map(|(script, bytes)| script.send_raw("bytes", bytes))).await;
    settle().await;
    sleep(Duration::from_secs(1)).await;
}

#[test]
pub(crate) fn frames_that_announce_sixteen_mebibytes_take_what_has_come() {
    let _turn = together();
    let runtime = runtime(true);
    let (_network, server, mut scripts) = runtime.block_on(peers(large));
    let claim = |script: &mut Script| script.egress().header(0xff_ffff, &[0xc2, 0x80, 0x80]).into();
    let headers: Vec<Bytes> = scripts.iter_mut().map(claim).collect();
    let used = measure(|| runtime.block_on(send_all(&mut scripts, &headers)));
    let each = used.bytes_max / TIMES as u64;
    assert!(each <= 72 * KIB, "H25: a header alone gets 64 KiB to begin with: {each} bytes each");

    let more = vec![Bytes::from(vec![1; 64 * KIB as usize]); TIMES];
    for sent in [64 * KIB, 128 * KIB, 192 * KIB] {
        let used = measure(|| runtime.block_on(send_all(&mut scripts, &more)));
        let each = used.bytes_max / TIMES as u64;
        // The buffer doubles while both are there; the pipe takes as much again as it is sent.
        assert!(each <= 2 * sent + 128 * KIB, "H25: {sent} bytes have come: {each} each");
    }
    assert_eq!(server.peers().len(), TIMES, "H25: their time is not over");
}

#[test]
pub(crate) fn first_frames_that_are_too_large_take_nothing() {
    let _turn = together();
    let runtime = runtime(true);
    let (network, server, peers) = runtime.block_on(peers(large));
    drop(peers);
    let visit = runtime.block_on(async {
        let enode = server.enode().expect("it listens");
        Visit::new(Node::probe_over(network.host(HOSTILE), &enode).await.expect("the server answers").into())
    });
    let mut scripts = runtime.block_on(async {
        let mut scripts = Vec::new();
        for _ in 0..TIMES {
            scripts.push(visit.handshake().await.expect("the server answers"));
        }
        settle().await;
        scripts
    });
    let claim = |script: &mut Script| script.egress().header(0xff_ffff, &[0xc2, 0x80, 0x80]).into();
    let headers: Vec<Bytes> = scripts.iter_mut().map(claim).collect();
    let used = measure(|| runtime.block_on(send_all(&mut scripts, &headers)));
    let each = used.bytes_max / TIMES as u64;
    // What it takes to say so: a Disconnect, an event.
    assert!(each <= 32 * KIB, "H24: nothing for the frame: {each} bytes each");
    runtime.block_on(async { sleep(Duration::from_secs(2)).await });
    assert_eq!(server.status().pending, 0, "H24: closed at its header");
}

#[test]
pub(crate) fn sixteen_mebibytes_of_zeros_a_hundred_times_stay_within_the_budget() {
    const BUDGET: u64 = 64 * MIB;
    let slow = |node: ServerBuilder| {
        let slow = Protocol::from_fn("bulk", 1, 1, |_peer, mut channel| async move {
            while channel.recv().await.is_some() {
                sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        });
        let largest = MAX_MESSAGE_SIZE;
        node.protocol(slow.max_message_size(largest).inbox_bytes(largest)).receive_budget(BUDGET as usize)
    };
    let _turn = together();
    assert_eq!(default_budget(), 256 << 20, "H34: what is promised, of which this takes a quarter");
    let runtime = runtime(true);
    let (_network, server, mut scripts) = runtime.block_on(peers(slow));
    let zeros = Zeros::new();
    let frames: Vec<Bytes> = scripts.iter_mut().map(|script| zeros.frames(script).into()).collect();
    let used = measure(|| {
        runtime.block_on(async {
            send_all(&mut scripts, &frames).await;
            // What is kept for the next message is given back after a silence. Nobody answers a Ping here.
            sleep(Duration::from_secs(25)).await;
        });
    });
    assert_eq!((server.peers().len(), server.status().receive_budget_used), (TIMES, 0), "H34: all of it was handled");
    // Beside the budget: for each what its reading takes while it waits, and what is being unpacked.
    let most = BUDGET + TIMES as u64 * 2 * MIB + 2 * MAX_MESSAGE_SIZE as u64;
    assert!(used.bytes_max <= most, "H34: {used:?}");
    assert!(used.bytes_current <= 8 * MIB as i64, "H34: buffers shrink afterwards: {used:?}");
}

#[test]
pub(crate) fn blocks_that_lie_about_their_length_hold_nothing_of_the_budget() {
    let _turn = together();
    let runtime = runtime(true);
    let (_network, server, mut scripts) = runtime.block_on(peers(large));
    runtime.block_on(async {
        for script in &mut scripts {
            // It declares 16 MiB less one byte, which so few cannot hold.
            let content = [&[FIRST as u8, 0xff, 0xff, 0xff, 0x07][..], &[0; 5000]].concat();
            script.send_frame("a block that lies about its length", &content).await;
            script.expect(1, Duration::from_secs(1)).await.expect("H35: it is told at once");
            // The server waits until the connection is closed at this end, too.
            assert_eq!(server.status().receive_budget_used, 0, "H35 R9: others can have it");
        }
    });
}

/// What a server may hold unless it is told otherwise.
fn default_budget() -> usize {
    let node = capmux::testing::node().protocol(echo());
    runtime(true).block_on(async { node.start().await.expect("the settings are good").status().receive_budget })
}

/// The content of two frames, each with as many zeros as a message may have.
struct Zeros(Vec<u8>);

impl Zeros {
    fn new() -> Self {
        let content = [capmux::rlp::encode(&FIRST).to_vec(), compressed(&vec![0; MAX_MESSAGE_SIZE])].concat();
        Self(content)
    }

    fn frames(&self, script: &mut Script) -> Vec<u8> {
        let half = script.egress();
        [half.seal(&self.0), half.seal(&self.0)].concat()
    }
}

fn compressed(data: &[u8]) -> Vec<u8> {
    let mut compressed = bytes::BytesMut::new();
    capmux::rlpx::Compressor::default().compress(data, &mut compressed);
    compressed.to_vec()
}

#[test]
pub(crate) fn a_flood_of_pongs_takes_no_memory() {
    const PONGS: usize = 1_000;
    let _turn = together();
    let runtime = runtime(true);
    let (_network, server, mut scripts) = runtime.block_on(peers(large));
    let flood = |script: &mut Script| {
        let content = script.content(3, &[0xc0]);
        (0..PONGS).flat_map(|_| script.egress().seal(&content)).collect::<Vec<u8>>().into()
    };
    let floods: Vec<Bytes> = scripts.iter_mut().map(flood).collect();
    let used = measure(|| runtime.block_on(send_all(&mut scripts, &floods)));
    // A pipe and a buffer for reading each, and nothing for each Pong.
    let each = used.bytes_max / TIMES as u64;
    assert!(each <= 256 * KIB, "H48: O(1) memory: {each} bytes each");
    assert!(used.bytes_current <= 64 * KIB as i64 * TIMES as i64, "H48: {used:?}");
    drop(server);
}

#[test]
pub(crate) fn connections_without_a_proof_take_8_kib_each() {
    let _turn = crate::arena::alone();
    let runtime = runtime(false);
    let server = runtime.block_on(crate::support::start(crate::support::listening().protocol(echo())));
    let (address, key) = (server.local_addr().expect("it listens"), server.enode().expect("it listens").public_key);
    let auth = model::Node::new(1).auth(&key.to_bytes()).seal();
    for sent in [0, 2, auth.len() / 2, auth.len() - 1] {
        let connect = || {
            let mut stream = std::net::TcpStream::connect(address).expect("it accepts");
            std::io::Write::write_all(&mut stream, &auth[..sent]).expect("written");
            stream
        };
        let mut streams = Vec::with_capacity(TIMES);
        let arrived = async |server: &Server, count: usize| {
            let all = async {
                while server.status().pending < count {
                    tokio::task::yield_now().await;
                }
            };
            soon(all).await;
            sleep(Duration::from_millis(50)).await;
            settle().await;
        };
        streams.push(connect());
        runtime.block_on(arrived(&server, 1));
        let used = measure(|| {
            streams.extend((1..TIMES).map(|_| connect()));
            runtime.block_on(arrived(&server, TIMES));
        });
        let each = used.bytes_max / (TIMES as u64 - 1);
        assert!(each <= 8 * KIB && each > 100, "H1: {sent} bytes of auth: {each} bytes each");
        drop(streams);
        runtime.block_on(async {
            let none = async {
                while server.status().pending > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            soon(none).await;
        });
    }
}
