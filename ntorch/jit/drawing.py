"""``jit.draw``: the kernels of a program as a picture, for a browser.

One column, in the order of the run: a box for each kernel with what it computes, the memory it
reads and writes and the work it does; arrows from the kernel that wrote a buffer to those that read
it. Where kernels lie between them the arrow goes around at the right.
"""
import html
import os

from .ir import Check, Contract, Fused, HostFill, Zero

WIDTH, LINE, PAD, GAP = 620, 17, 10, 34
LEFT, TOP = 24, 56
MOST_LINES = 14             # of what a fused kernel computes
MOST_TEXT = 82              # characters of a line
COLOURS = {"fused": "#dff0d8", "contraction": "#d9e8fb", "kernel": "#f3f0e4", "clear": "#eeeeee",
           "check": "#fbe3dc", "host": "#efe1f7"}


def draw(program, file):
    """Draw a compiled function, or one of its programs, to ``file``: a path ending in ``.svg`` or
    ``.html``. Returns the path. Both are self-contained.

    ValueError for another ending; RuntimeError if nothing has been compiled yet.
    """
    path = os.fspath(file)
    kind = os.path.splitext(path)[1].lower()
    if kind not in (".svg", ".html"):
        raise ValueError(f"jit.draw writes .svg and .html, but got {path!r}")
    found = programs_of(program)
    if not found:
        raise RuntimeError("jit.draw: nothing has been compiled yet; call the function first")
    columns = [(title, each.nodes) for title, each in found]
    pictures = [_Column(title, nodes).svg() for title, nodes in columns]
    if kind == ".svg":
        text = _beside(pictures)
    else:
        text = _page([title for title, _ in columns], pictures)
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)
    return path


def programs_of(program):
    """``(title, program)`` of every program of a compiled function."""
    for holder in ("compiled", "_program"):     # of jit.trace's, and of a compiled module
        program = getattr(program, "__dict__", {}).get(holder, program)
    if hasattr(program, "nodes"):
        return [("program", program)]
    if hasattr(program, "forward") and hasattr(program, "backward"):
        variants = [program]
    elif callable(getattr(program, "programs", None)):
        variants = program.programs()
    else:
        raise TypeError("jit expects a compiled function or a program, but got "
                        f"{type(program).__name__}")
    found = []
    for number, variant in enumerate(variants, 1):
        name = f"program {number}" if len(variants) > 1 else "program"
        if variant.backward is None:
            found.append((name, variant.forward))
        else:
            found.append((f"{name}: forward", variant.forward))
            found.append((f"{name}: backward", variant.backward))
    return found


# --- what a box says -----------------------------------------------------------------------------

def _amount(number, unit):
    for prefix in ("", "K", "M", "G"):
        if number < 1000 or prefix == "G":
            digits = f"{number:.3g}" if prefix else str(number)
            return f"{digits} {prefix}{unit}"
        number /= 1000


def _memory(buffers):
    named = ", ".join(f"{b!r} ({_amount(b.nbytes, 'B')})" + (f" {b.label}" if b.label else "")
                      for b in sorted(buffers, key=lambda b: b.number))
    return named or "nothing"


def _product(node):
    """``(batch, m, n, k)`` of a contraction."""
    tasks, m_blocks, n_blocks, m, n, k = node.slots[:6]
    return tasks // max(1, m_blocks * n_blocks), m, n, k


def kind_of(node):
    """What colours a box."""
    for cls, kind in ((Fused, "fused"), (Contract, "contraction"), (Zero, "clear"),
                      (Check, "check"), (HostFill, "host")):
        if isinstance(node, cls):
            return kind
    return "kernel"


def work_of(node):
    """``(bytes moved, flops)`` of a node; rough, 0 for what is not known."""
    nbytes, flops = getattr(node, "bytes", 0), getattr(node, "flops", 0)
    if isinstance(node, Zero):
        nbytes = node.nbytes
    elif not nbytes and not isinstance(node, Check):
        nbytes = sum(b.nbytes for b in node.read_buffers() | node.written_buffers())
    return nbytes, flops


def _lines(node):
    """The text of a box, below its title."""
    lines = []
    if isinstance(node, Contract):
        batch, m, n, k = _product(node)
        lines.append(f"{batch} x " * (batch > 1) + f"[{m}, {k}] @ [{k}, {n}]")
    members = [str(m) for m in getattr(node, "members", ())]
    lines += members[:MOST_LINES]
    if len(members) > MOST_LINES:
        lines.append(f"... and {len(members) - MOST_LINES} more")
    lines.append(f"reads {_memory(node.read_buffers() - node.written_buffers())}")
    if node.written_buffers():
        lines.append(f"writes {_memory(node.written_buffers())}")
    nbytes, flops = work_of(node)
    work = [_amount(nbytes, "B")] if nbytes else []
    work += [_amount(flops, "flop")] if flops else []
    if work:
        lines.append(", ".join(work))
    return [line if len(line) <= MOST_TEXT else line[:MOST_TEXT - 3] + "..." for line in lines]


def _hint(node):
    """What the browser shows under the mouse: the generated kernel, and why it ends where it
    does."""
    why = getattr(node, "why", None) or ()
    parts = [why] if isinstance(why, str) else [str(w) for w in why]
    source = getattr(node, "source", "")
    return "\n".join([*parts, source if isinstance(source, str) else ""]).strip()


# --- the picture ---------------------------------------------------------------------------------

class _Column:
    """The boxes of one program and the arrows between them."""

    def __init__(self, title, nodes):
        self.title, self.nodes = title, list(nodes)
        self.texts = [_lines(node) for node in self.nodes]
        self.tops, top = [], TOP
        for lines in self.texts:
            self.tops.append(top)
            top += PAD * 2 + LINE * (1 + len(lines)) + GAP
        self.bottom = top
        self.edges = self._edges()
        self.lanes = self._lanes()
        count = 1 + max(self.lanes.values(), default=0)
        self.width, self.height = LEFT + WIDTH + 30 + 12 * count, max(top, TOP + GAP)

    def _edges(self):
        """``{(from, to): [buffers]}`` of places of nodes."""
        found, writer = {}, {}
        for place, node in enumerate(self.nodes):
            for buffer in sorted(node.read_buffers(), key=lambda b: b.number):
                if buffer in writer and writer[buffer] != place:
                    found.setdefault((writer[buffer], place), []).append(buffer)
            for buffer in node.written_buffers():
                writer[buffer] = place
        return found

    def _lanes(self):
        """Which lane each arrow that goes around uses: short ones inside, none twice at once."""
        lanes, busy = {}, []
        for edge in sorted((e for e in self.edges if e[1] - e[0] > 1), key=lambda e: e[1] - e[0]):
            lane = next(i for i in range(len(busy) + 1) if i == len(busy) or all(
                edge[1] <= a or b <= edge[0] for a, b in busy[i]))
            if lane == len(busy):
                busy.append([])
            busy[lane].append(edge)
            lanes[edge] = lane
        return lanes

    def svg(self):
        """``(width, height, elements)``."""
        parts = [f'<text x="{LEFT}" y="24" class="title">{html.escape(self.title)}</text>',
                 f'<text x="{LEFT}" y="42" class="small">{html.escape(self._summary())}</text>']
        parts += [self._arrow(edge, buffers) for edge, buffers in self.edges.items()]
        parts += [self._box(place) for place in range(len(self.nodes))]
        return self.width, self.height, "\n".join(parts)

    def _summary(self):
        work = [work_of(node) for node in self.nodes]
        flops = sum(f for _, f in work)         # kernels that do not tell theirs are not in it
        return (f"{len(self.nodes)} steps, {_amount(sum(b for b, _ in work), 'B')} moved"
                + (f", at least {_amount(flops, 'flop')}" if flops else ""))

    def _height(self, place):
        return PAD * 2 + LINE * (1 + len(self.texts[place]))

    def _box(self, place):
        node, top = self.nodes[place], self.tops[place]
        kind = kind_of(node)
        name = f"{place}  {node.name}"
        origin = getattr(node, "origin", "")
        kernel = getattr(node, "kernel", None)
        note = " · ".join(filter(None, (kind, origin, getattr(kernel, "name", ""))))
        parts = [f'<g class="node"><title>{html.escape(_hint(node) or note)}</title>'
                 f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{self._height(place)}" '
                 f'rx="6" fill="{COLOURS[kind]}"/>',
                 f'<text x="{LEFT + PAD}" y="{top + PAD + 12}" class="name">'
                 f'{html.escape(name[:48])}</text>',
                 f'<text x="{LEFT + WIDTH - PAD}" y="{top + PAD + 12}" class="note">'
                 f'{html.escape(note[:44])}</text>']
        for number, line in enumerate(self.texts[place], 1):
            parts.append(f'<text x="{LEFT + PAD}" y="{top + PAD + 12 + LINE * number}">'
                         f'{html.escape(line)}</text>')
        return "".join(parts) + "</g>"

    def _arrow(self, edge, buffers):
        first, last = edge
        start = self.tops[first] + self._height(first)
        label = ", ".join(map(repr, buffers))
        title = f"<title>{html.escape(f'{first} to {last}: {_memory(buffers)}')}</title>"
        if last == first + 1:
            x = LEFT + WIDTH // 2
            return (f'<g>{title}<path d="M{x} {start}V{self.tops[last] - 2}" class="edge"/>'
                    f'<text x="{x + 8}" y="{start + GAP // 2 + 4}" class="small">'
                    f'{html.escape(label[:40])}</text></g>')
        right = LEFT + WIDTH
        out, into = start - 8, self.tops[last] + 8
        x = right + 18 + 12 * self.lanes[edge]
        return (f'<g>{title}<path d="M{right} {out}C{x} {out} {x} {out} {x} {out + 14}V{into - 14}'
                f'C{x} {into} {x} {into} {right + 2} {into}" class="edge"/></g>')


_STYLE = """text{font:12px ui-monospace,Consolas,monospace;fill:#222}
.title{font:bold 17px sans-serif}.name{font-weight:bold}.small{font-size:11px;fill:#666}
.note{font-size:11px;fill:#666;text-anchor:end}rect{stroke:#999}
.edge{fill:none;stroke:#777;stroke-width:1.3;marker-end:url(#tip)}
g:hover>.edge{stroke:#c40;stroke-width:2.5}.node:hover>rect{stroke:#c40}"""
_TIP = ('<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#777"/></marker></defs>')


def _svg(width, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}"><style>{_STYLE}</style>{_TIP}'
            f'<rect width="{width}" height="{height}" fill="#fff" style="stroke:none"/>\n'
            f'{body}\n</svg>\n')


def _beside(pictures):
    """One picture with the columns beside each other."""
    parts, x = [], 0
    for width, _, body in pictures:
        parts.append(f'<g transform="translate({x} 0)">{body}</g>')
        x += width
    return _svg(x, max(height for _, height, _ in pictures), "\n".join(parts))


def _page(titles, pictures):
    legend = " ".join(f'<span style="background:{colour};padding:2px 8px;border:1px solid #999">'
                      f"{kind}</span>" for kind, colour in COLOURS.items())
    columns = "\n".join(f"<section>{_svg(*picture)}</section>" for picture in pictures)
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(', '.join(titles))}</title><style>body{{font-family:sans-serif}}"
            "section{display:inline-block;vertical-align:top}</style></head><body>\n"
            f"<p>{legend} Point at a box for its code, at an arrow for its buffers.</p>\n{columns}"
            "\n</body></html>\n")
