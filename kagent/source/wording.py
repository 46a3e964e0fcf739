"""Answers of the source tools as text with line numbers: for terminals and for models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kagent.source.answers import (
    Answer,
    BlameAnswer,
    CallPathAnswer,
    CallSitesAnswer,
    FunctionsAnswer,
    LayoutAnswer,
    LayoutMember,
    LinesAnswer,
    PagedAnswer,
    Site,
    SourceText,
    SubsystemAnswer,
    TypesAnswer,
)
from kagent.source.model import numbered

__all__ = ["as_text"]

_KINDS = {
    "direct": "{start} calls {end}.",
    "through": "{start} reaches {end} through what leaves no frame of its own.",
    "pointer": "{start} calls {end} through a pointer.",
    "callback": "{start} makes a call through a pointer, and the address of {end} is taken.",
    "entry": "{start} was interrupted: {end} is an entry into the kernel.",
    "compiler": "{start} calls {end} because the compiler put the call there.",
    "registered": "How {start} reaches {end} is not visible: its address is taken here.",
    "unknown": "Nothing shows how {start} reaches {end}.",
}


def as_text(answer: Answer) -> str:
    """The facts of an answer, then how to go on, then its notes; ends with a newline.

    Source may hold control characters: what shows the text has to remove them.
    """
    lines = [*_facts(answer), *_more(answer), *(f"note: {note}" for note in answer.notes)]
    return "\n".join(lines) + "\n"


def _facts(answer: Answer) -> Iterator[str]:
    match answer:
        case FunctionsAnswer(functions=pieces) | TypesAnswer(types=pieces):
            for piece in pieces:
                yield from _piece(piece)
        case LinesAnswer():
            yield answer.origin
            yield numbered(answer.text, answer.start)
        case LayoutAnswer():
            yield from _layout(answer)
        case CallSitesAnswer():
            yield from map(_site, answer.sites)
        case CallPathAnswer():
            yield _KINDS[answer.kind].format(start=answer.start, end=answer.end)
            yield from (f"  {_site(step)}" for step in answer.steps)
            if answer.note:
                yield f"  {answer.note}"
        case BlameAnswer():
            yield from _blame(answer)
        case SubsystemAnswer():
            yield from _subsystem(answer)
        case _:
            raise TypeError(f"no words for {type(answer).__name__}")


def _more(answer: Answer) -> Iterator[str]:
    if isinstance(answer, PagedAnswer) and answer.next_offset is not None:
        yield f"({answer.total} in all; go on with offset {answer.next_offset})"
    if isinstance(answer, LinesAnswer) and answer.next_start:
        yield f"(cut; go on with line {answer.next_start})"
    elif answer.truncated:
        yield "(cut: there may be more)"


def _piece(piece: SourceText) -> Iterator[str]:
    yield f"{piece.origin}  {piece.name}" if piece.name else piece.origin
    yield numbered(piece.text, piece.start)
    if piece.truncated:
        yield f"(cut; go on with line {piece.end + 1} of {piece.path})"
    yield ""


def _site(site: Site) -> str:
    inside = f"{site.caller}: " if site.caller else ""
    kind = "" if site.kind == "call" else f"  [{site.kind}]"
    return f"{site.path}:{site.line}: {inside}{site.text}{kind}"


def _layout(answer: LayoutAnswer) -> Iterator[str]:
    place = f" of {answer.path}" if answer.path else ""
    yield f"{answer.type}: {answer.total} members, from {answer.origin}{place}"
    sized = answer.origin == "debug info"
    yield f"{'offset':>6} {'size':>6}  member" if sized else f"{'line':>6}  member"
    yield from (_member(one) for one in answer.members)


def _member(member: LayoutMember) -> str:
    row = f"{member.name}: {member.type}".removesuffix(": ")
    if member.offset is not None:
        return f"{member.offset:>6} {member.size:>6}  {row}"
    return f"{member.line:>6}  {row}" + (f"  #if {member.condition}" if member.condition else "")


def _blame(answer: BlameAnswer) -> Iterator[str]:
    yield f"{answer.path}:{answer.line}: {answer.text.strip()}"
    yield f"{answer.commit} {answer.subject}"
    yield f"{answer.author}, {answer.date}"
    if (answer.original_path, answer.original_line) != (answer.path, answer.line):
        yield f"there at {answer.original_path}:{answer.original_line}"


def _subsystem(answer: SubsystemAnswer) -> Iterator[str]:
    status = f" ({answer.status})" if answer.status else ""
    yield f"{answer.path}: {answer.subsystem or 'no subsystem of its own'}{status}"
    for label, values in _people(answer):
        yield from (f"  {label} {value}" for value in values)


def _people(answer: SubsystemAnswer) -> Sequence[tuple[str, Sequence[str]]]:
    return (
        ("M:", answer.maintainers),
        ("R:", answer.reviewers),
        ("L:", answer.lists),
        ("T:", answer.trees),
    )
