"""Real consoles with known truth; they lie beside the checkout and are not shipped."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from klog_accuracy import crashlab_checks, title_checks


def _agreement(checks: list[tuple[str, object, object]]) -> dict[str, float]:
    good: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for what, want, got in checks:
        total[what] += 1
        good[what] += want == got
    return {what: good[what] / count for what, count in total.items()}


def test_titles_agree_with_syzkaller(syzkaller_logs: Path) -> None:
    cases = sorted((syzkaller_logs / "report").iterdir())
    rates = _agreement([check for case in cases for check in title_checks(case)])
    assert rates["type"] >= 0.99
    assert rates["title"] >= 0.97
    assert rates["corrupted"] >= 0.95
    assert rates["alt"] >= 0.97
    assert rates["none"] == 1.0


def test_reports_agree_with_crashlabs_truth(crashlab: Path) -> None:
    truths = sorted((crashlab / "logs").glob("*.json"))
    assert truths
    rates = _agreement([check for truth in truths for check in crashlab_checks(truth)])
    assert min(rates.values()) == 1.0, rates


@pytest.mark.parametrize("name", ["c612-clean"])
def test_a_clean_boot_has_no_report(crashlab: Path, name: str) -> None:
    from kagent.klog import parse_log

    log = parse_log((crashlab / "logs" / f"{name}.log").read_bytes())
    assert log.reports == ()
    assert log.primary is None
