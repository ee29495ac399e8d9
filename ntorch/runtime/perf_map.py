"""Names of kernels' machine code for Linux ``perf``.

With ``NTORCH_PERF_MAP=1`` every kernel that is linked is written to ``/tmp/perf-<process>.map``,
where ``perf report`` looks names up.
"""
import os
import struct
import sys

FUNCTION, SYMBOLS = 2, 2        # a symbol's and a section's type (ELF, System V ABI chapter 4)
FOLDER = "/tmp"                 # where perf looks


def wanted():
    """Whether kernels are to be named."""
    return sys.platform == "linux" and os.environ.get("NTORCH_PERF_MAP", "0") not in ("", "0")


def functions(body):
    """``(name, section, offset, size)`` of the functions of a 64-bit ELF object."""
    start, = struct.unpack_from("<Q", body, 0x28)
    size, count = struct.unpack_from("<HH", body, 0x3A)
    sections = [struct.unpack_from("<IIQQQQII", body, start + size * k) for k in range(count)]
    for _, kind, _, _, at, length, names, _ in sections:
        if kind != SYMBOLS:
            continue
        text = sections[names][4]
        for symbol in range(at, at + length, 24):
            name, info, _, section, offset, extent = struct.unpack_from("<IBBHQQ", body, symbol)
            if info & 15 == FUNCTION:
                first = text + name
                yield body[first:body.index(b"\0", first)].decode(), section, offset, extent


def note(body, symbol, address, name):
    """Name the functions of the kernel ``name``, whose ``symbol`` was linked to ``address``."""
    found = list(functions(body))
    entry = next(f for f in found if f[0] == symbol)
    with open(f"{FOLDER}/perf-{os.getpid()}.map", "a") as file:
        for function, section, offset, size in found:
            if section == entry[1]:
                inner = "" if function == symbol else f": {function}"
                file.write(f"{address + offset - entry[2]:x} {size:x} {name}{inner}\n")
