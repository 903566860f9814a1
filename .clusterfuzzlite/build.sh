#!/usr/bin/env bash
# Builds every fuzz target into $OUT, each with its committed corpus. ClusterFuzzLite runs it in the image of the
# Dockerfile beside it; anywhere else, `SRC=<the folder above the checkout, named capmux> OUT=<a folder>` does.
set -euo pipefail
cd "$SRC/capmux"

# The image's own nightly compiler can be older than the rust-version of Cargo.toml.
rustup toolchain install nightly --profile minimal
cargo +nightly fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked --version 0.13.2
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-fuzz/target}
cargo +nightly fuzz build --target-dir "$build"

for target in $(cargo +nightly fuzz list); do
  cp "$build/$host/release/$target" "$OUT/"
  zip --quiet --junk-paths "$OUT/${target}_seed_corpus.zip" "fuzz/corpus/$target"/*
  printf '[libfuzzer]\nmax_len = 8192\n' >"$OUT/$target.options"
done
