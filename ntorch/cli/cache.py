"""``python -m ntorch cache``: look at the kernel store, check it, clean it, carry it.

An exported file is a ZIP archive: ``manifest.json`` and one record a kernel, as the store has it.
"""
import datetime
import hashlib
import json
import os
import sys
import time

from ..runtime import store

FORMAT, VERSION = "ntorch kernels", 1


def add_parser(commands):
    """Add the ``cache`` command to an argparse subparsers object."""
    cache = commands.add_parser("cache", help="look after the store of compiled kernels")
    actions = cache.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="one line a kernel")
    listing.add_argument("--name", default="", help="only kernels whose name contains this")
    listing.set_defaults(run=_list)
    actions.add_parser("info", help="where the store is and how full").set_defaults(run=_info)
    actions.add_parser("verify", help="check every entry; exit status 1 if one is damaged"
                       ).set_defaults(run=_verify)
    prune = actions.add_parser("prune", help="remove old kernels, and damaged ones")
    prune.add_argument("--days", type=float, default=30.0,
                       help="remove what was not used for this many days (default 30)")
    prune.add_argument("--max-megabytes", type=float, default=None,
                       help="then remove the least recently used until the rest fits")
    prune.set_defaults(run=_prune)
    actions.add_parser("clear", help="remove every kernel").set_defaults(run=_clear)
    export = actions.add_parser("export", help="write the kernels to one file, for another machine")
    export.add_argument("file", metavar="FILE")
    export.add_argument("--cpu", metavar="NAME", help="only those built for this processor (as in "
                        "'warmup --cpu'); 'host' for this one (default: all)")
    export.set_defaults(run=_export)
    taking = actions.add_parser("import", help="take over the kernels of such a file")
    taking.add_argument("file", metavar="FILE")
    taking.set_defaults(run=_import)


def _last_use(path):
    """The day an entry was last used, kept as the file's modification time."""
    return os.path.getmtime(path)


def _describe(header):
    return f"{header.get('name', '?')}({', '.join(map(str, header.get('params', ())))})"


def _list(options):
    count = 0
    for key, _, header, problem in store.entries():
        if problem:
            print(f"{key[:12]}  damaged: {problem}")
        elif options.name in str(header.get("name", "")):
            made = datetime.datetime.fromtimestamp(header.get("created", 0))
            print(f"{key[:12]}  {header['size']:>8}  {made:%Y-%m-%d %H:%M}  {_describe(header)} "
                  f"T={header.get('T', '?')}")
            count += 1
    print(f"{count} kernels in {store.directory()}")
    return 0


def size_text(count):
    """A number of bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _info(options):
    entries = list(store.entries())
    size = sum(os.path.getsize(path) for _, path, _, _ in entries)
    damaged = sum(problem is not None for *_, problem in entries)
    from ..runtime import cpu
    print(f"directory  {store.directory()}")
    print(f"kernels    {len(entries)} ({size_text(size)}, {damaged} damaged)")
    print(f"processor  {cpu.name()} ({cpu.arch()}, {cpu.vector_bits()}-bit vectors)")
    return 0


def _verify(options):
    damaged = intact = 0
    for key, path, _, problem in store.entries():
        if problem:
            print(f"{key}: {problem} ({path})", file=sys.stderr)
            damaged += 1
        else:
            intact += 1
    print(f"{intact} kernels intact, {damaged} damaged")
    return 1 if damaged else 0


def _prune(options):
    oldest = time.time() - options.days * 86400
    kept, removed = [], 0
    for key, path, _, problem in store.entries():
        if problem or _last_use(path) < oldest:
            store.discard(key)
            removed += 1
        else:
            kept.append((_last_use(path), os.path.getsize(path), key))
    if options.max_megabytes is not None:
        excess = sum(size for _, size, _ in kept) - options.max_megabytes * 1e6
        for _, size, key in sorted(kept):
            if excess <= 0:
                break
            store.discard(key)
            excess -= size
            removed += 1
    print(f"removed {removed} kernels from {store.directory()}")
    return 0


def _clear(options):
    print(f"removed {store.clear()} files from {store.directory()}")
    return 0


def _target(header):
    """The processor an entry was built for."""
    return str(header.get("target", "")).partition(";")[0]


def _export(options):
    from ..runtime import build, load
    from ..runtime.archive import ArchiveWriter
    wanted = options.cpu
    if wanted == "host":
        wanted = load.host_cpu().partition(";")[0]
    found = [(key, path) for key, path, header, problem in store.entries()
             if not problem and wanted in (None, _target(header))]
    if not found:
        print(f"ntorch cache: nothing to export from {store.directory()}"
              + (f" for {wanted}" if wanted else ""), file=sys.stderr)
        return 1
    digests = {}
    temporary = options.file + ".part"
    with open(temporary, "wb") as file:
        archive = ArchiveWriter(file.write, "kernels")
        for key, path in found:
            with open(path, "rb") as entry:
                data = entry.read()
            digests[key] = hashlib.sha256(data).hexdigest()
            archive.add(key, data)
        versions = dict(zip(("numba", "llvmlite"), build.versions(), strict=True))
        archive.add("manifest.json", json.dumps({
            "format": FORMAT, "version": VERSION, "platform": load.platform(),
            "versions": versions, "kernels": digests}).encode())
        archive.close()
    os.replace(temporary, options.file)
    print(f"{len(found)} kernels written to {options.file} "
          f"({size_text(os.path.getsize(options.file))})")
    return 0


def _import(options):
    from ..runtime import load
    try:
        with open(options.file, "rb") as file:
            manifest, entries, damaged = _read(file)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        print(f"ntorch cache: {options.file} cannot be imported: {error}", file=sys.stderr)
        return 1
    if manifest["platform"] != load.platform():
        print(f"ntorch cache: {options.file} has kernels for {manifest['platform']}, this machine "
              f"is {load.platform()}; nothing imported", file=sys.stderr)
        return 1
    for key, data in entries:
        try:
            store.put_entry(key, data)
        except (ValueError, KeyError, TypeError) as error:
            damaged.append(f"{key}: {error}")
    store.note(manifest["versions"])
    for line in damaged:
        print(f"ntorch cache: not imported: {line}", file=sys.stderr)
    print(f"{len(entries)} kernels imported to {store.directory()}, {len(damaged)} damaged")
    return 1 if damaged or store.writable() is None else 0


def _read(file):
    """``(manifest, intact entries, problems)`` of an exported file."""
    from ..runtime.archive import ArchiveReader
    reader = ArchiveReader(file)
    manifest = json.loads(reader.read("manifest.json"))
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise ValueError("it is no file that 'cache export' of this version wrote")
    entries, damaged = [], []
    for key, digest in manifest["kernels"].items():
        try:
            data = reader.read(key)
        except RuntimeError as error:
            damaged.append(f"{key}: {error}")
            continue
        if hashlib.sha256(data).hexdigest() == digest:
            entries.append((key, data))
        else:
            damaged.append(f"{key}: checksum differs")
    return manifest, entries, damaged
