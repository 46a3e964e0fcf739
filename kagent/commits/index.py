"""The commit index: build it, bring it up to date, search it, hand it to LangChain."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from kagent.commits.corpus import is_corpus, read_corpus
from kagent.commits.documents import write_markdown
from kagent.commits.embeddings import Embedder, make_embedder
from kagent.commits.history import GitHistory
from kagent.commits.manifest import MANIFEST, Source
from kagent.commits.model import Commit, CrashQuery, Hit
from kagent.commits.search import search
from kagent.commits.store import EMBEDDING, Store
from kagent.commits.swap import staging
from kagent.commits.writer import IndexWriter
from kagent.errors import InputError

if TYPE_CHECKING:
    from langchain_community.vectorstores import FAISS
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever

__all__ = ["CommitIndex", "Progress"]

Progress = Callable[[int, int | None], None]
"""Told (commits done, commits in all or None). Counts twice: reading, then embedding."""


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
        embedding: str | Embeddings = "corpus",
        progress: Progress | None = None,
    ) -> CommitIndex:
        """Index the non-merge commits of `source` in the directory `out`.

        `source` is a git repository (worktree, bare or shallow) or a ``.jsonl``/``.jsonl.gz`` file
        of changes. `since` leaves out what that revision reaches; `paths` keeps only commits that
        touch them. An index that stands at `out` is replaced in one step when all is done; until
        then, and if the build fails or is killed, it stays as it was.

        Raises:
            MissingDataError: `source` does not exist.
            InputError: `source` has no commits, or is no repository; `out` holds something else.
            MissingExtraError, ModelError: the embedding is not installed or does not answer.
        """
        embedder = make_embedder(embedding)
        _check_target(out)
        if is_corpus(source):
            if since is not None or paths:
                raise InputError("--since and --paths need a git repository", hint="leave them out")
            origin = Source(kind="jsonl", location=str(source.resolve()))
            commits, total = read_corpus(source), None
        else:
            history = GitHistory(source, since=since, paths=paths)
            head = history.head()
            origin = Source(
                kind="git", location=history.location, head=head, since=since, paths=list(paths)
            )
            commits, total = history.commits(head), history.count(head)
        with staging(out) as fresh:
            writer = IndexWriter(fresh)
            _add_all(writer, commits, total, progress)
            if writer.count == 0:
                raise InputError(
                    f"no commits to index in {source}", hint="check the revision and the paths"
                )
            _report(progress, writer.count, writer.finish(origin, embedder))
        return cls(Store(out), embedder)

    @classmethod
    def open(cls, directory: Path, *, embedding: Embeddings | None = None) -> CommitIndex:
        """Open the index at `directory`; `embedding` only for one built with such an object.

        Raises:
            MissingDataError: there is nothing.
            InputError: it is not a commit index.
            IndexCorruptError: it is damaged or of another schema version.
        """
        with contextlib.ExitStack() as stack:
            store = Store(directory)
            stack.callback(store.close)
            embedder = make_embedder(embedding or store.manifest.embedding)
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
        """Add the commits made since the recorded HEAD; return how many.

        When that HEAD is gone or no longer an ancestor (history was rewritten) the whole index is
        rebuilt, and `notes` says so. A corpus embedding is learnt anew when the index has doubled
        since it was learnt. This object then reads the new index.

        Raises:
            InputError: the index was built from a file, which has no HEAD to go on from.
            MissingDataError: the repository is not where it was.
        """
        manifest = self._store.manifest
        source, directory = manifest.source, self._store.directory
        if source.kind != "git" or source.head is None:
            raise InputError(
                f"the index {directory} was built from a file and cannot be updated",
                hint="build it again",
            )
        history = GitHistory(Path(source.location), since=source.since, paths=source.paths)
        head = history.head()
        self.notes = ()
        if head == source.head:
            return 0
        if not history.reaches(source.head, head):
            self.notes = (
                f"history was rewritten: {source.head[:12]} is no longer an ancestor of HEAD; "
                "the index was rebuilt",
            )
            added = self._rebuild(history, head, progress)
        else:
            added = self._append(history, head, progress)
        self._reopen()
        return added

    def _append(self, history: GitHistory, head: str, progress: Progress | None) -> int:
        manifest = self._store.manifest
        source = manifest.source.model_copy(update={"head": head})
        total = history.count(head, after=manifest.source.head)
        with staging(self._store.directory) as fresh:
            writer = IndexWriter(fresh, base=self._store.directory)
            commits = history.commits(head, after=manifest.source.head)
            _add_all(writer, commits, total, progress)
            added = writer.count - manifest.commits
            learn = self._embedder.id == "corpus" and writer.count >= 2 * manifest.learnt_from
            steps = writer.finish(
                source,
                self._embedder,
                base_vectors=None if learn else self._store.copy_vectors(),
                learnt_from=manifest.learnt_from,
            )
            _report(progress, writer.count if learn else added, steps)
        if learn:
            self.notes = (*self.notes, "the index has doubled: its embedding was learnt anew")
        return added

    def _rebuild(self, history: GitHistory, head: str, progress: Progress | None) -> int:
        source = self._store.manifest.source.model_copy(update={"head": head})
        known = set(self._store.hashes())
        with staging(self._store.directory) as fresh:
            writer = IndexWriter(fresh)
            _add_all(writer, history.commits(head), history.count(head), progress)
            if writer.count == 0:
                raise InputError(f"no commits to index in {source.location}")
            _report(progress, writer.count, writer.finish(source, self._embedder))
        with contextlib.closing(Store(self._store.directory)) as rebuilt:
            return sum(hash not in known for hash in rebuilt.hashes())

    def _reopen(self) -> None:
        directory = self._store.directory
        self._store.close()
        self._store = Store(directory)

    def search(self, question: str, k: int = 4) -> list[Hit]:
        """The `k` commits that answer a question in plain words best."""
        return self.search_crash(CrashQuery(text=question), k)

    def search_crash(self, query: CrashQuery, k: int = 4) -> list[Hit]:
        """The `k` commits most likely to fix a crash, best first, at most one per subject."""
        return search(self._store, self._embedder, query, k)

    def get(self, hash_prefix: str) -> Commit | None:
        """A commit by its hash, or by the start of one that names only it."""
        return self._store.find(hash_prefix.lower())

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
            "source": manifest.source.model_dump(),
            "oldest": first,
            "newest": last,
            "truncated": self._store.truncated(),
            "bytes": {name: file.size for name, file in manifest.files.items()},
            "schema_version": manifest.schema_version,
        }

    def verify(self) -> list[str]:
        """Read everything and compare with the manifest; the problems found, in words."""
        return self._store.problems()

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


def _check_target(out: Path) -> None:
    """Refuse to replace what is not an index."""
    if out.is_dir():
        if any(out.iterdir()) and not (out / MANIFEST).exists():
            raise InputError(
                f"{out} is not empty and not a commit index", hint="give a new directory"
            )
    elif out.exists() or out.is_symlink():
        raise InputError(f"{out} is not a directory", hint="give a new directory")


def _add_all(
    writer: IndexWriter, commits: Iterable[Commit], total: int | None, progress: Progress | None
) -> None:
    for done, commit in enumerate(commits, 1):
        writer.add(commit)
        if progress and done % 64 == 0:
            progress(done, total)


def _report(progress: Progress | None, total: int, steps: Iterable[int]) -> None:
    for done in steps:
        if progress:
            progress(done, total)
