//! Lists that lie about their length, are nested without end, or hold nothing many times over: what reading them takes.

use allocation_counter::measure;
use capmux::testing::{drive, expect_message, manual};
use capmux::{Message, Protocol};

/// A list that holds this, which is between 64 KiB and 16 MiB.
fn list(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&[0xfa][..], &length[1..], content].concat()
}

/// Lists in one another, so many levels deep: each begins with the length of all that follows.
fn nested(levels: usize) -> Vec<u8> {
    let (mut headers, mut length) = (Vec::new(), 1_usize);
    for _ in 0..levels {
        let digits = (length as u32).to_be_bytes();
        let skipped = digits.iter().take_while(|digit| **digit == 0).count();
        let header = match length {
            0..56 => vec![0xc0 + length as u8],
            _ => [&[0xf7 + (4 - skipped) as u8], &digits[skipped..]].concat(),
        };
        length += header.len();
        headers.push(header);
    }
    headers.reverse();
    [headers.concat(), vec![0xc0]].concat()
}

/// The payload as a handler gets it.
async fn received(payload: Vec<u8>) -> Message {
    let (protocol, mut opened) = manual("test", 1, 1);
    let large = |protocol: Protocol| protocol.max_message_size(16 * 1024 * 1024 - 1);
    let other = drive("test", 1, 1, large(protocol)).await;
    let (_, mut channel) = opened.next().await;
    other.channel.send(0, payload).await.expect("it is within the limits");
    expect_message(&mut channel, 0).await
}

#[tokio::test]
async fn hostile_lists_take_neither_stack_nor_heap() {
    for (what, payload) in [
        ("a list of 2^64 - 1 bytes", [&[0xff; 9][..], &[0; 100]].concat()),
        ("250,000 lists in one another", nested(250_000)),
        ("a million empty lists", list(&vec![0xc0; 1_000_000])),
    ] {
        let message = received(payload).await;
        let used = measure(|| {
            assert!(message.decode::<u64>().is_err(), "H37: {what}");
            assert!(message.decode::<String>().is_err(), "H37: {what}");
        });
        assert!(used.bytes_max < 1024, "H37: {what} took {used:?}");
    }
}
