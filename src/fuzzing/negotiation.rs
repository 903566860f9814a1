//! What two ends offer each other, and settings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::{Result, Unstructured};

use super::{bytes, choice};
use crate::p2p::{
    Capability, LivenessSettings, LivenessSettingsError, MAX_NAME_LEN, MAX_TIMEOUT, MessageId, RateLimit, Registered,
    RegistrationError, SessionSettings, SharedCapabilities,
};

/// Where the ids of protocols begin, told a second time.
const FIRST_ID: u64 = 0x10;

/// Protocols that an end registers and capabilities that the other one has: a set that cannot be offered is refused for
/// what is wrong with it, and of one that can, each name is shared in the highest version that both have, with ids side
/// by side in the order of the names. And settings that hold together, or are refused. Returns how many protocols are
/// shared.
///
/// The input: whether chunking is enabled (1 byte), four times (8 bytes each), two numbers of a rate (1 byte each), how
/// many protocols (1 byte), their names, versions and lengths, how many capabilities (1 byte), their names and versions.
pub fn negotiation(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let settings = SessionSettings::default().chunking(choice(input, 2)? == 1);
    check_liveness([input.arbitrary()?, input.arbitrary()?, input.arbitrary()?, input.arbitrary()?]);
    let (per_second, burst) = (u32::from(input.arbitrary::<u8>()?), u32::from(input.arbitrary::<u8>()?));
    let rate = RateLimit::new(per_second, burst);
    assert_eq!(rate.is_ok(), per_second > 0 && burst > 0, "R28");
    let mut own = Vec::new();
    for _ in 0..choice(input, 12)? {
        own.extend(registered(input, rate.ok())?);
    }
    let mut remote = Vec::new();
    for _ in 0..choice(input, 24)? {
        remote.extend(capability(input)?);
    }
    let checked = settings.check_protocols(&own);
    let is_reserved =
        settings.capabilities(&own).len() > own.len() && own.iter().any(|own| own.capability.name() == "chunk");
    match &checked {
        Err(RegistrationError::Reserved(_)) => assert!(is_reserved, "R19"),
        Err(error) => assert!(!is_reserved && is_wrong(error, &own), "R15: {error}"),
        Ok(()) => assert!(!is_reserved && Registered::check(&own).is_ok(), "R15"),
    }
    if checked.is_err() {
        return Ok(0);
    }
    let shared = SharedCapabilities::negotiate(&own, &remote);
    check_shared(&own, &remote, &shared);
    Ok(shared.len())
}

/// A protocol with up to 2^64 codes.
fn registered(input: &mut Unstructured<'_>, rate: Option<RateLimit>) -> Result<Option<Registered>> {
    let capability = capability(input)?;
    let length = match choice(input, 8)? {
        0 => u64::MAX - u64::from(input.arbitrary::<u8>()?),
        1 => 0,
        2 => 1000,
        _ => 1 + u64::from(choice(input, 20)?),
    };
    Ok(capability.map(|capability| Registered { capability, length, max_message_size: 1024, rate }))
}

/// One of a few names, or any that a capability can have.
fn capability(input: &mut Unstructured<'_>) -> Result<Option<Capability>> {
    let known = choice(input, 5)?;
    let name = match known {
        4 => String::from_utf8_lossy(bytes(input, 12)?).into_owned(),
        _ => ["eth", "bzz", "snap", "chunk"][usize::from(known)].to_owned(),
    };
    let version = match choice(input, 5)? {
        4 => u64::MAX,
        version => version.into(),
    };
    let is_name = (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    let capability = Capability::new(name.clone(), version);
    assert_eq!(capability.is_ok(), is_name, "{name:?}");
    if let Err(error) = &capability {
        assert!(!error.to_string().contains(char::is_control), "control characters are shown");
    }
    Ok(capability.ok())
}

/// Whether there is what the error says.
fn is_wrong(error: &RegistrationError, own: &[Registered]) -> bool {
    let length = own.iter().try_fold(FIRST_ID, |end, own| end.checked_add(own.length));
    match error {
        RegistrationError::Duplicate(twice) => own.iter().filter(|own| own.capability == *twice).count() > 1,
        RegistrationError::NoCodes(none) => own.iter().any(|own| own.capability == *none && own.length == 0),
        // Chunking has two codes.
        RegistrationError::TooManyCodes => length.and_then(|end| end.checked_add(2)).is_none(),
        _ => false,
    }
}

fn check_shared(own: &[Registered], remote: &[Capability], shared: &SharedCapabilities) {
    let names: BTreeSet<&str> = own.iter().map(|own| own.capability.name()).collect();
    let mut expected: BTreeMap<&str, &Registered> = BTreeMap::new();
    for name in names {
        let common = own.iter().filter(|own| own.capability.name() == name && remote.contains(&own.capability));
        expected.extend(common.max_by_key(|own| own.capability.version()).map(|own| (name, own)));
    }
    let found: Vec<&Capability> = shared.iter().map(|shared| &shared.capability).collect();
    let wanted: Vec<&Capability> = expected.values().map(|own| &own.capability).collect();
    assert_eq!(found, wanted, "R15, H54");
    let mut next = FIRST_ID;
    for (place, (protocol, own)) in shared.iter().zip(expected.values()).enumerate() {
        assert_eq!((protocol.length, protocol.rate), (own.length, own.rate));
        let last = own.length - 1;
        for code in [0, last / 2, last] {
            let id = protocol.message_id(code).expect("the code is below the length");
            assert_eq!(id.value(), next + code, "R15: the ranges lie side by side");
            assert_eq!(shared.locate(id), Some((place, code)), "R15");
        }
        assert_eq!(protocol.message_id(own.length), None, "R15");
        next += own.length;
    }
    for outside in [0, FIRST_ID - 1, next, u64::MAX] {
        let is_inside = (FIRST_ID..next).contains(&outside);
        assert_eq!(shared.locate(MessageId::new(outside)).is_some(), is_inside, "H56: {outside:#x}");
    }
}

/// Times in any unit from nanoseconds to millennia.
fn check_liveness(times: [u64; 4]) {
    let [ping_after, pong_timeout, idle_timeout, frame_timeout] = times.map(Duration::from_millis);
    let settings = LivenessSettings::default()
        .ping_after(ping_after)
        .pong_timeout(pong_timeout)
        .idle_timeout(idle_timeout)
        .frame_timeout(frame_timeout);
    let out_of_range = times.iter().position(|time| *time == 0 || Duration::from_millis(*time) > MAX_TIMEOUT);
    let names = ["ping_after", "pong_timeout", "idle_timeout", "frame_timeout"];
    let expected = match out_of_range {
        Some(place) => Err(LivenessSettingsError::OutOfRange { setting: names[place] }),
        None if idle_timeout - idle_timeout.min(ping_after) <= pong_timeout => {
            Err(LivenessSettingsError::PingPastIdle { ping_after, pong_timeout, idle_timeout })
        }
        None => Ok(()),
    };
    assert_eq!(settings.check(), expected, "R25");
    // What the dialling end does a little sooner, it can do as well.
    assert!(expected.is_err() || settings.of_dialler().check().is_ok(), "R24");
    let of_session = SessionSettings::default().liveness(settings).of_dialler();
    assert_eq!(of_session, SessionSettings::default().liveness(settings.of_dialler()));
}
