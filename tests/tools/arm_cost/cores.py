"""The cores whose cycles are estimated, and the machines that programs run on for them."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """What a program sees (its choice of kernels depends on it) and the caches that its accesses pass."""
    qemu: str
    # Arm's part number and Linux's names of features, for /proc/cpuinfo.
    part: int
    features: str
    # Bytes and ways, from the first level on. Cores are sold with several sizes; these are common in phones and servers.
    caches: tuple


COMMON = "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
MACHINES = {
    "a55": Machine("neoverse-n1", 0xD05, COMMON, ((32 << 10, 4), (128 << 10, 4), (1 << 20, 16))),
    "n1": Machine("neoverse-n1", 0xD0C, COMMON, ((64 << 10, 4), (512 << 10, 8), (4 << 20, 16))),
    "v9": Machine("max,sme=off,sve-max-vq=1,pauth-impdef=on", 0xD49, COMMON + " sve sve2 svei8mm svebf16 i8mm bf16 asimdfhm",
                  ((64 << 10, 4), (1 << 20, 8), (8 << 20, 16))),
}
# LLVM's name of the core's own model (those called cortex-a76, a78, x1 and x2 are other cores'), and the machine.
CORES = {"cortex-a55": "a55", "cortex-a510": "v9", "neoverse-n1": "n1", "neoverse-n2": "v9", "neoverse-v2": "v9"}


def size(machine):
    return ", ".join("%d KiB %d ways" % (b >> 10, w) for b, w in machine.caches)
