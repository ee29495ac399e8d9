"""This processor: name, features, vector width, and how many threads may run here.

``NTORCH_CPU`` names another processor, in LLVM's spelling, to build kernels for: a smaller one of
the same architecture. It decides features and vector width, and is part of every kernel's key.

Everything is read from files of the operating system, so that importing this module and asking it
costs microseconds; llvmlite is only asked where those files do not exist.
"""
import functools
import hashlib
import os
import platform

_V2 = "cx16 sahf popcnt sse sse2 sse3 ssse3 sse4.1 sse4.2"
_V3 = _V2 + " avx avx2 bmi bmi2 f16c fma lzcnt movbe xsave"
_V4 = _V3 + " avx512f avx512bw avx512cd avx512dq avx512vl"
# the levels of the x86-64 psABI, in LLVM's names of features
LEVELS = {name: frozenset(text.split()) for name, text in (
    ("x86-64", "sse sse2"), ("x86-64-v2", _V2), ("x86-64-v3", _V3), ("x86-64-v4", _V4))}


@functools.cache
def target():
    """The processor that kernels are built for if it is not this one: ``NTORCH_CPU``, or ''."""
    return os.environ.get("NTORCH_CPU", "").strip()


@functools.cache
def _cpuinfo():
    """``{field: value}`` of the first processor in /proc/cpuinfo; empty where there is none."""
    fields = {}
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if not colon:
                    break                       # a blank line ends the first processor
                fields[key.strip()] = value.strip()
    except OSError:
        return {}
    return fields


def name():
    """The processor's name, for people; the architecture where it does not tell."""
    fields = _cpuinfo()
    return fields.get("model name") or fields.get("Model") or platform.processor() or arch()


def arch():
    """``x86_64``, ``aarch64``, ...: one spelling per architecture."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


@functools.cache
def features():
    """Names of the instruction set extensions that kernels may use, as a frozenset.

    They are in the operating system's spelling, those of a named target in LLVM's.
    """
    if target():
        from .load import features_of
        return features_of(target())
    fields = _cpuinfo()
    listed = fields.get("flags") or fields.get("Features")
    if listed is not None:
        return frozenset(listed.split())
    import llvmlite.binding as llvm
    llvm.initialize_native_target()
    return frozenset(flag for flag, present in llvm.get_host_cpu_features().items() if present)


@functools.cache
def signature():
    """A short digest of name and features: differs between processors that run different code."""
    text = f"{arch()};{name()};{' '.join(sorted(features()))}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def vector_bits():
    """Width in bits of the widest vector register that kernels are generated for."""
    if arch() == "x86_64":
        known = features()
        return 512 if "avx512f" in known else 256 if "avx2" in known else 128
    return 128


def converts_halves():
    """Whether the target has instructions between float16 and float32."""
    return arch() == "aarch64" or "f16c" in features()


def affinity():
    """The processors that this process may run on, as a set of numbers."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def physical_cores(processors):
    """How many cores the logical ``processors`` belong to: two hardware threads of one core share
    its arithmetic units, so a second one gains nothing for dense kernels."""
    cores = set()
    for number in processors:
        path = f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
        try:
            with open(path) as file:
                cores.add(file.read().strip())
        except OSError:
            return len(processors)
    return len(cores)


def _groups(text, controller):
    """The process's path in the hierarchy of ``controller`` ('' is the unified one), or None."""
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (controllers == "" if controller == "" else controller in controllers.split(",")):
            return path
    return None


def _upward(root, path):
    """Yield the folders of a control group and of all its parents, below ``root``."""
    parts = [part for part in path.split("/") if part and part != ".."]
    for count in range(len(parts), -1, -1):
        yield os.path.join(root, *parts[:count])


def _read(path):
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return None


def _quota_v2(folder):
    words = _read(os.path.join(folder, "cpu.max"))
    if not words or words[0] == "max":
        return None
    return int(words[0]) / int(words[1] if len(words) > 1 else 100_000)


def _quota_v1(folder):
    quota = _read(os.path.join(folder, "cpu.cfs_quota_us"))
    period = _read(os.path.join(folder, "cpu.cfs_period_us"))
    if not quota or not period or int(quota[0]) <= 0 or int(period[0]) <= 0:
        return None
    return int(quota[0]) / int(period[0])


def cgroup_quota(root="/sys/fs/cgroup", membership="/proc/self/cgroup"):
    """Processors' worth of time that control groups (version 1 or 2) allow, or None for no limit.

    The tightest limit on the way from the process's own group up to the root counts.
    """
    try:
        with open(membership) as file:
            text = file.read()
    except OSError:
        return None
    found = []
    unified = _groups(text, "")
    if unified is not None:
        for base in (root, os.path.join(root, "unified")):
            found += [_quota_v2(folder) for folder in _upward(base, unified)]
    legacy = _groups(text, "cpu")
    if legacy is not None:
        for base in ("cpu", "cpu,cpuacct"):
            found += [_quota_v1(folder) for folder in _upward(os.path.join(root, base), legacy)]
    limits = [limit for limit in found if limit]
    return min(limits) if limits else None


def _from_environment():
    """The count that the environment asks for, or None; a value that is no count is ignored."""
    for variable in ("NTORCH_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(variable, "").split(",")[0].strip()
        if text.isdigit() and int(text) > 0:
            return int(text)
    return None


def default_threads():
    """How many threads a kernel uses unless told otherwise.

    ``NTORCH_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the physical cores this process may run
    on, cut to the control group's quota (rounded up).
    """
    asked = _from_environment()
    if asked is not None:
        return asked
    count = physical_cores(affinity())
    quota = cgroup_quota()
    if quota is not None:
        count = min(count, max(1, -int(-quota // 1)))
    return max(1, count)
