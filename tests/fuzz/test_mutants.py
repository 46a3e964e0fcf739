"""The campaigns of mutants for some seconds, and that their harness notices what goes wrong."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from elf_mutants import ElfMutants
from end_to_end_mutants import BrokenRuleError, EndToEndMutants, check_views
from harness import Campaign, dice_of, run
from klog_fleet import Budget, run_fleet
from support.broken_campaign import BrokenCampaign

from kagent import analyze
from kagent.resolution import Failure

HERE = Path(__file__).resolve().parent
SECONDS = int(os.environ.get("KAGENT_FUZZ_SECONDS", "5"))
SEED = 29
"""Of which ten mutants do everything, the slow deeds once."""


KINDS = {
    "KeyError": "raise",
    "exit 3": "leave",
    "SIGSEGV": "crash",
    "no end after": "spin",
    "MiB of memory": "grow",
}
"""What the harness calls what each deed does."""


@pytest.mark.fuzz
@pytest.mark.parametrize(
    ("campaign", "script", "each_second"),
    [(ElfMutants(), "elf_mutants.py", 60), (EndToEndMutants(), "end_to_end_mutants.py", 4)],
    ids=["elf", "end to end"],
)
def test_mutants_break_nothing(
    campaign: Campaign, script: str, each_second: int, tmp_path: Path
) -> None:
    count = SECONDS * each_second
    totals = run(campaign, HERE / script, count=count, kept=tmp_path / "kept")
    assert not totals.findings, totals
    assert totals.mutants == count
    assert totals.cpu > 0


@pytest.mark.fuzz
def test_a_fleet_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: pip install it")
    budget = Budget(runs=10_000_000, cpu_seconds=SECONDS)
    spent = run_fleet(budget, workers=2, corpus=tmp_path / "corpus", kept=tmp_path / "kept")
    assert not spent.findings, spent
    assert spent.runs > 0
    assert spent.corpus > 0


@pytest.mark.fuzz
def test_whatever_goes_wrong_is_noticed(tmp_path: Path) -> None:
    campaign = BrokenCampaign()
    campaign.prepare(tmp_path)
    campaign.load(tmp_path)
    seed, count = SEED, 10
    made = Counter(campaign.make(dice_of(seed, index)).story for index in range(count))
    assert len(made) == 6  # each deed occurs
    told: list[str] = []
    script = HERE.parent / "support" / "broken_campaign.py"
    totals = run(
        campaign, script, seed=seed, count=count, jobs=2, kept=tmp_path / "kept", say=told.append
    )
    assert totals.mutants == count
    assert totals.deaths == made["leave"] + made["crash"]
    found = Counter[str]()
    for kind, times in totals.findings.items():
        found[next(word for word in KINDS if word in kind)] += times
    assert found == {word: made[deed] for word, deed in KINDS.items()}
    again = {
        path.read_bytes().decode() for path in (tmp_path / "kept").glob(f"broken-{seed}-*[0-9]")
    }
    assert again == set(KINDS.values())
    assert any("a rule" in words for words in told)


def test_a_failure_behind_the_boundary_is_a_finding() -> None:
    log = "BUG: kernel NULL pointer dereference, address: 0\nCall Trace:\n f+0x1/0x2\n"
    res = analyze(log)
    check_views(res)
    failed = res.model_copy(
        update={"failures": (Failure(part="drgn", error="crashed"),), "incomplete": True}
    )
    with pytest.raises(BrokenRuleError, match="no part fails"):
        check_views(failed)
