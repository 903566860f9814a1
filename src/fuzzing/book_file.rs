//! The file of an address book, and the lists of other programs.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arbitrary::{Result, Unstructured};

use super::choice;
use crate::NodeId;
use crate::book::{AddressBook, Known, NodeList, Source, State};

/// A file: a book that is read stays within its bounds whatever the time is, tells nobody of what is private or banned,
/// and loses neither bans nor what the user wants when it is written and read again. Returns 1 when there are nodes in
/// it.
///
/// The input: the capacity less 1 (1 byte), the time in milliseconds (8 bytes), and the file.
pub fn book_file(data: &[u8]) -> usize {
    read(&mut Unstructured::new(data)).unwrap_or(0)
}

fn read(input: &mut Unstructured<'_>) -> Result<usize> {
    let capacity = 1 + usize::from(choice(input, 64)?);
    let millis = u64::from_be_bytes(input.arbitrary()?);
    let now = UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH);
    let file = input.bytes(input.len())?;
    match NodeList::parse(file) {
        Ok(list) => {
            let mut book = AddressBook::new(capacity, [0; 16]);
            let refused = book.import(&list, now).len();
            assert!(book.len() <= capacity && book.len() <= list.nodes.len() && refused <= list.nodes.len());
            check_lists(&book, now);
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "control characters are shown"),
    }
    match AddressBook::from_json(file, capacity) {
        Ok(parsed) => {
            check_written(&parsed.book, capacity, now);
            check_lists(&parsed.book, now);
            let count = parsed.book.len();
            check_used(parsed.book, capacity, now);
            Ok(usize::from(count > 0))
        }
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "control characters are shown");
            Ok(0)
        }
    }
}

/// What is written can be read. Who competes for a place may find it taken by another one then; who does not, keeps it.
fn check_written(book: &AddressBook, capacity: usize, now: SystemTime) {
    let again = AddressBook::from_json(&book.to_json(), capacity).expect("it was written by this program");
    for known in book.iter(now) {
        let found = again.book.find(&known.node.node_id(), now);
        let is_wanted = known.flags.is_persistent || known.flags.is_private;
        assert!(!is_wanted || found.as_ref() == Some(&known), "{known:?} was written, and {found:?} read");
        assert!(found.is_none_or(|found| found.state == known.state), "{known:?}");
    }
    let lost = book.iter(now).filter(|known| again.book.find(&known.node.node_id(), now).is_none()).count();
    assert_eq!(lost, again.skipped, "what is lost is counted, and no ban is");
}

/// The lists that are made of it can be read, and tell of nobody who is private or banned.
fn check_lists(book: &AddressBook, now: SystemTime) {
    for list in [book.to_nodes_json(now), book.to_enode_list(now).into_bytes()] {
        let text = || String::from_utf8_lossy(&list).into_owned();
        let read = NodeList::parse(&list).unwrap_or_else(|error| panic!("{error}: {}", text()));
        for listed in read.nodes {
            let known = book.find(&listed.node.node_id(), now).expect("it is in the book");
            assert!(!known.flags.is_private && known.state != State::Banned, "R48: {known:?}");
        }
    }
}

fn check_used(mut book: AddressBook, capacity: usize, now: SystemTime) {
    let mut random = fastrand::Rng::with_seed(7);
    let stranger = NodeId::from_bytes([7; 32]);
    for time in [now, UNIX_EPOCH, now] {
        book.ban(stranger, now, time);
        check_bounds(&book, capacity, time);
        let ids = |is_meant: &dyn Fn(&Known) -> bool| -> BTreeSet<NodeId> {
            book.iter(time).filter(is_meant).map(|known| known.node.node_id()).collect()
        };
        let banned = ids(&|known| known.state == State::Banned);
        let hidden = ids(&|known| known.state == State::Banned || known.flags.is_private);
        let shared = book.share(capacity, &Source::Local, time, &mut random);
        assert!(shared.iter().all(|node| !hidden.contains(&node.node_id())), "R48");
        let picked = book.pick(capacity, |_| false, time, &mut random);
        assert!(picked.iter().all(|node| !banned.contains(&node.node_id())), "R54");
        for node in picked {
            book.tried(&node.node_id(), time);
            book.failed(&node.node_id(), time);
        }
        check_bounds(&book, capacity, time);
    }
}

fn check_bounds(book: &AddressBook, capacity: usize, now: SystemTime) {
    assert!(book.len() <= capacity, "R55");
    for known in book.iter(now) {
        assert!((1..=8).contains(&known.node.addresses.len()) && (-100..=100).contains(&known.score), "{known:?}");
        let times = [Some(known.added), known.last_tried, known.last_connected, known.last_failed];
        assert!(times.into_iter().flatten().all(|time| time <= now), "nothing lies in the future: {known:?}");
    }
}
