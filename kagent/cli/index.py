"""``kagent index``: build, update and search a commit index."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagent.cli.files import open_output
from kagent.cli.output import say
from kagent.cli.reading import read_log
from kagent.errors import IndexCorruptError, InputError, NoReportError
from kagent.text import clip, strip_control

if TYPE_CHECKING:
    from rich.console import Console

    from kagent.commits import CrashQuery, Hit
    from kagent.klog.model import KernelLog

__all__ = ["app", "log_query"]

_MAX_QUESTION = 64 * 1024

app = typer.Typer(
    help="Build and search an index of git history: which commit fixes this crash?",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

IndexDirectory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Directory that `build -o` wrote.")
]


@app.command(
    epilog="**Examples**\n\n"
    "`kagent index build ~/linux -o ~/linux.index --since v6.6`\n\n"
    "`kagent index build ~/linux -o net.index --paths net --paths drivers/net`\n\n"
    "`kagent index build ~/linux -o stable.index --rev stable/linux-6.6.y --since v6.6`\n\n"
    "`kagent index build ~/lore/netdev -o netdev.index`\n\n"
    "`kagent index build changes.jsonl.gz -o changes.index`"
)
def build(
    repo: Annotated[
        Path,
        typer.Argument(
            help="Git repository (worktree, bare, shallow), public-inbox or mbox of posted "
            "patches, or a .jsonl[.gz] of changes."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Where to write; replaced when done."),
    ],
    since: Annotated[
        str | None, typer.Option(metavar="REV", help="Only commits that REV does not reach.")
    ] = None,
    rev: Annotated[
        list[str] | None,
        typer.Option(metavar="REV", help="What REV reaches instead of HEAD; repeatable."),
    ] = None,
    paths: Annotated[
        list[str] | None, typer.Option(metavar="P", help="Only commits that touch P; repeatable.")
    ] = None,
    embedding: Annotated[
        str,
        typer.Option(
            metavar="E",
            help="corpus (learnt from the commits, offline), huggingface:MODEL or openai:MODEL.",
        ),
    ] = "corpus",
) -> None:
    """Index the commits of a repository, or the patches of a mail archive.

    A build that was interrupted goes on where it stopped when the same command is run again.
    """
    from kagent.commits import CommitIndex

    with _progress(output) as progress:
        index = CommitIndex.build(
            repo,
            output,
            since=since,
            paths=paths or (),
            revisions=rev or (),
            embedding=embedding,
            progress=progress,
        )
    with index:
        typer.echo(f"{_counted(index.stats())}: {output}")


@app.command(epilog="**Example**\n\n`git -C ~/linux pull && kagent index update ~/linux.index`")
def update(directory: IndexDirectory) -> None:
    """Add the commits made since the index was built."""
    from kagent.commits import CommitIndex

    with CommitIndex.open(directory) as index:
        with _progress(directory) as progress:
            added = index.update(progress)
        for note in index.notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"{_number(added, 'commit')} added, {index.stats()['commits']} in all")


@app.command(
    epilog="**Example**\n\n`kagent index merge mainline.index stable.index lore.index -o all.index`"
)
def merge(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Two indexes or more.")
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Where to write; replaced when done."),
    ],
    embedding: Annotated[
        str, typer.Option(metavar="E", help="As for `build`; made anew over all commits.")
    ] = "corpus",
) -> None:
    """Make one index of several, each commit once; `update` then follows all their sources."""
    from kagent.commits import CommitIndex

    with _progress(output) as progress:
        index = CommitIndex.merge(directories, output, embedding=embedding, progress=progress)
    with index:
        typer.echo(f"{_counted(index.stats())}: {output}")


@app.command(
    epilog="**Examples**\n\n"
    '`kagent index search linux.index "use-after-free in ext4_es_insert_extent"`\n\n'
    "`kagent index search linux.index --log oops.txt -k 10`\n\n"
    "`kagent index search mainline.index stable.index lore.index --log oops.txt`\n\n"
    "`git log -1 --format=%B | kagent index search linux.index - --json`"
)
def search(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR... [QUESTION]",
            help="Indexes, searched as one; then words, function names (`-`: from stdin).",
        ),
    ],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many commits.")] = 4,
    log: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Search for the fix of a crash log (`-`: stdin)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the commits that answer a question or fix a crash."""
    from kagent.commits import open_indexes

    directories, question = _told_apart(arguments, log)
    with open_indexes(directories) as index:
        if log is not None:
            hits = index.search_crash(_query_of_log(log), k)
        else:
            hits = index.search(_question(question or ""), k)
    if as_json:
        typer.echo(json.dumps([asdict(hit) for hit in hits], indent=2))
    else:
        _print_hits(hits, crash=log is not None)


@app.command(epilog="**Example**\n\n`kagent index export linux.index --markdown -o commits.md`")
def export(
    directory: IndexDirectory,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="One Markdown document a commit, `---` between them.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Instead of stdout.")
    ] = None,
) -> None:
    """Write the indexed commits as text."""
    from kagent.commits import CommitIndex

    if not markdown:
        raise InputError("say in which form", hint="add --markdown")
    with CommitIndex.open(directory) as index:
        if output is None:
            index.export_markdown(sys.stdout)
            return
        with open_output(output) as file:
            text = TextIOWrapper(file, encoding="utf-8", newline="\n", write_through=True)
            index.export_markdown(text)
            text.detach()


@app.command(epilog="**Example**\n\n`kagent index stats linux.index --json`")
def stats(
    directory: IndexDirectory,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what an index holds."""
    from kagent.commits import CommitIndex

    with CommitIndex.open(directory) as index:
        facts = index.stats()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in _flat(facts):
        typer.echo(f"{name:<24} {strip_control(str(value))}")


@app.command(epilog="**Example**\n\n`kagent index verify linux.index`")
def verify(directory: IndexDirectory) -> None:
    """Compare every file of an index with its checksum; fail when something is wrong."""
    from kagent.commits import CommitIndex

    with CommitIndex.open(directory) as index:
        problems = index.verify()
    for problem in problems:
        typer.echo(strip_control(problem))
    if problems:
        raise IndexCorruptError(
            f"the index {directory} is damaged", hint="rebuild it with `kagent index build`"
        )
    typer.echo("sound")


def _told_apart(arguments: Sequence[str], log: str | None) -> tuple[list[Path], str | None]:
    """The indexes, and the question unless a log stands for it."""
    asks = len(arguments) > 1 and not (log is not None and Path(arguments[-1]).exists())
    if asks == (log is not None):
        raise InputError(
            "give a question or --log FILE, one of them",
            hint='kagent index search DIR "null pointer dereference in foo_bar"',
        )
    directories = arguments[:-1] if asks else arguments
    return [Path(name) for name in directories], arguments[-1] if asks else None


def log_query(log: KernelLog, text: str) -> CrashQuery:
    """What of a parsed log a commit search can use.

    The text goes along: the search reads from it what the primary report leaves open, such as
    the release that another report of the same crash states. Not so for a module built elsewhere,
    whose history the kernel's release does not date.
    """
    from kagent.commits import CrashQuery
    from kagent.diagnosis.guilty import crash_query, in_tree

    if log.primary is None:
        return CrashQuery(text=text)
    report = log.reports[log.primary]
    return replace(crash_query(report), log=text if in_tree(report) else "")


def _query_of_log(source: str) -> CrashQuery:
    from kagent.klog import parse_log

    text = read_log(source)
    found = parse_log(text)
    if found.primary is None:
        name = "standard input" if source == "-" else source
        raise NoReportError(f"no kernel report in {name}", hint="give the lines of the crash")
    return log_query(found, text)


def _question(text: str) -> str:
    if text == "-":
        text = sys.stdin.buffer.read(_MAX_QUESTION).decode("utf-8", "replace")
    if not text.strip():
        raise InputError("the question is empty", hint="name the crash or its functions")
    return text


def _print_hits(hits: Sequence[Hit], *, crash: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    from kagent.commits.packing import short_hash

    console = Console(highlight=False, soft_wrap=True)
    if not hits:
        console.print("nothing found")
    elif crash and hits[0].verdict == "doubtful":
        console.print("No commit here looks like the fix. The nearest:")
    for number, hit in enumerate(hits, 1):
        line = Text(f"{number}. ")
        line.append(_safe(short_hash(hit.hash)), style="yellow")
        line.append(f"  {_safe(hit.subject)}", style="bold")
        console.print(line)
        sure = " (confident)" if hit.verdict == "confident" else ""
        facts = (
            f"   {_safe(hit.author)}, {_safe(hit.date[:10])}, confidence {hit.confidence:.2f}{sure}"
        )
        console.print(Text(facts, style="dim"))
        for reason in hit.why:
            console.print(Text(f"   - {_safe(reason)}"))


def _counted(facts: dict[str, Any]) -> str:
    return f"{_number(facts['commits'], 'commit')}, {_number(facts['vectors'], 'vector')}"


def _number(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _safe(text: str) -> str:
    return clip(strip_control(text).replace("\n", " "), 300)[0]


def _flat(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, one in enumerate(value, 1):
                yield from _flat(one, f"{prefix}{name}.{number}.")
        elif value not in (None, []):
            yield f"{prefix}{name}", value


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def _progress(target: Path) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr with rate and time left; nothing where stderr is no terminal.

    Ctrl-C is answered with how to go on.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.0f} commits/s" if task.speed else "")

    console = _stderr()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        stages = iter(("embedding",))
        task = bar.add_task("reading", total=None)
        last = 0

        def tell(done: int, total: int | None) -> None:
            nonlocal task, last
            if done < last:
                bar.update(task, total=total or last, completed=total or last)
                task = bar.add_task(next(stages, "working"), total=total)
            last = done
            bar.update(task, completed=done, total=total)

        try:
            yield tell
        except KeyboardInterrupt:
            say(f"interrupted; run the same command again to go on with {target}")
            raise
