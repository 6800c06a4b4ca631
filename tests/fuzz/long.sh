#!/usr/bin/env bash
# The long search: more of what `tests/run.sh fuzz` tries, which has to have run once for its tools and cases.
# usage: tests/fuzz/long.sh [FIRST [GRAPHS]]
# Random graphs of the seeds FIRST (default 1000) to FIRST + GRAPHS (default 5000), ten times as many random kernels, hostile dimensions
# and values for every case of the ONNX suite at three levels, the suite between guard pages at every level. Ends with the number of
# searches that found something; each prints the seed or case that brings it back.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
first=${1:-1000} graphs=${2:-5000} found=0
work=target/tests
mcc=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/mcc
cargo build --release --workspace || exit 2
search() { printf '\n== %s\n' "$*"; "$@" || found=$((found + 1)); }

search env MCC_FUZZ="$first..$((first + graphs))" cargo test --release -p mcc-compiler --test fuzz graphs -- --nocapture
search env MCC_FUZZ="$first..$((first + 10 * graphs))" cargo test --release -p mcc-compiler --test fuzz kernels -- --nocapture
for cpu in x86-64-v2 x86-64-v3 native; do
  search "$mcc" verify --hostile --timeout 600 --cpu "$cpu" "$work/hostile" "$work/conformance"
  for level in 3 0; do
    for threads in 1 2; do
      "$mcc" verify --guard --cpu "$cpu" "-O$level" --threads "$threads" --json "$work/guard.json" "$work/conformance" >"$work/guard.log" 2>&1
      search .venv/bin/python tests/tools/check_cases.py "$work/guard.json" tests/conformance/failing.txt
    done
  done
done
printf '\n%d searches found something\n' "$found"
[ "$found" = 0 ]
