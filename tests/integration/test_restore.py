"""Damaged text: the model may restore what is there, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.chat_endpoint import chat_endpoint, text

from kagent import Settings, analyze
from kagent.errors import NoReportError
from kagent.klog import parse_log

pytestmark = pytest.mark.integration

DATA = Path(__file__).resolve().parents[2] / "kagent/demo/data"
REPORT = (DATA / "cve-2025-37958/trace.log").read_text()
SCANNED = REPORT.replace("BUG:", "B U G :").replace("RIP:", "R|P :").replace("+0x", " + 0x")


def restoring(report: str) -> Any:
    def answer(request: dict[str, Any]) -> Any:
        schema = request.get("response_format", {}).get("json_schema", {}).get("name")
        return text({"report": report} if schema == "Restored" else {"summary": ""})

    return answer


def test_the_parser_alone_sees_nothing_in_the_scan() -> None:
    assert not parse_log(SCANNED).reports


def test_a_faithful_restoration_is_analysed_and_said_to_be_one() -> None:
    with chat_endpoint(restoring(REPORT)) as endpoint:
        config = Settings(model="scripted", base_url=endpoint.url)
        resolution = analyze(SCANNED, settings=config)
    assert resolution.reports[0].frames[0].symbol == "split_huge_pmd_locked"
    assert any("restored" in note for note in resolution.notes)


@pytest.mark.parametrize(
    ("written", "invented"),
    [
        ("rmap_walk_anon", "evil_function"),
        ("ffffea60001db008", "0000000000000018"),
        ("PID: 2199114", "PID: 77777"),
        ("6.14.0+", "6.15.0"),
    ],
    ids=["frame", "address", "task", "release"],
)
def test_an_invented_fact_is_refused(written: str, invented: str) -> None:
    invented = REPORT.replace(written, invented)
    assert invented != REPORT
    with chat_endpoint(restoring(invented)) as endpoint:
        config = Settings(model="scripted", base_url=endpoint.url)
        with pytest.raises(NoReportError):
            analyze(SCANNED, settings=config)
