"""Lines shown beside what was read in them: in the terminal, and as a PNG."""
import sys

RAMP = " .:-=+*#%@"             # empty to full, where there are no block characters
HALVES = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
INK = 0.35                      # from here on a pixel counts as written


def has_blocks():
    """Whether the terminal's encoding has block characters."""
    try:
        "".join(HALVES.values()).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _cell(upper, lower, blocks):
    if blocks:
        return HALVES[int(upper > INK), int(lower > INK)]
    shade = min(max((upper + lower) / 2, 0.0), 0.999)
    return RAMP[int(shade * len(RAMP))]


def as_text(picture, blocks):
    """A picture (H, W) of 0 .. 1 as text, two rows of pixels to a row of characters."""
    return "\n".join(
        "".join(_cell(*pair, blocks) for pair in zip(upper, lower, strict=True)).rstrip()
        for upper, lower in zip(picture[0::2], picture[1::2], strict=True))


def verdict(truth, reading):
    """One line of text: what was read, and what is there if that is something else."""
    return f"read {reading or '(nothing)'}" + ("" if reading == truth else f", written {truth}")


def show(result, count, write=print):
    """Write ``count`` test lines and what was read; a mistake among them if there was one."""
    blocks = has_blocks()
    for index in chosen(result, count):
        write("")
        write(as_text(result.pictures[index, 0], blocks))
        write("  " + verdict(result.truths[index], result.readings[index]))


def chosen(result, count):
    """Indices of lines to show: the first ones, and the first that was misread."""
    wrong = [i for i, (truth, reading) in enumerate(
        zip(result.truths, result.readings, strict=True)) if truth != reading]
    first = list(range(min(count, len(result.truths))))
    if wrong and not set(wrong) & set(first):
        first[-1] = wrong[0]
    return first


def save_png(result, path, count=8):
    """Write the lines as a PNG to ``path``; False if matplotlib is not installed."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(count, 1, figsize=(8, 1.3 * count), squeeze=False)
    for axis, index in zip(axes[:, 0], chosen(result, count), strict=False):
        truth, reading = result.truths[index], result.readings[index]
        axis.imshow(result.pictures[index, 0], cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(verdict(truth, reading), loc="left", fontsize=10,
                       color="black" if truth == reading else "firebrick")
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    return True
