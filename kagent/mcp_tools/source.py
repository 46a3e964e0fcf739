"""The source tools as MCP tools: names, arguments and descriptions that a client is offered."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from kagent.errors import InputError
from kagent.mcp_tools.callstack import bounded
from kagent.mcp_tools.roots import Roots
from kagent.mcp_tools.running import run
from kagent.source.answers import (
    BlameAnswer,
    CallPathAnswer,
    CallSitesAnswer,
    FunctionsAnswer,
    LayoutAnswer,
    LinesAnswer,
    SourceText,
    SubsystemAnswer,
    TypesAnswer,
)
from kagent.source.paging import MAX_PAGE
from kagent.source.tools import MAX_TEXT

__all__ = ["MAX_LINES", "SourceFace", "SourceLookup", "find_source"]

MAX_LINES = 400
"""Of a file in one answer."""

Function = Annotated[
    str,
    Field(
        max_length=300,
        description="Function name, or a frame as the trace prints it: vfs_write+0x2a3/0x550.",
    ),
]
Type = Annotated[
    str, Field(max_length=300, description="struct file, union x, enum y, atomic_t, or a bare tag.")
]
File = Annotated[
    str,
    Field(max_length=1024, description="File, relative to the tree's root, such as mm/rmap.c."),
]
Place = Annotated[
    str | None, Field(max_length=1024, description="Only the definition in this file.")
]
Line = Annotated[int, Field(ge=1, description="Line number, counted from 1.")]
Offset = Annotated[
    int, Field(ge=0, description="Item to begin with: next_offset of the page before.")
]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="Items of this page.")]
Tree = Annotated[
    str | None, Field(description="Tree to read, PATH or PATH@REV; the server's first by default.")
]
Release = Annotated[
    str | None,
    Field(
        max_length=200,
        description="Kernel release of the crash (uname -r): a git repository is read at its tag.",
    ),
]


class SourceLookup(BaseModel):
    """What lookup_source returns."""

    results: list[SourceText]
    truncated: bool = False


class SourceFace:
    """One method a tool; the docstrings are what clients read."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    async def lookup_source(
        self,
        function: Annotated[str | None, Field(max_length=512)] = None,
        path: Annotated[
            str | None, Field(max_length=4096, description="Relative to the tree, as mm/rmap.c.")
        ] = None,
        start: Annotated[int, Field(ge=1)] = 1,
        end: Annotated[int, Field(ge=1)] = MAX_LINES,
        kernel_src: Tree = None,
    ) -> SourceLookup:
        """Return a function's definitions by its name, or lines of a file by its path.

        Both in one tool, with an empty list for what is not there; lookup_function and read_lines
        say more.
        """
        return await run(find_source, self._roots, function, path, (start, end), kernel_src)

    async def lookup_function(
        self,
        name: Function,
        file: Place = None,
        offset: Offset = 0,
        limit: Annotated[int, Field(ge=1, le=50)] = 5,
        kernel_src: Tree = None,
        release: Release = None,
    ) -> FunctionsAnswer:
        """Return the definition of a kernel function with its path and line numbers.

        Finds plain functions, SYSCALL_DEFINE and other macro-defined ones, static duplicates in
        several files, and assembly entry points; compiler suffixes such as .isra.0 are known.
        """
        return await run(
            lambda: self._roots.tools(kernel_src, release).lookup_function(
                name, file=file, offset=offset, limit=limit
            )
        )

    async def read_lines(
        self,
        path: File,
        start: Line,
        end: Line,
        kernel_src: Tree = None,
        release: Release = None,
    ) -> LinesAnswer:
        """Return lines start to end of a source file, at most 400; next_start says where to go on.

        Use it for the lines around a place that another tool named.
        """
        return await run(
            lambda: self._roots.tools(kernel_src, release).read_lines(path, start, end)
        )

    async def find_type(
        self,
        name: Type,
        offset: Offset = 0,
        limit: Annotated[int, Field(ge=1, le=50)] = 5,
        kernel_src: Tree = None,
        release: Release = None,
    ) -> TypesAnswer:
        """Return the definition of a struct, union, enum or typedef as the source spells it."""
        return await run(
            lambda: self._roots.tools(kernel_src, release).find_type(
                name, offset=offset, limit=limit
            )
        )

    async def struct_layout(
        self,
        name: Type,
        module: Annotated[
            str | None, Field(max_length=64, description="Prefer this module's definition.")
        ] = None,
        offset: Offset = 0,
        limit: Limit = 100,
        kernel_src: Tree = None,
        release: Release = None,
    ) -> LayoutAnswer:
        """Return the members of a type in memory order.

        With debug info of the kernel: byte offsets and sizes, to tell which member lies at the
        offset of a bad address. Without: order, lines and #ifdef conditions from the source; the
        answer's origin says which.
        """
        return await run(
            lambda: self._roots.tools(kernel_src, release).struct_layout(
                name, module=module, offset=offset, limit=limit
            )
        )

    async def find_callers(
        self,
        name: Function,
        under: Annotated[
            str | None, Field(max_length=1024, description="Only below this folder, as fs/ext4.")
        ] = None,
        offset: Offset = 0,
        limit: Limit = 50,
        kernel_src: Tree = None,
        release: Release = None,
    ) -> CallSitesAnswer:
        """Return the places that call a function, then those that take its address.

        The latter are operation tables, INIT_WORK, timers and other callbacks.
        """
        return await run(
            lambda: self._roots.tools(kernel_src, release).find_callers(
                name, under=under, offset=offset, limit=limit
            )
        )

    async def find_callees(
        self,
        name: Function,
        file: Place = None,
        offset: Offset = 0,
        limit: Limit = 100,
        kernel_src: Tree = None,
        release: Release = None,
    ) -> CallSitesAnswer:
        """Return the calls in the body of a function, in source order, macros included."""
        return await run(
            lambda: self._roots.tools(kernel_src, release).find_callees(
                name, file=file, offset=offset, limit=limit
            )
        )

    async def call_path(
        self,
        start: Annotated[
            str, Field(max_length=300, description="The caller's frame: lower in the trace.")
        ],
        end: Annotated[
            str, Field(max_length=300, description="The called frame: printed above it.")
        ],
        kernel_src: Tree = None,
        release: Release = None,
    ) -> CallPathAnswer:
        """Explain how one frame of a trace reaches the frame above it.

        Shows the call, or the way through inlined functions, macros, tail calls and function
        pointers (operation tables) that leave no frame; says so when none is visible.
        """
        return await run(lambda: self._roots.tools(kernel_src, release).call_path(start, end))

    async def blame(
        self, path: File, line: Line, kernel_src: Tree = None, release: Release = None
    ) -> BlameAnswer:
        """Return the commit that last changed a line: hash, author, date and subject."""
        return await run(lambda: self._roots.tools(kernel_src, release).blame(path, line))

    async def subsystem_of(
        self, path: File, kernel_src: Tree = None, release: Release = None
    ) -> SubsystemAnswer:
        """Return the subsystem, maintainers and mailing lists of a file, by MAINTAINERS."""
        return await run(lambda: self._roots.tools(kernel_src, release).subsystem_of(path))


def find_source(
    roots: Roots,
    function: str | None,
    path: str | None,
    lines: tuple[int, int] | None,
    kernel_src: str | None,
) -> SourceLookup:
    """Every definition of `function`, or lines of `path`.

    Raises:
        InputError: neither or both are asked for, or the path leaves the tree.
    """
    if (function is None) == (path is None):
        raise InputError("give either a function, or a path with start and end")
    tree = roots.source(kernel_src)
    if function is not None:
        excerpts = [*tree.lookup([function]).get(function, [])]
        found = [SourceText.of(item, function, max_text=MAX_TEXT) for item in excerpts]
    else:
        start, end = lines or (1, MAX_LINES)
        last = min(end, start + MAX_LINES - 1)
        excerpt = SourceText.of(tree.read_lines(str(path), start, last), max_text=MAX_TEXT)
        found = [excerpt.model_copy(update={"truncated": excerpt.truncated or last < end})]
    results, cut = bounded(found)
    return SourceLookup(results=results, truncated=cut)
