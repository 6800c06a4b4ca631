#!/usr/bin/env bash
# Builds one of the examples with target/release/mcc and checks its answer for every sample picture.
# usage: tests/examples.sh c|aarch64|rust
set -euo pipefail
cd "$(dirname "$0")/.."
mcc=$PWD/target/release/mcc
work=target/tests/example-$1
mkdir -p "$work"
samples=(tests/models/digits/*.pgm)

# compile_and_link COMPILER FLAGS...: the C example
compile_and_link() {
  local triple=$1; shift
  "$mcc" tests/models/digits.onnx -o "$work/digits.o" ${triple:+--target "$triple"}
  "$@" -Wall -Wextra -Wpedantic -Werror -I"$work" examples/c/classify.c "$work/digits.o" -o "$work/classify"
}

case $1 in
  c) compile_and_link "" gcc -std=c11; "$work/classify" "${samples[@]}" ;;
  aarch64)
    compile_and_link aarch64-unknown-linux-gnu aarch64-linux-gnu-gcc -std=c11
    qemu-aarch64 -L /usr/aarch64-linux-gnu "$work/classify" "${samples[@]}" ;;
  rust)
    MCC=$mcc cargo build --quiet --manifest-path examples/rust/Cargo.toml --target-dir "$work"
    "$work/debug/classify" "${samples[@]}" ;;
  *) echo "usage: tests/examples.sh c|aarch64|rust" >&2; exit 2 ;;
esac >"$work/answers"

# tests/models/digits/sample_3_label3.pgm: 3 (94.1 %)
if grep -vE 'label([0-9])\.pgm: \1 ' "$work/answers"; then echo "wrong answers" >&2; exit 1; fi
[ "$(wc -l <"$work/answers")" = ${#samples[@]} ]
