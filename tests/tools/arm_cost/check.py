#!/usr/bin/env python3
"""Checks what aarch64_cost.py relies on with a program whose costs are known: counts, loops, cycles and cache misses.

usage: check.py        (from anywhere; needs qemu-aarch64 with plugins, gcc, aarch64-linux-gnu-gcc, llvm-19)
"""
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from arm_cost import cores, mca, paths, profile  # noqa: E402
from foreign import expect, run  # noqa: E402

INNER, OUTER, BYTES, SWEEPS = 3, 1000, 256 << 10, 2
PROGRAM = """
    .macro mark number
    mov w0, #(\\number & 0xffff)
    movk w0, #(\\number >> 16 & 0xffff), lsl #16
    mov x8, #57
    svc #0
    .endm
    .globl _start
_start:
    mark -7310001
    mov x10, #%(outer)d
outer:
    mov x11, #%(inner)d
inner:
    fmla v0.4s, v30.4s, v31.4s
    fmla v1.4s, v30.4s, v31.4s
    fmla v2.4s, v30.4s, v31.4s
    fmla v3.4s, v30.4s, v31.4s
    fmla v4.4s, v30.4s, v31.4s
    fmla v5.4s, v30.4s, v31.4s
    fmla v6.4s, v30.4s, v31.4s
    fmla v7.4s, v30.4s, v31.4s
    subs x11, x11, #1
    b.ne inner
    subs x10, x10, #1
    b.ne outer
    mov x12, #%(sweeps)d
sweep:
    adrp x0, data
    add x0, x0, :lo12:data
    mov x11, #%(lines)d
line:
    ldr q0, [x0], #64
    subs x11, x11, #1
    b.ne line
    subs x12, x12, #1
    b.ne sweep
    mark -7310002
    mov x0, #0
    mov x8, #93
    svc #0
    .bss
    .balign 64
data: .skip %(bytes)d
"""


def main():
    lines = BYTES // 64
    with tempfile.TemporaryDirectory() as work:
        source, program = os.path.join(work, "p.s"), os.path.join(work, "p")
        with open(source, "w", encoding="ascii") as f:
            f.write(PROGRAM % {"outer": OUTER, "inner": INNER, "sweeps": SWEEPS, "lines": lines, "bytes": BYTES})
        run("aarch64-linux-gnu-gcc", "-nostdlib", "-static", source, "-o", program)
        found = profile.count([program], cores.MACHINES["a55"], work)
        totals = profile.totals(found)
        # Around the loops: the second mark, the counters and the exit of each sweep.
        expect(totals["simd"] == OUTER * INNER * 8, "vector instructions: %s" % totals)
        expect(totals["ldst"] == SWEEPS * lines, "loads: %s" % totals)
        expect(abs(totals["insns"] - OUTER * (INNER * 10 + 3) - SWEEPS * (lines * 3 + 5)) <= 12, "instructions: %s" % totals)
        # 256 KiB do not fit the first two caches, so every line misses in both sweeps; they fit the third.
        expect(profile.misses(found) == [SWEEPS * lines, SWEEPS * lines, lines], "misses: %s" % profile.misses(found))
        split, held = paths.split(found, 1)
        expect(held > 0.999, "paths hold %g" % held)
        inner = next((p for p in split if p.again and len(p.words()) == 10), None)
        # The first round is in the block that begins before the loop, the last one in the cycle around it.
        expect(inner and inner.times == OUTER * (INNER - 2), "the inner loop: %s" % inner)
        around = [p for p in split if p.again and p.times in (OUTER - 1, OUTER - 2)]
        expect(len(around) == 1 and len(around[0].words()) == 1 + 2 * 10 + 2, "the loop around it: %s" % around)
        estimator = mca.Estimator(work, "19")
        # The Cortex-A55 multiplies and adds four floats a cycle, the Neoverse N1 eight, the V2 sixteen. An in-order core
        # may issue the rest beside them.
        for core, least, most in (("cortex-a55", 8, 9), ("neoverse-n1", 4, 4.1), ("neoverse-v2", 2, 4.1)):
            cycles = estimator.cycles([inner.words()], core)[0]
            expect(least <= cycles <= most, "%s: %g cycles" % (core, cycles))
        expect(estimator.limit("fmla.4s", "neoverse-n1") == 8, "the Neoverse N1's limit")
    print("counts, loops, cycles and cache misses are right")


if __name__ == "__main__":
    main()
