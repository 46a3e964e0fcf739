"""``kagent parse``: its JSON follows a published schema that only grows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from kagent.cli.app import app

DATA = Path(__file__).resolve().parents[1] / "data"
OOPS = DATA / "klog" / "oops-null.log"
PUBLISHED = DATA / "schema" / "kagent-parse-1.json"

SYSRQ = """\
[    7.000000] sysrq: Trigger a crash
[    7.100000] Kernel panic - not syncing: sysrq triggered crash
[    7.200000] CPU: 0 UID: 0 PID: 5 Comm: sh Not tainted 6.12.9 #1
[    7.300000] Call Trace:
[    7.400000]  panic+0x100/0x2f0
[    7.500000]  sysrq_handle_crash+0x15/0x20
[    7.600000]  write_sysrq_trigger+0x24/0x40
"""


def parse(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["parse", *map(str, arguments)], input=stdin)


@cache
def printed_schema() -> dict[str, Any]:
    done = parse("--schema")
    assert done.exit_code == 0, done.stderr
    schema: dict[str, Any] = json.loads(done.stdout)
    return schema


def as_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(parse("--json", path).stdout)
    return content


# ── the schema ───────────────────────────────────────────────────────────────────────────────


def objects(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "", schema
    yield from schema["$defs"].items()


def shape(schema: Any) -> Any:
    """What a reader relies on: all but the words that explain it."""
    if isinstance(schema, list):
        return sorted((shape(one) for one in schema), key=repr)
    if isinstance(schema, dict):
        words = {"description", "title", "default"}
        return {key: shape(one) for key, one in schema.items() if key not in words}
    return schema


def losses(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Every promise of the schema `old` that `new` breaks."""
    now = dict(objects(new))
    found = []
    for name, was in objects(old):
        if name not in now:
            found.append(f"{name} vanished")
            continue
        for key, type_ in was["properties"].items():
            if key not in now[name]["properties"]:
                found.append(f"{name}.{key} vanished")
            elif shape(type_) != shape(now[name]["properties"][key]):
                found.append(f"{name}.{key} changed its type")
            elif key in was["required"] and key not in now[name]["required"]:
                found.append(f"{name}.{key} may be absent")
    return found


def test_the_schema_only_grows(request: pytest.FixtureRequest) -> None:
    schema = printed_schema()
    if PUBLISHED.is_file():
        assert losses(json.loads(PUBLISHED.read_text("utf-8")), schema) == []
    if request.config.getoption("--update-golden"):
        PUBLISHED.parent.mkdir(parents=True, exist_ok=True)
        PUBLISHED.write_text(json.dumps(schema, indent=2) + "\n", "utf-8")
    unpublished = losses(schema, json.loads(PUBLISHED.read_text("utf-8")))
    assert unpublished == [], "new keys are published by pytest --update-golden"


def test_losses_are_noticed() -> None:
    old = printed_schema()
    new = json.loads(json.dumps(old))
    del new["properties"]["size"]
    del new["$defs"]["Access"]
    new["$defs"]["Frame"]["properties"]["line"] = {"type": "string"}
    new["$defs"]["Report"]["required"].remove("fingerprint")
    new["$defs"]["Report"]["properties"]["severity"] = {"type": "string"}
    assert sorted(losses(old, new)) == [
        ".size vanished",
        "Access vanished",
        "Frame.line changed its type",
        "Report.fingerprint may be absent",
    ]


def test_the_schema_is_one_and_names_its_version() -> None:
    schema = printed_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] == "kagent-parse/1"
    assert parse("--schema", "no-such-file").exit_code == 0  # the log does not matter


# ── real output ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    """Refuses keys that the schema does not name, too."""
    strict = json.loads(json.dumps(printed_schema()))
    for _, one in objects(strict):
        one["additionalProperties"] = False
    return jsonschema.Draft202012Validator(strict)


RICH = ("kasan-uaf", "lockdep-circular", "hung-tasks", "soft-lockup", "arm64-oops", "clean-boot")


@pytest.mark.parametrize("name", RICH)
def test_output_validates(name: str, validator: jsonschema.Draft202012Validator) -> None:
    content = as_json(DATA / "klog" / f"{name}.log")
    validator.validate(content)
    assert content["schema"] == "kagent-parse/1"
    assert bool(content["reports"]) == (name != "clean-boot")


def test_output_of_a_real_console_validates(
    crashlab: Path, validator: jsonschema.Draft202012Validator
) -> None:
    logs = sorted((crashlab / "logs").glob("*.log"))[::12]
    assert logs
    for path in logs:
        validator.validate(as_json(path))


def test_a_wrong_type_does_not_validate(validator: jsonschema.Draft202012Validator) -> None:
    content = as_json(OOPS)
    content["reports"][0]["registers"]["rax"] = 1
    with pytest.raises(jsonschema.ValidationError, match="not of type 'string'"):
        validator.validate(content)


def test_stacks_have_roles_and_words_are_hexadecimal() -> None:
    path = DATA / "klog" / "kasan-uaf.log"
    (report,) = as_json(path)["reports"]
    assert {trace["role"] for trace in report["traces"]} >= {"call", "alloc", "free"}
    address = report["access"]["address"]
    assert address.startswith("0x")
    assert address[2:].encode() in path.read_bytes()
    assert isinstance(report["access"]["size"], int)
    (oops,) = as_json(OOPS)["reports"]
    assert f"{int(oops['registers']['rsp'], 16):016x}" in OOPS.read_text()
    assert all(value.startswith("0x") for value in oops["registers"].values())


def test_spans_are_bytes_of_the_log(tmp_path: Path) -> None:
    log = OOPS.read_bytes()
    path = tmp_path / "console.log"
    path.write_bytes(b"[    0.1] caf\xe9 \xe2\x80\x94 ready\n" + log)  # \xe9 alone is no UTF-8
    (report,) = as_json(path)["reports"]
    (plain,) = as_json(OOPS)["reports"]
    moved = path.stat().st_size - len(log)
    assert report["span"] == [at + moved for at in plain["span"]]
    start, end = report["pc"]["span"]
    assert report["pc"]["symbol"].encode() in path.read_bytes()[start:end]


def test_a_lockdep_report_states_its_chain() -> None:
    (report,) = as_json(DATA / "klog" / "lockdep-circular.log")["reports"]
    locks = report["locks"]
    assert [link["index"] for link in locks["chain"]] == sorted(
        (link["index"] for link in locks["chain"]), reverse=True
    )
    assert locks["acquiring"]["name"]
    assert all(lock["address"].startswith("0x") for lock in locks["holding"])


# ── plain output ─────────────────────────────────────────────────────────────────────────────


def test_segfaults_are_no_kernel_bugs() -> None:
    done = parse(DATA / "klog" / "user-faults.log")
    titles = [line for line in done.stdout.splitlines() if line[2:3].isdigit()]
    assert titles
    label = "     not a kernel bug: a program in user space failed"
    assert done.stdout.splitlines().count(label) == len(titles)


def test_a_crash_somebody_asked_for_is_no_kernel_bug() -> None:
    done = parse("-", stdin=SYSRQ)
    assert "not a kernel bug: somebody asked for this crash through sysrq" in done.stdout


@pytest.mark.parametrize("name", ["oops-null", "kasan-uaf", "hung-tasks", "warning-refcount"])
def test_a_kernel_bug_is_not_excused(name: str) -> None:
    assert "not a kernel bug" not in parse(DATA / "klog" / f"{name}.log").stdout


def test_help_says_what_is_in_the_json() -> None:
    text = " ".join(parse("--help").stdout.split())
    for name in ("kagent-parse/1", "--schema", *printed_schema()["$defs"]["Report"]["required"]):
        assert name in text, name
