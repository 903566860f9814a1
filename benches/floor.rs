//! How far sealing and opening a frame are from the Keccak permutations that a frame needs.
//!
//! ```text
//! cargo bench --bench floor
//! ```
//!
//! Each round measures the permutations, sealing and opening, one right after the other, so that a machine that slows
//! down slows down all three; what is printed is the median of the rounds, of the ratios too. The sizes are
//! those of a frame's content: an uncompressed message, its id included.
//!
//! `floor` is `3 + ceil(n / 136)` permutations (column `f1600`), and the first two ratios are to it. `exact` is how many
//! permutations such frames take on average: what is taken in is the padded content and two blocks, and the sponge does
//! not stop at the end of a frame. Where that is less than the formula, a frame can beat the floor; where it is more,
//! it cannot reach it. The last two ratios are to that.

mod support;

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use capmux::p2p::{MessageEncoder, MessageId};
use capmux::rlpx::{FRAME_OVERHEAD, Ingress};

const ROUNDS: usize = 41;
/// How many bytes of frames one measurement of a round is made of, and how many frames at the most.
const BATCH_BYTES: usize = 128 << 10;
const BATCH_FRAMES: usize = 2000;

fn main() {
    println!("{ROUNDS} rounds, medians; nanoseconds for one frame with so many bytes of content");
    println!(
        "{:>8} {:>6} {:>9} {:>9} {:>6} {:>9} {:>6} {:>9} {:>6} {:>6}",
        "content", "f1600", "floor", "seal", "ratio", "open", "ratio", "exact", "seal", "open"
    );
    for size in support::SIZES {
        // No frame is empty: the smallest message is an id alone.
        print_size(size.max(1));
    }
}

fn print_size(size: usize) {
    let formula = support::permutations(size);
    let exact = 3.0 + (size.next_multiple_of(16) + 32) as f64 / 136.0;
    let mut bench = Bench::new(size);
    bench.round();
    let rounds: Vec<[f64; 3]> = (0..ROUNDS).map(|_| bench.round()).collect();
    let of = |value: fn(&[f64; 3]) -> f64| median(rounds.iter().map(value).collect());
    let (floor, seal, open) = (of(|r| r[0]), of(|r| r[1]), of(|r| r[2]));
    let (seal_ratio, open_ratio) = (of(|r| r[1] / r[0]), of(|r| r[2] / r[0]));
    let to_exact = formula as f64 / exact;
    println!(
        "{size:>8} {formula:>6} {floor:>9.0} {seal:>9.0} {seal_ratio:>6.3} {open:>9.0} {open_ratio:>6.3} {exact:>9.2} \
         {:>6.3} {:>6.3}",
        seal_ratio * to_exact,
        open_ratio * to_exact
    );
}

struct Bench {
    encoder: MessageEncoder,
    ingress: Ingress,
    payload: Vec<u8>,
    frames: usize,
    permutations: usize,
    wire: BytesMut,
    state: [u64; 25],
}

impl Bench {
    fn new(size: usize) -> Self {
        let (encoder, ingress) = support::direction();
        let on_wire = size.next_multiple_of(16) + FRAME_OVERHEAD;
        let frames = (BATCH_BYTES / on_wire).clamp(1, BATCH_FRAMES);
        Self {
            encoder,
            ingress,
            // The message id is the other byte.
            payload: support::random_payload(size - 1),
            frames,
            permutations: support::permutations(size),
            wire: BytesMut::with_capacity(frames * on_wire),
            state: [0; 25],
        }
    }

    /// Nanoseconds for one frame: the permutations alone, sealing, opening.
    fn round(&mut self) -> [f64; 3] {
        let floor = timed(self.frames, || {
            for _ in 0..self.frames {
                support::permute(black_box(&mut self.state), self.permutations);
            }
        });
        // Not counted: after the permutations, which use no vector units, a processor needs a while for the first that
        // does. It showed as 4 % at 16 KiB, and vanishes with this.
        self.seal_and_open();
        let [seal, open] = self.seal_and_open();
        [floor, seal, open]
    }

    fn seal_and_open(&mut self) -> [f64; 2] {
        let capacity = self.wire.capacity();
        let seal = timed(self.frames, || {
            for _ in 0..self.frames {
                let sealed = self.encoder.message(MessageId::new(0x10), black_box(&self.payload), &mut self.wire);
                sealed.expect("the payload fits a frame");
            }
        });
        assert_eq!(self.wire.capacity(), capacity, "sealing grew the buffer, which is not to be measured");
        let open = timed(self.frames, || {
            for _ in 0..self.frames {
                let content = self.ingress.open(&mut self.wire, usize::MAX).expect("it was sealed for this end");
                black_box(content.expect("it is whole"));
            }
        });
        // Every frame is gone, so this takes the same memory again.
        self.wire.reserve(capacity);
        [seal, open]
    }
}

fn timed(frames: usize, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / frames as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
