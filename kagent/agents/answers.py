"""The shapes a model answers in.

Lengths are cut on arrival and not part of the JSON schema: servers that turn a schema into a
grammar (llama.cpp) take minutes over a bound of some thousand characters.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

__all__ = ["ActionChoice", "Claim", "Draft", "FixOpinion", "Restored", "TaskNotes"]


def _at_most(limit: int) -> BeforeValidator:
    def cut(value: Any) -> Any:
        return value[:limit] if isinstance(value, str | list) else value

    return BeforeValidator(cut)


_Word = Annotated[str, _at_most(64)]
_Line = Annotated[str, _at_most(500)]
_Lines = Annotated[list[_Line], _at_most(5)]


class Claim(BaseModel):
    """One statement of a model, with the evidence ids it cites."""

    claim: _Line
    confidence: float = Field(ge=0, le=1)
    evidence: Annotated[list[_Word], _at_most(10)] = []


class FixOpinion(BaseModel):
    """What a model thinks of one of the commits it was shown."""

    hash: _Word
    why: _Line


class ActionChoice(BaseModel):
    """A model's choice among the action templates it was shown."""

    action: _Word
    value: _Line = ""
    """What its slot is filled with; empty where it has none."""


class Draft(BaseModel):
    """A model's answer, before verification."""

    summary: _Line = ""
    explanation: Annotated[str, _at_most(6000)] = ""
    claims: Annotated[list[Claim], _at_most(12)] = []
    fixes: Annotated[list[FixOpinion], _at_most(4)] = []
    actions: Annotated[list[ActionChoice], _at_most(8)] = []
    fix: _Lines = []
    """This and the next two: advice in plain words; commands come from `actions` alone."""
    verify: _Lines = []
    mitigate: _Lines = []


class TaskNotes(BaseModel):
    """What a model says about one task's stack, before verification."""

    claims: Annotated[list[Claim], _at_most(4)] = []


class Restored(BaseModel):
    """A model's attempt to restore a damaged report."""

    report: Annotated[str, _at_most(20_000)] = ""
