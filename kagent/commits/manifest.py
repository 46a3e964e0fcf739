"""The manifest of an index: what it is, what it was made from, and the sums of its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from kagent.errors import IndexCorruptError, InputError, MissingDataError

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "FileSum",
    "Manifest",
    "Source",
    "file_sum",
    "read_manifest",
]

MANIFEST = "manifest.json"
SCHEMA_VERSION = 2
_KIND = "kagent-commit-index"
_MAX_MANIFEST = 1 << 20


class Source(BaseModel):
    """Where the commits came from."""

    kind: str
    """``git`` or ``jsonl``."""
    location: str
    head: str | None = None
    """Of a repository: the commit the index reaches up to."""
    since: str | None = None
    paths: list[str] = []


class FileSum(BaseModel):
    """A file's size in bytes and SHA-256."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """``manifest.json``."""

    kind: str = _KIND
    schema_version: int = SCHEMA_VERSION
    source: Source
    embedding: str
    dimension: int
    commits: int
    vectors: int
    learnt_from: int
    """Commits in the index when its embedding was learnt."""
    files: dict[str, FileSum]

    model_config = ConfigDict(extra="ignore")

    def write(self, directory: Path) -> None:
        text = json.dumps(self.model_dump(), indent=2, ensure_ascii=False)
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
    if not isinstance(data, dict) or data.get("kind") != _KIND:
        raise InputError(f"not a commit index: {directory}", hint=f"{MANIFEST} is of another kind")
    if data.get("schema_version") != SCHEMA_VERSION:
        raise IndexCorruptError(
            f"the index {directory} has schema {data.get('schema_version')}, this kagent reads "
            f"{SCHEMA_VERSION}",
            hint=rebuild,
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        raise IndexCorruptError(f"{directory / MANIFEST} is damaged", hint=rebuild) from error
