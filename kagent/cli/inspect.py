"""``kagent parse`` and ``kagent reformat``: what the log parser alone makes of a log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagent.cli.options import Log, MaxLogBytes
from kagent.cli.output import emit, emit_bytes
from kagent.cli.reading import DEFAULT_MAX_BYTES, read_log_bytes
from kagent.errors import NoReportError

if TYPE_CHECKING:
    from kagent.klog.model import KernelLog, Report
    from kagent.klog.oom_model import OomFacts, OomVictim

__all__ = ["SCHEMA", "parse", "reformat"]

SCHEMA = "kagent-parse/1"
"""Version of ``parse --json``. It only grows: a key that vanishes or changes its type makes 2."""

_WORDS = frozenset({"address", "registers"})
"""Keys whose numbers are machine words: up to 64 bits, more than a JSON reader may keep exactly."""


def parse(
    log: Log = "-",
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON Schema of --json; no log is read."),
    ] = False,
    max_log_bytes: MaxLogBytes = DEFAULT_MAX_BYTES,
) -> None:
    """List the kernel reports of a log: titles, kinds, spans and frames.

    Segfaults of programs, crashes asked for through sysrq and memory that ran out
    are marked: not a kernel bug.

    --json prints one object, {"schema": "kagent-parse/1", ...}:

    - primary: index of the report to look at first; size; tasks: all dumped
    - reports[]: title, alt_titles, kind, frame (the blamed function), header,
      message, span, fingerprint, caused_by, repeats, kernel_bug, panicked,
      corrupted, corrupted_reason
    - of each its context: CPU, task, pid, release, arch, hardware, taint, ...
    - pc, code, registers, and traces[] by role: call, alloc, free, origin, ...
    - access and memory object of a sanitizer; locks: lockdep's chain, states,
      wanted and held locks; tasks[] with their stacks and held locks
    - oom: who asked for memory, limits, usage, the largest tasks, the killed
    - left_out[]: what limits kept from being read: what, kept, total, why

    Spans are [start, end) in bytes of the (unpacked) log. Registers and addresses
    are strings such as "0xffff888012345678". What the log does not say is null
    or empty. Within a version keys are only ever added.
    """
    if schema:
        emit(_dumps(_schema()))
        return
    from kagent.klog import parse_log
    from kagent.klog.absence import hint_without_report

    raw = read_log_bytes(log, max_bytes=max_log_bytes)
    found = parse_log(raw)
    emit(_as_json(found) if json else "".join(f"{line}\n" for line in _lines(found)))
    if not found.reports:
        raise NoReportError("no kernel report was found in the log", hint=hint_without_report(raw))


def reformat(log: Log = "-", max_log_bytes: MaxLogBytes = DEFAULT_MAX_BYTES) -> None:
    """Print the log with its call traces in canonical form; other lines stay as they are."""
    from kagent.klog import reformat as canonical

    text = read_log_bytes(log, max_bytes=max_log_bytes).decode("utf-8", "surrogateescape")
    emit_bytes(canonical(text).encode("utf-8", "surrogateescape"))


def _dumps(content: dict[str, Any]) -> str:
    import json

    return json.dumps(content, indent=2) + "\n"


def _as_json(found: KernelLog) -> str:
    import dataclasses

    facts = _in_hex(dataclasses.asdict(found))
    return _dumps({"schema": SCHEMA, "primary": found.primary, **facts})


def _in_hex(value: Any, *, word: bool = False) -> Any:
    """`value` with the integers under :data:`_WORDS` written in hexadecimal."""
    if isinstance(value, dict):
        return {key: _in_hex(item, word=word or key in _WORDS) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_in_hex(item, word=word) for item in value]
    return hex(value) if word and isinstance(value, int) else value


def _schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what :func:`_as_json` writes, from the types' own
    annotations and docstrings.
    """
    from pydantic import ConfigDict, TypeAdapter

    from kagent.klog.model import KernelLog

    config = ConfigDict(
        use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )
    # pydantic takes a config for what holds a dataclass, not for the dataclass: hence the list.
    types = TypeAdapter(list[KernelLog], config=config).json_schema(mode="serialization")
    defs = {name: _words_as_strings(one) for name, one in sorted(types["$defs"].items())}
    log = defs.pop("KernelLog")
    primary = {
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "description": "Index of the report to look at first: the first cause, not its echoes.",
    }
    properties = {"schema": {"const": SCHEMA, "type": "string"}, "primary": primary}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "description": "What `kagent parse --json` prints. Spans are byte offsets [start, end).",
        "type": "object",
        "properties": properties | log["properties"],
        "required": [*properties, *log["required"]],
        "$defs": defs,
    }


def _words_as_strings(schema: Any, *, word: bool = False) -> Any:
    """`schema` with what :func:`_in_hex` does to the values."""
    if isinstance(schema, list):
        return [_words_as_strings(item, word=word) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if word and schema.get("type") == "integer":
        return schema | {"type": "string", "pattern": "^0x[0-9a-f]+$"}
    return {
        key: _words_as_strings(item, word=word or key in _WORDS) for key, item in schema.items()
    }


def _lines(found: KernelLog) -> Iterator[str]:
    for number, report in enumerate(found.reports):
        yield from _report_lines(number, report, primary=number == found.primary)
    for item in found.left_out:
        yield f"left out: {item.kept} of {item.total} {item.what} were read or kept ({item.why})"


def _report_lines(number: int, report: Report, *, primary: bool) -> Iterator[str]:
    from kagent.text import strip_control

    context = report.context
    yield strip_control(f"{'▶' if primary else ' '} {number + 1}  {report.title}")
    facts = [report.kind, f"bytes {report.span[0]}–{report.span[1]}"]
    if context.task is not None:
        facts.append(f"{context.task}[{context.pid}]" if context.pid is not None else context.task)
    facts += [fact for fact in (context.kernel, context.arch) if fact]
    if report.caused_by is not None:
        facts.append(f"consequence of {report.caused_by + 1}")
    if report.repeats:
        facts.append(f"repeated {report.repeats}×")
    if report.corrupted:
        facts.append(f"damaged: {report.corrupted_reason}")
    yield "     " + strip_control(", ".join(facts))
    if not report.kernel_bug:
        yield f"     not a kernel bug: {_blameless(report)}"
    if report.oom is not None:
        yield from (f"     {strip_control(line)}" for line in _oom_lines(report.oom))
    role = None
    for at, frame in report.all_frames():
        if at != role:
            yield f"     {at}:"
            role = at
        yield "       " + strip_control(f"{'' if frame.reliable else '? '}{frame}")
    yield ""


def _blameless(report: Report) -> str:
    """Who did it, of a report that is no kernel bug."""
    asked = report.pc is not None and report.pc.symbol == "sysrq_handle_crash"
    if asked or "sysrq" in report.title:
        return "somebody asked for this crash through sysrq"
    if report.oom is not None:
        return "memory ran out, and the kernel killed to get some back"
    return "a program in user space failed"


_LARGEST = 5


def _oom_lines(oom: OomFacts) -> Iterator[str]:
    """Who asked, what was exhausted, who was killed, and who had the memory."""
    if oom.invoker is not None:
        flags = f", {'|'.join(oom.gfp_flags)}" if oom.gfp_flags else ""
        yield f"asked: {oom.invoker}, order {oom.order}{flags}"
    if oom.memcg is not None:
        yield f"exhausted: memory cgroup {oom.memcg}"
    for name, counter in oom.counters.items():
        limit = f"{counter.limit_kb} kB" if counter.limit_kb is not None else "no limit"
        yield f"  {name}: {counter.usage_kb} kB of {limit}, limit hit {counter.failures}×"
    if oom.pages:
        names = ("free", "active_anon", "inactive_anon", "slab_unreclaimable")
        shown = ", ".join(f"{name} {oom.pages[name]}" for name in names if name in oom.pages)
        yield f"pages: {shown} of {oom.ram_pages}, {oom.page_kb} kB each"
    yield from (f"killed: {_victim(victim)}" for victim in oom.victims)
    if oom.tasks:
        yield f"largest of {oom.task_count} tasks, resident pages:"
        for task in oom.tasks[:_LARGEST]:
            yield f"  {task.rss_pages}  {task.comm}[{task.pid}], oom_score_adj {task.oom_score_adj}"
    if oom.slabs:
        yield "largest slab caches that cannot be reclaimed:"
        yield from (f"  {slab.total_kb} kB  {slab.cache}" for slab in oom.slabs[:_LARGEST])


def _victim(victim: OomVictim) -> str:
    adj = "" if victim.oom_score_adj is None else f", oom_score_adj {victim.oom_score_adj}"
    return f"{victim.comm}[{victim.pid}], {victim.rss_kb} kB resident{adj}"
