"""Lines, inline chains, types and variables out of DWARF, by drgn.

drgn is driven offline here: a bare `Program` gets the file as an extra module (vmlinux) or a
relocatable one (``.ko``) at the addresses that `ElfImage` chose. One program per file keeps
equally named types of two modules apart.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from kagent.errors import CorruptDataError
from kagent.symbols.corefile import registers_as_core
from kagent.symbols.elf import ElfImage
from kagent.symbols.model import UNNAMED, Location, Variable
from kagent.symbols.paths import tidy_path

if TYPE_CHECKING:
    import drgn

__all__ = ["DrgnDwarf", "drgn_available"]

_TYPE_NAME = re.compile(r"(?:(?:struct|union|enum) )?[A-Za-z_]\w{0,255}\Z", re.ASCII)
_MAX_VARIABLES = 256
_Answer = TypeVar("_Answer")
_ARCHITECTURES = {
    "EM_386": "I386",
    "EM_AARCH64": "AARCH64",
    "EM_ARM": "ARM",
    "EM_MIPS": "MIPS",
    "EM_PPC": "PPC",
    "EM_PPC64": "PPC64",
    "EM_S390": "S390X",
    "EM_X86_64": "X86_64",
}


def drgn_available() -> bool:
    """Whether drgn can be imported; its wheels are x86-64 Linux only."""
    try:
        import drgn  # noqa: F401
    except ImportError:
        return False
    return True


class DrgnDwarf:
    """The DWARF of one ELF image. Not safe for threads: the caller holds a lock.

    Raises `CorruptDataError` when drgn refuses the file.
    """

    def __init__(self, image: ElfImage, stream: BinaryIO) -> None:
        import drgn

        # drgn reports oddities of DWARF as log records; without a handler they hit stderr.
        logging.getLogger("drgn").addHandler(logging.NullHandler())
        self._drgn = drgn
        self._image = image
        self._stream = stream
        self._bias = 0
        self._program = self._load(drgn.Program(self._platform()))

    def _platform(self) -> drgn.Platform:
        drgn, image = self._drgn, self._image
        name = _ARCHITECTURES.get(image.machine)
        if image.machine == "EM_RISCV":
            name = f"RISCV{image.bits}"
        flags = drgn.PlatformFlags(0)
        if image.bits == 64:
            flags |= drgn.PlatformFlags.IS_64_BIT
        if image.little_endian:
            flags |= drgn.PlatformFlags.IS_LITTLE_ENDIAN
        return drgn.Platform(getattr(drgn.Architecture, name or "UNKNOWN"), flags)

    def _load(self, program: drgn.Program) -> drgn.Program:
        image = self._image
        low, high = image.address_range
        module: drgn.Module
        if image.kind == "vmlinux":
            module = program.extra_module(image.path.name, create=True)
            module.address_range = (low - self._bias, high)
        else:
            relocatable = program.relocatable_module(image.path.name, low, create=True)
            for section in image.sections:
                if section.allocated:
                    relocatable.section_addresses[section.name] = section.address
            module = relocatable
            module.address_range = image.address_range
        with self._damage_reported():
            descriptor = os.dup(self._stream.fileno())
            module.try_file(image.path.name, fd=descriptor, force=True)
        # drgn takes the start of the range for that of the first segment. Where it is not, as
        # with headers in front of the code, it moves every address by the difference.
        if image.kind == "vmlinux" and (bias := module.debug_file_bias) and not self._bias:
            self._bias = bias
            return self._load(self._drgn.Program(self._platform()))
        return program

    @contextmanager
    def _damage_reported(self) -> Iterator[None]:
        """Turn what drgn raises on damaged DWARF, often a bare `Exception`, into our error."""
        try:
            yield
        except (LookupError, AttributeError, NameError, TypeError):
            raise
        except Exception as error:
            raise CorruptDataError(
                f"the debug info of {self._image.path} is damaged ({_first_line(error)})",
                hint="copy or download it again",
            ) from error

    def chains(self, addresses: Sequence[int]) -> list[tuple[Location, ...]]:
        """The inline chain at each address, innermost first; empty where there is no line."""
        return [self._chain(address) for address in addresses]

    def _chain(self, address: int) -> tuple[Location, ...]:
        with self._damage_reported(), suppress(LookupError):
            return tuple(
                Location(at.name() or UNNAMED, tidy_path(at.filename), at.line, at.column)
                for at in self._program.source_location(address)
                if at.filename
            )
        return ()

    def symbols(self, name: str) -> list[tuple[int, int]]:
        """Address and size of every definition of a symbol."""
        with self._damage_reported():
            return [(found.address, found.size) for found in self._program.symbols(name)]

    def ask_type(
        self, name: str, file: str | None, ask: Callable[[drgn.Type], _Answer | None]
    ) -> _Answer | None:
        """What `ask` says of a complete type: ``struct foo``, ``foo_t``, or a bare tag.

        `file` prefers the definition of a source file where several types share the name.
        """
        if not _TYPE_NAME.match(name):
            return None
        spellings = [name] if " " in name else [f"struct {name}", f"union {name}", name]
        places = [file, None] if file else [None]
        for place, spelling in itertools.product(places, spellings):
            with self._damage_reported(), suppress(LookupError, SyntaxError):
                return ask(self._program.type(spelling, place))
        return None

    def variables(self, address: int, registers: Mapping[str, int]) -> list[Variable]:
        """Variables in scope at `address`, innermost function first.

        With `registers` (of that very instruction), values that DWARF places in registers or
        computes from them are evaluated.
        """
        core = registers_as_core(self._image.machine, address, registers)
        with self._damage_reported(), suppress(LookupError):
            if core is None:
                # drgn takes these for return addresses and looks at the byte before.
                return self._locals(self._program.stack_trace_from_pcs([address + 1]))
            with core:
                program = self._drgn.Program()
                program.set_core_dump(core.fileno())
            found = self._locals(next(self._load(program).threads()).stack_trace())
            return [self._without_link_address(v, registers) for v in found]
        return []

    def _without_link_address(self, variable: Variable, registers: Mapping[str, int]) -> Variable:
        """Drop values that DWARF states as addresses: the loader has moved the image since."""
        low, high = self._image.address_range
        value = variable.value
        if value is None or not low <= value < high or value in registers.values():
            return variable
        return replace(variable, value=None)

    def _locals(self, trace: drgn.StackTrace) -> list[Variable]:
        variables: list[Variable] = []
        for depth, frame in enumerate(trace):
            if depth and not trace[depth - 1].is_inline:
                break
            for name in frame.locals()[: _MAX_VARIABLES - len(variables)]:
                with suppress(self._drgn.FaultError):
                    variables.append(self._variable(frame, name, depth))
        return variables

    def _variable(self, frame: Any, name: str, depth: int) -> Variable:
        found = frame[name]
        value = place = None
        if not found.absent_:
            place = found.address_
            # A value in memory faults: a log has registers, not memory.
            with suppress(self._drgn.FaultError, ValueError, TypeError):
                value = _as_int(found.value_()) if place is None else None
        return Variable(name, found.type_.type_name(), frame.name or UNNAMED, depth, value, place)


def _as_int(value: object) -> int | None:
    return int(value) if isinstance(value, int) else None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]
