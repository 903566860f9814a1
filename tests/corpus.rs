//! Runs every fuzz target over its corpus, so that what fuzzing has found stays fixed without a nightly compiler.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use capmux::fuzzing::Target;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let name = |entry: io::Result<DirEntry>| entry.expect("the entry is read").file_name().into_string();
    let mut names: Vec<String> = entries.map(|entry| name(entry).expect("names are text")).collect();
    names.sort();
    names
}

/// How often each file of a corpus got through, by name.
fn replay(name: &str, target: Target) -> Vec<(String, usize)> {
    let directory = fuzz().join("corpus").join(name);
    let run = |file: String| {
        eprintln!("{name}/{file}");
        let reached = target(&fs::read(directory.join(&file)).expect("the file is read"));
        (file, reached)
    };
    names(&directory).into_iter().map(run).collect()
}

/// The targets of this crate, of the protocols and of the model.
fn targets() -> impl Iterator<Item = (&'static str, Target)> {
    use capmux_conformance::fuzzing as conformance;
    use capmux_gossip::fuzzing as gossip;
    use capmux_kv::fuzzing as kv;
    use capmux_pex::fuzzing as pex;
    [capmux::fuzzing::TARGETS, conformance::TARGETS, gossip::TARGETS, kv::TARGETS, pex::TARGETS]
        .into_iter()
        .flatten()
        .copied()
}

fn target(name: &str) -> Target {
    targets().find(|(candidate, _)| *candidate == name).expect("the target exists").1
}

#[test]
fn every_corpus_holds_and_gets_behind_the_first_checks() {
    for (name, target) in targets() {
        let reached = replay(name, target);
        assert!(!reached.is_empty(), "{name} has no corpus");
        assert!(reached.iter().any(|(_, reached)| *reached > 0), "nothing in the corpus of {name} gets through");
        assert!(reached.iter().any(|(_, reached)| *reached == 0), "everything in the corpus of {name} gets through");
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<String> = targets().map(|(name, _)| name.to_owned()).collect();
    let corpora: BTreeSet<String> = names(&fuzz().join("corpus")).into_iter().collect();
    assert_eq!(corpora, targets);
    let programs = names(&fuzz().join("fuzz_targets"));
    assert_eq!(programs, targets.iter().map(|name| format!("{name}.rs")).collect::<Vec<_>>());
}

#[test]
fn the_frame_corpus_gets_past_both_macs() {
    let opened = replay("frame_decoder", target("frame_decoder"));
    let of = |name: &str| opened.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no seed {name}")).1;
    assert_eq!(of("three_frames_at_once"), 3);
    assert_eq!(of("three_frames_byte_by_byte"), 3);
    assert_eq!(of("odd_header_data"), 1, "H26");
    // The damage is where it should be: behind frames that opened, in the header or in the content.
    assert_eq!(of("header_flipped"), 1, "H21");
    assert_eq!(of("content_flipped"), 1, "H22");
    assert_eq!(of("tag_flipped"), 2, "H22");
    assert_eq!(of("replayed"), 1, "H27");
    assert_eq!(of("swapped"), 1, "H27");
    assert_eq!(of("left_out"), 1, "H27");
    assert_eq!(of("flipped_and_flipped_back"), 3);
    assert_eq!(of("raw_bytes_only"), 0);
}

#[test]
fn the_handshake_corpora_get_behind_the_encryption() {
    for name in ["auth", "ack"] {
        let reached = replay(name, target(name));
        let of =
            |name: &str| reached.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no seed {name}")).1;
        assert_eq!(of("valid"), 1);
        assert_eq!(of("valid_byte_by_byte"), 1);
        assert_eq!(of("body_deeply_nested"), 1, "H10");
        assert_eq!(of("body_with_long_padding"), 1, "H12");
        assert_eq!(of("ciphertext_flipped"), 0, "H8");
        assert_eq!(of("point_off_the_curve"), 0, "H5");
        assert_eq!(of("raw_size_65535"), 0, "H4");
    }
}

#[test]
fn the_session_corpus_gets_messages_whole_and_stops_where_it_should() {
    let delivered = replay("session", target("session"));
    let of = |name: &str| delivered.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no seed {name}")).1;
    assert_eq!(of("chunks"), 5, "R19");
    assert_eq!(of("chunks_uncompressed"), 5, "R19");
    assert_eq!(of("chunks_not_agreed_on"), 2, "R19: and chunks are not sent");
    assert_eq!(of("message_between_chunks"), 0, "R19");
    assert_eq!(of("over_the_message_rate"), 64, "R28: three at once, two a second for 30 s, and the last");
    assert_eq!(of("frames_one_after_the_other"), 1, "H25");
}

#[test]
fn the_corpus_of_files_has_books_with_nodes() {
    let read = replay("book_file", target("book_file"));
    let of = |name: &str| read.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no seed {name}")).1;
    for name in ["book_of_two", "book_private", "book_last_run", "book_record", "book_bans"] {
        assert_eq!(of(name), 1, "R55: {name}");
    }
    assert_eq!(of("book_far_future"), 1, "R54: no number is too large");
    assert_eq!(of("book_version_2") + of("list_of_records"), 0, "R55");
}

#[test]
fn the_corpora_of_the_state_machines_do_what_they_are_named_for() {
    for (name, seeds) in [
        ("address_book", &[("filled", 16), ("own_id", 0), ("banned", 1), ("persistent", 1)][..]),
        ("chunking", &[("in_turns", 2), ("largest", 1), ("one_byte_too_large", 0)]),
        ("claims", &[("both_at_once", 1), ("two_crossed", 1), ("two_first_come", 1)]),
        ("differential", &[("frames_both_ways", 6), ("frames_both_ways_model_dials", 6), ("hello", 1), ("damaged", 1)]),
        ("dial_schedule", &[("asked", 2), ("persistent", 4), ("feeler", 3)]),
        ("gate", &[("again_after_a_while", 2), ("peers_count", 2)]),
        ("gossip", &[("once", 2), ("forgotten", 3)]),
        ("kv_store", &[("put_and_read", 1), ("full", 1)]),
        ("negotiation", &[("several_versions", 1), ("several_names", 3), ("past_the_table", 3), ("twice", 0)]),
        ("pex_pace", &[("in_time", 2), ("too_soon", 2)]),
        ("round_robin", &[("one_queue", 3), ("ten_to_one", 128)]),
        ("typed", &[("asked_and_answered", 1), ("answered_twice", 1), ("too_late", 0), ("messages", 3)]),
    ] {
        let reached = replay(name, target(name));
        for seed in seeds {
            let found = reached.iter().find(|(file, _)| file == seed.0).unwrap_or_else(|| panic!("no seed {}", seed.0));
            assert_eq!(found.1, seed.1, "{name}/{}", seed.0);
        }
    }
}
