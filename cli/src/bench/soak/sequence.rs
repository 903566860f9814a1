//! Numbered messages: what they look like, and what a receiver finds out by their numbers.

use std::collections::BTreeSet;
use std::ops::AddAssign;

/// The number of the sending end, of the stream, the size of the whole, and the number of the message.
const HEADER: usize = 24;

/// The largest and the smallest message.
pub(super) const LARGEST: usize = 256 * 1024;
pub(super) const SMALLEST: usize = 32;

/// How many numbers that were passed over are remembered for each stream. More are lost at once.
const REMEMBERED: usize = 1024;

/// Which message of which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    /// The end of a connection that sends it.
    pub(super) end: u64,
    /// Which of its streams.
    pub(super) stream: usize,
    /// Counted from 0.
    pub(super) number: u64,
}

impl Label {
    /// The message of so many bytes, which follow from the label and the size. One in four can be compressed.
    pub(super) fn payload(self, size: usize) -> Vec<u8> {
        let mut payload = Vec::with_capacity(size);
        self.write(size.max(SMALLEST), &mut payload);
        payload
    }

    /// Reads a message; `None` when it is not as it was made. `scratch` is used again.
    pub(super) fn of(payload: &[u8], scratch: &mut Vec<u8>) -> Option<Self> {
        let field = |start: usize| Some(u64::from_be_bytes(*payload.get(start..)?.first_chunk()?));
        let (end, sizes, number) = (field(0)?, field(8)?, field(16)?);
        let label = Self { end, stream: usize::try_from(sizes >> 32).ok()?, number };
        if usize::try_from(sizes & u64::from(u32::MAX)).ok()? != payload.len() {
            return None;
        }
        scratch.clear();
        label.write(payload.len(), scratch);
        (payload == scratch).then_some(label)
    }

    fn write(self, size: usize, payload: &mut Vec<u8>) {
        let Self { end, stream, number } = self;
        payload.extend(end.to_be_bytes());
        payload.extend(((stream as u64) << 32 | size as u64).to_be_bytes());
        payload.extend(number.to_be_bytes());
        let mut random = fastrand::Rng::with_seed(self.seed());
        if number % 4 == 0 {
            let word = random.u64(..).to_be_bytes();
            payload.extend(word.iter().cycle().take(size - HEADER));
        } else {
            payload.resize(size, 0);
            random.fill(&mut payload[HEADER..]);
        }
    }

    /// Differs wherever any part of the label does.
    fn seed(self) -> u64 {
        let parts = [self.end, self.stream as u64, self.number];
        // A prime, so that no part is cancelled by another.
        parts.into_iter().fold(0, |seed: u64, part| (seed ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(29))
    }
}

/// What has come of one stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Received {
    /// One more than the highest number so far.
    next: u64,
    passed_over: BTreeSet<u64>,
    faults: Faults,
}

/// What must not happen to messages that arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Others that were sent after them came, and they did not.
    pub(super) lost: u64,
    /// They came again.
    pub(super) doubled: u64,
    /// They came, but after others that were sent later.
    pub(super) out_of_order: u64,
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
    }
}

impl Received {
    /// Takes note of a message.
    pub(super) fn note(&mut self, number: u64) {
        if number < self.next {
            let is_late = self.passed_over.remove(&number);
            self.faults += if is_late {
                Faults { out_of_order: 1, ..Faults::default() }
            } else {
                Faults { doubled: 1, ..Faults::default() }
            };
            return;
        }
        let room = (REMEMBERED - self.passed_over.len()) as u64;
        let remembered = (number - self.next).min(room);
        self.passed_over.extend(self.next..self.next + remembered);
        self.faults.lost += number - self.next - remembered;
        self.next = number + 1;
    }

    /// How many there would be without faults.
    pub(super) fn reached(&self) -> u64 {
        self.next
    }

    /// What was wrong, once nothing more comes.
    pub(super) fn faults(&self) -> Faults {
        Faults { lost: self.faults.lost + self.passed_over.len() as u64, ..self.faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: &[u64]) -> Faults {
        let mut received = Received::default();
        numbers.iter().for_each(|number| received.note(*number));
        received.faults()
    }

    #[test]
    fn lost_doubled_and_swapped_messages_are_told_apart() {
        assert_eq!(faults(&[0, 1, 2, 3]), Faults::default());
        assert_eq!(faults(&[0, 2, 3]), Faults { lost: 1, ..Faults::default() });
        assert_eq!(faults(&[0, 1, 1, 2]), Faults { doubled: 1, ..Faults::default() });
        assert_eq!(faults(&[0, 2, 1, 3]), Faults { out_of_order: 1, ..Faults::default() });
        assert_eq!(faults(&[3, 1, 1]), Faults { lost: 2, doubled: 1, out_of_order: 1 });
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let many = 2 * REMEMBERED as u64;
        let mut received = Received::default();
        received.note(many);
        assert_eq!(received.passed_over.len(), REMEMBERED);
        assert_eq!(received.faults().lost, many);
        received.note(u64::MAX - 1);
        assert_eq!(received.faults().lost, u64::MAX - 2);
        assert_eq!(received.reached(), u64::MAX);
    }

    #[test]
    fn a_message_that_was_changed_is_noticed() {
        let mut scratch = Vec::new();
        for (number, size) in [(0, 32), (1, 32), (4, 1000), (7, LARGEST)] {
            let label = Label { end: 9, stream: 2, number };
            let payload = label.payload(size);
            assert_eq!((payload.len(), Label::of(&payload, &mut scratch)), (size, Some(label)));
            for place in [0, 8, 12, 16, 24, size - 1] {
                let mut changed = payload.clone();
                changed[place] ^= 1;
                assert_eq!(Label::of(&changed, &mut scratch), None, "byte {place} of {size}");
            }
            assert_eq!(Label::of(&payload[..size - 1], &mut scratch), None);
        }
        assert_eq!(Label::of(b"", &mut scratch), None);
    }
}
