#!/usr/bin/env bash
# The whole test suite, from a fresh clone: installs what it needs, builds, checks, and ends with "N passed, N failed".
# usage: tests/run.sh [STEP...]
# Steps, in order (default: all): lint unit cases conformance fuzz zoo targets tasks examples. Tools, Python and the build always come first.
# Tests use the profile "checked", in which the compiler checks its own work; figures and examples use a release build.
# MCC_TEST_CPU=x86-64-v2|x86-64-v3|x86-64-v4 makes all steps treat this machine as that CPU level.
# It writes only below target/ and .venv/. As root it installs missing Debian packages, otherwise it names them.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
steps="${*:-lint unit cases conformance fuzz zoo targets tasks examples}"
work=target/tests
python=.venv/bin/python
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
mcc=$target/checked/mcc release=$target/release/mcc
passed=0 failed=0
mkdir -p "$work"

die() { printf '\ntests/run.sh: %s\n0 passed, 1 failed\n' "$1" >&2; exit 1; }

# check NAME COMMAND...: one test, passed when the command exits 0.
check() {
  local name=$1; shift
  printf '\n== %s\n' "$name"
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); printf 'FAILED: %s\n' "$name"; return 1; fi
}

# tally LOG PATTERN_PASSED PATTERN_FAILED: adds a test runner's own count, taken from its output.
tally() {
  passed=$((passed + $(grep -oE "[0-9]+ $2" "$1" | awk '{n += $1} END {print n + 0}')))
  failed=$((failed + $(grep -oE "[0-9]+ $3" "$1" | awk '{n += $1} END {print n + 0}')))
}

# A file that each Debian package installs, and the package.
tools="
  /usr/bin/gcc                             gcc
  /usr/bin/g++                             g++
  /usr/bin/qemu-aarch64                    qemu-user
  /usr/bin/ld.lld-19                       lld-19
  /usr/bin/llvm-objdump-19                 llvm-19
  /usr/bin/x86_64-w64-mingw32-gcc          gcc-mingw-w64-x86-64
  /usr/bin/chromium                        chromium
"
# Cross compilers for the other architecture; for this machine's own, gcc installs the same names.
case $(uname -m) in
  x86_64) tools+="
  /usr/bin/aarch64-linux-gnu-gcc           gcc-aarch64-linux-gnu
  /usr/aarch64-linux-gnu/lib/libc.so       libc6-dev-arm64-cross
" ;;
  aarch64) tools+="
  /usr/bin/x86_64-linux-gnu-gcc            gcc-x86-64-linux-gnu
  /usr/x86_64-linux-gnu/lib/libc.so        libc6-dev-amd64-cross
" ;;
esac
install_tools() {
  local missing=() file package
  while read -r file package; do
    [ -z "$package" ] || [ -e "$file" ] || missing+=("$package")
  done <<<"$tools"
  # These may be installed other than by Debian packages.
  command -v npm >/dev/null || missing+=(npm)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  [ ${#missing[@]} -gt 0 ] || return 0
  local install="apt-get install -y --no-install-recommends ${missing[*]}"
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "not installed: ${missing[*]}; run as root: $install"
  echo "installing ${missing[*]}"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive $install; } >"$work/apt.log" 2>&1 \
    || { tail -n 20 "$work/apt.log"; die "cannot install ${missing[*]}"; }
}

install_python() {
  local want; want=$(cat tests/requirements.txt)
  [ "$(cat .venv/installed 2>/dev/null)" = "$want" ] && return 0
  python3 -m venv --clear .venv || die "python3 -m venv failed (Debian: apt-get install python3-venv)"
  $python -m pip install -q -r tests/requirements.txt || die "pip could not install tests/requirements.txt"
  printf '%s\n' "$want" >.venv/installed
}

lint() {
  check "formatting" cargo fmt --all --check
  check "clippy" cargo clippy --profile checked --workspace --all-targets --quiet -- -D warnings
  # The pages are for contributors: they contain private items, which may be linked to.
  RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" \
    check "rustdoc" cargo doc --profile checked --workspace --no-deps --document-private-items --quiet
}

unit() {
  local log=$work/unit.log before=$((passed + failed)) status
  printf '\n== unit and integration tests\n'
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --cargo-profile checked --workspace --no-fail-fast --color never --status-level fail 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    grep -E '^ *Summary ' "$log" >"$log.summary"
    tally "$log.summary" passed failed
  else
    cargo test --profile checked --workspace --no-fail-fast --quiet 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    grep -E '^test result: ' "$log" >"$log.summary"
    tally "$log.summary" passed failed
  fi
  # A run that executed no test has not passed.
  if [ "$status" != 0 ] && ! grep -qE '[1-9][0-9]* failed' "$log.summary" || [ $((passed + failed)) = "$before" ]; then
    failed=$((failed + 1)); echo "FAILED: the test runner (exit $status)"
  fi
  # nextest does not run documentation examples.
  check "documentation examples" cargo test --profile checked --workspace --doc --quiet
}

# The project's models with ONNX Runtime's results, with all passes and with only those that code generation needs.
cases() {
  local level
  for level in 3 0; do
    printf '\n== models of tests/cases, -O%d\n' "$level"
    $mcc verify "-O$level" tests/cases/models >"$work/cases.log" 2>&1
    grep -v '^pass' "$work/cases.log"
    tail -n 1 "$work/cases.log" >"$work/cases.log.summary"
    grep -qE '^[0-9]+ passed, [0-9]+ failed$' "$work/cases.log.summary" || { failed=$((failed + 1)); echo "FAILED: mcc verify"; }
    tally "$work/cases.log.summary" passed failed
  done
}

conformance() {
  check "export the ONNX backend suite" $python tests/tools/export_conformance.py "$work/conformance" || return
  # Twice: with all passes, and with only those that code generation needs. Neither may change what passes.
  local level
  for level in 3 0; do
    printf '\n== ONNX backend suite, -O%d\n' "$level"
    $mcc verify "-O$level" --json "$work/conformance.json" "$work/conformance" >"$work/conformance.log" 2>&1
    $python tests/tools/check_cases.py "$work/conformance.json" tests/conformance/failing.txt | tee "$work/conformance.txt"
    tail -n 1 "$work/conformance.txt" >"$work/conformance.txt.summary"
    tally "$work/conformance.txt.summary" passed failed
  done
}

# A fixed part of what tests/fuzz/long.sh searches. FUZZ_SECONDS and FUZZ_SEED apply to the mutants: models with random
# mistakes, which the compiler compiles or refuses.
fuzz() {
  check "random graphs" env MCC_FUZZ=0..250 cargo test --profile checked --package mcc-compiler --test fuzz --quiet graphs
  check "random kernels" env MCC_FUZZ=0..2000 cargo test --profile checked --package mcc-compiler --test fuzz --quiet kernels
  check "hostile cases" $python tests/fuzz/hostile_cases.py "$work/hostile" || return
  check "export the ONNX backend suite" $python tests/tools/export_conformance.py "$work/conformance" || return
  local options
  for options in "--cpu x86-64-v2" "--cpu native" "--cpu native --threads 2"; do
    check "hostile dimensions and values, $options" $mcc verify --hostile $options "$work/hostile"
    printf '\n== ONNX backend suite between guard pages, %s\n' "$options"
    $mcc verify --guard $options --json "$work/guard.json" "$work/conformance" >"$work/guard.log" 2>&1
    check "... passes as without guard pages" $python tests/tools/check_cases.py "$work/guard.json" tests/conformance/failing.txt
  done
  local log=$work/mutants.log
  $python tests/fuzz/mutate.py $mcc "$work/conformance" tests/models --seed "${FUZZ_SEED:-1}" --seconds "${FUZZ_SECONDS:-60}" \
    --jobs 2 --save "$work/mutants" | tee "$log"
  tail -n 1 "$log" >"$log.summary"
  tally "$log.summary" passed failed
}

zoo() {
  local names; names=$(grep -v '^#' tests/zoo/ci.txt)
  check "fetch zoo models" $python tests/tools/fetch_zoo.py --cache "$work/packages" "$work/zoo" $names || return
  check "reference outputs" $python tests/tools/zoo_reference.py "$work/zoo" "$work/zooref" $names || return
  local name
  for name in $names; do check "zoo: $name" $mcc verify "$work/zooref/$name"; done
  local cpu
  while read -r cpu name; do
    check "zoo on $cpu under qemu: $name" $python tests/tools/foreign.py $mcc "$cpu" "$work/zooref/$name" </dev/null
  done < <(grep -v '^#' tests/zoo/emulated.txt)
  check "arena, reproducible objects, compile time" $python tests/tools/figures.py $release "$work/zoo"
}

targets() {
  check "links for Android, iOS and Windows" $python tests/tools/foreign.py $release link tests/models/digits.onnx
  # Debian 12's qemu has plugins, some later packages lack them.
  if qemu-aarch64 --help | grep -q plugin; then
    check "costs on 64-bit Arm: counts, loops, cycles, cache misses" $python tests/tools/arm_cost/check.py
  else
    echo "not checked: tests/tools/aarch64_cost.py, which needs a qemu with plugins"
  fi
}

# What compression loses on tasks that need no large download; the others: tests/tasks/.
tasks() {
  check "make tasks" python3 tests/tasks/make.py --work "$work/tasks" digits skl_mlp || return
  check "accuracy of compressed models" python3 tests/tasks/compare.py --work "$work/tasks" --mcc "$release" --tools mcc --must \
    --forms int8,int4,codebook4 digits skl_mlp
}

examples() {
  check "C example" tests/examples.sh c
  check "C example on several threads" examples/c/threads.sh
  check "C example on aarch64" tests/examples.sh aarch64
  check "Rust example" tests/examples.sh rust
}

install_tools
install_python
command -v cargo >/dev/null || die "cargo is not installed (rustup installs it)"
cargo build --profile checked --workspace && cargo build --release --package mcc-cli || die "the build failed"
for step in $steps; do
  declare -F "$step" >/dev/null || die "no step '$step'"
  "$step"
done
printf '\nCPU levels (x86-64-v2, x86-64-v3 and aarch64 also ran, or ran instead, under qemu):\n'
$mcc cpus
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
