//! Hundreds of servers in one process: found by peer exchange, parted, crashed, with clocks that jump. All of it comes
//! from a seed, which is printed when a test fails and can be given in `CAPMUX_SEED`.

mod few;
mod many;
mod world;
