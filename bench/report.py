"""The tables for people: one for each set of columns."""


def amount(value, unit):
    """A measured value with a unit that suits its size."""
    if unit == "MB":
        return f"{value:.0f} MB"
    scale, name = (1e6, "us") if value < 1e-3 else (1e3, "ms") if value < 1.0 else (1.0, "s")
    scaled = value * scale
    digits = 0 if scaled >= 100 else 1 if scaled >= 10 else 2
    return f"{scaled:.{digits}f} {name}"


def _measured(row, variant):
    entry = row["results"].get(variant)
    if entry is None:
        return ""
    if "median" not in entry:
        return "failed"
    return f"{amount(entry['median'], row['unit'])} ±{entry['spread']:.0%}"


def _goal(row):
    """What is to be reached, and whether it is; against whom is said where it is not torch."""
    wanted = [f"{goal:.3g}x" + ("" if name == "torch" else f" {name}")
              for name, goal in row["goals"].items()]
    if row["ceiling"] is not None:
        wanted.append(f"<= {amount(row['ceiling'], row['unit'])}")
    mark = {True: " yes", False: " NO", None: ""}[row["met"]]
    return ", ".join(wanted) + mark


def cells(row):
    """The cells of one row, as texts."""
    variants = row["variants"]
    ratios = [f"{row['ratios'][name]:.2f}x" if name in row["ratios"] else ""
              for name in variants[1:]]
    reached = "" if row["reached"] is None else f"{row['reached']:.0%} of {row['bound']}"
    differs = " results differ" if row["agree"] is False else ""
    return [row["workload"] + differs, *(_measured(row, name) for name in variants), *ratios,
            _goal(row), reached or row["bound"] or ""]


def _titles(variants):
    return ["workload", *variants, *(f"vs {name}" for name in variants[1:]), "goal", "reached"]


def line(texts):
    """One line of a table."""
    count = (len(texts) - 3) // 2
    widths = (46, *[15] * (count + 1), *[max(8, len("vs torch.compile"))
                                         if count > 1 else 8] * count, 14, 14)
    return "  ".join(text.ljust(width)
                     for text, width in zip(texts, widths, strict=False)).rstrip()


def head(variants):
    """The head line of the table with these columns."""
    return line(_titles(variants))


def failures(rows):
    """``[(workload, variant, error)]`` of everything that failed."""
    return [(row["workload"], name, entry["error"]) for row in rows
            for name, entry in row["results"].items() if "error" in entry]


def tables(rows):
    """``[(variants, rows)]``: neighbours with the same columns share a table."""
    found = []
    for row in rows:
        if not found or found[-1][0] != row["variants"]:
            found.append((row["variants"], []))
        found[-1][1].append(row)
    return found


def markdown(rows):
    """The tables in Markdown."""
    lines = []
    for variants, members in tables(rows):
        titles = _titles(variants)
        lines += ["", "| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in members]
    return "\n".join(lines[1:])
