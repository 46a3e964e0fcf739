"""Lines, inline chains, types and variables out of DWARF, by drgn.

drgn is driven offline here: a bare `Program` gets the file as an extra module (vmlinux) or a
relocatable one (``.ko``) at the addresses that `ElfImage` chose. One program per file keeps
equally named types of two modules apart.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kagent.errors import CorruptDataError
from kagent.symbols.model import UNNAMED, Location, Member, Variable
from kagent.symbols.paths import tidy_path

if TYPE_CHECKING:
    import drgn

    from kagent.symbols.elf import ElfImage
    from kagent.symbols.layout import TypeQuestion

__all__ = ["DrgnDwarf", "ElfShape", "drgn_available"]

_TYPE_NAME = re.compile(r"(?:(?:struct|union|enum) )?[A-Za-z_]\w{0,255}\Z", re.ASCII)
_MAX_VARIABLES = 256
_NOT_RELOCATED = "relocation support is not implemented"
"""What drgn says of a sound module whose machine it does not know."""
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
    """Whether drgn is installed; its wheels are x86-64 Linux only."""
    return importlib.util.find_spec("drgn") is not None


@dataclass(frozen=True, slots=True)
class ElfShape:
    """What drgn has to be told about a file: plain data, so that it can go to another process."""

    path: str
    name: str
    vmlinux: bool
    machine: str
    bits: int
    little_endian: bool
    low: int
    high: int
    sections: tuple[tuple[str, int], ...]
    """Name and address of those that are loaded; empty for vmlinux, which has its addresses."""

    @classmethod
    def of(cls, image: ElfImage) -> ElfShape:
        """The shape of an opened image."""
        vmlinux = image.kind == "vmlinux"
        loaded = [(s.name, s.address) for s in image.sections if s.allocated and not vmlinux]
        return cls(
            str(image.path),
            image.path.name,
            vmlinux,
            image.machine,
            image.bits,
            image.little_endian,
            *image.address_range,
            tuple(loaded),
        )


class DrgnDwarf:
    """The DWARF of one ELF image. Not safe for threads: the caller holds a lock.

    Raises `CorruptDataError` when drgn refuses the file.
    """

    def __init__(self, shape: ElfShape, descriptor: int) -> None:
        """`descriptor` is the opened file, which stays the caller's."""
        import drgn

        # drgn reports oddities of DWARF as log records; without a handler they hit stderr.
        logging.getLogger("drgn").addHandler(logging.NullHandler())
        self._drgn = drgn
        self._shape = shape
        self._descriptor = descriptor
        self.damage: str | None = None
        """What was found damaged while single addresses were looked up."""
        self._bias = 0
        self._program = self._load(drgn.Program(self._platform()))

    def _platform(self) -> drgn.Platform:
        drgn, shape = self._drgn, self._shape
        name = _ARCHITECTURES.get(shape.machine)
        if shape.machine == "EM_RISCV":
            name = f"RISCV{shape.bits}"
        flags = drgn.PlatformFlags(0)
        if shape.bits == 64:
            flags |= drgn.PlatformFlags.IS_64_BIT
        if shape.little_endian:
            flags |= drgn.PlatformFlags.IS_LITTLE_ENDIAN
        unknown = drgn.Architecture.UNKNOWN
        return drgn.Platform(getattr(drgn.Architecture, name or "UNKNOWN", unknown), flags)

    def _load(self, program: drgn.Program) -> drgn.Program:
        shape = self._shape
        module: drgn.Module
        if shape.vmlinux:
            module = program.extra_module(shape.name, create=True)
            module.address_range = (shape.low - self._bias, shape.high)
        else:
            relocatable = program.relocatable_module(shape.name, shape.low, create=True)
            for name, address in shape.sections:
                relocatable.section_addresses[name] = address
            module = relocatable
            module.address_range = (shape.low, shape.high)
        with self._damage_reported():
            module.try_file(shape.name, fd=os.dup(self._descriptor), force=True)
        # drgn takes the start of the range for that of the first segment. Where it is not, as
        # with headers in front of the code, it moves every address by the difference.
        if shape.vmlinux and (bias := module.debug_file_bias) and not self._bias:
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
            words = _first_line(error)
            if words.startswith(_NOT_RELOCATED):
                raise CorruptDataError(
                    f"the debug info of {self._shape.path} was not read: drgn relocates no "
                    f"modules of its machine ({self._shape.machine})"
                ) from error
            raise CorruptDataError(
                f"the debug info of {self._shape.path} is damaged ({words})",
                hint="copy or download it again",
            ) from error

    def chains(self, addresses: Sequence[int]) -> list[tuple[Location, ...]]:
        """The inline chain at each address, innermost first; empty where there is no line."""
        return [self._chain(address) for address in addresses]

    def _chain(self, address: int) -> tuple[Location, ...]:
        try:
            return self._lines_at(address)
        except CorruptDataError as error:  # others may lie in units that are sound
            self.damage = self.damage or str(error)
            return ()

    def _lines_at(self, address: int) -> tuple[Location, ...]:
        with self._damage_reported(), suppress(LookupError):
            return tuple(
                Location(at.name() or UNNAMED, tidy_path(at.filename), at.line, at.column)
                for at in self._program.source_location(address)
                if at.filename
            )
        return ()

    def symbols(self, names: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each name, address and size of every definition of that symbol."""
        with self._damage_reported():
            return [
                [(found.address, found.size) for found in self._program.symbols(name)]
                for name in names
            ]

    def ask_type(self, name: str, file: str | None, question: TypeQuestion) -> list[Member]:
        """Members of a complete type: ``struct foo``, ``foo_t``, or a bare tag.

        `file` prefers the definition of a source file where several types share the name.
        """
        if not _TYPE_NAME.match(name):
            return []
        spellings = [name] if " " in name else [f"struct {name}", f"union {name}", name]
        places = [file, None] if file else [None]
        for place, spelling in itertools.product(places, spellings):
            with self._damage_reported(), suppress(LookupError, SyntaxError):
                return question.answer(self._program.type(spelling, place))
        return []

    def variables(self, address: int, registers: Mapping[str, int]) -> list[Variable]:
        """Variables in scope at `address`, innermost function first.

        With `registers` (of that very instruction), values that DWARF places in registers or
        computes from them are evaluated.
        """
        from kagent.symbols.corefile import registers_as_core

        core = registers_as_core(self._shape.machine, address, registers)
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
        shape, value = self._shape, variable.value
        if value is None or not shape.low <= value < shape.high or value in registers.values():
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
