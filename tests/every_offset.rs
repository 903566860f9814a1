//! A stream of frames that is cut off, at every byte and in either way. It counts the descriptors of the process, so it
//! is alone in it.

mod support;

use capmux::{Ending, NodeKey, Party, PeerError, Stage};
use support::raw::{Raw, read_to_end};
use support::{dropped, listening, settle, sink, start};
use tokio::io::AsyncWriteExt;

/// How the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    Fin,
    Reset,
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("this is Linux").count()
}

fn assert_typed(ending: &Ending, cut: Cut, is_whole: bool, place: usize) {
    assert_eq!(ending.stage(), Stage::Session, "H30");
    match (cut, ending.error()) {
        (_, PeerError::Closed { inside_message }) if cut == Cut::Fin || *inside_message != is_whole => {
            assert_eq!(*inside_message, !is_whole, "H30 R65: {cut:?} at {place}");
            assert_eq!(ending.by(), Party::Remote, "H30");
        }
        (Cut::Reset, PeerError::Io(_)) => assert_eq!(ending.by(), Party::Network, "H30"),
        (_, error) => panic!("H30: {cut:?} at {place}: {error:?}"),
    }
    assert_eq!(ending.reason(), None, "H30: there is nobody to be told");
}

#[tokio::test]
async fn a_stream_that_ends_anywhere_is_a_typed_error_and_frees_its_descriptor() {
    if !std::path::Path::new("/proc/self/fd").exists() {
        return println!("SKIPPED: there is no /proc");
    }
    let server = start(listening().protocol(sink("aaa", 1))).await;
    let mut events = server.events();
    let mut before = None;
    let mut place = 0;
    loop {
        let mut length = 0;
        for cut in [Cut::Fin, Cut::Reset] {
            let mut raw = Raw::greet(&server, &NodeKey::random(), &[("aaa", 1)]).await;
            let frames = [raw.message(0x10, b""), raw.message(0x10, &[7; 20]), raw.message(0x10, b"last")];
            let mut ends = vec![0];
            ends.extend(frames.iter().scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            }));
            let stream = frames.concat();
            length = stream.len();
            raw.stream.write_all(&stream[..place]).await.unwrap();
            match cut {
                // Who closes with unread bytes resets: what the server says is read first.
                Cut::Fin => {
                    raw.stream.shutdown().await.unwrap();
                    read_to_end(&mut raw.stream).await;
                }
                Cut::Reset => raw.stream.set_zero_linger().unwrap(),
            }
            drop(raw);
            support::added(&mut events).await;
            let (_, ending) = dropped(&mut events).await;
            assert_typed(&ending, cut, ends.contains(&place), place);
            assert!(server.peers().is_empty(), "H30");
            settle().await;
            let now = descriptors();
            assert_eq!(*before.get_or_insert(now), now, "H30: {cut:?} at {place}: the descriptor is released");
        }
        place += 1;
        if place > length {
            return;
        }
    }
}
