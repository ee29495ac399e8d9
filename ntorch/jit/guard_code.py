"""What the code of user functions names, and whose code it is."""
import dis
import functools
import os
import sys
import sysconfig
import types
import typing

HOUSE, LIBRARY, USER = "house", "library", "user"
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STDLIB = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
# libraries whose module-level state is taken as constant, as the standard library's is
_CONSTANT = frozenset(("numpy", "scipy", "numba", "llvmlite", "torch", "_pytest", "pytest",
                       "pluggy"))
_DYNAMIC = frozenset(("getattr", "hasattr", "setattr", "delattr"))
_ALL = frozenset(("vars", "dir", "attrgetter", "__dict__", "__getattribute__", "__slots__",
                  "__dataclass_fields__", "asdict", "astuple"))


@functools.lru_cache(maxsize=4096)
def owner_of(filename, module):
    """Who wrote the code in ``filename`` of the module named ``module``: ntorch (HOUSE), the
    standard library and its like (LIBRARY), or somebody else (USER)."""
    if filename.startswith("<"):
        root = module.partition(".")[0]
        if module.startswith("namedtuple_"):
            return LIBRARY
        if root == "ntorch" or filename.startswith("<ntorch"):
            return HOUSE
        library = filename.startswith("<frozen") or root in sys.stdlib_module_names
        return LIBRARY if (library and root != "__main__") or root in _CONSTANT else USER
    filename = os.path.abspath(filename)
    if filename.startswith(_HERE):
        return HOUSE
    for part in ("site-packages", "dist-packages"):
        inside = filename.rpartition(os.sep + part + os.sep)
        if inside[1]:
            root = inside[2].partition(os.sep)[0].removesuffix(".py")
            # what setuptools writes for a package installed in place only helps to import it
            return LIBRARY if root in _CONSTANT or root.startswith("__editable__") else USER
    return LIBRARY if filename.startswith(_STDLIB) else USER


def place_in_code(depth=1):
    """``in step, line 12 of train.py``: the line of the user's that is at work; "" if there is
    none."""
    frame = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        if owner_of(code.co_filename, frame.f_globals.get("__name__") or "") == USER:
            return (f"in {getattr(code, 'co_qualname', code.co_name)}, line {frame.f_lineno} of "
                    f"{os.path.basename(code.co_filename)}")
        frame = frame.f_back
    return ""


def owner_of_module(name):
    """The same for a module by its name."""
    if name == "ntorch" or name.startswith("ntorch."):
        return HOUSE
    filename = getattr(sys.modules.get(name), "__file__", None)
    if filename is None:
        root = name.partition(".")[0]
        return LIBRARY if root in sys.stdlib_module_names and root != "__main__" else USER
    return owner_of(filename, name)


def owner_of_class(cls):
    """The same for a class, by the module that it says it is from."""
    module = cls.__dict__.get("__module__", "builtins")
    return owner_of_module(module) if isinstance(module, str) else USER


class Names(typing.NamedTuple):
    """Names in the bytecode of a function and of the functions inside it.

    ``attributes`` may be read, ``globals`` are; ``maybe`` are attributes set, deleted or asked
    for with ``hasattr``, whose absence counts too; ``everything`` says that attributes are reached
    by names that the code does not show. ``imports`` are modules that the code imports, ``inner``
    the ids of the code objects inside.
    """
    attributes: frozenset
    globals: frozenset
    maybe: frozenset
    everything: bool
    imports: frozenset
    inner: frozenset


_known = {}         # id of code -> (code, its names); the code is held, so that ids stay its own
_MOST_KNOWN = 1 << 14


def names_of(code):
    """The ``Names`` of a code object."""
    found = _known.get(id(code))
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[id(code)] = (code, _scan(code))
    return found[1]


_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "STORE_NAME")
_IMPORTS = ("IMPORT_NAME", "IMPORT_FROM")


def _scan(code):
    attributes, globals_, maybe, imports, inner = set(), set(), set(), set(), set()
    everything = False
    steps = [step for step in dis.get_instructions(code) if step.opname not in (
        "CACHE", "PUSH_NULL", "PRECALL", "EXTENDED_ARG", "RESUME", "NOP")]
    for position, step in enumerate(steps):
        kind, name = step.opname, step.argval
        if kind in _GLOBAL:
            globals_.add(name)
            if name in _DYNAMIC:
                asked = _asked(steps, position + 1)
                maybe.update(() if asked is None else (asked,))
                everything |= asked is None
        elif kind in ("STORE_ATTR", "DELETE_ATTR"):
            maybe.add(name)
        elif "ATTR" in kind or "METHOD" in kind or kind in _IMPORTS:
            if isinstance(name, str):
                attributes.add(name)
                if kind == "IMPORT_NAME":
                    imports.add(name)
        if kind == "MATCH_CLASS" or (kind != "LOAD_CONST" and isinstance(name, str)
                                     and name in _ALL):
            everything = True
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inside = names_of(constant)
            attributes |= inside.attributes
            globals_ |= inside.globals
            maybe |= inside.maybe
            imports |= inside.imports
            inner |= inside.inner | {id(constant)}
            everything |= inside.everything
    if "AttributeError" in globals_:        # attributes may be missing on purpose
        maybe |= attributes
    return Names(frozenset(attributes | maybe), frozenset(globals_), frozenset(maybe), everything,
                 frozenset(imports), frozenset(inner))


def _asked(steps, position):
    """The constant name that a ``getattr(x.y, "name")`` asks for; None if it is not so simple."""
    if position >= len(steps) or not steps[position].opname.startswith("LOAD_"):
        return None
    position += 1
    while position < len(steps) and steps[position].opname == "LOAD_ATTR":
        position += 1
    rest = [(step.opname, step.argval) for step in steps[position:position + 3]]
    if len(rest) == 3 and rest[0][0] == "LOAD_CONST" and isinstance(rest[0][1], str):
        if rest[1] == ("CALL", 2) or (rest[1][0].startswith("LOAD_") and rest[2] == ("CALL", 3)):
            return rest[0][1]
    return None
