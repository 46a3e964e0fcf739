"""``kagent fix-status``: is this fix in my kernel, and on which branches?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagent.cli.output import emit, say
from kagent.cli.reading import read_log
from kagent.errors import InputError, MissingDataError, NoReportError
from kagent.sources import lookup
from kagent.text import clip, strip_control

if TYPE_CHECKING:
    from kagent.commits.fix_report import FixReport, UsersKernel
    from kagent.commits.landed import OnBranch
    from kagent.commits.mentions import Mention

__all__ = ["fix_status"]

SCHEMA = "kagent-fix-status/1"
_LACKS, _UNKNOWN = 1, 3
_SIGNS = {"has": "+", "lacks": "-", "reverted": "!", "not affected": "="}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What to look up, from the command line or from a report."""

    hashes: Sequence[str]
    release: str | None
    build: str | None = None
    nearest: dict[str, Any] | None = None
    """Where no commit looks like the fix: the one that comes nearest, if there is one."""


def fix_status(
    hash: Annotated[
        str | None, typer.Argument(metavar="[HASH]", help="The fix, in 7 digits or more.")
    ] = None,
    from_report: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Take fixes and kernel from `kagent analyze --json`; from a log with --index.",
        ),
    ] = None,
    kernel_src: Annotated[
        str | None,
        typer.Option(
            metavar="PATH[@REV]",
            envvar="KAGENT_KERNEL_SRC",
            help="Git repository with mainline and stable; REV is your kernel.",
            show_default="where you stand",
        ),
    ] = None,
    release: Annotated[
        str | None, typer.Option(metavar="R", help="Your kernel, as `uname -r` prints it.")
    ] = None,
    branch: Annotated[
        list[str] | None,
        typer.Option(metavar="B", help="Look at this branch or tag only; repeatable."),
    ] = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Commit index to find a log's fix in; several are one."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with 1 when your kernel needs a fix, 3 when that is not known, as when no "
            "commit looks like the fix (1 without --check).",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help=f"Print JSON ({SCHEMA}).")] = False,
) -> None:
    """Say where a fix has landed: upstream, in your kernel, on the stable branches."""
    from kagent.commits.fix_report import fix_report

    if (hash is None) == (from_report is None):
        raise InputError(
            "give a HASH or --from-report FILE, one of them",
            hint="kagent fix-status be6e843fc51a --kernel-src ~/linux --release 6.6.30",
        )
    asked = (
        _Asked([hash], release) if hash else _from_report(from_report or "-", index or [], release)
    )
    if not asked.hashes:
        _print_none(asked.nearest, as_json=as_json)
        raise typer.Exit(_UNKNOWN if check else NoReportError.exit_code)
    repo, revision = _repository(kernel_src or lookup("kernel_src") or ".")
    reports: list[FixReport] = []
    for wanted in asked.hashes:
        try:
            found = fix_report(
                repo,
                wanted,
                release=asked.release,
                build=asked.build,
                revision=revision,
                branches=branch or (),
            )
        except MissingDataError as error:
            if from_report is None or not repo.exists():
                raise
            say(f"kagent: {error}")
            continue
        reports.append(found)
    if not reports:
        raise MissingDataError(f"{repo} has none of the fixes", hint="fetch mainline into it")
    if as_json:
        _print_json([asdict(report) for report in reports])
    else:
        emit("\n".join(_text(report) for report in reports))
    if check:
        raise typer.Exit(_verdict(reports))


def _print_json(fixes: Sequence[dict[str, Any]], nearest: dict[str, Any] | None = None) -> None:
    document = {"schema": SCHEMA, "fixes": fixes, "nearest": nearest}
    emit(json.dumps(document, indent=2) + "\n")


def _print_none(nearest: dict[str, Any] | None, *, as_json: bool) -> None:
    """Say that there is nothing to look up."""
    if as_json:
        _print_json([], nearest)
        return
    if nearest is None:
        emit("No commit looks like the fix.\n")
        return
    from kagent.commits.packing import short_hash

    hash, subject = short_hash(nearest["hash"]), clip(nearest["subject"], 200)[0]
    line = f"{hash} {subject} (confidence {nearest['confidence']:.2f})"
    emit(f"No commit looks like the fix. The nearest: {strip_control(line)}\n")


def _verdict(reports: Sequence[FixReport]) -> int:
    """The worst of the fixes: lacking, not known, there."""
    codes = [_kernel_code(report) for report in reports]
    return _LACKS if _LACKS in codes else max(codes)


def _kernel_code(report: FixReport) -> int:
    on, kernel = report.landing.kernel, report.kernel
    if on is None or kernel is None:
        return _UNKNOWN
    if on.state in ("has", "not affected"):
        return 0
    return _LACKS if kernel.sound else _UNKNOWN


def _repository(spec: str) -> tuple[Path, str | None]:
    path = Path(spec)
    if path.is_dir() or "@" not in spec:
        return path, None
    before, _, revision = spec.rpartition("@")
    return Path(before), revision


def _from_report(source: str, index: Sequence[Path], release: str | None) -> _Asked:
    text = read_log(source)
    if text.lstrip()[:1] == "{":
        return _from_json(text, release)
    from kagent.klog import parse_log
    from kagent.settings import Settings

    log = parse_log(text)
    if log.primary is None:
        raise NoReportError("no kernel report in it", hint="give the lines of the crash")
    index = index or Settings().index
    if not index:
        raise MissingDataError(
            "which commit fixes a log is not known without an index",
            hint="add --index DIR (`kagent index build`), or give the HASH",
        )
    from kagent.cli.index import log_query
    from kagent.commits import open_indexes

    with open_indexes(index) as opened:
        hits = opened.search_crash(log_query(log, text), 1)
    context = log.reports[log.primary].context
    hashes, nearest = _likely([asdict(hit) for hit in hits])
    return _Asked(hashes, release or context.kernel, None if release else context.build, nearest)


def _likely(fixes: Sequence[dict[str, Any]]) -> tuple[list[str], dict[str, Any] | None]:
    """The commits among what was found that look like the fix; failing those, the nearest."""
    hashes = [str(fix["hash"]) for fix in fixes if fix.get("verdict") != "doubtful"]
    if hashes or not fixes:
        return _merged(hashes) if hashes else [], None
    first = fixes[0]
    nearest = {name: str(first.get(name, "")) for name in ("hash", "subject", "verdict")}
    confidence = first.get("confidence")
    return [], nearest | {"confidence": confidence if isinstance(confidence, int | float) else 0.0}


def _from_json(text: str, release: str | None) -> _Asked:
    try:
        document: Any = json.loads(text)
        fixes = [{**fix, "hash": str(fix["hash"])} for fix in document["fixes"]]
        reports = document["reports"]
        kernel = next((r["kernel"] for r in reports if r["primary"] and r["kernel"]), None)
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            "that JSON is no report of kagent", hint="make one: kagent analyze LOG --json"
        ) from error
    if not fixes:
        raise NoReportError("the report names no fix", hint="analyse with --index DIR")
    hashes, nearest = _likely(fixes)
    return _Asked(hashes, release or kernel, nearest=nearest)


def _merged(hashes: Sequence[str]) -> list[str]:
    """Those of `hashes` that are commits; says which are only patches on a list."""
    from kagent.commits.packing import is_posted, posted_link

    posted = [hash for hash in hashes if is_posted(hash)]
    for hash in posted:
        say(f"kagent: not merged yet, only posted: {posted_link(hash) or hash}")
    if len(posted) == len(hashes):
        raise NoReportError(
            "no fix is merged yet", hint="test the posted patch, and reply on the list if it helps"
        )
    return [hash for hash in hashes if hash not in posted]


def _text(report: FixReport) -> str:
    return "".join(f"{strip_control(line)}\n" for line in _lines(report))


def _lines(report: FixReport) -> Iterator[str]:
    landing = report.landing
    yield f"{landing.hash[:12]} {clip(landing.subject, 200)[0]}"
    if report.backport_of:
        yield "  (the hash given is that of a backport of it)"
    yield f"  author       {report.author}, {report.date[:10]}"
    yield f"  upstream     {landing.first_tag or 'in no release yet'}"
    if report.kernel is not None:
        yield f"  your kernel  {_kernel(report.kernel, landing.kernel)}"
    for name, mentions in (
        ("brought by", landing.introduced_by),
        ("reverted by", landing.reverts),
        ("repaired by", landing.follow_ups),
    ):
        for mention in mentions[:10]:
            yield f"  {name:<12} {_mention(mention)}"
    if landing.branches:
        yield "  branches"
        yield from (f"    {_branch(on)}" for on in landing.branches)
    yield f"  stable       {report.stable.verdict}: {report.stable.why}"
    for criterion in report.stable.criteria:
        sign = {True: "yes", False: "no", None: "?"}[criterion.met]
        yield f"    {sign:<4} {criterion.rule}: {criterion.why}"


def _kernel(kernel: UsersKernel, on: OnBranch | None) -> str:
    name = kernel.release.release if kernel.release else kernel.revision or ""
    if on is None:
        return f"{name}: not known; {kernel.note}"
    said = f"{name}: {_state(on)}"
    if kernel.release and kernel.revision not in (kernel.release.release, None):
        said += f" (looked up as {kernel.revision})"
    if not kernel.sound and on.state != "has":
        return f"{said}; not sure, for {kernel.note}"
    return f"{said}; {kernel.note}" if kernel.note else said


def _branch(on: OnBranch) -> str:
    return f"{_SIGNS[on.state]} {on.branch:<16} {_state(on)}"


def _state(on: OnBranch) -> str:
    match on.state:
        case "has":
            since = f" since {on.first_tag}" if on.first_tag else ""
            carried = (
                f", as {on.commit[:12]} ({on.how})" if on.commit and on.how != "ancestry" else ""
            )
            return f"has it{since}{carried}"
        case "not affected":
            return "not affected: the commit that brought the bug is not on it"
        case "reverted":
            said = f"had it, reverted by {(on.commit or '')[:12]}"
        case _:
            said = "lacks it"
    if on.applies == "no":
        return f"{said}; the patch does not apply ({', '.join(on.conflicts[:3]) or 'conflicts'})"
    return f"{said}; the patch applies {on.applies}" if on.applies else said


def _mention(mention: Mention) -> str:
    return f"{mention.hash[:12]} {clip(mention.subject, 120)[0]} ({mention.date[:10]})"
