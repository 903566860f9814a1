//! Writes the seed corpus: a few inputs per target that get behind its first checks, and the known hostile forms.
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds
//! ```
//!
//! It overwrites the files that it has names for, and leaves others alone.

mod machines;
mod nodes;

use std::fs;
use std::path::Path;

use capmux::node::Enr;
use capmux::p2p::{Capability, Hello};
use capmux::{NodeKey, PublicKey};

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let targets: &[(&str, Vec<Seed>)] = &[
        ("ack", handshakes()),
        ("address_book", nodes::books()),
        ("auth", handshakes()),
        ("book_file", book_files()),
        ("chunking", machines::chunking()),
        ("claims", machines::claims()),
        ("dial_schedule", machines::schedules()),
        ("differential", machines::differentials()),
        ("disconnect", disconnects()),
        ("enr", nodes::records()),
        ("frame_decoder", frames()),
        ("gate", machines::gates()),
        ("gossip", machines::gossips()),
        ("hello", hellos()),
        ("kv_messages", machines::kv_messages()),
        ("kv_store", machines::stores()),
        ("negotiation", machines::negotiations()),
        ("node_text", nodes::texts()),
        ("pex_messages", machines::pex_messages()),
        ("pex_pace", machines::paces()),
        ("rlp_items", nodes::items()),
        ("round_robin", machines::turns()),
        ("session", sessions()),
        ("snappy_message", snappy_messages()),
        ("typed", machines::typed()),
    ];
    for (target, seeds) in targets {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory)?;
        for (name, bytes) in seeds {
            fs::write(directory.join(name), bytes)?;
        }
    }
    Ok(())
}

/// The name of a file and what is in it.
type Seed = (&'static str, Vec<u8>);

/// A string as the targets read it: two bytes of length, then its bytes.
fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a seed is small");
    [&length.to_be_bytes(), bytes].concat()
}

/// A limit of 1024, these frames, these operations that damage them, and these lengths of the pieces they arrive in.
fn frame_input(frames: &[Vec<u8>], damage: &[&[u8]], pieces: &[u8]) -> Vec<u8> {
    let count = |items: usize| vec![u8::try_from(items).expect("a seed is small")];
    [vec![3, 0xff], count(frames.len()), frames.concat(), count(damage.len()), damage.concat(), pieces.to_vec()]
        .concat()
}

/// A frame that an honest end seals.
fn honest(content: &[u8]) -> Vec<u8> {
    [&[1], &field(content)[..]].concat()
}

/// A frame with a header of our choice: the size, and what follows it.
fn with_header(size: u32, rest: [u8; 13], content: &[u8]) -> Vec<u8> {
    [&[0], &size.to_be_bytes()[1..], &rest, &field(content)[..]].concat()
}

fn frames() -> Vec<Seed> {
    let three = || vec![honest(b"\x02\xc0"), honest(&[0x10; 100]), honest(&[0x11; 32])];
    let data = [0xc2, 0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    vec![
        ("three_frames_at_once", frame_input(&three(), &[], &[255])),
        ("three_frames_byte_by_byte", frame_input(&three(), &[], &[0])),
        ("three_frames_in_odd_pieces", frame_input(&three(), &[], &[30, 0, 1, 47, 5, 2])),
        ("largest_within_the_limit", frame_input(&[honest(&[7; 1024])], &[], &[255])),
        ("one_above_the_limit", frame_input(&[honest(&[7; 1025])], &[], &[255])),
        ("nothing_to_seal", frame_input(&[honest(b""), honest(b"\x02")], &[], &[255])),
        ("size_0", frame_input(&[with_header(0, data, b"")], &[], &[255])),
        ("size_0xffffff", frame_input(&[with_header(0xff_ffff, data, b"")], &[], &[255])),
        ("odd_header_data", frame_input(&[with_header(5, [0xff; 13], b"\x02hello")], &[], &[255])),
        ("swapped", frame_input(&three(), &[&[0, 1, 2, 0, 0]], &[60])),
        ("replayed", frame_input(&three(), &[&[1, 0, 1, 0, 0]], &[60])),
        ("left_out", frame_input(&three(), &[&[2, 1, 0, 0, 0]], &[60])),
        ("cut_inside_a_header", frame_input(&three(), &[&[3, 1, 0, 0, 20]], &[60])),
        ("cut_inside_a_content", frame_input(&three(), &[&[3, 2, 0, 0, 40]], &[60])),
        ("bytes_put_in", frame_input(&three(), &[&[4, 1, 0, 0, 40, 0, 2, 1, 2]], &[60])),
        ("header_flipped", frame_input(&three(), &[&[5, 1, 0, 0, 0, 1]], &[60])),
        ("header_tag_flipped", frame_input(&three(), &[&[5, 1, 0, 0, 31, 0x80]], &[60])),
        ("content_flipped", frame_input(&three(), &[&[5, 1, 0, 0, 32, 1]], &[60])),
        ("padding_flipped", frame_input(&three(), &[&[5, 0, 0, 0, 47, 1]], &[60])),
        ("tag_flipped", frame_input(&three(), &[&[5, 2, 0, 0, 79, 1]], &[60])),
        ("flipped_and_flipped_back", frame_input(&three(), &[&[5, 1, 0, 0, 50, 9], &[5, 1, 0, 0, 50, 9]], &[60])),
        ("raw_bytes_only", frame_input(&[], &[&[4, 0, 0, 0, 0, 0, 40, 1, 2, 3]], &[255])),
    ]
}

/// A capacity of 8, a time in 2027, and this file.
fn file(content: &str) -> Vec<u8> {
    [&[7], &1_800_000_000_000u64.to_be_bytes()[..], content.as_bytes()].concat()
}

fn book_files() -> Vec<Seed> {
    let (own, remote) = public_keys();
    let node = |key: PublicKey, rest: &str| format!(r#"{{"node":"enode://{key}@{rest},"added":1700000000000}}"#);
    let book = |nodes: &[String], bans: &str| {
        let head = r#"{"format":"capmux address book","version":1,"salt":"000102030405060708090a0b0c0d0e0f""#;
        file(&format!(r#"{head},"nodes":[{}],"bans":[{bans}]}}"#, nodes.join(",")))
    };
    let plain = || node(remote, r#"8.8.8.8:30303","source":"local""#);
    let key = NodeKey::from_bytes(&[2; 32]).expect("a small number is a key");
    let record = Enr::sign(&key, 1, Some(([8, 8, 8, 8], 30303).into()));
    let (id, far) = (remote.node_id(), u64::MAX);
    let peer = format!(r#"[2a00::1]:1,example.org:2,memory://a","source":"peer:{id}@9.9.9.9","score":-7,"failures":3"#);
    vec![
        ("book", book(&[plain()], "")),
        ("book_empty", book(&[], "")),
        ("book_twice_the_same", book(&[plain(), plain()], "")),
        ("book_of_two", book(&[plain(), node(own, &peer)], "")),
        ("book_private", book(&[node(remote, r#"8.8.8.8:1","source":"local","private":true"#)], "")),
        (
            "book_last_run",
            book(&[node(remote, r#"8.8.8.8:1","source":"service:a","connected":true,"connections":1"#)], ""),
        ),
        ("book_record", book(&[node(remote, &format!(r#"8.8.8.8:1","source":"local","record":"{record}""#))], "")),
        (
            "book_far_future",
            book(
                &[node(remote, &format!(r#"8.8.8.8:1","source":"local","last_failed":{far},"failures":4294967295"#))],
                &format!(r#"{{"on":"{id}","until":{far},"length":{far}}}"#),
            ),
        ),
        ("book_address_of_a_link", book(&[node(remote, r#"[fe80::1%3]:30303","source":"local""#)], "")),
        (
            "book_bans",
            book(
                &[plain()],
                r#"{"on":"8.8.8.0/24","until":1900000000000,"length":1},{"on":"::/0","until":1,"length":1}"#,
            ),
        ),
        ("book_version_2", file(r#"{"format":"capmux address book","version":2}"#)),
        ("deeply_nested", file(&"[".repeat(500))),
        ("list_of_records", file(&format!(r#"{{"{id}":{{"seq":1,"record":"{record}","score":9}}}}"#))),
        ("list_with_control_characters", file("{\"\\u001b[2J\":{\"seq\":1,\"record\":\"enr:\"}}")),
        ("list_of_lines", file(&format!("# mine\nenode://{remote}@8.8.8.8:1\n{record}"))),
    ]
}

/// `auth` and `ack` read the same inputs.
fn handshakes() -> Vec<Seed> {
    let items = |lengths: [usize; 4]| {
        let items = lengths.map(|length| field(&vec![1; length])).concat();
        [&[2], &items[..]].concat()
    };
    let deep = [0xf9, 0x01, 0x00].repeat(100);
    vec![
        ("valid", vec![4, 0, 0, 0, 0, 0, 255]),
        ("valid_byte_by_byte", vec![4, 0, 0, 0, 0, 0, 0]),
        ("valid_body_sealed_again", vec![3, 0, 0, 0, 0, 0, 100]),
        ("size_changed", vec![4, 1, 0, 1, 1, 0, 0, 0, 0, 255]),
        ("point_off_the_curve", vec![4, 1, 0, 10, 1, 0, 0, 0, 0, 255]),
        ("ciphertext_flipped", vec![4, 1, 0, 120, 1, 0, 0, 0, 0, 255]),
        ("cut_short", vec![4, 0, 0, 50, 0, 0, 255]),
        ("bytes_behind", [&[4, 0, 0, 0][..], &field(&[9; 40]), &[255]].concat()),
        ("body_first_string_flipped", vec![3, 1, 0, 10, 1, 0, 0, 0, 0, 255]),
        ("body_second_string_flipped", vec![3, 1, 0, 80, 1, 0, 0, 0, 0, 255]),
        ("body_list_header_flipped", vec![3, 1, 0, 0, 0x40, 0, 0, 0, 0, 255]),
        ("body_with_long_padding", [&[3, 0, 0, 0][..], &field(&[0; 1500]), &[255]].concat()),
        ("body_too_long", [&[3, 0, 0, 0][..], &field(&[0; 2000]), &[255]].concat()),
        ("body_empty", [&[1], &field(b"")[..]].concat()),
        ("body_deeply_nested", [&[1], &field(&deep)[..]].concat()),
        ("body_length_2_64", [&[1], &field(&[0xff; 9])[..]].concat()),
        ("auth_items", items([65, 64, 32, 1])),
        ("ack_items", items([64, 32, 1, 0])),
        ("raw_size_0", [&[0], &field(&[0, 0])[..]].concat()),
        ("raw_size_65535", [&[0], &field(&[0xff, 0xff])[..]].concat()),
        ("raw_zeros", [&[0], &field(&[&[1, 0][..], &[0; 256]].concat())[..]].concat()),
    ]
}

/// The keys of the targets: this end, and the other.
fn public_keys() -> (PublicKey, PublicKey) {
    let key = |byte| NodeKey::from_bytes(&[byte; 32]).expect("a small number is a key").public_key();
    (key(1), key(2))
}

fn hellos() -> Vec<Seed> {
    let (own, remote) = public_keys();
    let capability = |name: &str, version| Capability::new(name, version).expect("the name is valid");
    let honest = || Hello {
        version: 5,
        client_id: "Geth/v1.17.10-stable/linux-amd64/go1.26".into(),
        capabilities: vec![capability("eth", 68), capability("eth", 69), capability("snap", 1)],
        listen_port: 0,
        public_key: remote,
    };
    let first_message = |hello: Hello| [&[0x80], &hello.encode()[..]].concat();
    let twice = vec![capability("zzz", 1), capability("eth", 68), capability("eth", 68)];
    let mut zero_id = first_message(honest());
    let id = zero_id.len() - 64;
    zero_id[id..].fill(0);
    let mut extra = first_message(honest());
    // The list grows by one element.
    extra[2] += 1;
    extra.push(0xc0);
    let many = (0..200).map(|version| capability("eth", version)).collect();
    vec![
        ("honest", first_message(honest())),
        ("no_capabilities", first_message(Hello { capabilities: Vec::new(), ..honest() })),
        ("many_capabilities", first_message(Hello { capabilities: many, ..honest() })),
        ("repeated_and_unsorted", first_message(Hello { capabilities: twice, ..honest() })),
        ("control_characters", first_message(Hello { client_id: b"\x1b[2J\n\xe2\x80\xae\xff".into(), ..honest() })),
        ("client_id_of_1500_bytes", first_message(Hello { client_id: vec![b'a'; 1500].into(), ..honest() })),
        ("client_id_of_3000_bytes", first_message(Hello { client_id: vec![b'a'; 3000].into(), ..honest() })),
        ("port_70000_version_99", first_message(Hello { listen_port: 70000, version: 99, ..honest() })),
        ("extra_element", extra),
        ("zero_id", zero_id),
        ("our_own_id", first_message(Hello { public_key: own, ..honest() })),
        ("disconnect_instead", b"\x01\xc1\x04".to_vec()),
        ("ping_instead", b"\x02\xc0".to_vec()),
        ("list_length_2_64", [&[0x80], &[0xff; 9][..]].concat()),
        ("no_id", vec![0xc0]),
    ]
}

fn disconnects() -> Vec<Seed> {
    vec![
        ("list", b"\xc1\x04".to_vec()),
        ("number", b"\x04".to_vec()),
        ("list_compressed", b"\x02\x04\xc1\x04".to_vec()),
        ("number_compressed", b"\x01\x00\x04".to_vec()),
        ("zero_in_a_list", b"\xc1\x80".to_vec()),
        ("zero_not_canonical", b"\x00".to_vec()),
        ("empty_list", b"\xc0".to_vec()),
        ("nothing", Vec::new()),
        ("reason_01", b"\xc1\x01".to_vec()),
        ("reason_02", b"\xc1\x02".to_vec()),
        ("reason_03", b"\xc1\x03".to_vec()),
        ("reason_05", b"\xc1\x05".to_vec()),
        ("reason_06", b"\xc1\x06".to_vec()),
        ("reason_07", b"\xc1\x07".to_vec()),
        ("reason_08", b"\xc1\x08".to_vec()),
        ("reason_09", b"\xc1\x09".to_vec()),
        ("reason_0a", b"\xc1\x0a".to_vec()),
        ("reason_0b", b"\xc1\x0b".to_vec()),
        ("reason_10", b"\xc1\x10".to_vec()),
        ("reason_300", b"\xc3\x82\x01\x2c".to_vec()),
        ("largest_reason", b"\xc9\x88\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        ("declares_16_mib", b"\xff\xff\xff\x07\x00\x04".to_vec()),
    ]
}

fn snappy_messages() -> Vec<Seed> {
    let input = |limit: u32, block: &[u8]| [&limit.to_be_bytes()[1..], block].concat();
    let compress = |plain: &[u8]| snap::raw::Encoder::new().compress_vec(plain).expect("it is small");
    let text = b"the quick brown fox jumps over the lazy dog; the lazy dog sleeps".repeat(8);
    let block = compress(&text);
    let limit = text.len() as u32;
    vec![
        ("text_at_the_limit", input(limit, &block)),
        ("text_above_the_limit", input(limit - 1, &block)),
        ("text_cut_short", input(limit, &block[..block.len() - 1])),
        ("text_and_more", input(limit, &[&block[..], b"\x00a"].concat())),
        ("zeros", input(0xf_0000, &compress(&[0; 50_000]))),
        ("empty_message", input(10, b"\x00")),
        ("no_bytes", input(10, b"")),
        ("declares_4_gib", input(0xf_ffff, b"\xff\xff\xff\xff\x0f")),
        ("declares_more_than_it_can_hold", input(0xf_ffff, b"\xff\xff\x1f\x00a")),
        ("copy_from_before_the_start", input(100, b"\x08\x00a\x1d\x05")),
        ("length_not_terminated", input(100, b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80")),
    ]
}

/// The other end's version (4 + n) and capabilities, the settings 15 s, 20 s and 25 s more, and these operations.
fn session_input(version: u8, offered: u8, operations: &[Vec<u8>]) -> Vec<u8> {
    [&[version, offered, 14, 19, 24][..], &operations.concat()].concat()
}

fn sessions() -> Vec<Seed> {
    let message = |id: u8, data: &[u8]| [&[0, id - 0x10], &field(data)[..]].concat();
    let damaged =
        |id: u8, data: &[u8], place: u8, mask: u8| [&[2, id - 0x10][..], &field(data), &[0, place, mask]].concat();
    let base = |kind: u8, code: u64| [&[3, kind][..], &code.to_le_bytes()].concat();
    let raw = |content: &[u8]| [&[4], &field(content)[..]].concat();
    let wait = |milliseconds: u16| [&[5], &milliseconds.to_be_bytes()[..]].concat();
    let excuse = |milliseconds: u16| [&[6], &milliseconds.to_be_bytes()[..]].concat();
    let (inbound, ping, poll, written) = (vec![7], vec![8], vec![9], vec![10]);
    let pending = |begun: bool| vec![11, u8::from(begun)];
    let first = |id: u8, size: u16, piece: &[u8]| [&[12, 0, id][..], &size.to_be_bytes(), &field(piece)].concat();
    let more = |id: u8, piece: &[u8]| [&[12, 1, id, 0, 0][..], &field(piece)].concat();
    let every_message =
        [message(0x10, b"first"), message(0x12, &[0; 64]), message(0x13, &[1; 1000]), message(0x24, b"")];
    let silence =
        [&poll[..], &wait(15_000), &poll, &written, &poll, &wait(19_999), &poll, &wait(1), &poll].map(<[u8]>::to_vec);
    let answered =
        [&wait(15_000)[..], &poll, &written, &wait(30), &base(2, 0), &poll, &wait(15_000), &poll, &base(2, 0)]
            .map(<[u8]>::to_vec);
    let again = [ping.clone(), wait(5000), ping.clone(), wait(5000), base(2, 0), poll.clone()];
    let paused = [ping.clone(), written.clone(), excuse(60_000), poll.clone(), wait(20_000), poll.clone()];
    let not_written = [ping.clone(), wait(59_999), poll.clone(), wait(1), poll.clone()];
    let trickle =
        [&pending(true)[..], &wait(29_999), &inbound, &pending(true), &poll, &wait(1), &poll].map(<[u8]>::to_vec);
    let frames = [&pending(true)[..], &wait(29_000), &message(0x13, b"a"), &pending(true), &wait(29_000), &poll]
        .map(<[u8]>::to_vec);
    // With chunking: bzz from 0x10, chunk from 0x13, eth/69 from 0x15.
    let chunks = [
        first(0x15, 9, b"in "),
        message(0x10, b"between"),
        first(0x12, 2, b"a"),
        more(0x15, b"pieces"),
        more(0x12, b"b"),
        first(0x10, 3, b"one"),
        message(0x15, b"after"),
    ];
    let overdue =
        [first(0x10, 3, b"ab"), wait(59_000), inbound.clone(), wait(59_000), inbound.clone(), wait(2000), poll.clone()];
    vec![
        ("messages", session_input(1, 7, &every_message)),
        ("messages_uncompressed", session_input(0, 7, &every_message)),
        ("one_capability", session_input(1, 2, &[message(0x10, b"a"), message(0x21, b"one past the last")])),
        ("nothing_shared", session_input(1, 0, &[base(1, 0), message(0x10, b"a")])),
        ("message_above_the_limit", session_input(1, 7, &[message(0x10, &[0; 65])])),
        ("message_above_the_limit_uncompressed", session_input(0, 7, &[message(0x10, &[0; 65])])),
        ("damaged_length", session_input(1, 7, &[damaged(0x13, b"a message", 0, 0x40)])),
        ("damaged_data", session_input(1, 7, &[damaged(0x13, &[5; 200], 2, 1), message(0x13, b"next")])),
        ("silence", session_input(1, 7, &silence)),
        ("pongs_in_time", session_input(1, 7, &answered)),
        ("paused_by_us", session_input(1, 7, &paused)),
        ("asked_twice", session_input(1, 7, &[ping.clone(), ping, inbound, base(2, 0), base(2, 0), poll])),
        ("asked_again_later", session_input(1, 7, &again)),
        ("flood_of_pings", session_input(1, 7, &vec![base(1, 0); 66])),
        ("flood_of_pongs_slowly", session_input(1, 7, &[vec![base(2, 0); 64].concat(), wait(100), base(2, 0)])),
        ("disconnect", session_input(1, 7, &[base(0, 4)])),
        ("second_hello", session_input(1, 7, &[raw(b"\x80\xc0")])),
        ("reserved_id", session_input(1, 7, &[raw(b"\x0f\xc0"), message(0x10, b"a")])),
        ("id_of_nine_bytes", session_input(1, 7, &[raw(b"\x88\xff\xff\xff\xff\xff\xff\xff\xff")])),
        ("ping_of_2049_bytes", session_input(1, 7, &[raw(&[&[2], &[0; 2047][..]].concat())])),
        ("ping_not_written", session_input(1, 7, &not_written)),
        ("frame_that_trickles_in", session_input(1, 7, &trickle)),
        ("frames_one_after_the_other", session_input(1, 7, &frames)),
        ("over_the_message_rate", session_input(1, 7, &vec![message(0x10, b"a"); 80])),
        ("chunks", session_input(1, 15, &chunks)),
        ("chunks_uncompressed", session_input(0, 15, &chunks)),
        ("chunks_not_agreed_on", session_input(1, 7, &chunks)),
        ("chunk_above_the_limit", session_input(1, 15, &[first(0x10, 65, b"a")])),
        ("chunk_past_its_size", session_input(1, 15, &[first(0x10, 3, b"ab"), more(0x10, b"cd")])),
        ("chunk_without_a_first", session_input(1, 15, &[more(0x10, b"cd")])),
        ("chunks_overdue", session_input(1, 15, &overdue)),
        ("chunk_of_a_chunk", session_input(1, 15, &[first(0x13, 3, b"ab")])),
        ("message_between_chunks", session_input(1, 15, &[first(0x10, 3, b"ab"), message(0x11, b"cd")])),
        ("empty_frame", session_input(1, 7, &[raw(b"")])),
        (
            "another_rate",
            session_input(
                1,
                7,
                &[vec![message(0x10, b"a"); 9], vec![vec![13, 9, 5]], vec![message(0x10, b"a"); 9]].concat(),
            ),
        ),
        ("no_rate", session_input(1, 7, &[vec![vec![13, 0, 0]], vec![message(0x10, b"a"); 9]].concat())),
        ("memory_given_back", session_input(1, 7, &[message(0x13, &[7; 900]), vec![14], message(0x13, &[7; 900])])),
    ]
}
