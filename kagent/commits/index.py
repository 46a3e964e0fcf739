"""The commit index: build it, bring it up to date, search it, hand it to LangChain."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from kagent.commits.build import Job, Progress, run_job
from kagent.commits.documents import write_markdown
from kagent.commits.embeddings import Embedder, make_embedder
from kagent.commits.manifest import MANIFEST, Source, read_manifest
from kagent.commits.model import Commit, CrashQuery, Hit
from kagent.commits.prepare import PostingKind
from kagent.commits.sources import describe, describe_index, grew, refreshed
from kagent.commits.store import EMBEDDING, Store
from kagent.commits.union import search_stores
from kagent.errors import IndexCorruptError, InputError

if TYPE_CHECKING:
    from langchain_community.vectorstores import FAISS
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever

__all__ = ["CommitIndex", "Progress"]


class CommitIndex:
    """An opened index. Searching is safe from several threads."""

    def __init__(self, store: Store, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder
        self.notes: tuple[str, ...] = ()
        """What the last `update` did that one might not expect, in words."""

    @classmethod
    def build(
        cls,
        source: Path,
        out: Path,
        *,
        since: str | None = None,
        paths: Sequence[str] = (),
        revisions: Sequence[str] = (),
        embedding: str | Embeddings = "corpus",
        progress: Progress | None = None,
    ) -> CommitIndex:
        """Index the commits of `source` in the directory `out`.

        `source` is a git repository (worktree, bare or shallow; non-merge commits that `revisions`
        reach, by default HEAD), a public-inbox archive or an mbox file (posted patches, of each the
        newest version), or a ``.jsonl``/``.jsonl.gz`` file of changes. `since` leaves out what that
        revision reaches; `paths` keeps only commits that touch them. An index that stands at `out`
        is replaced in one step when all is done; until then, and if the build fails or is killed,
        it stays as it was. A build that was cut short goes on where it stopped.

        Raises:
            MissingDataError: `source` does not exist, or is a clone without its files.
            InputError: `source` has no commits, or is no source; `out` holds something else or is
                being built by another process; the disk is full.
            MissingExtraError, ModelError: the embedding is not installed or does not answer.
        """
        embedder = make_embedder(embedding)
        _check_target(out)
        origin = describe(source, since=since, paths=paths, revisions=revisions)
        run_job(Job([origin], embedder), out, progress)
        return cls(Store(out), embedder)

    @classmethod
    def merge(
        cls,
        indexes: Sequence[Path],
        out: Path,
        *,
        embedding: str | Embeddings = "corpus",
        progress: Progress | None = None,
    ) -> CommitIndex:
        """Make one index of several, each commit once, in the order of `indexes`.

        The embedding is learnt from all of them. `update` then brings all their sources up to date.

        Raises:
            MissingDataError, InputError, IndexCorruptError: as `open`, and as `build` for `out`.
        """
        embedder = make_embedder(embedding)
        _check_target(out)
        if len(indexes) < 2:
            raise InputError("give two indexes or more to merge")
        origins = [origin for path in indexes for origin in read_manifest(path).sources]
        unique = [origin for at, origin in enumerate(origins) if origin not in origins[:at]]
        job = Job([describe_index(path) for path in indexes], embedder, origins=unique)
        run_job(job, out, progress)
        return cls(Store(out), embedder)

    @classmethod
    def open(cls, directory: str | Path, *, embedding: Embeddings | None = None) -> CommitIndex:
        """Open the index at `directory`; `embedding` only for one built with such an object.

        Raises:
            MissingDataError: there is nothing.
            InputError: it is not a commit index.
            IndexCorruptError: it is damaged or of another schema version.
        """
        with contextlib.ExitStack() as stack:
            store = Store(Path(directory))
            stack.callback(store.close)
            embedder = make_embedder(embedding or store.manifest.embedding, asked=False)
            if embedder.id != store.manifest.embedding:
                raise InputError(
                    f"the index {directory} was built with the embedding "
                    f"{store.manifest.embedding}, not {embedder.id}"
                )
            learnt = store.content(EMBEDDING)
            if learnt is not None:
                embedder.load(io.BytesIO(learnt))
            stack.pop_all()
        return cls(store, embedder)

    def update(self, progress: Progress | None = None) -> int:
        """Add the commits made since the index was built; return how many.

        When a repository's recorded HEAD is gone or no longer an ancestor (history was rewritten)
        the whole index is rebuilt, and `notes` says so. A file that changed is read again for what
        is new in it. A corpus embedding is learnt anew when the index has doubled since it was
        learnt. This object then reads the new index.

        Raises:
            MissingDataError: a source is not where it was.
            IndexCorruptError: a file of the index has changed since it was built.
        """
        store, self.notes = self._store, ()
        before = store.manifest.sources
        found = [(source, refreshed(source)) for source in before]
        now = [old if _place(old) == new else new for old, new in found]
        if now == before:
            return 0
        gone = [hash for old, new in zip(before, now, strict=True) if (hash := grew(old, new))]
        known = set(store.hashes()) if gone else set()
        if not gone:
            store.check_files()
        job = Job(now, self._embedder) if gone else Job(now, self._embedder, store, before)
        added = run_job(job, store.directory, progress)
        learnt = store.manifest.learnt_from
        self._reopen()
        if gone:
            self.notes = (
                f"history was rewritten: {gone[0][:12]} is no longer an ancestor of HEAD; "
                "the index was rebuilt",
            )
            return sum(hash not in known for hash in self._store.hashes())
        if self._store.manifest.learnt_from != learnt:
            self.notes = ("the index has doubled: its embedding was learnt anew",)
        return added

    def _reopen(self) -> None:
        directory = self._store.directory
        self._store.close()
        self._store = Store(directory)

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._store.directory

    @property
    def part(self) -> tuple[Store, Embedder]:
        """What a search over several indexes needs of this one."""
        return self._store, self._embedder

    def search(self, question: str, k: int = 4) -> list[Hit]:
        """The `k` commits that answer a question in plain words best."""
        return self.search_crash(CrashQuery(text=question), k)

    def search_crash(self, query: CrashQuery, k: int = 4) -> list[Hit]:
        """The `k` commits most likely to fix a crash, best first, at most one per subject."""
        return search_stores({"": self.part}, query, k)

    def get(self, hash_prefix: str) -> Commit | None:
        """A commit by its hash, or by the start of one that names only it."""
        hash = hash_prefix if "@" in hash_prefix else hash_prefix.lower()
        return self._store.find(hash)

    def fixed_by(self, hash: str) -> list[Commit]:
        """The commits whose ``Fixes:`` tags name `hash`, in the order they were read."""
        return self._mentioning("fixes", hash)

    def reverted_by(self, hash: str) -> list[Commit]:
        """The commits that say to revert `hash`."""
        return self._mentioning("reverts", hash)

    def _mentioning(self, kind: PostingKind, hash: str) -> list[Commit]:
        return list(self._store.commits(self._store.mentioning(kind, hash.lower())))

    def commits(self) -> Iterator[Commit]:
        """Every commit, in the order they were read."""
        return self._store.commits()

    def export_markdown(self, out: Path | TextIO) -> None:
        """Write every commit as a Markdown document; see `kagent.commits.documents`."""
        pieces = write_markdown(self.commits())
        if isinstance(out, Path):
            with out.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(pieces)
        else:
            out.writelines(pieces)

    def stats(self) -> dict[str, Any]:
        """Counts, source, embedding and sizes in bytes; plain JSON values."""
        manifest = self._store.manifest
        first, last = self._store.span()
        return {
            "commits": manifest.commits,
            "vectors": manifest.vectors,
            "embedding": manifest.embedding,
            "dimension": manifest.dimension,
            "learnt_from": manifest.learnt_from,
            "vector_index": manifest.vector_index.model_dump(),
            "sources": [source.model_dump() for source in manifest.sources],
            "oldest": first,
            "newest": last,
            **self._store.counts(),
            "bytes": {name: file.size for name, file in manifest.files.items()},
            "schema_version": manifest.schema_version,
        }

    def verify(self) -> list[str]:
        """Read everything and compare with the manifest; the problems found, in words."""
        problems = self._store.problems()
        if not problems and (self._store.directory / EMBEDDING).exists():
            try:
                self._store.check_dimension(len(self._embedder.embed_query("")))
            except IndexCorruptError as error:
                problems.append(str(error))
        return problems

    def as_retriever(self, k: int = 4) -> BaseRetriever:
        """A LangChain retriever over `search`; each document is a commit in Markdown."""
        from kagent.commits.interop import CommitRetriever

        return CommitRetriever(index=self, k=k)

    def as_vectorstore(self) -> FAISS:
        """A LangChain FAISS store with this index's vectors and texts, held in memory.

        Raises:
            MissingExtraError: langchain-community is not installed.
        """
        from kagent.commits.interop import faiss_store

        return faiss_store(self._store, self._embedder)

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _place(source: Source) -> Source:
    """Without what only a build knows of a file."""
    return source.model_copy(update={"records": 0, "last": ""})


def _check_target(out: Path) -> None:
    """Refuse to replace what is not an index."""
    if out.is_dir():
        if any(out.iterdir()) and not (out / MANIFEST).exists():
            raise InputError(
                f"{out} is not empty and not a commit index", hint="give a new directory"
            )
    elif out.exists() or out.is_symlink():
        raise InputError(f"{out} is not a directory", hint="give a new directory")
