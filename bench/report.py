"""The table for people."""


def amount(value, unit):
    """A measured value with a unit that suits its size."""
    if unit == "MB":
        return f"{value:.0f} MB"
    scale, name = (1e6, "us") if value < 1e-3 else (1e3, "ms") if value < 1.0 else (1.0, "s")
    scaled = value * scale
    digits = 0 if scaled >= 100 else 1 if scaled >= 10 else 2
    return f"{scaled:.{digits}f} {name}"


def _measured(entry, unit):
    if "median" not in entry:
        return "failed"
    return f"{amount(entry['median'], unit)} ±{entry['spread']:.0%}"


def _goal(row):
    wanted = []
    if row["goal"] is not None:
        wanted.append(f"{row['goal']:.2f}x")
    if row["ceiling"] is not None:
        wanted.append(f"<= {amount(row['ceiling'], row['unit'])}")
    mark = {True: " yes", False: " NO", None: ""}[row["met"]]
    return ", ".join(wanted) + mark


def cells(row, libraries):
    """The cells of one row, as texts."""
    results = [_measured(row["results"].get(name, {}), row["unit"]) for name in libraries]
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}x"
    reached = "" if row["reached"] is None else f"{row['reached']:.0%} of {row['bound']}"
    differs = " results differ" if row["agree"] is False else ""
    return [row["workload"] + differs, *results, ratio, _goal(row), reached or row["bound"] or ""]


HEAD = ("ratio", "goal", "reached")
_WIDTHS = (46, 14, 14, 8, 14, 14)


def line(texts):
    """One line of the table."""
    widths = _WIDTHS if len(texts) == len(_WIDTHS) else (_WIDTHS[0], *_WIDTHS[2:])
    return "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()


def head(libraries):
    """The head line of the table."""
    return line(["workload", *libraries, *HEAD])


def failures(rows):
    """``[(workload, library, error)]`` of everything that failed."""
    return [(row["workload"], name, entry["error"]) for row in rows
            for name, entry in row["results"].items() if "error" in entry]


def markdown(rows, libraries):
    """The table in Markdown."""
    lines = ["| workload | " + " | ".join([*libraries, *HEAD]) + " |",
             "|" + "---|" * (1 + len(libraries) + len(HEAD))]
    lines += ["| " + " | ".join(cells(row, libraries)) + " |" for row in rows]
    return "\n".join(lines)
