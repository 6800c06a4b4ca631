#!/usr/bin/env bash
# Compiles the sample model for several threads, links it with threads.c and mcc's runtime, and runs that.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${CARGO_TARGET_DIR:-target}
cargo build --release --quiet --package mcc-cli
cargo rustc --release --quiet --package mcc-runtime --features threads --crate-type staticlib --target-dir "$work/runtime"
mkdir -p "$work/example-threads"
"$work/release/mcc" tests/models/digits.onnx -o "$work/example-threads/digits.o" --threads
${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$work/example-threads" examples/c/threads.c \
  "$work/example-threads/digits.o" "$work/runtime/release/libmcc_runtime.a" -lpthread -ldl -lm -o "$work/example-threads/threads"
"$work/example-threads/threads"
