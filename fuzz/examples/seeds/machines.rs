//! State machines: operations one after the other.

use super::{Seed, field};

pub fn chunking() -> Vec<Seed> {
    // The protocol, the operation, the length of a piece less 1; and for a new message its code and its size.
    let send = |place: u8, piece: u16| [&[place, 0], &piece.to_be_bytes()[..]].concat();
    let first = |place: u8, piece: u16, size: u16| [send(place, piece), vec![0], size.to_be_bytes().to_vec()].concat();
    let forge = |place: u8, kind: u8, size: u16, piece: &[u8]| {
        [&[place, 6, kind, 0], &size.to_be_bytes()[..], &field(piece)].concat()
    };
    let raw = |kind: u8, data: &[u8]| [&[0, 7, kind], data].concat();
    let pass: &[u8] = &[0, 5, 0xff, 0xff];
    vec![
        ("one_message", first(0, 100, 8)),
        (
            "in_turns",
            [first(0, 5, 8), first(1, 1000, 999), send(0, 5), first(2, 60_000, 7), send(1, 2000), send(0, 50)].concat(),
        ),
        ("largest", [first(2, 65_000, 7), send(2, 65_000), send(2, 65_000), send(2, 65_000)].concat()),
        ("one_byte_too_large", first(0, 100, 14)),
        ("time_passes", [&first(1, 10, 999)[..], pass, pass, &first(2, 10, 999), &send(1, 4000)].concat()),
        ("forged_first", forge(0, 0, 5, b"abcde")),
        ("forged_first_of_nothing", forge(0, 0, 0, b"a")),
        ("forged_more", forge(0, 1, 0, b"abc")),
        ("forged_more_of_a_message", [first(0, 5, 8), forge(0, 1, 0, b"abc")].concat()),
        ("forged_first_in_between", [first(0, 5, 8), forge(0, 0, 9, b"abc")].concat()),
        ("forged_empty_piece", [first(0, 5, 8), forge(0, 1, 0, b"")].concat()),
        ("raw_first", raw(0, b"\xc4\x10\x03\x81\xff")),
        ("raw_number_with_a_header", raw(0, b"\xc4\x81\x10\x02a")),
        ("raw_text_with_a_header", raw(0, b"\xc4\x10\x02\x81a")),
        ("raw_item_too_many", raw(0, b"\xc4\x10\x02a\x05")),
        ("raw_list_for_a_piece", raw(0, b"\xc3\x10\x02\xc0")),
        ("raw_no_list", raw(1, b"\x83abc")),
    ]
}

/// Whether chunking is enabled, the times 15, 20, 60 and 30 s, 10 messages a second, 20 at once; these protocols, each
/// a name, a version, and a length of which kind; and these capabilities.
fn offer(chunking: u8, protocols: &[&[u8]], capabilities: &[[u8; 2]]) -> Vec<u8> {
    let times: Vec<u8> = [15_000u64, 20_000, 60_000, 30_000].iter().flat_map(|time| time.to_le_bytes()).collect();
    let protocols = [&[protocols.len() as u8], &protocols.concat()[..]].concat();
    let capabilities = [&[capabilities.len() as u8], &capabilities.concat()[..]].concat();
    [vec![chunking], times, vec![10, 20], protocols, capabilities].concat()
}

pub fn negotiations() -> Vec<Seed> {
    let (eth, bzz, snap, chunk) = (0, 1, 2, 3);
    let mut no_rate = offer(0, &[], &[]);
    no_rate[33..35].fill(0);
    let mut ping_past_idle = offer(0, &[], &[]);
    ping_past_idle[1..9].copy_from_slice(&40_000u64.to_le_bytes());
    let mut no_time = offer(0, &[], &[]);
    no_time[17..25].fill(0);
    vec![
        ("several_versions", offer(0, &[&[eth, 1, 3, 4], &[eth, 2, 3, 5]], &[[eth, 2], [eth, 1], [eth, 3]])),
        (
            "several_names",
            offer(
                1,
                &[&[snap, 1, 3, 4], &[bzz, 1, 3, 2], &[eth, 4, 3, 9]],
                &[[eth, 4], [bzz, 1], [snap, 1], [chunk, 1]],
            ),
        ),
        ("nothing_shared", offer(0, &[&[snap, 1, 3, 4]], &[[snap, 2], [bzz, 1]])),
        ("past_the_table", offer(0, &[&[eth, 1, 2], &[snap, 1, 2], &[bzz, 1, 2]], &[[eth, 1], [bzz, 1], [snap, 1]])),
        ("twice", offer(0, &[&[eth, 1, 3, 4], &[eth, 1, 3, 5]], &[])),
        ("no_codes", offer(0, &[&[eth, 1, 1]], &[])),
        ("too_many_codes", offer(0, &[&[eth, 1, 0, 0], &[bzz, 1, 3, 5]], &[])),
        ("reserved", offer(1, &[&[chunk, 1, 3, 4]], &[])),
        ("no_rate", no_rate),
        ("ping_past_idle", ping_past_idle),
        ("no_time", no_time),
    ]
}

pub fn turns() -> Vec<Seed> {
    // A queue, how many less 1, their size less 1, times two how often; and 5, how many are sent less 1.
    let come = |queue: u8, count: u8, size: u16, doubled: u8| {
        [&[queue, count - 1], &size.to_be_bytes()[..], &[doubled]].concat()
    };
    let sent = |count: u8| vec![5, count - 1];
    vec![
        ("one_queue", [vec![0, 9], come(0, 3, 100, 0), sent(5)].concat()),
        ("two_alike", [vec![1, 0, 0], come(0, 64, 100, 0), come(1, 64, 100, 0), sent(64), sent(64)].concat()),
        ("ten_to_one", [vec![1, 9, 0], come(0, 64, 100, 0), come(1, 64, 1000, 0), sent(64), sent(64)].concat()),
        (
            "large_and_small",
            [vec![2, 0, 0, 0], come(0, 3, 0xffff, 7), come(1, 64, 99, 0), come(2, 9, 999, 2), sent(64)].concat(),
        ),
        ("nothing", vec![0]),
        ("alone_for_a_while", [vec![1, 0, 0], come(0, 9, 9999, 4), sent(5), come(1, 64, 100, 0), sent(64)].concat()),
    ]
}

pub fn gates() -> Vec<Seed> {
    let limits: &[u8] = &[9, 1, 2, 0];
    let strict: &[u8] = &[1, 0, 0, 1];
    let come = |address: u8| vec![0, address];
    let (settle, end, half_minute): (&[u8], &[u8], &[u8]) = (&[7, 0], &[9, 0], &[11, 255]);
    let told = [&[15, 0][..], &[15, 0], &[11, 8], &[15, 0]].concat();
    vec![
        ("one_of_each", [limits, &(0..16).flat_map(come).collect::<Vec<_>>()].concat()),
        ("strict", [strict, &(0..16).flat_map(come).collect::<Vec<_>>()].concat()),
        ("again_after_a_while", [limits, &come(0), end, &come(0), half_minute, &come(0)].concat()),
        ("peers_count", [limits, &come(0), settle, half_minute, &come(0), settle, half_minute, &come(0)].concat()),
        ("exempt", [limits, &[14, 1], &come(0), &come(0), &[14, 0], &come(0), &come(0)].concat()),
        ("other_limits", [limits, &come(0), &come(4), &[13, 0], strict, &come(5)].concat()),
        ("told", [limits, &told[..]].concat()),
    ]
}

pub fn claims() -> Vec<Seed> {
    // The operation, the node, the connection.
    let one = |operations: &[[u8; 3]]| [&[0], &operations.concat()[..]].concat();
    let two = |kind: u8, smaller: u8, steps: &[u8]| [&[1, kind, smaller], steps].concat();
    let (dial, over, out, inward) = ([0, 1, 0], [1, 1, 0], [2, 1, 0], [3, 1, 0]);
    let on = |operation: u8, connection: u8| [operation, 1, connection];
    vec![
        ("one_dial", one(&[dial, out, on(7, 0), over, on(9, 0)])),
        ("one_comes", one(&[inward, on(7, 0), out, on(4, 0), on(7, 0)])),
        ("both_at_once", one(&[dial, out, inward, on(4, 1), on(7, 0), on(9, 1), on(9, 0)])),
        ("patience_is_over", one(&[inward, dial, out, on(6, 1), on(4, 0), on(7, 1), on(9, 1)])),
        ("the_dial_waits", one(&[inward, dial, out, on(9, 0), on(7, 0)])),
        ("two_in_order", two(1, 0, &[0; 30])),
        ("two_crossed", two(1, 0, &[0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1])),
        ("two_crossed_other_ids", two(1, 1, &[0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1])),
        ("two_first_come", two(0, 0, &[0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1])),
        ("two_last_first", two(1, 1, &[255; 30])),
        ("nothing", vec![0]),
    ]
}

pub fn schedules() -> Vec<Seed> {
    let run = |operations: &[&[u8]]| [&[1], &operations.concat()[..]].concat();
    // The purpose, the node, its first address, how many of them less 1.
    let add = |purpose: u8, node: u8| [purpose, node, node, 1];
    let wait: &[u8] = &[12, 0, 0xff, 0xff];
    let moment: &[u8] = &[12, 0, 0, 50];
    let many: Vec<[u8; 4]> = (0..16).map(|node| add(2, node)).collect();
    let many: Vec<&[u8]> = many.iter().map(|add| &add[..]).collect();
    let kinds: Vec<[u8; 4]> = (0..12).map(|node| add(node % 4, node)).collect();
    let kinds: Vec<&[u8]> = kinds.iter().flat_map(|add| [&add[..], moment]).collect();
    let (connected, dropped): (&[u8], &[u8]) = (&[6, 1], &[10, 1, 70, 2]);
    let failed: &[u8] = &[8, 1, 0];
    vec![
        ("asked", run(&[&add(0, 1), connected, dropped, &add(0, 1)])),
        ("persistent", run(&[&add(1, 1), connected, dropped, moment, wait, failed, wait, failed, wait])),
        ("persistent_removed", run(&[&add(1, 1), failed, &[4, 1], wait])),
        ("dynamic", run(&[&many[..], &[moment, moment, moment, moment, &[13, 1], moment]].concat())),
        ("feeler", run(&[&add(3, 1), &add(0, 1), connected, wait, &add(3, 2)])),
        ("all_kinds", run(&kinds)),
        (
            "given_up",
            run(&[&add(2, 1), failed, wait, wait, failed, wait, wait, failed, wait, wait, failed, wait, wait]),
        ),
        ("refused", run(&[&add(2, 1), &[6, 1], &[10, 1, 1, 0], &add(2, 1), wait])),
        ("useless", run(&[&add(2, 1), &[6, 1], &[5, 1], &[10, 1, 1, 1], &add(2, 1), &add(0, 1)])),
        ("accepted_while_dialled", run(&[&add(1, 1), &[9, 1, 1, 1], failed, dropped, wait])),
        ("fewer_places", run(&[&many[..], &[&[11, 0, 1, 1, 2], moment, moment]].concat())),
        ("nothing", vec![1]),
        ("clock_goes_back", run(&[&add(1, 1), failed, &[13, 0, 255, 255], wait, &add(2, 2)])),
    ]
}

pub fn typed() -> Vec<Seed> {
    // Whether it is sent, and a number.
    let ask = |number: u8| [0, 1, number];
    // Back from the last id plus 2, the kind, whether right, whether whole.
    let answer = |back: u8, kind: u8, is_right: u8, is_whole: u8| [4, back, kind, is_right, is_whole];
    let raw = |code: u8, body: &[u8]| [&[7, code], &field(body)[..]].concat();
    let message = |kind: u8, note: &[u8]| [&[6][..], &9u64.to_le_bytes(), &7u32.to_le_bytes(), &[kind], note].concat();
    let give_up = [2, 0];
    vec![
        ("asked_and_answered", [&ask(4)[..], &answer(2, 0, 1, 1), &give_up].concat()),
        ("answered_twice", [&ask(4)[..], &answer(2, 0, 1, 1), &answer(2, 0, 1, 1)].concat()),
        ("wrong_kind", [&ask(4)[..], &answer(2, 1, 1, 1)].concat()),
        ("wrong_number", [&ask(5)[..], &answer(2, 1, 0, 1), &give_up].concat()),
        ("malformed", [&ask(5)[..], &answer(2, 1, 1, 0)].concat()),
        ("not_asked", [&ask(5)[..], &answer(1, 1, 1, 1)].concat()),
        ("too_late", [&ask(4)[..], &give_up, &answer(2, 0, 1, 1), &answer(2, 0, 1, 1)].concat()),
        ("too_late_and_of_the_wrong_kind", [&ask(4)[..], &give_up, &answer(2, 1, 1, 1)].concat()),
        ("not_sent", [&[0, 0, 4][..], &give_up, &answer(2, 0, 1, 1)].concat()),
        ("forgotten", [&[3, 255][..], &[3, 255], &answer(255, 0, 1, 1), &raw(1, b"\xc2\x01\x01")].concat()),
        ("full", (0..7).flat_map(ask).collect()),
        ("messages", [message(0, b""), message(1, b""), message(2, &field(b"note"))].concat()),
        (
            "raw_messages",
            [raw(0, b"\xc2\x01\x02"), raw(4, b"\xc1\x05"), raw(4, b"\xc2\x05\x05"), raw(5, b"\xc0"), raw(0, b"")]
                .concat(),
        ),
        ("raw_answers", [raw(1, b"\xc2\x81\xff\x02"), raw(3, b"\x05"), raw(1, b"")].concat()),
    ]
}

pub fn differentials() -> Vec<Seed> {
    let ours = |content: &[u8]| [&[0], &field(content)[..]].concat();
    // The header data, the padding, the content, what is flipped, and where it is cut.
    let theirs = |content: &[u8], flipped: &[[u8; 3]]| {
        let count = if flipped.is_empty() { 0 } else { flipped.len() as u8 + 1 };
        [&[2], &field(b"\xc2\x80\x80")[..], &[0], &field(content), &[count], &flipped.concat(), &[0, 40]].concat()
    };
    let hello = |has_id: u8, more: u8| {
        let numbers = [5u64.to_le_bytes(), 0u64.to_le_bytes()].concat();
        let offered =
            [field(b"eth"), 68u64.to_le_bytes().to_vec(), field(b"\xff"), 1u64.to_le_bytes().to_vec()].concat();
        [&[4], &numbers[..], &field(b"client"), &[2], &offered, &[has_id, more]].concat()
    };
    let frames = || [ours(b"\x02\xc0"), theirs(b"\x02\xc0", &[]), ours(&[7; 100]), theirs(&[8; 33], &[])].concat();
    let more = || [ours(&[1; 2048]), theirs(&[2; 2048], &[])].concat();
    vec![
        ("frames_both_ways", [vec![0], frames(), more()].concat()),
        ("frames_both_ways_model_dials", [vec![1], frames(), more()].concat()),
        ("nothing_to_send", [vec![0], ours(b"")].concat()),
        ("too_large", [vec![0], theirs(&[7; 2049], &[])].concat()),
        ("empty", [vec![0], theirs(b"", &[])].concat()),
        (
            "damaged",
            [vec![0], theirs(b"whole", &[]), theirs(b"damaged", &[[0, 33, 1]]), theirs(b"after", &[])].concat(),
        ),
        ("damaged_header", [vec![1], theirs(b"damaged", &[[0, 3, 1]])].concat()),
        ("hello", [vec![0], hello(1, 1)].concat()),
        ("hello_with_more", [vec![0], hello(1, 0)].concat()),
        ("hello_without_an_id", [vec![0], hello(0, 1), field(b"")].concat()),
        ("hello_of_bytes", b"\0\x05\xc5\x05\x80\xc0\x80\x80".to_vec()),
    ]
}

pub fn gossips() -> Vec<Seed> {
    let new = |bytes: &[u8]| [&[0, bytes.len() as u8], bytes].concat();
    let again = |number: u8| vec![1, number];
    vec![
        ("once", [vec![3], new(b"12345678payload"), again(0), new(b"87654321payload")].concat()),
        ("forgotten", [vec![0], new(b"12345678a"), new(b"12345678b"), again(0)].concat()),
        ("too_short", [vec![3], new(b"1234567"), again(0)].concat()),
        ("nothing", Vec::new()),
    ]
}

pub fn stores() -> Vec<Seed> {
    let put = |key: &[u8], size: u8| [&[0, key.len() as u8], key, &[size]].concat();
    let (read, list) = (
        |key: &[u8]| [&[1, key.len() as u8], key, &[0]].concat(),
        |key: &[u8], count: u8| [&[2, key.len() as u8], key, &[count]].concat(),
    );
    vec![
        ("put_and_read", [vec![9], put(b"a", 5), read(b"a"), read(b"b"), put(b"a", 7), read(b"a")].concat()),
        (
            "listed",
            [vec![9], put(b"a", 1), put(b"b", 1), put(b"ab", 1), list(b"", 7), list(b"a", 1), list(b"b", 7)].concat(),
        ),
        ("full", [vec![1], put(b"a", 1), put(b"b", 1), put(b"a", 2), read(b"b")].concat()),
        ("too_large", [vec![9], put(b"a", 255), put(b"", 1)].concat()),
        ("nothing", Vec::new()),
    ]
}

pub fn kv_messages() -> Vec<Seed> {
    let key_of_65 = [&[0xf8, 68, 1, 0xb8, 65], &[b'k'; 65][..]].concat();
    vec![
        ("get", b"\xc3\x01\x81\xff".to_vec()),
        ("put", b"\xc5\x01\xc3\x05\x81\xff".to_vec()),
        ("list", b"\xc4\x01\xc2\x80\x0a".to_vec()),
        ("list_of_none", b"\xc4\x01\xc2\x80\x80".to_vec()),
        ("keys", b"\xc3abc".to_vec()),
        ("keys_out_of_order", b"\xc3acb".to_vec()),
        ("key_empty", b"\xc2\x01\x80".to_vec()),
        ("key_too_long", key_of_65),
        ("value", b"\xc1\x05".to_vec()),
        ("no_value", b"\xc0".to_vec()),
        ("no_list", b"\x05".to_vec()),
    ]
}

pub fn pex_messages() -> Vec<Seed> {
    let raw = |body: &[u8]| [&[0], body].concat();
    // IPv4 or IPv6 (1), signed (2); the number of a key, the port, the address.
    let v4 = |kind: u8, key: u8| [&[kind, key, 0x5f, 0x76][..], &[8, 8, 8, key]].concat();
    let v6 = |kind: u8, key: u8| [&[kind, key, 0x5f, 0x76][..], &[0x2a; 16]].concat();
    let told = |records: &[Vec<u8>], place: u16, mask: u8| {
        [&[1, records.len() as u8], &records.concat()[..], &place.to_le_bytes(), &[mask]].concat()
    };
    let mapped = [&[1, 7, 0x5f, 0x76][..], &[0; 10], &[0xff, 0xff, 8, 8, 8, 8]].concat();
    let all: Vec<Vec<u8>> = (0..30).map(|key| v4(0, key)).collect();
    let more: Vec<Vec<u8>> = (0..31).map(|key| v4(0, key)).collect();
    vec![
        ("asks", raw(b"\xc2\x01\x1e")),
        ("asks_for_none", raw(b"\xc2\x01\x80")),
        ("asks_for_too_many", raw(b"\xca\x01\x88\xff\xff\xff\xff\xff\xff\xff\xff")),
        ("announces", raw(b"\xc3\x82\x76\x5f")),
        ("nobody", raw(b"\xc0")),
        ("told", told(&[v4(0, 1), v6(1, 2), v4(2, 3), v6(3, 4)], 0, 0)),
        ("told_mapped", told(&[mapped], 0, 0)),
        ("told_thirty", told(&all, 0, 0)),
        ("told_too_many", told(&more, 0, 0)),
        ("told_signed_damaged", told(&[v4(2, 3)], 90, 1)),
        ("told_damaged", told(&[v4(0, 1), v4(2, 3)], 5, 1)),
    ]
}

pub fn paces() -> Vec<Seed> {
    let run = |operations: &[[u8; 4]]| [&[1], &operations.concat()[..]].concat();
    let step = |operation: u8, peer: u8, number: u16| {
        let [low, high] = number.to_le_bytes();
        [operation, peer, low, high]
    };
    let second = step(0, 0, 143);
    // Thirty of all.
    let all = 63 + 64 * 30;
    let networks: Vec<[u8; 4]> = [0, 1, 2, 3, 7, 11].map(|peer| step(3, peer, all)).to_vec();
    let while_later = [step(0, 0, 0xffff), step(0, 0, 0xffff)];
    vec![
        ("in_time", run(&[step(1, 0, 0), second, second, second, step(1, 0, 0)])),
        ("too_soon", run(&[step(1, 0, 0), second, step(1, 0, 0), second, step(1, 0, 0), second, step(1, 0, 0)])),
        ("outcomes", run(&[step(2, 0, 0), step(2, 0, 1), step(2, 0, 2), step(2, 0, 3), step(2, 0, 4), step(1, 0, 0)])),
        ("askers", run(&networks)),
        ("askers_later", run(&[&networks[..], &while_later, &networks].concat())),
        ("fewer", run(&[step(3, 0, 10 + 64 * 5), step(3, 0, all), step(3, 0, 20 + 64 * 31)])),
    ]
}
