//! What a refusal costs: processor time beside that of one multiplication with our key, in the same build.

use std::hint::black_box;
use std::time::Duration;

use capmux::NodeKey;
use capmux::rlpx::{HandshakeError, HandshakeRandom, Recipient};
use capmux_conformance::model::Node;
use capmux_conformance::model::handshake::{agree, seal_with};
use capmux_perf::process::cpu_time;

use crate::arena::{OWN_KEY, TIMES, alone};
use crate::handshake::bad_points;
use crate::support::noise;

/// How many times something is done between two looks at the clock.
const BATCH: usize = 20;

/// The processor time of one run: the least of fifty batches, which is what other work on the machine disturbs least.
fn cost<T>(mut prepare: impl FnMut() -> T, mut run: impl FnMut(T)) -> Duration {
    let batch = |_| {
        let prepared: Vec<T> = (0..BATCH).map(|_| prepare()).collect();
        let before = cpu_time().expect("Unix tells");
        prepared.into_iter().for_each(&mut run);
        (cpu_time().expect("Unix tells") - before) / BATCH as u32
    };
    (0..TIMES).map(batch).min().expect("there are batches")
}

fn recipient() -> Recipient {
    let key = NodeKey::from_bytes(&[OWN_KEY; 32]).expect("it is a key");
    Recipient::new(key, HandshakeRandom::from_os().expect("random numbers"))
}

/// What it costs to refuse this message.
fn refusal(message: &[u8], row: &str) -> Duration {
    cost(recipient, |recipient| {
        let refused: Result<_, HandshakeError> = recipient.receive(&mut &message[..]);
        assert!(black_box(refused).is_err(), "{row}");
    })
}

#[test]
pub(crate) fn a_refusal_costs_one_multiplication_at_the_most() {
    let _turn = alone();
    let own = Node::new(OWN_KEY);
    let other = Node::new(1).public_key();
    let ecdh = cost(
        || (),
        |()| {
            black_box(agree(&own.key, &other)).expect("it is a key");
        },
    );

    let mut bad_tag = Node::new(1).auth(&own.public_key()).seal();
    *bad_tag.last_mut().expect("it has a tag") ^= 1;
    let of_tag = refusal(&bad_tag, "H9");
    assert!(of_tag < 2 * ecdh, "H9: one ECDH ({ecdh:?}), what is around it, and never a second: {of_tag:?}");

    for point in bad_points(1) {
        let of_point = refusal(&seal_with(&point, &[7; 32], &[0; 300]), "H5");
        // 5 us where an ECDH takes 40: an optimised build on a slow machine.
        assert!(of_point < ecdh / 8, "H5 H6: no multiplication: {of_point:?} where an ECDH takes {ecdh:?}");
    }
    for size in [0, 1, 64, 112] {
        let short = [&u16::to_be_bytes(size)[..], &noise(1, usize::from(size))].concat();
        let of_short = refusal(&short, "H3");
        assert!(of_short < ecdh / 20, "H3: no curve operation: {of_short:?} where an ECDH takes {ecdh:?}");
    }
    let of_large = refusal(&[0x08, 0x01], "H4");
    assert!(of_large < ecdh / 20, "H4: {of_large:?} where an ECDH takes {ecdh:?}");
    println!("ecdh {ecdh:?}, bad tag {of_tag:?}, too large {of_large:?}");
}
