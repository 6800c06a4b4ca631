#!/usr/bin/env bash
# Builds one of the examples with the release build of mcc and checks its answer for every sample picture.
# usage: tests/examples.sh c|aarch64|rust
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$target/tests/example-$1
mkdir -p "$work"
samples=(tests/models/digits/*.pgm)

case $1 in
  c) examples/c/run.sh ;;
  aarch64)
    "$target/release/mcc" tests/models/digits.onnx -o "$work/digits.o" --target aarch64-unknown-linux-gnu
    aarch64-linux-gnu-gcc -std=c11 -I"$work" examples/c/classify.c "$work/digits.o" -o "$work/classify"
    qemu-aarch64 -L /usr/aarch64-linux-gnu "$work/classify" "${samples[@]}" ;;
  rust)
    cargo build --quiet --manifest-path examples/rust/Cargo.toml --target-dir "$work"
    "$work/debug/classify" "${samples[@]}" ;;
  *) echo "usage: tests/examples.sh c|aarch64|rust" >&2; exit 2 ;;
esac >"$work/answers"

# A line a picture: tests/models/digits/sample_3_label3.pgm: 3 (94.1 %)
if grep -vE 'label([0-9])\.pgm: \1 ' "$work/answers"; then echo "wrong answers" >&2; exit 1; fi
[ "$(wc -l <"$work/answers")" = ${#samples[@]} ]
