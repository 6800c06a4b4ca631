#!/usr/bin/env bash
# Builds mcc, compiles the sample model, links it with classify.c, and runs that on the sample pictures.
# usage: examples/c/run.sh [PICTURE.pgm...]
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${CARGO_TARGET_DIR:-target}
cargo build --release --quiet --package mcc-cli
mkdir -p "$work/example-c"
"$work/release/mcc" tests/models/digits.onnx -o "$work/example-c/digits.o"
${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$work/example-c" examples/c/classify.c \
  "$work/example-c/digits.o" -o "$work/example-c/classify"
[ $# -gt 0 ] || set -- tests/models/digits/*.pgm
"$work/example-c/classify" "$@"
