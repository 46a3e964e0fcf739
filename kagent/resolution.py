"""The answer: evidence, findings, and the Error Resolution Summary that rests on them.

`Resolution` is the JSON contract ``kagent/1``. It only grows: a field, once released, keeps its
name and meaning. Absent knowledge is ``None`` or an empty list, never a guess.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "NO_INDEX",
    "NO_MODEL_ANSWER",
    "AccessKind",
    "Actions",
    "Author",
    "Culprit",
    "CycleMember",
    "Deadlock",
    "Engine",
    "Evidence",
    "EvidenceKind",
    "Failure",
    "Fault",
    "Finding",
    "Fix",
    "FixStatus",
    "FrameView",
    "LeftOut",
    "MemoryEvent",
    "MemoryFacts",
    "Missing",
    "Pointer",
    "ReportView",
    "Resolution",
    "SourcePoint",
    "Subsystem",
    "Usage",
    "Verdict",
    "Victim",
    "evidence",
    "merge_evidence",
]

EvidenceKind = Literal[
    "log", "frame", "source", "register", "code", "struct-member", "memory", "lock-edge", "commit"
]
Author = Literal["kernel", "debug-info", "source", "commit", "user", "model"]
"""Who wrote a piece of evidence. ``user``: whoever chose a task's name, a file name, a device
string or a line written to /dev/kmsg; it proves only that it was printed."""
AccessKind = Literal["read", "write", "exec"]
Verdict = Literal["deadlock", "possible", "not-a-deadlock"]
NO_INDEX = "a commit index to look for existing fixes in"
"""What is missing where no fix was looked for."""
NO_MODEL_ANSWER = "the model was left out: "
"""How the note begins that says why a model which was asked for has no part in the answer."""
Confidence = Annotated[float, Field(ge=0.0, le=1.0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


_AUTHORS: dict[str | None, Author] = {
    "source": "source",
    "struct-member": "debug-info",
    "commit": "commit",
}


class Evidence(_Model):
    """One fact, word for word, with its origin. Findings cite it by `id`."""

    id: str
    """A content hash while the analysis runs (so parallel agents cannot clash), ``E7`` in a
    finished resolution."""
    kind: EvidenceKind
    content: str
    origin: str
    """``path:line@revision``, ``commit <hash>``, ``log 120-180`` (bytes), a file's build-id ..."""
    author: Author = Field(default_factory=lambda known: _AUTHORS.get(known.get("kind"), "kernel"))
    """The usual one of its kind, unless it is told."""


def evidence(
    kind: EvidenceKind, content: str, origin: str, *, author: Author | None = None
) -> Evidence:
    """Make an evidence item; equal facts get equal ids. `author` is the usual one of its kind."""
    digest = hashlib.blake2s(f"{kind}\0{origin}\0{content}".encode("utf-8", "replace"))
    told = {"author": author} if author else {}
    return Evidence(
        id=f"e{digest.hexdigest()[:10]}", kind=kind, content=content, origin=origin, **told
    )


def merge_evidence(left: Iterable[Evidence], right: Iterable[Evidence]) -> list[Evidence]:
    """Append-only union by id, in order of first appearance (the graph's state reducer)."""
    merged = {item.id: item for item in left}
    for item in right:
        merged.setdefault(item.id, item)
    return list(merged.values())


class Finding(_Model):
    """A claim, how sure it is, what it rests on, and who made it."""

    claim: str
    confidence: Confidence
    evidence: list[str] = []
    by: str
    """``rule:<name>`` or ``model:<name>``."""


class SourcePoint(_Model):
    """A line of source. ``function`` is the innermost (possibly inlined) one there."""

    function: str
    file: str | None = None
    line: int | None = None
    module: str | None = None


class FrameView(_Model):
    """One frame of a report's stacks."""

    symbol: str
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    reliable: bool = True
    trace: str = "call"
    function: str | None = None
    file: str | None = None
    line: int | None = None
    inline: list[SourcePoint] = []
    """The whole inline chain at this address, innermost first; empty without debug info."""
    note: str | None = None


class ReportView(_Model):
    """One report of the log."""

    title: str
    alt_titles: list[str] = []
    kind: str
    corrupted: bool = False
    corrupted_reason: str | None = None
    primary: bool = False
    caused_by: int | None = None
    span: tuple[int, int]
    fingerprint: str = ""
    kernel: str | None = None
    arch: str | None = None
    cpu: int | None = None
    task: str | None = None
    pid: int | None = None
    hardware: str | None = None
    taint: str | None = None
    panicked: bool = False
    kernel_bug: bool = True
    repeats: int = 0
    frames: list[FrameView] = []


class Subsystem(_Model):
    name: str
    maintainers: list[str] = []
    lists: list[str] = []


class Pointer(_Model):
    """The register through which the bad address was formed."""

    register_: str = Field(alias="register")
    value: int
    meaning: str

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)


class Fault(_Model):
    """The faulting instruction, decoded as far as the evidence goes."""

    symbol: str
    function: str | None = None
    file: str | None = None
    line: int | None = None
    module: str | None = None
    inline_chain: list[SourcePoint] = []
    own_frame: SourcePoint | None = None
    """The first frame that owns the bad value, when the PC sits in a helper such as ``strlen``."""
    access: AccessKind | None = None
    address: int | None = None
    size: int | None = None
    instruction: str | None = None
    pointer: Pointer | None = None
    struct: str | None = None
    member: str | None = None
    offset: int | None = None
    expression: str | None = None
    confidence: Confidence = 0.0


class MemoryEvent(SourcePoint):
    """Who touched the object."""

    task: str | None = None
    pid: int | None = None


class MemoryFacts(_Model):
    """What a sanitizer proved about the object."""

    object: str | None = None
    cache: str | None = None
    size: int | None = None
    offset: int | None = None
    access: MemoryEvent | None = None
    alloc: MemoryEvent | None = None
    free: MemoryEvent | None = None


class CycleMember(_Model):
    """A task of a wait cycle: it holds what the task before it wants and wants the next."""

    task: str
    pid: int | None = None
    holds: list[str] = []
    taken: list[SourcePoint | None] = []
    """Where it took each of `holds`, in the same order; null where that is not known."""
    owes: str | None = None
    """What the task before it waits for, where that is no lock: an event it would signal, a work
    item, timer or thread that it runs."""
    waits_for: str | None = None
    lock_type: str | None = None
    where: SourcePoint | None = None
    inferred: bool = False
    interrupt: bool = False
    """True when the wait is that of an interrupt handler, on the CPU whose task holds `holds`."""


class Victim(_Model):
    """A task that only queues behind the problem."""

    task: str
    pid: int | None = None
    waits_for: str | None = None
    where: SourcePoint | None = None


class Culprit(_Model):
    task: str
    pid: int | None = None
    why: str
    kind: str = ""
    """What keeps it: ``died`` (an oops), ``left`` (without unlocking), ``runs``, or what it waits
    for: ``event``, ``handler``, ``grace-period``, ``io``, ``sleep``."""


class Deadlock(_Model):
    """Who waits for whom."""

    verdict: Verdict
    reason: str
    cycles: list[list[CycleMember]] = []
    victims: list[Victim] = []
    culprit: Culprit | None = None


class FixStatus(_Model):
    """Where a fix has landed, as far as the repository at hand shows."""

    upstream_tag: str | None = None
    in_kernel: bool | None = None
    branches_with: list[str] = []
    branches_without: list[str] = []


class Fix(_Model):
    """A commit that may fix this."""

    hash: str
    subject: str
    author: str
    date: str
    score: float
    confidence: Confidence
    verdict: Literal["confident", "possible", "doubtful"] = "possible"
    """What the confidence means, as measured on crashes whose fix is known."""
    why: list[str] = []
    status: FixStatus = FixStatus()


class Missing(_Model):
    """A datum that would prove more, and how to get it."""

    what: str
    how: str


class Actions(_Model):
    fix: list[str] = []
    verify: list[str] = []
    mitigate: list[str] = []


class Engine(_Model):
    """Who spoke."""

    kind: Literal["rules", "model"]
    model: str | None = None
    endpoint: str | None = None
    """Where the model was asked: scheme, host and port; never a path, user or key."""
    version: str


class Failure(_Model):
    """A part of the analysis that failed unexpectedly; what the others found stands."""

    part: str
    """``decode``, ``locks``, ``source``, ..."""
    error: str
    """One line: the kind of error and what it says."""
    trace: list[str] = []
    """The innermost calls, ``file.py:line function``, for a bug report."""


class LeftOut(_Model):
    """Something that was not read, kept or shown because there was too much of it."""

    what: str
    """``reports``, ``frames``, ``tasks``, ... in the plural."""
    kept: int
    total: int | None = None
    """None where counting on would have cost what the limit saves."""
    why: str


class Usage(_Model):
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: dict[str, float] = {}


class Resolution(_Model):
    """The Error Resolution Summary: one typed object, of which every output is a view."""

    schema_: Literal["kagent/1"] = Field(
        default="kagent/1", validation_alias="schema", serialization_alias="schema"
    )
    engine: Engine
    reports: list[ReportView]
    reformatted: str = ""
    """The primary report with its call trace in canonical form."""
    route: Literal["general", "deadlock"] = "general"
    subsystem: Subsystem | None = None
    summary: str = ""
    """What happened, in a sentence or two (part 1)."""
    explanation: str = ""
    """What went wrong and why (part 4), as Markdown."""
    fault: Fault | None = None
    memory: MemoryFacts | None = None
    deadlock: Deadlock | None = None
    fixes: list[Fix] = []
    findings: list[Finding] = []
    evidence: list[Evidence] = []
    missing: list[Missing] = []
    actions: Actions = Actions()
    unverified: list[str] = []
    """Claims of a model that verification rejected, with the reason."""
    notes: list[str] = []
    """Fallbacks that were taken, in words."""
    incomplete: bool = False
    """True when a part failed (`failures`) or something that was asked for was not done."""
    failures: list[Failure] = []
    left_out: list[LeftOut] = []
    usage: Usage = Usage()

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    @property
    def primary(self) -> ReportView | None:
        """The report that was analysed first."""
        return next((r for r in self.reports if r.primary), None)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """What a plain ``repr`` shows: enough to tell one from another."""
        title = self.primary.title if self.primary else None
        counts = {name: len(getattr(self, name)) for name in ("reports", "findings", "fixes")}
        return [("title", title), ("engine", self.engine.kind), *counts.items()]

    def _repr_mimebundle_(self, **_asked: Any) -> dict[str, str]:
        """What a notebook shows of a cell that ends in this.

        The views stand above this module; the package's own namespace knows where.
        """
        import kagent

        views: dict[str, str] = kagent.mimebundle(self)
        return views
