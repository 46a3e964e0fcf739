"""Frames of a trace to source lines, and questions about types, honest about the build."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from kagent.errors import InputError, KagentError, MismatchError, MissingDataError
from kagent.klog.frame_model import Frame
from kagent.symbols.build import BuildCheck
from kagent.symbols.files import ModuleDirectory, fold_module_name
from kagent.symbols.layout import TypeQuestion
from kagent.symbols.locate import DebugFiles
from kagent.symbols.model import UNNAMED, Location, Member, Symbolized, Variable
from kagent.symbols.objects import DebugObject, open_object

if TYPE_CHECKING:
    from kagent.symbols.symtab import ElfSymbol

__all__ = ["MAX_FRAMES", "NO_VMLINUX", "Symbolizer"]

NO_VMLINUX = "no vmlinux given"
MAX_FRAMES = 50_000
"""Different ones that are looked up; a log of 100 MB seldom has 10,000."""
_MAX_CANDIDATE_FILES = 8
_MAX_NAMESAKES = 64
_FEW_MODULES = 32
"""As many may be opened to look for a type."""
_CODE_BEFORE, _CODE_AFTER = 64, 32
"""Bytes of code around an instruction, about what the kernel prints."""
# Code that is generated at run time: no file has it, so its absence says nothing about the build.
_GENERATED = re.compile(
    r"0x|bpf_prog_|bpf_trampoline_|bpf_dispatcher_|bpf_struct_ops_|ftrace_trampoline|kprobe_|t\.\d"
)


@dataclass(slots=True)
class _Lookup:
    """What became of one frame on its way to an address."""

    frame: Frame
    object: DebugObject | None = None
    symbols: tuple[ElfSymbol, ...] = ()
    """Definitions that the printed size allows."""
    note: str | None = None
    differs: bool = False
    """The printed size is not that of any definition, or there is none."""


class Symbolizer:
    """Debug info of one crashed kernel: its vmlinux and its modules.

    Use it as a context manager, or call `close`. Opened files stay in a process-wide cache, so
    that the next trace of the same build is fast.
    """

    def __init__(
        self,
        vmlinux: DebugObject | None,
        modules: Sequence[ModuleDirectory] = (),
        *,
        release: str | None = None,
        build_id: str | None = None,
        allow_mismatch: bool = False,
        files: DebugFiles | None = None,
    ) -> None:
        self._vmlinux = vmlinux
        self._directories = tuple(modules)
        self._files = files
        self._trusts = (files or DebugFiles()).trusts
        self.notes: tuple[str, ...] = ()
        """Where debug info was found or missed without being told, in words."""
        self._release = release or (vmlinux.image.release if vmlinux else None)
        self._build_id = build_id
        self._allow_mismatch = allow_mismatch
        self.left_out = 0
        """Different frames that the last call of `symbolize` did not look up: too many."""
        self._modules: dict[str, DebugObject | str] = {}
        self._checks: dict[str, BuildCheck] = {}

    @classmethod
    def open(
        cls,
        vmlinux: Path | None = None,
        modules: Path | None = None,
        *,
        release: str | None = None,
        build_id: str | None = None,
        allow_mismatch: bool = False,
        files: DebugFiles | None = None,
    ) -> Symbolizer:
        """Open debug info; `release` is the crashed kernel's, as ``uname -r`` prints it, and
        `build_id` that of its vmlinux, where the log has it.

        What is not given is sought among `files`: vmlinux, and modules that are not in `modules`.

        Raises `InputError` for paths that are not what they should be, `CorruptDataError` for
        damaged files, `MissingDataError` for a vmlinux without debug info, and `MismatchError`
        when vmlinux is of another release or build (unless `allow_mismatch`).
        """
        notes: list[str] = []
        places = [Path(modules)] if modules is not None else []
        if files is not None:
            places += files.module_directories(release)
        found = vmlinux
        if found is None and files is not None:
            found = files.vmlinux(release, build_id)
            if found or files.problem:
                notes.append(f"debug info: {found or files.problem}")
        opened = None
        if found is not None:
            opened = open_object(Path(found), (files or DebugFiles()).trusts(Path(found)))
            _require_kernel(opened)
        self = cls(
            opened,
            [ModuleDirectory(place) for place in places],
            release=release,
            build_id=build_id,
            allow_mismatch=allow_mismatch,
            files=files,
        )
        self.notes = tuple(notes)
        if opened is not None and (reason := self._check(opened).reason) and not allow_mismatch:
            raise _refusal(reason)
        return self

    def close(self) -> None:
        """Let go of the files."""
        self._vmlinux = None
        self._modules.clear()
        self._checks.clear()

    def __enter__(self) -> Symbolizer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def mismatches(self) -> tuple[str, ...]:
        """What is not of the crashed build, in words; grows as frames are looked up."""
        return tuple(check.reason for check in self._checks.values() if check.reason)

    @property
    def has_files(self) -> bool:
        """Whether there is any debug info to look things up in."""
        return self._vmlinux is not None or bool(self._directories)

    @property
    def vmlinux_release(self) -> str | None:
        """The release that vmlinux says it is."""
        return self._vmlinux.image.release if self._vmlinux else None

    def foreign(self, release: str | None, build_id: str | None = None) -> str | None:
        """Why frames of a kernel that says so of itself cannot be looked up here, in words.

        For logs of several kernels. None for the kernel this was opened for, and where
        mismatches are allowed.
        """
        if self._allow_mismatch or release is None:
            return None
        if self._release is not None and release != self._release:
            return f"it is of kernel {release}, not of {self._release}"
        if build_id and self._build_id and build_id != self._build_id:
            return f"it is of build {build_id[:12]}, not of {self._build_id[:12]}"
        return None

    # Frames -----------------------------------------------------------------------------------

    def symbolize(self, frames: Sequence[Frame]) -> list[Symbolized]:
        """Source lines for each frame, in order; frames that cannot be resolved carry a note.

        Of more than 50,000 different frames the trapping instructions are looked up first, then
        what the unwinder vouches for, each in the order given; `left_out` counts the rest.

        Raises `MismatchError` when vmlinux is not of the crashed build, or when none of the
        files that were consulted is (unless mismatches are allowed, which marks the results
        approximate). A single module of another build only costs its own frames their lines.
        """
        bare = [replace(frame, span=(0, 0), address=None, reliable=True) for frame in frames]
        wanted = list(dict.fromkeys(bare))
        self.left_out = max(0, len(wanted) - MAX_FRAMES)
        if self.left_out:
            ranked = sorted(zip(frames, bare, strict=True), key=lambda pair: _rank(pair[0]))
            wanted = list(dict.fromkeys(frame for _, frame in ranked))[:MAX_FRAMES]
        known = dict(zip(wanted, self._symbolize(wanted), strict=True))
        return [
            replace(found, frame=frame)
            if (found := known.get(key))
            else Symbolized(frame, note="left out: the log has too many different frames")
            for frame, key in zip(frames, bare, strict=True)
        ]

    def _symbolize(self, frames: Sequence[Frame]) -> list[Symbolized]:
        self._prepare(frames)
        lookups = [self._look_up(frame) for frame in frames]
        for looked in lookups:
            if looked.object is not None:
                self._check(looked.object).count(looked.frame, not looked.differs)
        self._refuse({id(x.object): x.object for x in lookups if x.object}.values())
        places = [self._addresses(looked) for looked in lookups]
        self._warm(lookups, places)
        return [self._finish(*pair) for pair in zip(lookups, places, strict=True)]

    def _prepare(self, frames: Sequence[Frame]) -> None:
        """Let each file look all its symbols up at once."""
        wanted: dict[int, tuple[DebugObject, list[str]]] = {}
        for frame in frames:
            used = self._object_of(frame) if frame.offset is not None else NO_VMLINUX
            if isinstance(used, DebugObject):
                wanted.setdefault(id(used), (used, []))[1].append(frame.symbol)
        for used, symbols in wanted.values():
            used.prepare(symbols)

    def _refuse(self, consulted: Iterable[DebugObject]) -> None:
        if self._allow_mismatch:
            return
        reasons = {used: self._check(used).reason for used in consulted}
        if self._vmlinux is not None and (reason := reasons.get(self._vmlinux)):
            raise _refusal(reason)
        if reasons and all(reasons.values()):
            raise _refusal(next(r for r in reasons.values() if r))

    def _look_up(self, frame: Frame) -> _Lookup:
        looked = _Lookup(frame)
        if frame.offset is None:
            looked.note = None if frame.inline else "no offset in the log"
            return looked
        found = self._object_of(frame)
        if isinstance(found, str):
            looked.note = found
            return looked
        if _GENERATED.match(frame.symbol):
            looked.note = "code generated at run time"
            return looked
        looked.object = found
        symbols = found.find(frame.symbol)
        if not symbols:
            looked.note = f"{frame.symbol} is not in {found.name}"
            looked.differs = True
            return looked
        size = frame.size
        looked.symbols = tuple(s for s in symbols if size is None or s.has_size(size))
        if not looked.symbols and size is not None:
            looked.differs = True
            sizes = sorted({s.extent or s.size for s in symbols})
            looked.note = (
                f"its size is {size:#x} in the log, {_list_sizes(sizes)} in {found.name}: "
                "not the same code"
            )
            if self._allow_mismatch:
                looked.symbols = symbols[:1]
        return looked

    def _addresses(self, looked: _Lookup) -> list[int]:
        """Where to look the frame up: before a return address, at a trapping instruction."""
        frame, used = looked.frame, looked.object
        if frame.offset is None or used is None:
            return []
        check = self._check(used)
        if check.reason and not self._allow_mismatch:
            looked.note = check.reason
            return []
        step = 0 if frame.exact or not frame.offset else 1
        inside = [s for s in looked.symbols if frame.offset - step < max(s.extent or 0, s.size, 1)]
        if looked.symbols and not inside:
            looked.note = f"offset {frame.offset:#x} lies beyond the function"
        return [s.address + frame.offset - step for s in inside[:_MAX_NAMESAKES]]

    def _warm(self, lookups: Sequence[_Lookup], places: Sequence[list[int]]) -> None:
        """Ask each file once for all its addresses."""
        wanted: dict[int, list[int]] = {}
        for looked, addresses in zip(lookups, places, strict=True):
            if looked.object is not None:
                wanted.setdefault(id(looked.object), []).extend(addresses)
        for used in {id(x.object): x.object for x in lookups if x.object}.values():
            used.chains(wanted[id(used)])

    def _finish(self, looked: _Lookup, addresses: list[int]) -> Symbolized:
        frame, used, note = looked.frame, looked.object, looked.note
        chain: tuple[Location, ...] = ()
        approximate = False
        if used is not None and addresses:
            reason = self._check(used).reason
            approximate = reason is not None or looked.differs
            note = reason or note
            chains = list(dict.fromkeys(used.chains(addresses)))
            if len(chains) > 1:
                note = f"{len(chains)} functions of this name have this size"
            elif chains[0]:
                chain = _named(chains[0], frame)
            else:
                note = note or used.note or "no line in the debug info"
        if not chain and frame.file and frame.line:
            printed = Location(frame.symbol, frame.file, frame.line)
            return Symbolized(frame, (printed,), "line as printed in the log")
        return Symbolized(frame, chain, note, approximate and bool(chain))

    # Files ------------------------------------------------------------------------------------

    def _check(self, used: DebugObject) -> BuildCheck:
        key = str(used.path)
        if key not in self._checks:
            build_id = self._build_id if used is self._vmlinux else None
            self._checks[key] = BuildCheck(used, self._release, build_id)
        return self._checks[key]

    def _object_of(self, frame: Frame) -> DebugObject | str:
        if frame.module is None:
            return self._vmlinux if self._vmlinux is not None else NO_VMLINUX
        name = fold_module_name(frame.module)
        if name not in self._modules:
            self._modules[name] = self._find_module(frame.module, frame.build_id)
        return self._modules[name]

    def _find_module(self, module: str, build_id: str | None) -> DebugObject | str:
        """The fittest file: of those given, of those installed, of a server; or why there is none.

        A later place is looked at only while the earlier ones have nothing that fits.
        """
        best: DebugObject | None = None
        problems: list[str] = []
        for directory in self._directories:
            best = self._fittest(best, directory.candidates(module), build_id, problems)
            if best is not None and not any(self._unfitness(best, build_id)):
                return best
        try:
            named = self._by_build_id(module, build_id, best)
            best = self._fittest(best, named, build_id, problems)
        except MissingDataError as error:
            problems.append(str(error))
        if best is not None:
            return best
        if problems:
            return problems[0]
        roots = " or ".join(str(directory.root) for directory in self._directories)
        return f"{module}.ko not found in {roots}" if roots else f"no {module}.ko given"

    def _fittest(
        self,
        best: DebugObject | None,
        paths: Sequence[Path],
        build_id: str | None,
        problems: list[str],
    ) -> DebugObject | None:
        found = [best] if best is not None else []
        for path in paths[:_MAX_CANDIDATE_FILES]:
            try:
                found.append(open_object(path, self._trusts(path)))
            except KagentError as error:
                problems.append(str(error))
        return min(found, key=lambda used: self._unfitness(used, build_id), default=None)

    def _by_build_id(
        self, module: str, build_id: str | None, best: DebugObject | None
    ) -> list[Path]:
        """The debug file of a module whose build is printed, or known from a stripped file."""
        if self._files is None:
            return []
        if build_id is None and best is not None and not any(self._unfitness(best, None)[:2]):
            build_id = best.image.build_id
        wanted = build_id or self._files.module_build_id(module, self._release)
        return [self._files.by_build_id(wanted)] if wanted else []

    def _unfitness(self, used: DebugObject, build_id: str | None) -> tuple[bool, bool, bool]:
        image = used.image
        other_id = bool(build_id and image.build_id and not image.build_id.startswith(build_id))
        other_release = bool(self._release and image.release and image.release != self._release)
        return other_id, other_release, not image.has_dwarf

    # Types ------------------------------------------------------------------------------------

    def member_at(
        self, type_name: str, offset: int, *, module: str | None = None, file: str | None = None
    ) -> Member | None:
        """The innermost member at byte `offset` of a struct, union or typedef.

        `module` says whose definition to prefer, `file` which source file's. None when there is
        no such type, no debug info, or only padding there.
        """
        found = self._on_type(type_name, module, file, TypeQuestion(offset=offset))
        return found[0] if found else None

    def member_offset(
        self, type_name: str, path: str, *, module: str | None = None, file: str | None = None
    ) -> Member | None:
        """The member that a path such as ``hdr.slots[3].len`` names."""
        found = self._on_type(type_name, module, file, TypeQuestion(path=path))
        return found[0] if found else None

    def struct_layout(
        self, type_name: str, *, module: str | None = None, file: str | None = None
    ) -> list[Member]:
        """Members in memory order, those of anonymous members included; empty if unknown."""
        return self._on_type(type_name, module, file, TypeQuestion())

    def _on_type(
        self, name: str, module: str | None, file: str | None, question: TypeQuestion
    ) -> list[Member]:
        """The first answer of the files that know the type: the module, those seen, vmlinux.

        Where nobody says which module and the given ones are few, they are all asked.
        """
        places = [self._object_of(Frame("", module=module))] if module else []
        places += [m for m in self._modules.values() if m not in places]
        if self._vmlinux is not None:
            places.append(self._vmlinux)
        unseen = self._unseen_modules() if module is None else ()
        for used in itertools.chain(places, unseen):
            if isinstance(used, str) or (self._check(used).reason and not self._allow_mismatch):
                continue
            if answer := used.ask_type(name, file, question):
                return answer
        return []

    def _unseen_modules(self) -> Iterator[DebugObject | str]:
        names = [name for directory in self._directories[:1] for name in directory.names()]
        if len(names) <= _FEW_MODULES:
            for name in names:
                if name not in self._modules:
                    yield self._object_of(Frame("", module=name))

    def code_at(self, frame: Frame) -> tuple[bytes, int] | None:
        """Code of the function around a frame, and the frame's offset in it.

        As the file has it: the kernel patches some of it at run time. None where the frame cannot
        be resolved, to one place, in a file that holds code.
        """
        looked = self._look_up(frame)
        places = self._addresses(looked)
        if looked.object is None or len(places) != 1 or frame.offset is None:
            return None
        before = min(frame.offset, _CODE_BEFORE)
        code = looked.object.image.read(places[0] - before, before + _CODE_AFTER)
        return (code, before) if len(code) > before else None

    def variables(self, frame: Frame, registers: Mapping[str, int] | None = None) -> list[Variable]:
        """Parameters and locals in scope at a frame, of inlined functions first.

        `registers`, by the kernel's lower-case names, belong to the trapping instruction: they
        are used for ``exact`` frames only, to compute what variables held.
        """
        looked = self._look_up(frame)
        places = self._addresses(looked)
        if looked.object is None or len(places) != 1:
            return []
        known = dict(registers) if registers and frame.exact else {}
        return looked.object.variables(places[0], known)


def _rank(frame: Frame) -> int:
    return 0 if frame.exact else 1 if frame.reliable else 2


def _require_kernel(opened: DebugObject) -> None:
    image, path = opened.image, opened.path
    if image.kind == "module":
        raise InputError(
            f"{path} is a kernel module or object file, not vmlinux",
            hint="modules belong in a directory given with --modules",
        )
    if image.release is None and not image.find("_stext") and not image.find("start_kernel"):
        raise InputError(
            f"{path} is an ELF file, but not a Linux kernel",
            hint="give the vmlinux of the crashed kernel",
        )
    if not image.has_dwarf:
        raise MissingDataError(
            f"{path} has no debug info",
            hint="install the distribution's kernel debug package, or build with "
            "CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y",
        )


def _named(chain: tuple[Location, ...], frame: Frame) -> tuple[Location, ...]:
    """The chain with its owner named by the trace where debug info has lines but no name."""
    *inner, owner = chain
    if owner.function != UNNAMED:
        return chain
    return (*inner, replace(owner, function=frame.symbol.partition(".")[0] or frame.symbol))


def _refusal(reason: str) -> MismatchError:
    return MismatchError(
        reason,
        hint="give the files of the crashed build, or use --allow-mismatch to get lines that "
        "are labelled approximate",
    )


def _list_sizes(sizes: Sequence[int]) -> str:
    text = ", ".join(f"{size:#x}" for size in sizes[:3])
    return text if len(sizes) <= 3 else f"{text} ..."
