"""The experts of an analysis, each behind the boundary: the names are those of `kagent.diagnosis`.

What stands in for an expert that failed is what it answers when it has nothing to say, so that the
ones after it work with what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kagent import diagnosis, klog
from kagent.boundary import attempt, expert, nothing, record
from kagent.commits.model import CrashQuery
from kagent.diagnosis import Explanation
from kagent.diagnosis.reader import LineSource, TypeSource
from kagent.isolation import on_failure
from kagent.klog.frame_model import Frame
from kagent.klog.model import KernelLog, Report
from kagent.report import plain
from kagent.report.markdown import to_markdown as _to_markdown
from kagent.resolution import Actions, Missing
from kagent.source.model import Excerpt, FunctionSource
from kagent.symbols.model import Member, Variable

__all__ = [
    "BoundedSource",
    "BoundedTypes",
    "advise",
    "canonical",
    "crash_query",
    "decode_fault",
    "explain",
    "functions_to_read",
    "memory_facts",
    "missing_data",
    "subsystem",
    "to_markdown",
]

# Who asks a native library goes on without its answer; the run has to know that it lacks one.
on_failure(record)


def _title_alone(report: Report, *_args: Any) -> CrashQuery:
    return CrashQuery(title=report.title, release=report.context.kernel)


def _unexplained(log: KernelLog, primary: int, *_args: Any, **_facts: Any) -> Explanation:
    return Explanation(f"{log.reports[primary].title}.", "")


def _no_functions(*_args: Any, **_named: Any) -> list[str]:
    return []


def _no_data(*_args: Any, **_named: Any) -> list[Missing]:
    return []


def _no_actions(*_args: Any) -> Actions:
    return Actions()


canonical = expert("reformat", otherwise=lambda text: text)(klog.reformat)
subsystem = expert("subsystem", otherwise=nothing)(diagnosis.subsystem)
functions_to_read = expert("functions", otherwise=_no_functions)(diagnosis.functions_to_read)
decode_fault = expert("fault", otherwise=nothing)(diagnosis.decode_fault)
memory_facts = expert("memory", otherwise=nothing)(diagnosis.memory_facts)
crash_query = expert("query", otherwise=_title_alone)(diagnosis.crash_query)
explain = expert("explanation", otherwise=_unexplained)(diagnosis.explain)
advise = expert("advice", otherwise=_no_actions)(diagnosis.advise)
missing_data = expert("missing data", otherwise=_no_data)(diagnosis.missing_data)
to_markdown = expert("markdown view", otherwise=plain.to_markdown)(_to_markdown)


class BoundedTypes:
    """Debug info of which one type or frame that cannot be read costs only itself."""

    def __init__(self, types: TypeSource) -> None:
        self._types = types

    def member_at(self, type_name: str, offset: int, *, module: str | None = None) -> Member | None:
        """As `TypeSource.member_at`."""
        return attempt(
            "types", lambda: self._types.member_at(type_name, offset, module=module), nothing
        )

    def member_offset(
        self, type_name: str, path: str, *, module: str | None = None
    ) -> Member | None:
        """As `TypeSource.member_offset`."""
        return attempt(
            "types", lambda: self._types.member_offset(type_name, path, module=module), nothing
        )

    def variables(
        self, frame: Frame, registers: Mapping[str, int] | None = None
    ) -> Sequence[Variable]:
        """As `TypeSource.variables`."""
        return attempt("types", lambda: self._types.variables(frame, registers), lambda: ())

    def code_at(self, frame: Frame) -> tuple[bytes, int] | None:
        """As `TypeSource.code_at`."""
        return attempt("types", lambda: self._types.code_at(frame), nothing)


class BoundedSource:
    """Source text of which one file that cannot be read or parsed costs only itself."""

    def __init__(self, source: LineSource) -> None:
        self._source = source

    def resolve(self, path: str) -> str | None:
        """As `LineSource.resolve`."""
        return attempt("source", lambda: self._source.resolve(path), nothing)

    def read_lines(self, path: str, start: int, end: int) -> Excerpt:
        """As `LineSource.read_lines`; a file that is short or gone is for the caller to tell."""
        return self._source.read_lines(path, start, end)

    def enclosing_function(self, path: str, line: int) -> FunctionSource | None:
        """As `LineSource.enclosing_function`."""
        return attempt("source", lambda: self._source.enclosing_function(path, line), nothing)
