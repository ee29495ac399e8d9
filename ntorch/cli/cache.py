"""``python -m ntorch cache``: look at the kernel store, check it, clean it."""
import datetime
import os
import sys
import time

from ..runtime import store


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


def _info(options):
    entries = list(store.entries())
    size = sum(os.path.getsize(path) for _, path, _, _ in entries)
    damaged = sum(problem is not None for *_, problem in entries)
    from ..runtime import cpu
    print(f"directory  {store.directory()}")
    print(f"kernels    {len(entries)} ({size / 1e6:.1f} MB, {damaged} damaged)")
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
