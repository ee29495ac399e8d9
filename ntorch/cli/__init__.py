"""The command line: ``python -m ntorch demo | warmup | cache | bench``."""
import argparse
import sys


def _parser():
    parser = argparse.ArgumentParser(
        prog="ntorch", description="PyTorch's Python API on kernels compiled from Python.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    from . import cache, demo, warmup
    demo.add_parser(commands)
    warmup.add_parser(commands)
    cache.add_parser(commands)
    bench = commands.add_parser("bench", add_help=False,
                                help="measure against PyTorch (from a checkout: python -m bench)")
    bench.set_defaults(run=_bench)
    return parser


def _bench(arguments):
    try:
        from bench.__main__ import main as bench_main
    except ModuleNotFoundError as error:
        if error.name not in ("bench", "bench.__main__"):
            raise
        print("ntorch bench: the workloads are in the source tree, not in the installed package; "
              "run this in a checkout of ntorch.", file=sys.stderr)
        return 2
    return bench_main(arguments.rest)


def main(arguments=None):
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["bench"]:              # its options are its own
        return _bench(argparse.Namespace(rest=arguments[1:]))
    chosen = _parser().parse_args(arguments)
    return chosen.run(chosen)
