#!/usr/bin/env python3
"""Writes llvm-mc's encodings of the AArch64 emitter's instructions, with which a test compares the table.

usage: aarch64_encodings.py INSTANCES > compiler/codegen/src/aarch64/encodings.txt

INSTANCES is what the test writes: MCC_ENCODINGS=INSTANCES cargo test -p mcc-codegen encodings_are_those_of_llvm
Its own encodings are not used. A text that llvm-mc refuses is an error. Needs llvm-mc.
"""
import re
import subprocess
import sys

FEATURES = "+neon,+dotprod,+i8mm,+fullfp16,+bf16,+bti"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1]) as f:
        texts = [line.rstrip("\n").split(" ", 1)[1] for line in f]
    # Without `#` a number is an immediate as well, except as a float.
    source = "".join(text + "\n" for text in texts)
    done = subprocess.run(["llvm-mc", "-triple=aarch64", "-mattr=" + FEATURES, "-show-encoding"], input=source,
                          capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[:4000])
    found = re.findall(r"encoding: \[([^\]]*)\]", done.stdout)
    if len(found) != len(texts):
        sys.exit("%d texts, %d encodings" % (len(texts), len(found)))
    for text, encoding in zip(texts, found):
        print("%08x %s" % (int.from_bytes(bytes(int(b, 16) for b in encoding.split(",")), "little"), text))


if __name__ == "__main__":
    main()
