"""What the project depends on: pyproject.toml, the lock file, the licences of what is installed.

    python tests/support/supply.py          # fails where docs/dependencies.md is behind
    python tests/support/supply.py --write  # brings its table of licences up to date
    python tests/support/supply.py --oldest # prints the lowest version of every dependency

The table needs everything of requirements.lock installed, as `.ci/run` has it.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = [
    "DOCUMENT",
    "LOCK",
    "PYPROJECT",
    "ROOT",
    "Locked",
    "declared",
    "licence_of",
    "locked",
    "oldest",
    "rows_of",
    "table",
    "users",
]

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "requirements.lock"
DOCUMENT = ROOT / "docs" / "dependencies.md"
BEGIN, END = "<!-- licences: begin -->\n", "<!-- licences: end -->\n"

# Where a package's metadata do not say, or only "BSD": what the licence file in the wheel says.
READ = {
    "atheris": "Apache-2.0",
    "capstone": "BSD-3-Clause",
    "forbiddenfruit": "GPL-3.0-or-later OR MIT",
    "gitdb": "BSD-3-Clause",
    "ipython-pygments-lexers": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "nest-asyncio2": "BSD-2-Clause",
    "prompt-toolkit": "BSD-3-Clause",
    "pyelftools": "Public domain",
    "scipy": "BSD-3-Clause",
}
WORDS = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 3-clause license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
GROUPS = ("base", "mcp", "studio", "notebook", "huggingface", "community", "dev", "ci")
"""Who may need a package, in the order in which the table names them."""


@dataclass(slots=True)
class Locked:
    """One entry of the lock file; a package has several where Pythons need different versions."""

    requirement: Requirement
    hashes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")


def declared() -> dict[str, list[Requirement]]:
    """Group ("base", an extra, or "ci") to its requirements; ``kagent[...]`` itself is left out."""
    data: dict[str, Any] = tomllib.loads(PYPROJECT.read_text("utf-8"))
    groups = {"base": data["project"]["dependencies"]}
    groups |= data["project"]["optional-dependencies"] | data["dependency-groups"]
    return {
        group: [one for one in map(Requirement, texts) if one.name != "kagent"]
        for group, texts in groups.items()
    }


def locked() -> list[Locked]:
    """Every entry of the lock file."""
    found: list[Locked] = []
    for line in LOCK.read_text("utf-8").splitlines():
        text = line.strip().removesuffix("\\").strip()
        if text.startswith("--hash="):
            found[-1].hashes.append(text.removeprefix("--hash="))
        elif text and not text.startswith("#"):
            found.append(Locked(Requirement(text)))
    return found


def licence_of(package: Distribution) -> str:
    """An SPDX expression, "Public domain" aside.

    Raises:
        ValueError: the metadata name no licence that is known here.
    """
    data = package.metadata
    name = canonicalize_name(data["Name"])
    if name in READ:
        return READ[name]
    said = [data.get("License-Expression"), data.get("License")]
    said += [
        one.rpartition(" :: ")[2]
        for one in data.get_all("Classifier") or []
        if one.startswith("License ::")
    ]
    for text in filter(None, said):
        try:
            first = text.partition("\n")[0].strip()
            return str(canonicalize_license_expression(WORDS.get(first.lower(), first)))
        except InvalidLicenseExpression:
            continue
    raise ValueError(f"{name} states no known licence: read it, and say so in READ: {said}")


def users() -> dict[str, set[str]]:
    """Package to the groups that need it, directly or not, on Linux with this Python."""
    needed: dict[str, set[str]] = {}
    for group, requirements in declared().items():
        for name in _closure(requirements):
            needed.setdefault(name, set()).add(group)
    return needed


def _closure(requirements: Iterable[Requirement]) -> set[str]:
    waiting, seen = list(requirements), set[tuple[str, str]]()
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for extra in ("", *sorted(one.extras)):
            if (name, extra) in seen or not _applies(one, ""):
                continue
            seen.add((name, extra))
            waiting += _needs(name, extra)
    return {name for name, _ in seen}


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    try:
        texts = distribution(name).requires or []
    except PackageNotFoundError:
        if name == "torch":
            return
        raise
    for one in map(Requirement, texts):
        if _applies(one, extra) and (not extra or not _applies(one, "")):
            one.marker = None
            yield one


def _applies(one: Requirement, extra: str) -> bool:
    environment = {**default_environment(), "extra": extra}
    return one.marker is None or one.marker.evaluate(environment)  # type: ignore[arg-type]


def table() -> str:
    """The table of licences in Markdown; everything locked must be installed."""
    needed = users()
    names = sorted({one.name for one in locked() if _applies(one.requirement, "")})
    lines = ["| package | licence | needed by |", "|---|---|---|"]
    for name in names:
        groups = [group for group in GROUPS if group in needed.get(name, set())]
        by = "everybody" if "base" in groups else ", ".join(f"`{group}`" for group in groups)
        lines.append(f"| {name} | {licence_of(distribution(name))} | {by} |")
    return "\n".join(lines) + "\n"


def rows_of(text: str) -> dict[str, tuple[str, str]]:
    """Package to (licence, needed by), as the document has them."""
    inside = text.partition(BEGIN)[2].partition(END)[0]
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (.+?) \| (.*?) \|$", inside, re.MULTILINE)
    return {name: (licence, by) for name, licence, by in rows if name != "package"}


def oldest() -> Iterator[str]:
    """The lower bound of each dependency, as constraints for pip."""
    for requirements in declared().values():
        for one in requirements:
            for spec in one.specifier:
                if spec.operator == ">=":
                    at = f"; {one.marker}" if one.marker else ""
                    yield f"{one.name}=={spec.version}{at}"


def main() -> None:
    """Write the table, compare it, or print the lower bounds."""
    if "--oldest" in sys.argv[1:]:
        print("\n".join(sorted(set(oldest()))))
        return
    old = DOCUMENT.read_text("utf-8")
    head, _, rest = old.partition(BEGIN)
    new = head + BEGIN + table() + END + rest.partition(END)[2]
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(new, "utf-8")
    elif new != old:
        sys.exit(f"{DOCUMENT.name} is behind: python tests/support/supply.py --write")


if __name__ == "__main__":
    main()
