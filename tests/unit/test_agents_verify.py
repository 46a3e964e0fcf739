"""What a model may say: only what the ledger says too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent.agents.answers import Claim, Draft, FixOpinion
from kagent.agents.verify import Checker, check_draft
from kagent.diagnosis.actions import Known
from kagent.resolution import evidence

SOURCE = evidence(
    "source",
    "static int fan_lookup(struct fan_curve *c)\n{\n\treturn c->nr;\n}",
    "drivers/fan.c:30-33@v6.1",
)
FIX = "0123456789abcdef0123456789abcdef01234567"
COMMIT = evidence("commit", f"{FIX} fan: check the curve", f"commit {FIX}")
REGISTER = evidence("register", "RAX = 0x0, fault address 0x1c", "log 100-180")
LEDGER = [SOURCE, COMMIT, REGISTER]


@pytest.fixture
def checker() -> Checker:
    return Checker(LEDGER, lines=[("drivers/fan.c", 44)])


@pytest.mark.parametrize(
    "text",
    [
        "fan_lookup reads c->nr at drivers/fan.c:32.",
        "The caller stands at fan.c:44, which debug info proved.",
        "`c->nr` is read through a NULL pointer at 0x1c.",
        "Commit 0123456789ab checks the curve.",
        "```c\nreturn c->nr;\n```",
        "Plain prose without anything that could be looked up.",
    ],
)
def test_what_the_evidence_says_may_be_said(checker: Checker, text: str) -> None:
    assert checker.problems(text) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("It crashed at drivers/fan.c:99.", "drivers/fan.c:99"),
        ("It crashed at mm/slub.c:32.", "mm/slub.c:32"),
        ("Commit deadbeef1234 fixes this.", "deadbeef1234"),
        ("The address is 0xffff888012345678.", "0xffff888012345678"),
        ("It read 0x1.", "0x1 is not"),
        ("Commit 123456789abc is another one.", "123456789abc"),
        ("`kfree(c)` is called twice.", "`kfree(c)`"),
        ("```c\nif (!c)\n\treturn -EINVAL;\n```", "return -EINVAL;"),
        (f"As {'e' + '0' * 10} shows.", "e0000000000"),
    ],
)
def test_what_it_does_not_say_is_named(checker: Checker, text: str, problem: str) -> None:
    assert any(problem in line for line in checker.problems(text))


def test_a_claim_needs_evidence_that_exists(checker: Checker) -> None:
    draft = Draft(
        claims=[
            Claim(claim="fan_lookup reads c->nr.", confidence=0.9, evidence=[SOURCE.id]),
            Claim(claim="It just feels like a race.", confidence=0.9, evidence=[]),
            Claim(claim="The list is corrupt.", confidence=0.9, evidence=["e1111111111"]),
        ]
    )
    _, findings, rejected = check_draft(draft, checker, Known({}), "model:m")
    assert [f.claim for f in findings] == ["fan_lookup reads c->nr."]
    assert [reason.split(" (")[0] for reason in rejected] == [
        "It just feels like a race.",
        "The list is corrupt.",
    ]


def test_only_commits_that_were_found_may_be_recommended(checker: Checker) -> None:
    draft = Draft(
        fixes=[
            FixOpinion(hash="0123456789ab", why="It checks the curve."),
            FixOpinion(hash="be6e843fc51a", why="I remember this one."),
        ]
    )
    kept, _, rejected = check_draft(draft, checker, Known({FIX: "fan: check the curve"}), "model:m")
    assert [fix.hash for fix in kept.fixes] == [FIX]
    assert "be6e843fc51a" in rejected[0]


def test_one_bad_paragraph_does_not_take_the_good_ones_with_it(checker: Checker) -> None:
    draft = Draft(
        summary="fan_lookup dereferenced NULL.",
        explanation="`c->nr` is read.\n\n```c\nint nr = 0;\n\nnr = 1;\n```\n\nThat is all.",
    )
    kept, _, rejected = check_draft(draft, checker, Known({}), "model:m")
    assert kept.summary == "fan_lookup dereferenced NULL."
    assert kept.explanation == "`c->nr` is read.\n\nThat is all."
    assert len(rejected) == 1


@given(st.text(max_size=300))
def test_any_text_can_be_checked(text: str) -> None:
    for problem in Checker(LEDGER).problems(text):
        assert problem
