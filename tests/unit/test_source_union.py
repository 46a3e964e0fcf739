"""Two trees searched as one: the kernel's, and the sources beside a module."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kagent.errors import InputError
from kagent.source import SourceTree
from kagent.source.union import SourceUnion


@pytest.fixture
def union(tmp_path: Path) -> SourceUnion:
    kernel, module = tmp_path / "kernel", tmp_path / "module"
    (kernel / "mm").mkdir(parents=True)
    module.mkdir()
    (kernel / "mm/slub.c").write_text("int kfree_it(void)\n{\n\treturn 1;\n}\n")
    (kernel / "mm/reset.c").write_text("int reset(void)\n{\n\treturn 2;\n}\n")
    (module / "frob.c").write_text("int reset(void)\n{\n\treturn 3;\n}\n")
    return SourceUnion([SourceTree.open(kernel), SourceTree.open(module)])


def places(union: SourceUnion, files: dict[str, str] | None = None) -> dict[str, list[str]]:
    return {
        name: [source.origin for source in found]
        for name, found in union.lookup(["kfree_it", "reset"], files).items()
    }


def test_the_first_tree_that_knows_a_name_answers(union: SourceUnion) -> None:
    assert places(union) == {"kfree_it": ["mm/slub.c:1-4"], "reset": ["mm/reset.c:1-4"]}


def test_debug_info_decides_between_namesakes(union: SourceUnion) -> None:
    found = places(union, {"reset": "/usr/src/frob/frob.c"})
    assert found == {"kfree_it": ["mm/slub.c:1-4"], "reset": ["frob.c:1-4"]}


def test_a_function_of_a_file_that_no_tree_has_is_not_mistaken_for_another(
    union: SourceUnion,
) -> None:
    assert not places(union, {"reset": "/usr/src/other/gone.c"}).get("reset")


def test_lines_come_from_the_tree_that_has_the_file(union: SourceUnion) -> None:
    path = union.resolve("/usr/src/frob/frob.c")
    assert path == "frob.c"
    assert union.read_lines(path, 3, 3).text.strip() == "return 3;"
    found = union.enclosing_function(path, 3)
    assert found is not None
    assert found.name == "reset"


def test_no_tree_at_all_is_said() -> None:
    with pytest.raises(InputError, match="no source tree"):
        SourceUnion([]).read_lines("mm/slub.c", 1, 2)


def test_a_directory_inside_a_checkout_is_a_tree_of_its_own(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    below = tmp_path / "drivers"
    below.mkdir()
    (below / "frob.c").write_text("int frob(void)\n{\n\treturn 0;\n}\n")
    assert [f.origin for f in SourceTree.open(below).lookup(["frob"])["frob"]] == ["frob.c:1-4"]


def test_only_newlines_end_a_line(tmp_path: Path) -> None:
    (tmp_path / "page.c").write_text("int a;\f\nint b(void)\n{\n\treturn 1;\n}\n")
    tree = SourceTree.open(tmp_path)
    assert tree.read_lines("page.c", 2, 2).text == "int b(void)"
    (found,) = tree.lookup(["b"])["b"]
    assert (found.start, found.end, found.text[-1]) == (2, 5, "}")


def test_a_file_with_a_name_like_an_option_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "-x.c").write_text("int b(void)\n{\n\treturn 1;\n}\n")
    assert not SourceTree.open(tmp_path).lookup(["b"]).get("b")
