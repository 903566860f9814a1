//! The body of a fuzz target, for `fuzz/`.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;

use super::{NONCE, Node, payload};

/// What is run on an input. It returns how often the input got through the check that guards the deepest code.
pub type Target = fn(&[u8]) -> usize;

/// What there is to run, by name.
pub const TARGETS: &[(&str, Target)] = &[("gossip", gossip)];

/// Messages that come, some of them again: each is new once, until as many others have come as are remembered, and what
/// it carries is all that follows its nonce. Returns how many were new.
///
/// The input: how many messages are remembered less 1 (1 byte), and messages: the number of one that came before or a
/// length (1 byte each), and the bytes.
pub fn gossip(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let max_seen = 1 + usize::from(input.arbitrary::<u8>()? % 16);
    let node = Node { max_seen, ..Node::default() };
    let mut all: Vec<Bytes> = Vec::new();
    // The latest that were new, oldest first.
    let mut seen: Vec<Bytes> = Vec::new();
    let mut count = 0;
    while !input.is_empty() {
        let (is_again, number) = (input.arbitrary::<u8>()? % 2 == 1, usize::from(input.arbitrary::<u8>()?));
        let known = is_again.then(|| all.get(number % all.len().max(1)).cloned()).flatten();
        let message = match known {
            Some(message) => message,
            None => Bytes::copy_from_slice(input.bytes((number % 32).min(input.len()))?),
        };
        let (carried, behind) = (payload(&message), message.get(NONCE..));
        assert_eq!(carried.as_deref(), behind, "R60: what was published");
        let is_new = !seen.contains(&message);
        assert_eq!(node.is_new(&message), is_new, "R60: delivered once: {message:?}");
        if is_new {
            seen.push(message.clone());
            count += 1;
        }
        seen.drain(..seen.len().saturating_sub(max_seen));
        all.push(message);
    }
    let remembered = node.seen.lock().expect("nothing panics under it");
    assert_eq!((remembered.0.len(), remembered.1.len()), (seen.len(), seen.len()), "R60: bounded");
    Ok(count)
}
