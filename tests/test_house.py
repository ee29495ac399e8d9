"""The house stands: imports point down, the face is light, kernels are plain Python."""
import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ntorch"
FLOORS = [                      # from the ground up; what is not named is on USER
    {"kernels"}, {"runtime"}, {"ops"}, {"eager"}, {"autograd"},
    {"tensor", "tensor_history", "tensor_values", "printing", "indexing", "operators", "conversion",
     "formats", "storages"},
    {"jit"},                    # the tape runs under the tracer, so the tracer stands above it
]
USER, FACE, DEMO, COMMANDS = len(FLOORS), len(FLOORS) + 1, len(FLOORS) + 2, len(FLOORS) + 3
MODULES = sorted(PACKAGE.rglob("*.py"))


def floor_of(name):
    """The floor of a module, by the first part of its name inside ntorch."""
    first = name.split(".")[1] if "." in name else ""
    if first == "":
        return FACE
    if first in ("cli", "__main__"):
        return COMMANDS
    if first == "demo":
        return DEMO
    return next((level for level, rooms in enumerate(FLOORS) if first in rooms), USER)


def module_name(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _absolute(node, name, is_package):
    base = name.split(".")
    drop = node.level - (1 if is_package else 0)
    base = base[:len(base) - drop] if drop else base
    return ".".join(base + ([node.module] if node.module else []))


def imports(path):
    """``(module, line, at top level)`` of everything a file imports."""
    name, is_package = module_name(path), path.name == "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(ast.walk(ast.Module(
        [n for n in tree.body if not isinstance(n, (ast.FunctionDef, ast.ClassDef))], [])))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, node in top
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, name, is_package) if node.level else node.module
            for alias in node.names:
                inner = PACKAGE.parent / pathlib.Path(*source.split("."), alias.name)
                found = inner.with_suffix(".py").exists() or (inner / "__init__.py").exists()
                yield (f"{source}.{alias.name}" if found else source), node.lineno, node in top


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_down(path):
    here = floor_of(module_name(path))
    if here == FACE:
        pytest.skip("the face hands out what all floors have")
    for target, line, at_top in imports(path):
        if not (target == "ntorch" or target.startswith("ntorch.")):
            continue
        there = floor_of(target)
        allowed = there <= here or (there == FACE and here >= USER)
        assert allowed or not at_top, (
            f"{path.relative_to(ROOT)}:{line} (floor {here}) imports {target} (floor {there}): "
            "imports point down only")
        assert allowed or here > 2, f"{path.relative_to(ROOT)}:{line} imports {target}, above it"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_torch_is_never_imported(path):
    assert not [line for target, line, _ in imports(path) if target.split(".")[0] == "torch"]


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernels").glob("*.py")), ids=lambda p: p.stem)
def test_kernels_are_plain_python(path):
    for target, line, _ in imports(path):
        assert target.split(".")[0] not in ("numba", "llvmlite", "scipy"), f"{path}:{line}"
        assert not target.startswith("ntorch.") or target.startswith("ntorch.kernels")
    decorators = {ast.unparse(d).split("(")[0] for node in ast.walk(ast.parse(path.read_text()))
                  if isinstance(node, ast.FunctionDef) for d in node.decorator_list}
    assert decorators <= {"stub", "functools.cache", "cache"}


def heavy_modules(statement):
    """Which of the heavy libraries a fresh process has after ``statement``."""
    code = (f"{statement}\nimport sys\n"
            "print(*[m for m in ('numba', 'scipy', 'llvmlite', 'tqdm', 'matplotlib', 'torch')"
            " if m in sys.modules])")
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                          timeout=120).stdout.split()


def test_the_face_is_light():
    assert heavy_modules("import ntorch") == []


@pytest.mark.without_numba
def test_warm_kernels_need_no_numba():
    statement = "import ntorch\nx = ntorch.ones(4)\n(x + x).sum().item()"
    heavy_modules(statement)                    # fills the store
    assert "numba" not in heavy_modules(statement)


def test_ruff_is_content():
    pytest.importorskip("ruff")
    result = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", str(ROOT)],
                            capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout[-3000:]


def test_paths_of_older_code():
    import ntorch
    assert ntorch.functional.unique is ntorch.unique
    assert ntorch.functional.einsum is ntorch.einsum
    with pytest.raises(AttributeError, match="ntorch.functional"):
        ntorch.functional.relu      # noqa: B018 - that one is in nn.functional
    with ntorch.autograd.grad_mode.no_grad():
        assert not ntorch.is_grad_enabled()


def test_every_file_of_entries_is_listed():
    from ntorch.ops import registry
    files = {path.stem for path in (PACKAGE / "ops" / "entries").glob("*.py")} - {"__init__"}
    assert sorted(registry.MODULES) == sorted(files)
