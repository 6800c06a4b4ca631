#!/usr/bin/env bash
# Builds the images of the runner that mcc contains; run it after every change of a source here.
# usage: build.sh [FOLDER]    writes to FOLDER [default: ../images]
#        build.sh --digest    prints the digest of the sources
# Needs the GCC cross compilers of both architectures, which tests/run.sh installs.
set -euo pipefail
cd "$(dirname "$0")"
sources=(main.c text.c tensor.c files.c cpus.c pool.c session.c time.c verify.c linux.c)
digest() { cat runner.h "${sources[@]}" ../../../runtime/mcc.h build.sh | sha256sum | cut -d' ' -f1; }
if [ "${1:-}" = --digest ]; then digest; exit; fi
to=${1:-../images}
mkdir -p "$to"
flags=(-std=gnu11 -O2 -ffreestanding -fno-stack-protector -fno-pic -no-pie -static -nostdlib -fno-unwind-tables
  -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -Wall -Wextra -Werror -I../../../runtime
  # The file's headers, which mcc replaces by longer ones, have the first KiB.
  -Wl,-Ttext=0x400400,--build-id=none,-z,max-page-size=65536,-z,noseparate-code,-z,noexecstack)
own() { if [ "$1" = aarch64 ]; then echo -mno-outline-atomics; else echo -fcf-protection=none; fi; }
for arch in x86_64 aarch64; do
  "$arch-linux-gnu-gcc" "${flags[@]}" "$(own $arch)" "${sources[@]}" -o "$to/$arch"
  "$arch-linux-gnu-objcopy" --strip-debug --discard-all --remove-section .comment "$to/$arch"
done
for arch in x86_64 aarch64; do "$arch-linux-gnu-gcc" --version | head -n 1; done >"$to/compilers.txt"
digest >"$to/sources.sha256"
