//! Several protocols in several versions over one connection.

use capmux::bytes::Bytes;
use capmux::{Capability, Channel, testing};
use sha2::{Digest, Sha256};

use crate::local::{Local, manual, within};
use crate::matrix::Case;
use crate::remote::Remote;

with_every_node!(the_highest_common_versions_run_side_by_side);

/// How many messages each protocol sends in each direction.
const MESSAGES: u8 = 20;

/// Every version has a length of its own, and on either end there are protocols that the other lacks: ids that were
/// computed from anything but the shared ones in order would go astray.
const THEIRS: [&str; 6] = ["beta/7/3", "alpha/3/7", "aaa/1/9", "alpha/2/5", "beta/5/2", "alpha/1/2"];

const OURS: [(&str, u64, u64); 6] =
    [("beta", 9, 4), ("alpha", 1, 2), ("beta", 5, 2), ("ant", 1, 11), ("beta", 7, 3), ("alpha", 2, 5)];

async fn the_highest_common_versions_run_side_by_side(case: Case) {
    let mut remote = case.remote(&THEIRS.map(|protocol| ["--protocol", protocol]).concat()).await;
    let mut node = testing::node();
    let mut opened = Vec::new();
    for (name, version, length) in OURS {
        let (protocol, channels) = manual(name, version, length);
        node = node.protocol(protocol);
        opened.push(((name, version), channels));
    }
    let mut local = Local::start(node).await;
    let (peer, _) = local.connect(&mut remote, case.direction).await;

    let shared = [("alpha", 2), ("beta", 7)];
    let expected = shared.map(|(name, version)| Capability::new(name, version).expect("a name"));
    assert_eq!(peer.shared_capabilities(), expected, "R2");
    let mut channels = Vec::new();
    for (name, version) in shared {
        let started = remote.expect_where("protocol", name, |event| event.text("protocol") == name).await;
        assert_eq!(started.number("version"), Some(version), "R2");
        let (_, handler) = opened.iter_mut().find(|(id, _)| *id == (name, version)).expect("it is registered");
        channels.push(handler.next().await.1);
    }
    let [mut alpha, mut beta] = <[Channel; 2]>::try_from(channels).expect("two");
    interleave(&local, &mut remote, [(&mut alpha, 4), (&mut beta, 2)]).await;
    assert_eq!(peer.ending().map(|ending| ending.to_string()), None);
}

/// Messages in both protocols at once, of the first and the last code, in both directions.
async fn interleave(local: &Local, remote: &mut Remote, mut channels: [(&mut Channel, u64); 2]) {
    for number in 0..MESSAGES {
        for (channel, last) in &mut channels {
            let name = channel.capability().name().to_owned();
            channel.send(0, payload(&name, number)).await.expect("it is sent");
            channel.send(*last, payload(&name, number)).await.expect("it is sent");
            remote.send(&local.id(), &name, *last, usize::from(number), "zeros").await;
        }
    }
    for (channel, last) in channels {
        let name = channel.capability().name().to_owned();
        let (mut answers, mut own) = (0, 0);
        while answers < MESSAGES || own < MESSAGES {
            let message = within("a message", channel.recv()).await.expect("the peer lives");
            if message.code == 1 {
                assert_eq!(message.payload, payload(&name, answers), "R2 R6 R14 {name}");
                answers += 1;
            } else {
                assert_eq!((message.code, message.payload), (last, Bytes::from(vec![0; own.into()])), "R2 R6 {name}");
                own += 1;
            }
        }
        for (number, code) in (0..MESSAGES).flat_map(|number| [(number, 0), (number, last)]) {
            let event = remote.expect_where("message", &name, |event| event.text("protocol") == name).await;
            let digest = hex::encode(Sha256::digest(payload(&name, number)));
            assert_eq!((event.number("code"), event.text("sha256")), (Some(code), &*digest), "R2 R6 R14 {name}");
        }
    }
}

fn payload(protocol: &str, number: u8) -> Bytes {
    format!("{number} of {protocol}").into()
}
