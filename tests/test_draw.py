"""Pictures of programs: valid, self-contained, with every kernel and every dependence."""
import re
import xml.etree.ElementTree as ElementTree

import pytest

import ntorch
from ntorch import jit, nn
from ntorch.jit.drawing import _Column, kind_of, work_of
from ntorch.jit.ir import Contract, Graph, Launch, Pointer

SPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def traced():
    ntorch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 128), nn.ReLU(), nn.Linear(128, 10), nn.Softmax(-1))
    return jit.trace(model, ntorch.randn(256, 300))


def _parsed(path):
    return ElementTree.parse(path).getroot()


def test_svg_has_every_step(traced, tmp_path):
    path = str(tmp_path / "model.svg")
    assert jit.draw(traced, path) == path
    root = _parsed(path)
    assert root.tag == SPACE + "svg"
    (variant,) = traced.compiled.programs()
    boxes = [g for g in root.iter(SPACE + "g") if g.get("class") == "node"]
    assert len(boxes) == len(variant.forward.nodes)
    for place, (box, node) in enumerate(zip(boxes, variant.forward.nodes, strict=True)):
        text = " ".join(t.text or "" for t in box.iter(SPACE + "text"))
        assert text.startswith(f"{place}  {node.name[:40]}") and "reads" in text
    everything = " ".join(t.text or "" for t in root.iter(SPACE + "text"))
    assert "flop" in everything and "KB" in everything
    assert "[256, 300] @ [300, 128]" in everything


def test_nothing_lies_outside(traced, tmp_path):
    path = str(tmp_path / "model.svg")
    jit.draw(traced, path)
    root = _parsed(path)
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = [r for r in root.iter(SPACE + "rect")][1:]
    bottom = 0
    for rect in boxes:
        x, y, w, h = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
        assert 0 <= x and x + w <= width and bottom < y and y + h <= height
        bottom = y + h


def test_html_is_self_contained(traced, tmp_path):
    path = str(tmp_path / "model.html")
    jit.draw(traced, path)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert text.startswith("<!DOCTYPE html>") and "</svg>" in text
    assert not re.search(r"(src|href)=|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_backward_is_drawn_too(tmp_path):
    model = ntorch.compile(nn.Linear(4, 3))
    for _ in range(2):
        model(ntorch.randn(2, 4)).sum().backward()
    path = str(tmp_path / "both.svg")
    jit.draw(model, path)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert "forward" in text and "backward" in text
    _parsed(path)


class _Kernel:
    name = "a < b & c"


def _chain():
    """Four launches, the last of which reads what the first wrote."""
    graph = Graph()
    buffers = [graph.buffer(1 << 20, "temp") for _ in range(4)]
    nodes = []
    for k, reads in enumerate(((), (0,), (1,), (2, 0))):
        node = Launch(f"op<{k}>", _Kernel, [Pointer(buffers[i], 0) for i in (*reads, k)], 1, 1)
        node.writes = {buffers[k]}
        nodes.append(node)
    return nodes, buffers


def test_arrows_that_skip_have_lanes():
    nodes, buffers = _chain()
    column = _Column("t", nodes)
    assert set(column.edges) == {(0, 1), (1, 2), (2, 3), (0, 3)}
    assert column.edges[0, 3] == [buffers[0]] and column.lanes == {(0, 3): 0}
    assert kind_of(nodes[0]) == "kernel" and work_of(nodes[3]) == (3 << 20, 0)
    width, height, body = column.svg()
    ElementTree.fromstring(f'<svg width="{width}">{body}</svg>')      # names are escaped


def test_a_contraction_tells_its_work(traced):
    (variant,) = traced.compiled.programs()
    node = next(n for n in variant.forward.nodes if isinstance(n, Contract))
    assert work_of(node)[1] >= 2 * 256 * 300 * 128


def test_errors(traced, tmp_path):
    with pytest.raises(ValueError, match="svg and .html"):
        jit.draw(traced, str(tmp_path / "model.png"))
    with pytest.raises(RuntimeError, match="nothing has been compiled"):
        jit.draw(ntorch.compile(nn.Linear(2, 2)), str(tmp_path / "model.svg"))
    with pytest.raises(TypeError, match="compiled function or a program"):
        jit.draw(3, str(tmp_path / "model.svg"))
