"""The manifest of an index: what it is, what it was made from, and the sums of its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from kagent.errors import IndexCorruptError, InputError, MissingDataError

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "FileSum",
    "Manifest",
    "Source",
    "VectorFacts",
    "file_sum",
    "read_manifest",
]

MANIFEST = "manifest.json"
SCHEMA_VERSION = 4
_KIND = "kagent-commit-index"
_MAX_MANIFEST = 1 << 20


class Source(BaseModel):
    """Where commits came from."""

    kind: str
    """``git``, ``public-inbox``, ``mbox``, ``jsonl``; while merging also ``index``."""
    location: str
    heads: dict[str, str] = {}
    """The commits that the index reaches up to: by revision, by epoch of a public-inbox."""
    stamp: str = ""
    """Of a file: size and time of its last change."""
    records: int = 0
    """Lines read of a file, which an update goes on after if it only grew,"""
    last: str = ""
    """that is, if the last of them still has this sum."""
    since: str | None = None
    paths: list[str] = []


class VectorFacts(BaseModel):
    """How the vectors are searched, and what is lost by that."""

    kind: str
    """``exact``: all are compared; ``ivf``: those of the nearest lists."""
    storage: str
    """``fp16`` or ``int8`` a dimension."""
    lists: int = 0
    probes: int = 0
    """Lists that are looked into."""
    recall_at_10: float = 1.0
    """Share of the ten truly nearest that are found, measured on stored vectors as queries."""
    recall_at_250: float = 1.0
    measured_on: int = 0
    """Vectors in the index when that was measured; 0: nothing to measure."""


class FileSum(BaseModel):
    """A file's size in bytes and SHA-256."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """``manifest.json``."""

    kind: str = _KIND
    schema_version: int = SCHEMA_VERSION
    sources: list[Source]
    embedding: str
    dimension: int
    commits: int
    vectors: int
    learnt_from: int
    """Commits in the index when its embedding was learnt."""
    vector_index: VectorFacts
    files: dict[str, FileSum]

    model_config = ConfigDict(extra="ignore")

    def write(self, directory: Path) -> None:
        data = self.model_dump()
        text = json.dumps({**data, "sum": _sum(data)}, indent=2, ensure_ascii=False)
        (directory / MANIFEST).write_text(f"{text}\n", encoding="utf-8")


def file_sum(path: Path) -> FileSum:
    """Size and checksum of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileSum(size=path.stat().st_size, sha256=digest)


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of the index at `directory`.

    Raises:
        MissingDataError: there is nothing at that path.
        InputError: there is something, but no commit index.
        IndexCorruptError: the manifest is damaged or of another version of kagent.
    """
    rebuild = f"rebuild it: kagent index build REPOSITORY -o {directory}"
    try:
        with (directory / MANIFEST).open("rb") as file:
            data = json.loads(file.read(_MAX_MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        if not directory.exists():
            raise MissingDataError(
                f"no commit index at {directory}",
                hint=f"build one: kagent index build REPOSITORY -o {directory}",
            ) from None
        raise InputError(
            f"not a commit index: {directory}",
            hint=f"it has no {MANIFEST}; give the directory that `kagent index build -o` wrote",
        ) from None
    except OSError as error:
        raise MissingDataError(f"cannot read the index {directory}: {error.strerror}") from error
    except ValueError as error:
        raise IndexCorruptError(f"{directory / MANIFEST} is damaged", hint=rebuild) from error
    stated = data.pop("sum", None) if isinstance(data, dict) else None
    if stated is not None and stated != _sum(data):
        raise IndexCorruptError(f"{directory / MANIFEST} is damaged", hint=rebuild)
    if not isinstance(data, dict) or data.get("kind") != _KIND:
        raise InputError(f"not a commit index: {directory}", hint=f"{MANIFEST} is of another kind")
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        older = isinstance(version, int) and version < SCHEMA_VERSION
        raise IndexCorruptError(
            f"the index {directory} has schema {version}, this kagent reads {SCHEMA_VERSION}"
            + (": an older kagent built it" if older else ""),
            hint=rebuild if older else f"use the kagent that built it, or {rebuild}",
        )
    if stated is None:
        raise IndexCorruptError(f"{directory / MANIFEST} is damaged", hint=rebuild)
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        raise IndexCorruptError(f"{directory / MANIFEST} is damaged", hint=rebuild) from error


def _sum(data: dict[str, Any]) -> str:
    """The SHA-256 of a manifest's values, however they are written down."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
