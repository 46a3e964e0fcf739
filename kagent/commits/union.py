"""Several indexes asked as one, and what becomes of hits that are the same change.

Mainline, stable, a vendor's tree and a mailing list hold one fix in many forms. The answer has it
once: as mainline's commit where that is known, with the others named beside it. A patch that was
only posted steps back for the commit it became.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kagent.commits.mentions import upstream_commits
from kagent.commits.model import Commit, CrashQuery, Hit
from kagent.commits.packing import is_posted, patch_key, posted_link, short_hash, subject_key
from kagent.commits.prepare import SUPERSEDED, PostingKind
from kagent.commits.search import search
from kagent.commits.traits import POSTED

if TYPE_CHECKING:
    from kagent.commits.embeddings import Embedder
    from kagent.commits.index import CommitIndex
    from kagent.commits.store import Store

__all__ = ["CommitUnion", "open_indexes", "search_stores"]

_HISTORY: dict[PostingKind, str] = {
    "reverts": "speaks against it: reverted by",
    "fixes": "repaired by",
}
_MORE = 8
"""Hits asked of each index beyond those wanted: some turn out to be one change."""


def open_indexes(directories: Sequence[Path]) -> CommitIndex | CommitUnion:
    """Open one index, or several as one.

    Raises:
        MissingDataError, InputError, IndexCorruptError: as `CommitIndex.open`.
    """
    from kagent.commits.index import CommitIndex

    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(CommitIndex.open(path)) for path in directories]
        stack.pop_all()
    return opened[0] if len(opened) == 1 else CommitUnion(opened)


class CommitUnion:
    """Opened indexes that are searched together; closing it closes them."""

    def __init__(self, indexes: Sequence[CommitIndex]) -> None:
        self._indexes = list(indexes)
        names = [index.directory.name for index in self._indexes]
        self._names = [
            name if names.count(name) == 1 else str(index.directory)
            for name, index in zip(names, self._indexes, strict=True)
        ]

    def search(self, question: str, k: int = 4) -> list[Hit]:
        """The `k` commits that answer a question in plain words best."""
        return self.search_crash(CrashQuery(text=question), k)

    def search_crash(self, query: CrashQuery, k: int = 4) -> list[Hit]:
        """The `k` changes most likely to fix a crash, best first, each once."""
        parts = [index.part for index in self._indexes]
        return search_stores(dict(zip(self._names, parts, strict=True)), query, k)

    def get(self, hash_prefix: str) -> Commit | None:
        """A commit by its hash, or by the start of one that names only it."""
        found = (index.get(hash_prefix) for index in self._indexes)
        return next((commit for commit in found if commit is not None), None)

    def fixed_by(self, hash: str) -> list[Commit]:
        """The commits of any index whose ``Fixes:`` tags name `hash`."""
        return _unique(commit for index in self._indexes for commit in index.fixed_by(hash))

    def reverted_by(self, hash: str) -> list[Commit]:
        """The commits of any index that say to revert `hash`."""
        return _unique(commit for index in self._indexes for commit in index.reverted_by(hash))

    def close(self) -> None:
        """Close every index."""
        for index in self._indexes:
            index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _unique(commits: Iterable[Commit]) -> list[Commit]:
    return list({commit.hash: commit for commit in commits}.values())


def search_stores(
    parts: Mapping[str, tuple[Store, Embedder]], query: CrashQuery, k: int
) -> list[Hit]:
    """The `k` best changes over all stores, by name; each change once."""
    if k < 1:
        return []
    stores = [store for store, _ in parts.values()]
    found: list[Hit] = []
    for name, (store, embedder) in parts.items():
        hits = search(store, embedder, query, k + _MORE if len(parts) > 1 else k)
        found += [replace(hit, index=name if len(parts) > 1 else "") for hit in hits]
    settled = [_settled(hit, stores) for hit in found]
    changes = sorted((_one_of(same) for same in _grouped(settled)), key=lambda hit: -hit.score)[:k]
    return [_with_history(hit, stores) for hit in changes]


def _settled(hit: Hit, stores: Sequence[Store]) -> Hit:
    """A posted patch as the commit it became, where an index has that; else its newest version."""
    if not is_posted(hit.hash):
        return hit
    merged, newest = _twins(hit, stores)
    if merged is not None:
        said = f"was posted as {posted_link(hit.hash) or hit.hash}"
        return replace(_as(hit, merged), why=(*hit.why, said))
    hit = hit if newest is None else _as(hit, newest)
    link = posted_link(hit.hash)
    said = f"a fix is on the list, not merged yet{f': {link}' if link else ''}"
    return replace(hit, posted=True, link=link, why=(said, *hit.why))


def _as(hit: Hit, commit: Commit) -> Hit:
    """What was found, in the form it has elsewhere."""
    return replace(
        hit,
        hash=commit.hash,
        subject=commit.subject,
        author=commit.author,
        date=commit.date,
        message=commit.message,
        diff=commit.diff,
        files=commit.files,
        fixes=commit.fixes,
    )


def _twins(hit: Hit, stores: Sequence[Store]) -> tuple[Commit | None, Commit | None]:
    """The commit that a posted patch became, and the newest version of it that was posted."""
    newest: Commit | None = None
    for store in stores:
        rows = store.twins(hit.subject, hit.diff)
        merged = [row.id for row in rows if not row.flags & POSTED]
        for commit in store.commits(merged[:4]):
            if _is_same(hit, commit):
                return commit, None
        current = [r for r in rows if r.flags & POSTED and not r.flags & SUPERSEDED]
        if any(row.hash == hit.hash and row.flags & SUPERSEDED for row in rows) and current:
            newest = next(store.commits([max(current, key=lambda row: row.day).id]))
    return None, newest


def _is_same(hit: Hit, commit: Commit) -> bool:
    """Guards against two changes of one common subject: files have to be shared, if known."""
    if hit.diff and patch_key(hit.diff) == patch_key(commit.diff):
        return True
    return not hit.files or not commit.files or bool(set(hit.files) & set(commit.files))


def _grouped(hits: Sequence[Hit]) -> Iterator[list[Hit]]:
    """Hits that are one change together; groups in the order of their first hit."""
    group_of: dict[object, list[Hit]] = {}
    groups: list[list[Hit]] = []
    for hit in hits:
        keys = _keys(hit)
        known = [group_of[key] for key in keys if key in group_of]
        group = known[0] if known else []
        if not known:
            groups.append(group)
        for other in known[1:]:
            if other is not group:
                group += other
                groups = [kept for kept in groups if kept is not other]
        group.append(hit)
        for one in group:
            group_of |= dict.fromkeys(_keys(one), group)
    yield from groups


def _keys(hit: Hit) -> list[object]:
    keys: list[object] = [short_hash(hit.hash), ("subject", subject_key(hit.subject))]
    keys += [short_hash(hash) for hash in upstream_commits(hit.message)]
    if hit.diff and (patch := patch_key(hit.diff)) is not None:
        keys.append(("patch", patch))
    return keys


def _one_of(same: Sequence[Hit]) -> Hit:
    """The hit that stands for all: merged before posted, the original before its backports.

    Of equals the one whose index was named first.
    """
    first = min(same, key=lambda hit: (hit.posted, bool(upstream_commits(hit.message))))
    best = max(same, key=lambda hit: hit.score)
    others = dict.fromkeys(
        f"also in {hit.index}" if hit.hash == first.hash else _other_form(hit)
        for hit in same
        if (hit.hash, hit.index) != (first.hash, first.index)
    )
    return replace(
        first,
        score=best.score,
        confidence=best.confidence,
        verdict=best.verdict,
        why=tuple(dict.fromkeys((*first.why, *list(others)[:4]))),
    )


def _other_form(hit: Hit) -> str:
    return f"also as {short_hash(hit.hash)}" + (f" in {hit.index}" if hit.index else "")


def _with_history(hit: Hit, stores: Sequence[Store]) -> Hit:
    """Say who took the change back, and who repaired it."""
    if hit.posted:
        return hit
    said = []
    for kind, words in _HISTORY.items():
        hashes = dict.fromkeys(
            short_hash(row.hash)
            for store in stores
            for row in store.rows(store.mentioning(kind, hit.hash)[-8:])
            if not row.flags & POSTED and row.hash != hit.hash
        )
        if hashes:
            said.append(f"{words} {', '.join(list(hashes)[:3])}")
    return replace(hit, why=(*hit.why, *said)) if said else hit
