#!/usr/bin/env python3
"""Checks objects for machines other than this one.

usage: foreign.py MCC link MODEL.onnx          link it for Android, iOS and Windows, and look at the result
       foreign.py MCC CPU [--atol A] CASE_DIR...
                                               run cases (ONNX test layout) under qemu and compare, for each of the CPU's cores:
                                               aarch64 (one with all extensions, and a Cortex-A53, which has none), x86-64-v2,
                                               x86-64-v3

An aarch64 object that holds more than generic code must run `sdot` on the first core, and none on the second; the line says
how many of them. --atol is for quantized cases: a sum next to a tie may be rounded to the other step. Each check is a line;
exit 0 when all hold. A case is linked with drive.c, which also counts what a run allocates: nothing.
Needs numpy, onnx, ld.lld-19, ld64.lld-19, llvm-readelf-19, llvm-readobj-19, llvm-dwarfdump-19, llvm-nm-19, the aarch64, x86-64 and mingw gcc, qemu-user.
"""
import os
import re
import struct
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))
X86 = ["--target", "x86_64-unknown-linux-gnu", "--cpu"]
# Options for mcc, the linker command, and the emulators with their cores.
MACHINES = {
    "aarch64": (["--target", "aarch64-linux-android"], "aarch64-linux-gnu-gcc", "qemu-aarch64", ["max", "cortex-a53"]),
    "x86-64-v2": (X86 + ["x86-64-v2"], "x86_64-linux-gnu-gcc", "qemu-x86_64", ["Nehalem"]),
    "x86-64-v3": (X86 + ["x86-64-v3"], "x86_64-linux-gnu-gcc", "qemu-x86_64", ["max"]),
}
TBD = """--- !tapi-tbd
tbd-version: 4
targets: [ arm64-ios ]
install-name: /usr/lib/libSystem.B.dylib
exports:
  - targets: [ arm64-ios ]
    symbols: [ _memcpy, _memset, dyld_stub_binder ]
...
"""


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise RuntimeError("%s: exit %d: %s" % (command[0], done.returncode, done.stdout.strip()[-600:]))
    return done.stdout


def expect(holds, what):
    if not holds:
        raise RuntimeError(what)


def undefined(nm, path):
    return {line.split()[-1].lstrip("_") for line in run(nm, "-u", path).splitlines() if line.strip() and not line.endswith(":")}


def described(lib):
    """Each function of a linked library has an entry of call frame information that starts where it does."""
    functions = {int(line.split()[0], 16) for line in run("llvm-nm-19", lib).splitlines() if re.search(r" [tT] _?m_", line)}
    entries = {int(at, 16) for at in re.findall(r"FDE cie=\w+ pc=(\w+)", run("llvm-dwarfdump-19", "--eh-frame", lib))}
    expect(functions and functions <= entries, "functions without unwind information")


def android(mcc, model, folder):
    obj, lib = folder + "/m.o", folder + "/libm.so"
    run(mcc, model, "-o", obj, "--target", "aarch64-linux-android", "--name", "m")
    run("ld.lld-19", "-shared", "--gc-sections", "--hash-style=gnu", "-zmax-page-size=16384", "-znow", "-zrelro", "-znoexecstack",
        "-ztext", "--build-id", "-soname", "libm.so", "-o", lib, obj)
    expect(undefined("llvm-nm-19", lib) <= {"memcpy", "memset"}, "undefined symbols")
    headers = run("llvm-readelf-19", "-lW", "-d", lib)
    expect("TEXTREL" not in headers, "text relocations")
    loads = [line.split() for line in headers.splitlines() if line.split()[:1] == ["LOAD"]]
    described(lib)
    expect(loads and all(int(line[-1], 16) >= 16384 for line in loads), "pages of 16 KiB")


def ios(mcc, model, folder):
    obj, tbd = folder + "/ios.o", folder + "/libSystem.tbd"
    run(mcc, model, "-o", obj, "--target", "aarch64-apple-ios17.0", "--name", "m")
    with open(tbd, "w", encoding="ascii") as f:
        f.write(TBD)
    run("ld64.lld-19", "-arch", "arm64", "-platform_version", "ios", "17.0", "17.0", "-dylib", "-dead_strip", "-install_name",
        "@rpath/libm.dylib", "-exported_symbol", "_m_*", "-o", folder + "/libm.dylib", obj, tbd)
    described(folder + "/libm.dylib")


def windows(mcc, model, folder):
    obj = folder + "/m.obj"
    run(mcc, model, "-o", obj, "--header", folder + "/m.h", "--target", "x86_64-pc-windows-gnu", "--name", "m")
    with open(folder + "/main.c", "w", encoding="ascii") as f:
        f.write('#include "m.h"\nint main(void) { return m_model.abi_version != MCC_ABI_VERSION; }\n')
    run("x86_64-w64-mingw32-gcc", "-Wall", "-Werror", folder + "/main.c", obj, "-o", folder + "/m.exe")
    rows = re.findall(r"StartAddress: (m_\w+) \(0x(\w+)\)\s+EndAddress: .*?\(0x(\w+)\)", run("llvm-readobj-19", "--unwind", folder + "/m.exe"))
    expect({"m_run", "m_invoke", "m_shapes"} < {name for name, _, _ in rows}, "functions without unwind information")
    expect(all(int(start, 16) < int(end, 16) for _, start, end in rows), "unwind information of nothing")


def write_raw(path, array, dtype):
    with open(path, "wb") as f:
        f.write(struct.pack("<ii%dq" % array.ndim, array.ndim, dtype, *array.shape) + array.tobytes())


def read_raw(path):
    with open(path, "rb") as f:
        data = f.read()
    rank, dtype = struct.unpack_from("<ii", data)
    dims = struct.unpack_from("<%dq" % rank, data, 8)
    return np.frombuffer(data[8 + 8 * rank:], onnx.helper.tensor_dtype_to_np_dtype(dtype)).reshape(dims)


def tensor(path):
    t = onnx.TensorProto()
    with open(path, "rb") as f:
        t.ParseFromString(f.read())
    return numpy_helper.to_array(t), t.data_type


def emulated(mcc, case, folder, machine, atol):
    options, gcc, qemu, cores = MACHINES[machine]
    data = os.path.join(case, "test_data_set_0")
    count = lambda side: sum(f.startswith(side) for f in os.listdir(data))
    ins, outs = ([folder + "/%s_%d" % (side, n) for n in range(count(side + "_"))] for side in ("input", "output"))
    for n, path in enumerate(ins):
        write_raw(path, *tensor(os.path.join(data, "input_%d.pb" % n)))
    obj, exe = folder + "/m.o", folder + "/drive"
    run(mcc, os.path.join(case, "model.onnx"), "-o", obj, "--name", "m", *options)
    run(gcc, "-static", "-O1", "-std=c11", "-DMODEL=m_model", "-include", folder + "/m.h", HERE + "/drive.c", obj,
        "-Wl,--wrap=malloc", "-o", exe)
    with open(os.path.join(case, "tolerance"), encoding="ascii") as f:
        tolerances = [tuple(map(float, line.split())) for line in f]
    found = {}
    for core in cores:
        log = ["-d", "in_asm", "-D", folder + "/" + core] if machine == "aarch64" else []
        run(qemu, "-cpu", core, *log, exe, *ins, "--", *outs)
        found[core] = len(set(executed(log[-1], is_sdot))) if log else 0
        for n, path in enumerate(outs):
            got, want = read_raw(path), tensor(os.path.join(data, "output_%d.pb" % n))[0]
            rtol, own = tolerances[min(n, len(tolerances) - 1)]
            expect(got.shape == want.shape and np.allclose(got, want, rtol, own if atol is None else atol, equal_nan=True),
                   "%s: output %d differs" % (core, n))
    if machine != "aarch64":
        return None
    levels = "getauxval" in undefined("aarch64-linux-gnu-nm", obj)
    expect((found["max"] > 0) == levels and found["cortex-a53"] == 0, "sdot executed: %s, levels: %s" % (found, levels))
    return "%d sdot on max, none on cortex-a53" % found["max"] if levels else "generic"


def executed(log, wanted):
    """Addresses of instructions of some kind that qemu translated, which it does right before executing them."""
    with open(log, encoding="utf-8", errors="replace") as f:
        for line in f:
            words = re.match(r"0x([0-9a-f]+):\s+([0-9a-f]{8})\b", line)
            if words and wanted(int(words[2], 16)):
                yield words[1]


def is_sdot(word):
    """Of vectors, or of a vector and an element."""
    return word & 0xbfe0fc00 == 0x0e809400 or word & 0xbfc0f400 == 0x0f80e000


def main():
    if len(sys.argv) < 4 or sys.argv[2] not in ("link", *MACHINES):
        print(__doc__, file=sys.stderr)
        return 2
    mcc, what, rest = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if what == "link":
        jobs = [(f.__name__, f, (rest[0],)) for f in (android, ios, windows)]
    else:
        atol = float(rest[1]) if rest[0] == "--atol" else None
        cases = rest if atol is None else rest[2:]
        jobs = [(what + " " + os.path.basename(os.path.normpath(case)), emulated, (case, what, atol)) for case in cases]
    failed = 0
    for name, job, arguments in jobs:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = job(mcc, arguments[0], folder, *arguments[1:])
                print("pass", name + (" (%s)" % found if found else ""), flush=True)
            except (RuntimeError, OSError) as e:
                failed += 1
                print("FAIL %s: %s" % (name, e), flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
