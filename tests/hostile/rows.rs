//! Everything that a hostile or unusual peer may do, by its number, with the bound that holds for it and where that is
//! shown.

use std::fs;
use std::path::Path;

use crate::{cases, dialled, flow, handlers, handshake, life, memory, nodes, refusal, session, shutdown, sockets};

/// What a peer does, and where the answer is asserted.
struct Row {
    number: u32,
    bound: &'static str,
    /// Tests of this suite, which do it fifty times.
    here: &'static [fn()],
    /// Whether the conformance suite has cases of it, which are run fifty times here.
    has_cases: bool,
    /// The files of other tests and their names: what takes a process of its own, or far more than fifty.
    elsewhere: &'static [(&'static str, &'static str)],
}

const fn row(number: u32, bound: &'static str) -> Row {
    Row { number, bound, here: &[], has_cases: false, elsewhere: &[] }
}

impl Row {
    const fn here(self, here: &'static [fn()]) -> Self {
        Self { here, ..self }
    }

    const fn cases(self) -> Self {
        Self { has_cases: true, ..self }
    }

    const fn elsewhere(self, elsewhere: &'static [(&'static str, &'static str)]) -> Self {
        Self { elsewhere, ..self }
    }

    /// A part of capmux that is not there yet.
    fn is_to_come(&self) -> bool {
        ROWS_TO_COME.contains(&self.number)
    }
}

/// There is no discovery over UDP, and no administration over RPC.
const ROWS_TO_COME: [u32; 2] = [73, 79];

const ROWS: &[Row] = &[
    row(1, "closed at 5 s, 8 KiB of heap")
        .here(&[
            handshake::silent_connections_are_closed_at_five_seconds,
            memory::connections_without_a_proof_take_8_kib_each,
        ])
        .elsewhere(&[("tests/silent.rs", "a_silent_connection_takes_8_kib_of_heap_at_most")]),
    row(2, "closed at the same absolute 5 s").here(&[handshake::an_auth_at_a_byte_a_second_is_closed_at_five_seconds]),
    row(3, "closed; below 113 bytes before any curve operation").here(&[
        handshake::auths_of_any_size_up_to_200_are_closed_at_once,
        refusal::a_refusal_costs_one_multiplication_at_the_most,
    ]),
    row(4, "closed after the two size bytes").here(&[handshake::sizes_above_2048_are_closed_after_the_two_bytes]),
    row(5, "closed; an eighth of an ECDH, 5 us")
        .here(&[handshake::bad_points_are_closed_at_once, refusal::a_refusal_costs_one_multiplication_at_the_most]),
    row(6, "closed").here(&[handshake::bad_points_are_closed_at_once]),
    row(8, "closed, at 5 s at the latest").here(&[handshake::a_flipped_byte_is_closed_without_an_answer]),
    row(9, "closed as H5, after one ECDH").here(&[
        handshake::a_bad_tag_is_closed_like_a_bad_point,
        refusal::a_refusal_costs_one_multiplication_at_the_most,
    ]),
    row(10, "closed, no ack").here(&[handshake::bodies_that_are_no_list_or_hold_no_keys_are_closed_without_an_ack]),
    row(11, "closed, no ack").here(&[handshake::bodies_that_are_no_list_or_hold_no_keys_are_closed_without_an_ack]),
    row(12, "connected").here(&[handshake::newer_versions_are_connected]),
    row(16, "ConnectedToSelf").here(&[handshake::an_auth_with_our_own_key_is_refused_as_what_it_is]),
    row(17, "a handshake error, no identity").here(&[dialled::bad_acks_end_the_dial_without_an_identity]),
    row(18, "the dial fails at 5 s, its slot is free")
        .here(&[dialled::a_node_that_never_acks_ends_the_dial_at_five_seconds]),
    row(19, "50 pending at the most, honest peers go on")
        .here(&[sockets::of_silent_sockets_fifty_have_descriptors])
        .elsewhere(&[("tests/flood.rs", "ten_thousand_silent_sockets_disturb_nobody")]),
    row(20, "closed unread for 30 s, trusted peers exempt")
        .here(&[life::the_same_address_again_is_closed_unread_for_thirty_seconds]),
    row(21, "closed, the body unread").cases(),
    row(22, "closed, no handler called").cases(),
    row(23, "D0x02").cases(),
    row(24, "closed at its header, nothing allocated").here(&[memory::first_frames_that_are_too_large_take_nothing]),
    row(25, "closed at 30 s; 64 KiB, and then twice what has come").here(&[
        session::a_frame_that_never_comes_whole_is_closed_at_thirty_seconds,
        memory::frames_that_announce_sixteen_mebibytes_take_what_has_come,
    ]),
    row(26, "ignored").cases(),
    row(27, "closed").cases(),
    row(29, "the same messages").cases(),
    row(30, "a typed error, the descriptor is released")
        .here(&[
            sockets::streams_that_end_anywhere_release_their_descriptors,
            sockets::strangers_that_hang_up_or_talk_nonsense_release_their_descriptors,
        ])
        .elsewhere(&[(
            "tests/every_offset.rs",
            "a_stream_that_ends_anywhere_is_a_typed_error_and_frees_its_descriptor",
        )]),
    row(32, "D0x02, nothing allocated")
        .cases()
        .elsewhere(&[("tests/allocations.rs", "a_declared_uncompressed_size_takes_no_memory")]),
    row(34, "the receive budget, and 2 MiB for each peer")
        .here(&[memory::sixteen_mebibytes_of_zeros_a_hundred_times_stay_within_the_budget])
        .elsewhere(&[("tests/memory.rs", "a_hundred_times_16_mib_of_zeros_stay_within_the_budget_and_leave_nothing")]),
    row(35, "D0x02").here(&[memory::blocks_that_lie_about_their_length_hold_nothing_of_the_budget]).cases(),
    row(37, "bounded depth and heap").cases(),
    row(38, "D0x02").cases(),
    row(39, "closed at 5 s").here(&[session::who_says_no_hello_is_closed_at_five_seconds]),
    row(40, "D0x02, from the header").cases(),
    row(41, "D0x07").cases(),
    row(42, "D0x09").cases(),
    row(43, "D0x0a").cases(),
    row(45, "accepted").cases(),
    row(47, "64 Pongs, then D0x02")
        .here(&[session::a_flood_of_pings_gets_few_pongs_and_an_end])
        .elsewhere(&[("tests/session.rs", "a_flood_of_pings_or_pongs_ends_the_session")]),
    row(48, "D0x02, O(1) memory")
        .here(&[session::large_pings_and_pongs_end_the_connection, memory::a_flood_of_pongs_takes_no_memory]),
    row(49, "D0x0b at 35 s").here(&[session::who_never_says_pong_is_told_at_thirty_five_seconds]),
    row(50, "closed, the reason is shown")
        .cases()
        .elsewhere(&[("tests/session.rs", "a_disconnect_is_understood_in_every_form_and_phase")]),
    row(51, "ignored, and too many D0x02").cases(),
    row(52, "closed within 2 s").here(&[session::who_ignores_a_disconnect_is_closed_within_two_seconds]),
    row(53, "D0x03").cases(),
    row(54, "the offsets that geth would compute, or D0x02").cases(),
    row(56, "D0x02").cases(),
    row(57, "D0x10, that peer alone").here(&[handlers::a_malformed_body_ends_that_peer_alone]),
    row(58, "D0x10, that peer alone").here(&[handlers::a_handler_that_panics_ends_that_peer_alone]),
    row(59, "one Disconnect, no sibling left").here(&[handlers::a_handler_that_returns_leaves_no_sibling]),
    row(60, "reading pauses when the inbox is full").here(&[flow::a_flood_at_a_slow_handler_is_held_back]),
    row(61, "a bounded queue, SendError::Full, closed at 20 s")
        .here(&[flow::peers_that_read_nothing_of_a_gibibyte_are_closed_at_twenty_seconds]),
    row(62, "D0x10, before decoding").here(&[handlers::answers_to_nothing_and_bad_counts_are_refused]),
    row(63, "one connection survives, the same at both ends")
        .here(&[life::of_two_dials_at_once_one_connection_survives])
        .elsewhere(&[("tests/simultaneous.rs", "one_connection_survives_and_it_is_the_same_at_both_ends")]),
    row(64, "D0x04; outbound and trusted peers connect")
        .here(&[life::with_all_inbound_places_taken_outbound_and_trusted_peers_connect]),
    row(66, "5 accepts a second, then recovery")
        .elsewhere(&[("tests/descriptors.rs", "without_descriptors_it_accepts_five_times_a_second_and_recovers")]),
    row(67, "reconnected within the cap of 10 minutes")
        .here(&[life::persistent_peers_that_are_down_for_an_hour_come_back]),
    row(68, "35 s between redials").here(&[life::persistent_peers_that_refuse_are_left_alone_for_35_seconds]),
    row(69, "noticed within 35 s").here(&[life::a_half_open_connection_is_noticed_within_35_seconds]),
    row(71, "D0x08, joined within 3 s, no descriptor or task left")
        .here(&[
            shutdown::fifty_shutdowns_under_load_leave_no_task,
            shutdown::fifty_shutdowns_with_open_sockets_leave_no_descriptor,
        ])
        .elsewhere(&[("tests/shutdown.rs", "a_shutdown_under_load_tells_every_peer_and_leaves_no_descriptor")]),
    row(73, "not one byte of neighbours"),
    row(75, "2 in a bucket, 10 in a table")
        .here(&[nodes::one_network_gets_ten_places_in_the_book])
        .elsewhere(&[("src/book/tests.rs", "one_network_gets_ten_places_however_many_ids_it_has")]),
    row(77, "not dialled").here(&[nodes::useless_addresses_from_a_public_source_are_not_dialled]),
    row(78, "persistent nodes and bootnodes are dialled").here(&[
        nodes::persistent_nodes_and_bootnodes_are_dialled_whatever_the_book_holds,
        nodes::an_attacker_who_comes_by_himself_keeps_no_node_from_its_bootnodes,
    ]),
    row(79, "off, or authenticated"),
    row(80, "an error, the file as it was")
        .here(&[nodes::key_files_that_are_open_or_corrupt_are_errors_and_stay_as_they_are]),
    row(81, "escaped, 64 characters").here(&[nodes::hostile_client_ids_are_escaped_and_cut_wherever_they_are_shown]),
    row(83, "no secret bytes").here(&[nodes::no_value_shows_its_secrets]),
];

/// A bound that is promised, the figure, and where it is shown.
type Promise = (&'static str, &'static str, &'static [fn()], &'static [(&'static str, &'static str)]);

const PROMISES: &[Promise] = &[
    ("heap per connection before authentication", "8 KiB", &[memory::connections_without_a_proof_take_8_kib_each], &[]),
    ("pending inbound connections", "50", &[sockets::of_silent_sockets_fifty_have_descriptors], &[]),
    ("encryption handshake", "5 s", &[handshake::silent_connections_are_closed_at_five_seconds], &[]),
    ("then Hello", "5 s", &[session::who_says_no_hello_is_closed_at_five_seconds], &[]),
    (
        "CPU for a malformed point, or a bad tag",
        "5 us, one ECDH",
        &[refusal::a_refusal_costs_one_multiplication_at_the_most],
        &[],
    ),
    ("base protocol message", "2 KiB", &[session::large_pings_and_pongs_end_the_connection], &[]),
    (
        "heap per peer",
        "2 x its largest message + 2 MiB, each way",
        &[],
        &[("tests/memory.rs", "a_hundred_times_16_mib_of_zeros_stay_within_the_budget_and_leave_nothing")],
    ),
    (
        "heap for what waits of all peers",
        "256 MiB",
        &[memory::sixteen_mebibytes_of_zeros_a_hundred_times_stay_within_the_budget],
        &[],
    ),
    ("descriptors", "peers + pending + dials + 8", &[sockets::of_silent_sockets_fifty_have_descriptors], &[]),
    ("idle read", "60 s", &[], &[("tests/liveness.rs", "a_connection_without_a_byte_is_given_up_whatever_else")]),
    ("write stall", "20 s", &[flow::peers_that_read_nothing_of_a_gibibyte_are_closed_at_twenty_seconds], &[]),
    ("ping after, pong within", "15 s, 20 s", &[life::a_half_open_connection_is_noticed_within_35_seconds], &[]),
    ("Disconnect grace", "2 s", &[session::who_ignores_a_disconnect_is_closed_within_two_seconds], &[]),
    ("shutdown", "3 s", &[shutdown::fifty_shutdowns_under_load_leave_no_task], &[]),
];

/// Fails unless the file has such a test.
fn assert_there(&(file, test): &(&str, &str), what: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{what}: {}: {error}", path.display()));
    assert!(text.contains(&format!("fn {test}()")), "{what}: {file} has no test {test}");
    assert!(!what.starts_with('H') || text.contains(what), "{what}: {file} does not name it");
}

#[test]
fn every_row_has_a_test_that_is_there() {
    for row in ROWS {
        let name = format!("H{}", row.number);
        assert!(!row.bound.is_empty(), "{name}");
        row.elsewhere.iter().for_each(|place| assert_there(place, &name));
        let are_run = cases::ROWS.iter().any(|rows| rows.contains(&&*name)) && !cases::of(&name).is_empty();
        assert_eq!(row.has_cases, are_run, "{name}: the suite has cases of it, which are run");
        let is_shown = !row.here.is_empty() || row.has_cases || !row.elsewhere.is_empty();
        assert_ne!(is_shown, row.is_to_come(), "{name}: {}", row.bound);
    }
    assert!(ROWS.is_sorted_by_key(|row| row.number), "in their order, each once");
    assert_eq!(ROWS.len(), 66);
}

#[test]
fn every_promise_has_a_test_that_is_there() {
    for (promise, figure, here, elsewhere) in PROMISES {
        elsewhere.iter().for_each(|place| assert_there(place, promise));
        assert!(!here.is_empty() || !elsewhere.is_empty(), "{promise}: {figure}");
    }
}
