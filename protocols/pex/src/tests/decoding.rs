//! Whatever comes: it is read or refused, and what is written is read as it was.

use capmux::rlp;
use proptest::prelude::*;

use super::*;

fn addresses() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    // An IPv4 address inside an IPv6 one is written as the IPv4 address.
    let v6 = any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    prop_oneof![v4, v6.prop_filter("mapped", |address| address.ip().to_canonical() == address.ip())]
}

fn records() -> impl Strategy<Value = Record> {
    let plain = (0..5u64, addresses()).prop_map(|(number, address)| super::plain(number, address));
    let signed = (0..5u64, any::<u64>(), proptest::option::of(addresses()));
    let signed = signed.prop_map(|(number, sequence, address)| Enr::sign(&key(number), sequence, address));
    prop_oneof![plain, signed.prop_map(Record::Signed)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_as_it_was(records in proptest::collection::vec(records(), 0..=MAX_RECORDS), port: u16) {
        let bytes = Nodes(records.clone()).rlp_bytes();
        prop_assert!(bytes.len() + 11 <= MAX_BODY_SIZE, "R56: {} bytes", bytes.len());
        // The decoder alone would not mind.
        let extent = rlp::PayloadInfo::from(&bytes).map(|info| info.header_len + info.value_len);
        prop_assert_eq!(extent, Ok(bytes.len()));
        prop_assert_eq!(rlp::decode::<Nodes>(&bytes), Ok(Nodes(records)));
        let announce = Announce(Announcement::Port(port));
        prop_assert_eq!(rlp::decode::<Announce>(&announce.rlp_bytes()), Ok(announce));
    }

    #[test]
    fn damage_is_noticed_or_gives_something_that_is_well_formed(
        records in proptest::collection::vec(records(), 1..4),
        place: proptest::sample::Index,
        bits in 1..=255u8,
        is_cut: bool,
    ) {
        let mut bytes = Nodes(records.clone()).rlp_bytes().to_vec();
        let place = place.index(bytes.len());
        match is_cut {
            true => bytes.truncate(place),
            false => bytes[place] ^= bits,
        }
        if let Ok(Nodes(read)) = rlp::decode::<Nodes>(&bytes) {
            prop_assert!(read.len() <= MAX_RECORDS);
            // Nobody can change what another has signed.
            let signed = |record: &&Record| matches!(record, Record::Signed(_));
            prop_assert!(read.iter().filter(signed).all(|record| records.contains(record)), "R56");
        }
    }

    #[test]
    fn no_bytes_are_too_much_for_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = rlp::decode::<Nodes>(&bytes).map(|Nodes(records)| records.iter().for_each(|r| drop(r.node_addr())));
        let _ = rlp::decode::<Announce>(&bytes);
        let _ = rlp::decode::<GetNodes>(&bytes);
    }
}
