"""Rules every module keeps: a sorted, true ``__all__``, and imports from lower floors only."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import kagent

PACKAGE = Path(kagent.__file__).parent
FLOORS: dict[str, int] = {
    "installed": -2,
    "errors": -1,
    "confine": 0,
    "exchange": 1,
    "sources": 0,
    "settings": 1,
    "text": 1,
    "isolation": 2,
    "egress": 2,
    "klog": 2,
    "repository": 2,
    "symbols": 3,
    "source": 3,
    "commits": 3,
    "resolution": 4,
    "boundary": 5,
    "decoding": 6,
    "diagnosis": 6,
    "report": 6,
    "agents": 7,
    "demo": 8,
    "mcp_tools": 8,
    "mcp_server": 9,
    "triage": 8,
    "web": 9,
    "cli": 10,
    "__main__": 11,
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "demo/data" not in path.as_posix())
NAMES = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES]


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _has_code(tree: ast.Module) -> bool:
    return any(not isinstance(node, ast.Expr) for node in tree.body)


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import of this package, lazy and type-only ones included."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, str(node.module)
            if node.module == "kagent":
                yield from ((node.lineno, f"kagent.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_all_is_sorted_and_its_names_exist(path):
    tree = _tree(path)
    if not _has_code(tree) or path.name == "__main__.py":
        return
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    name = ".".join(relative.parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert hasattr(module, "__all__"), f"{name} has no __all__"
    constants = [one for one in module.__all__ if one.isupper()]
    classes = [one for one in module.__all__ if not one.isupper() and one[0].isupper()]
    others = [one for one in module.__all__ if one not in constants and one not in classes]
    assert module.__all__ == sorted(constants) + sorted(classes) + sorted(others)
    assert len(set(module.__all__)) == len(module.__all__)
    for one in module.__all__:
        assert hasattr(module, one), f"{name}.__all__ names {one}, which does not exist"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_room_imports_from_lower_floors_only(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if room == "__init__":
        return
    floor = FLOORS[room]
    for line, name in _imports(path):
        parts = name.split(".")
        if parts[0] != "kagent" or len(parts) == 1 or parts[1] in (room, "__version__"):
            continue
        assert FLOORS[parts[1]] < floor, f"{path}:{line}: {room} imports {name}"


def test_every_public_name_is_there():
    for name in kagent.__all__:
        assert getattr(kagent, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = kagent.no_such_name
    assert set(kagent.__all__) <= set(dir(kagent))


def test_klog_does_no_io():
    for path in (PACKAGE / "klog").glob("*.py"):
        for line, name in _imports(path):
            root = name.partition(".")[0]
            assert root not in {"os", "subprocess", "socket", "pathlib", "shutil"}, f"{path}:{line}"
        calls = [n for n in ast.walk(_tree(path)) if isinstance(n, ast.Call)]
        names = {n.func.id for n in calls if isinstance(n.func, ast.Name)}
        assert "open" not in names, path


def test_nothing_unpickles():
    for path in MODULES:
        assert not {"pickle", "marshal", "shelve"} & {name for _, name in _imports(path)}, path
