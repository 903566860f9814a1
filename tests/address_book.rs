//! The address book in its file, and the lists of other programs (R54, R55, H78).

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use capmux::book::{AddressBook, BookProblem, Flags, FormatError, ImportError, NodeList, Source, State};
use capmux::node::Enr;
use capmux::{NodeAddr, NodeId, NodeKey};
use proptest::prelude::*;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn key(number: u8) -> NodeKey {
    NodeKey::from_bytes(&[number + 1; 32]).expect("a small number is a key")
}

fn node(number: u8) -> NodeAddr {
    let address = format!("{}.1.1.1:30303", 20 + number).parse().expect("an address");
    NodeAddr::new(key(number).public_key(), [address])
}

fn id(number: u8) -> NodeId {
    node(number).node_id()
}

/// 0 to 19 have worked, 18 and 19 are connected, 20 to 39 are new, 40 is persistent, 41 is banned.
fn book() -> AddressBook {
    let mut book = AddressBook::new(1_000, [3; 16]);
    for number in 0..40 {
        book.offer(&node(number), &Source::Local, now()).expect("there is room");
    }
    for number in 0..20 {
        book.connected(&id(number), node(number).addresses.first(), now());
    }
    for number in 0..18 {
        book.disconnected(&id(number), now());
    }
    book.keep(&node(40), Flags::PERSISTENT, now()).expect("there is room");
    book.ban(id(41), now() + Duration::from_secs(3600), now());
    book.ban_subnet("9.9.9.0/24".parse().expect("a network"), now() + Duration::from_secs(3600), now());
    book
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").file_name());
    let mut names: Vec<_> = files.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_saved_book_loads_again_with_bans_and_peers_of_the_last_run_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.json");
    book().save(&path).unwrap();
    book().save(&path).unwrap();
    assert_eq!(names(folder.path()), ["book.json"], "R55: no temporary file is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600, "R55");
    }
    let loaded = AddressBook::load(&path, 1_000);
    assert!(loaded.problem.is_none(), "{:?}", loaded.problem);
    let mut loaded = loaded.book;
    assert_eq!(loaded.len(), 41);
    assert_eq!(loaded.to_json(), book().to_json(), "R54: nothing is lost");
    assert!(loaded.is_banned(&id(41), now()), "R54: a ban survives a restart");
    assert!(!loaded.is_banned(&id(41), now() + Duration::from_secs(3600)), "R54: and ends on time");
    assert!(loaded.is_banned_ip("9.9.9.9".parse().unwrap(), now()), "R54");
    assert_eq!(loaded.find(&id(18), now()).unwrap().state, State::Tried);
    let first = loaded.pick(3, |_| false, now(), &mut fastrand::Rng::with_seed(5));
    let expected = [id(18), id(19), id(40)];
    assert!(first.iter().all(|node| expected.contains(&node.node_id())), "R55 H78: {first:?}");
    // What cannot be reached now is no longer first.
    loaded.failed(&id(18), now());
    assert_eq!(loaded.pick(9, |other| *other != id(18), now(), &mut fastrand::Rng::with_seed(5)), []);
}

#[test]
fn a_smaller_book_keeps_persistent_nodes_and_those_that_have_worked() {
    let parsed = AddressBook::from_json(&book().to_json(), 21).unwrap();
    assert_eq!((parsed.book.len(), parsed.skipped), (21, 20), "R55");
    assert!((0..20).chain([40]).all(|number| parsed.book.find(&id(number), now()).is_some()), "H78");
}

#[test]
fn a_missing_book_is_empty_and_an_unusable_one_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.json");
    let missing = AddressBook::load(&path, 10);
    assert!(missing.book.is_empty() && missing.problem.is_none(), "R55");
    let newer = String::from_utf8(book().to_json()).unwrap().replace("\"version\": 1", "\"version\": 2");
    for content in [&b""[..], b"{", &[0xff; 99], b"[1]", &[b'['; 100_000], newer.as_bytes()] {
        fs::write(&path, content).unwrap();
        let loaded = AddressBook::load(&path, 10);
        let problem = loaded.problem.expect("R55: it is reported");
        assert!(problem.to_string().contains(&path.display().to_string()), "R55: {problem}");
        let BookProblem::Corrupt { moved: Some(moved), .. } = problem else { panic!("R55: {problem:?}") };
        assert!(loaded.book.is_empty() && !path.exists());
        assert_eq!(fs::read(moved).unwrap(), content, "R55: it is kept");
        loaded.book.save(&path).unwrap();
    }
    assert_eq!(names(folder.path()).len(), 6, "R55: the book, and five of the six unusable ones");
    assert!(matches!(AddressBook::from_json(newer.as_bytes(), 10), Err(FormatError::Version(2))));
}

#[test]
fn a_huge_book_is_not_read_nor_is_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.json");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let problem = AddressBook::load(&path, 10).problem;
    assert!(matches!(problem, Some(BookProblem::TooLarge { size, moved: Some(_), .. }) if size == 1 << 40), "R55");
    fs::create_dir(&path).unwrap();
    let problem = AddressBook::load(&path, 10).problem;
    assert!(matches!(problem, Some(BookProblem::Read { moved: None, .. })), "R55: {problem:?}");
    assert!(path.is_dir(), "R55: a folder may be anything, and stays where it is");
}

#[test]
fn a_write_that_fails_leaves_the_old_book_and_what_a_killed_one_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.json");
    book().save(&path).unwrap();
    let old = fs::read(&path).unwrap();
    fs::write(folder.path().join("book.json.0123456789abcdef.tmp"), &old[..99]).unwrap();
    fs::write(folder.path().join("book.json.bak.tmp"), "mine").unwrap();
    assert!(AddressBook::load(&path, 1_000).problem.is_none(), "R55");
    assert_eq!(names(folder.path()), ["book.json", "book.json.bak.tmp"], "R55");
    assert_eq!(fs::read(&path).unwrap(), old, "R55");
    // A folder cannot be replaced by a file.
    let taken = folder.path().join("taken");
    fs::create_dir_all(taken.join("inside")).unwrap();
    assert!(book().save(&taken).is_err());
    assert!(book().save(folder.path().join("nowhere").join("book.json")).is_err());
    assert_eq!(names(folder.path()), ["book.json", "book.json.bak.tmp", "taken"], "R55: no temporary file is left");
}

#[test]
fn single_bad_entries_are_left_out_and_counted() {
    let text = String::from_utf8(book().to_json()).unwrap();
    let text = text.replacen("\"enode://", "\"enode:/", 1).replacen("\"local\"", "7", 3);
    let text = text.replacen("\"on\": \"9.9.9.0/24\"", "\"on\": \"9.9.9.0/99\"", 1);
    let parsed = AddressBook::from_json(text.as_bytes(), 1_000).unwrap();
    assert_eq!((parsed.book.len(), parsed.skipped), (38, 4), "R55: the first is wrong twice");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_it_panic(cut in any::<prop::sample::Index>(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..9), number in "-?[0-9]{1,40}(e[0-9]{1,4})?", depth in 0usize..5_000) {
        let whole = book().to_json();
        let text = String::from_utf8(whole.clone()).expect("JSON is text");
        let nested = "[".repeat(depth) + &"]".repeat(depth);
        let mut damaged = whole;
        for (place, byte) in edits {
            let place = place.index(damaged.len());
            damaged[place] = byte;
        }
        let truncated = damaged[..cut.index(damaged.len())].to_vec();
        let numbers = text.replace("1800000000000", &number).into_bytes();
        let deep = text.replacen("\"local\"", &nested, 2).into_bytes();
        for bytes in [damaged, truncated, numbers, deep] {
            let Ok(parsed) = AddressBook::from_json(&bytes, 30) else { continue };
            let mut book = parsed.book;
            prop_assert!(book.len() <= 30);
            book.failed(&id(3), now());
            book.pick(9, |_| false, now(), &mut fastrand::Rng::with_seed(1));
            book.share(9, &Source::Local, now(), &mut fastrand::Rng::with_seed(1));
            prop_assert_eq!(AddressBook::from_json(&book.to_json(), 30).map(|read| read.book.len()).ok(), Some(book.len()));
        }
    }
}

#[test]
fn lists_of_geth_are_read_and_written() {
    let record = Enr::sign(&key(1), 9, Some("21.1.1.1:30303".parse().unwrap()));
    let unreachable = Enr::sign(&key(2), 1, None);
    let json = format!(
        r#"{{"{}": {{"seq": 9, "record": "{record}", "score": 5000, "lastResponse": "2026-01-01T00:00:00Z"}},
            "{}": {{"seq": 1, "record": "{unreachable}"}}}}"#,
        id(1),
        id(2)
    );
    let list = NodeList::parse(json.as_bytes()).unwrap();
    assert_eq!((list.nodes.len(), list.skipped), (1, 1));
    let mut book = AddressBook::new(100, [0; 16]);
    assert_eq!(book.import(&list, now()), []);
    assert_eq!(book.find(&id(1), now()).unwrap().score, 100);
    let saved = AddressBook::from_json(&book.to_json(), 100).unwrap().book;
    let list = NodeList::parse(&saved.to_nodes_json(now())).unwrap();
    assert_eq!(list.nodes[0].record.as_ref(), Some(&record), "a signed record leaves as it came");

    let (first, second) = (node(1).to_string(), node(2).to_string());
    let lines = format!("# mine\n\n{first} # good\r\n  {second}\n{record}");
    assert_eq!(NodeList::parse(lines.as_bytes()).unwrap().nodes.len(), 3);
    let array = format!("[\"{first}\", \"{second}?discport=0\"]");
    assert_eq!(NodeList::parse(array.as_bytes()).unwrap().nodes.len(), 2);
    assert_eq!(book.to_enode_list(now()), format!("{first}\n"));
}

#[test]
fn an_address_of_one_link_is_not_in_a_list_that_nobody_else_could_read() {
    let mut book = AddressBook::new(100, [0; 16]);
    let near = NodeAddr::new(key(1).public_key(), ["[fe80::1%3]:30303".parse().unwrap()]);
    let both = NodeAddr::new(key(2).public_key(), ["[fe80::1%3]:1", "[fe80::1]:2"].map(|text| text.parse().unwrap()));
    for node in [near, both] {
        book.offer(&node, &Source::Local, now()).unwrap();
    }
    let list = NodeList::parse(book.to_enode_list(now()).as_bytes()).expect("what is written can be read");
    let nodes: Vec<String> = list.nodes.iter().map(|listed| listed.node.to_string()).collect();
    assert_eq!(nodes, [format!("enode://{}@[fe80::1]:2", key(2).public_key())]);
    let saved = AddressBook::from_json(&book.to_json(), 100).unwrap().book;
    assert_eq!(saved.len(), 2, "R55: the book keeps them");
}

#[test]
fn what_is_wrong_with_a_list_is_named_with_its_place() {
    let error = |text: &str| NodeList::parse(text.as_bytes()).unwrap_err();
    let good = node(1);
    assert!(matches!(error(&format!("{good}\n\nenode://x")), ImportError::Line { line: 3, .. }));
    assert!(matches!(error(&format!("[\"{good}\", \"x\"]")), ImportError::Element { index: 1, .. }));
    assert!(matches!(error("[1]"), ImportError::Json(_)));
    assert!(matches!(NodeList::parse(&[0xff]), Err(ImportError::NotText)));
    let record = Enr::sign(&key(1), 9, None);
    let entry = |id: NodeId, seq: u32| format!("{{\"{id}\": {{\"seq\": {seq}, \"record\": \"{record}\"}}}}");
    let other = error(&entry(id(2), 9)).to_string();
    assert!(other.contains(&id(2).to_string()) && other.contains(&id(1).to_string()), "{other}");
    assert!(error(&entry(id(1), 8)).to_string().contains("seq is 8, but the record has 9"));
}
