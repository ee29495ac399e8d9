"""``python -m ntorch demo``: train a reader of handwritten digit lines and show what it reads."""
import contextlib
import pathlib
import time

PROMISED = 0.90         # share of test lines that the demo reads without any error
QUICK_STEPS = 30


def add_parser(commands):
    """Add the ``demo`` command to an argparse subparsers object."""
    demo = commands.add_parser("demo", help="train a reader of handwritten digit lines")
    demo.add_argument("--quick", action="store_true",
                      help=f"only {QUICK_STEPS} steps: shows that everything works, reads nothing")
    demo.add_argument("--steps", type=int, help="training steps")
    demo.add_argument("--seed", type=int, default=0, help="seed of lines and weights")
    demo.add_argument("--threads", type=int, help="threads for the kernels")
    demo.add_argument("--out", default="ntorch-demo", metavar="DIR",
                      help="where checkpoint and picture go (default: ntorch-demo)")
    demo.add_argument("--show", type=int, default=4, help="how many lines to show (default 4)")
    demo.set_defaults(run=run)


def _options(chosen):
    from ..demo.training import Options
    options = Options(seed=chosen.seed)
    if chosen.quick:
        options.steps, options.test_lines = QUICK_STEPS, 40
    if chosen.steps is not None:
        options.steps = chosen.steps
    return options


@contextlib.contextmanager
def _progress(steps):
    """A tqdm bar in lines; yields ``progress(loss, lines)``."""
    from tqdm import tqdm
    with tqdm(total=steps, unit="step", desc="training", dynamic_ncols=True) as bar:
        start, lines, smooth = time.perf_counter(), 0, None

        def progress(loss, count):
            nonlocal lines, smooth
            lines += count
            smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
            speed = lines / (time.perf_counter() - start)
            bar.set_postfix_str(f"loss {smooth:.3f}, {speed:.0f} lines/s", refresh=False)
            bar.update()

        yield progress


def run(chosen):
    """Run the demo; exit status 1 if it read less than it promises."""
    import ntorch

    from ..demo import training
    from ..runtime import build
    if chosen.threads:
        ntorch.set_num_threads(chosen.threads)
    options = _options(chosen)
    print(f"ntorch {ntorch.__version__}: a reader of handwritten digit lines, "
          f"{options.steps} steps of {options.batch} lines, {ntorch.get_num_threads()} threads")
    with _progress(options.steps) as progress:
        result = training.run(options, progress)
    print(f"{result.right} of {len(result.truths)} test lines ({result.share:.1%}) read without "
          f"any error, in {result.seconds:.1f} s; {build.counters['compiled']} kernels compiled, "
          f"{build.counters['loaded']} from the store")
    _show(result, chosen)
    same = _save_and_load(result, pathlib.Path(chosen.out))
    promised = chosen.quick or chosen.steps is not None or result.share >= PROMISED
    if not promised:
        print(f"That is less than the {PROMISED:.0%} that this demo promises.")
    return 0 if same and promised else 1


def _show(result, chosen):
    from ..demo import pictures
    folder = pathlib.Path(chosen.out)
    folder.mkdir(parents=True, exist_ok=True)
    pictures.show(result, chosen.show)
    if pictures.save_png(result, folder / "lines.png"):
        print(f"\npicture: {folder / 'lines.png'}")


def _save_and_load(result, folder):
    """Save a checkpoint, load it in a fresh model, read a line with both; whether they agree."""
    import ntorch

    from ..demo import training
    path = folder / "reader.pt"
    training.save(result.model, path)
    line = ntorch.from_numpy(result.pictures[:1])
    reading = training.read(training.load(path), line)[0]
    before = training.read(result.model, line)[0]
    print(f"checkpoint: {path}; a fresh model with it reads {reading or '(nothing)'} in the first "
          f"line, {'as before' if reading == before else f'but the trained one {before}'}")
    return reading == before
