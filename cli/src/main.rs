//! The `capmux` command.

fn main() {}
