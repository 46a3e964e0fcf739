"""From a report's PC, code bytes and registers to the member and the owner of the bad pointer."""

from pathlib import Path

import pytest

from kagent.diagnosis import decode_fault, memory_facts
from kagent.klog.model import Access, Context, Frame, MemoryObject, Report, Trace
from kagent.source import SourceTree
from kagent.symbols.model import Location, Member, Symbolized, Variable

DATA = Path(__file__).parents[1] / "data" / "diagnosis"
TEXT = (DATA / "fan.c").read_text().splitlines()

LAYOUT = {
    ("struct fan", "label"): Member("fan", "label", 0x0, 8, "const char *"),
    ("struct fan", "node"): Member("fan", "node", 0x8, 16, "struct list_head"),
    ("struct fan", "curve"): Member("fan", "curve", 0x18, 8, "struct fan_curve *"),
    ("struct fan", "ops"): Member("fan", "ops", 0x20, 8, "const struct fan_ops *"),
    ("struct fan", "lock"): Member("fan", "lock", 0x28, 32, "struct mutex"),
    ("struct fan", "period"): Member("fan", "period", 0x48, 4, "u32"),
    ("struct fan", "steps"): Member("fan", "steps", 0x4C, 32, "struct fan_step [4]"),
    ("struct fan", "steps[0].duty"): Member("fan", "steps[0].duty", 0x50, 4, "u32"),
    ("struct fan", "steps[1].duty"): Member("fan", "steps[1].duty", 0x58, 4, "u32"),
    ("struct fan_curve", "hyst"): Member("fan_curve", "hyst", 0x18, 4, "u32"),
    ("struct fan_curve", "nr"): Member("fan_curve", "nr", 0x1C, 4, "u32"),
    ("struct fan_ops", "stop"): Member("fan_ops", "stop", 0x8, 8, "int (*)(struct fan *)"),
}


class Types:
    """Layouts of the structs in fan.c, as debug info would give them."""

    def __init__(self, **values: int) -> None:
        self.values = values

    def member_at(self, type_name, offset, *, module=None):
        return next(
            (
                m
                for (struct, _), m in LAYOUT.items()
                if struct == type_name and m.offset <= offset < m.offset + m.size
            ),
            None,
        )

    def member_offset(self, type_name, path, *, module=None):
        return LAYOUT.get((type_name, path))

    def variables(self, frame, registers=None):
        return [Variable(n, "struct fan *", "f", 0, v) for n, v in self.values.items()]


def line_of(text):
    return next(n for n, row in enumerate(TEXT, 1) if text in row)


def at(symbol, *chain, exact=False, module="fan", offset=0x10):
    """A frame and what debug info says of it; `chain` holds (function, text of its line)."""
    frame = Frame(symbol, offset, 0x40, module, exact=exact)
    places = tuple(Location(function, "drivers/fan.c", line_of(text)) for function, text in chain)
    return Symbolized(frame, places)


def report(pc, *callers, code=None, registers=None, kind="NULL-POINTER-DEREFERENCE", **more):
    call = Trace("call", tuple(item.frame for item in callers))
    more.setdefault("header", "BUG: kernel NULL pointer dereference, address: 000000000000001c")
    return Report(
        title="BUG",
        kind=kind,
        span=(0, 10),
        context=Context(arch="x86_64", task="fand", pid=7),
        pc=pc.frame if pc else None,
        traces=(call, *more.pop("traces", ())),
        code=code,
        registers=registers or {},
        **more,
    )


@pytest.fixture
def source(tmp_path):
    (tmp_path / "drivers").mkdir()
    (tmp_path / "drivers" / "fan.c").write_text((DATA / "fan.c").read_text())
    return SourceTree.open(tmp_path)


def decode(case, frames, source=None, types=None):
    result = decode_fault(case, frames, source=source, types=types)
    assert result is not None
    cited = {fact.id for fact in result.evidence}
    assert all(set(finding.evidence) <= cited for finding in result.findings)
    return result.fault


CURVE = "48 8b 45 18 <8b> 50 1c 85 d2"  # mov rax,[rbp+0x18]; mov edx,[rax+0x1c]
INLINED = (("curve_size", "return c->nr;"), ("fan_apply", "curve_size(f->curve)"))


def test_a_null_pointer_read_by_an_inlined_function(source):
    pc = at("fan_apply", *INLINED, exact=True)
    case = report(
        pc, code=CURVE, registers={"rax": 0, "rbp": 0xFFFF0000}, access=Access("read", None, 0x1C)
    )
    fault = decode(case, [pc], source, Types())
    assert (fault.function, fault.line) == ("curve_size", line_of("return c->nr;"))
    assert (fault.struct, fault.member, fault.offset) == ("fan_curve", "nr", 0x1C)
    assert fault.expression == "f->curve->nr"
    assert (fault.access, fault.address, fault.size) == ("read", 0x1C, 4)
    assert fault.pointer is not None
    assert (fault.pointer.register_, fault.pointer.meaning) == ("rax", "NULL")
    assert fault.confidence > 0.9
    assert fault.own_frame is None


def test_debug_info_of_another_build_halves_the_confidence(source):
    pc = at("fan_apply", *INLINED, exact=True)
    case = report(pc, code=CURVE, registers={"rax": 0, "rbp": 1})
    sure = decode(case, [pc], source, Types()).confidence
    loose = Symbolized(pc.frame, pc.chain, approximate=True)
    assert decode(case, [loose], source, Types()).confidence == pytest.approx(sure / 2, abs=0.01)


def test_a_variable_that_held_another_value_is_not_the_pointer(source):
    pc = at("fan_apply", ("curve_size", "return c->nr;"), exact=True)
    case = report(pc, code=CURVE, registers={"rax": 0, "rbp": 1}, access=Access("read", None, 0x1C))
    assert decode(case, [pc], source, Types(c=0)).member == "nr"
    assert decode(case, [pc], source, Types(c=0xFFFF1234)).member is None


def test_without_debug_info_only_the_machine_speaks():
    pc = at("fan_apply", exact=True)
    fault = decode(report(pc, code=CURVE, registers={"rax": 0, "rbp": 1}), [])
    assert fault.instruction == "mov edx, dword ptr [rax + 0x1c]"
    assert fault.address == 0x1C
    assert (fault.struct, fault.member, fault.file, fault.line) == (None, None, None, None)


def test_types_follow_the_pointer_where_there_is_no_source():
    pc = at("fan_apply", exact=True)
    registers = {"rax": 0, "rbp": 0xFFFF0000}
    fault = decode(report(pc, code=CURVE, registers=registers), [], None, Types(f=0xFFFF0000))
    assert (fault.struct, fault.member) == ("fan_curve", "nr")
    assert fault.expression == "f->curve->nr"
    other = decode(report(pc, code=CURVE, registers=registers), [], None, Types(f=0xFFFF4000))
    assert other.member is None


def test_a_bad_pointer_to_no_struct_is_the_member_that_held_it():
    pc = at("fan_initial", exact=True)
    code = "48 8b 45 00 <0f> b6 08"  # mov rax,[rbp+0]; movzx ecx, byte ptr [rax]
    case = report(pc, code=code, registers={"rax": 0, "rbp": 0xFFFF0000})
    fault = decode(case, [], None, Types(f=0xFFFF0000))
    assert (fault.struct, fault.member, fault.expression) == ("fan", "label", "f->label")


@pytest.mark.parametrize(("code", "duty"), [("8b 40 58", True), ("8b 40 54", False)])
def test_a_member_of_an_array_element(source, code, duty):
    """The compiler knew the index: only its displacement tells which element."""
    pc = at("fan_duty", ("fan_duty", "f->steps[i].duty"), exact=True)
    first, rest = code.split(" ", 1)
    case = report(pc, code=f"<{first}> {rest}", registers={"rax": 0})
    fault = decode(case, [pc], source, Types())
    assert (fault.member == "steps.duty") == duty


def test_the_only_pointer_that_a_line_dereferences(source):
    pc = at("fan_initial", ("fan_initial", "f->label[0]"), exact=True)
    case = report(pc, code="<0f> b6 07", registers={"rdi": 0})  # movzx eax, byte ptr [rdi]
    fault = decode(case, [pc], source, Types())
    assert (fault.struct, fault.member, fault.expression) == ("fan", "label", "f->label")


def test_an_argument_that_is_computed_from_a_member(source):
    pc = at("kfree", exact=True, module=None)
    owner = at("fan_forget", ("fan_forget", "kfree(f->label - 4)"))
    case = report(pc, owner, code="<48> 8b 07", registers={"rdi": 0x123})
    fault = decode(case, [owner], source, Types())
    assert (fault.struct, fault.member, fault.expression) == ("fan", "label", "f->label")


def test_a_double_add_is_the_entrys_fault_not_the_lists(source):
    pc = at("__list_add_valid", exact=True, module=None)
    owner = at("fan_enlist", ("fan_enlist", "list_add_tail(&f->node"))
    case = report(
        pc,
        owner,
        code="<0f> 0b",
        kind="MEMORY_SAFETY_BUG",
        header="kernel BUG at lib/list_debug.c:33!",
        message="list_add double add: new=ffff888012345678, prev=ffff888012345678, next=ffff8.",
    )
    fault = decode(case, [owner], source, Types())
    assert fault.expression == "f->node"


def test_a_load_that_the_compiler_moved_down(source):
    """Freed memory: the line is the printk, the member is named two lines above."""
    pc = at("fan_report", ("fan_report", 'pr_info("fan %u'), exact=True)
    poison = 0x6B6B6B6B6B6B6B6B
    case = report(
        pc,
        code=CURVE,
        registers={"rax": poison, "rbp": 1},
        kind="DoS",
        header="general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6b87",
        access=Access(None, None, poison + 0x1C),
    )
    fault = decode(case, [pc], source, Types())
    assert (fault.struct, fault.member) == ("fan_curve", "nr")
    assert fault.pointer is not None
    assert "already freed" in fault.pointer.meaning


def test_the_caller_owns_what_it_gave_to_strlen(source):
    pc = at("strlen", exact=True, module=None, offset=0)
    owner = at("fan_apply", ("fan_apply", "strlen(f->label)"))
    case = report(
        pc, owner, code="<80> 3f 00", registers={"rdi": 0}, access=Access("read", None, 0)
    )
    fault = decode(case, [owner], source, Types())
    assert fault.symbol == "strlen"
    assert fault.own_frame is not None
    assert (fault.own_frame.function, fault.own_frame.line) == (
        "fan_apply",
        line_of("strlen(f->label)"),
    )
    assert (fault.struct, fault.member, fault.expression) == ("fan", "label", "f->label")


@pytest.mark.parametrize(("address", "member"), [(0x28, "lock"), (0x30, "lock"), (0x100, None)])
def test_an_embedded_lock_behind_a_null_pointer(source, address, member):
    """mutex_lock(&f->lock) with f NULL faults inside the lock's own offset, or it is not that."""
    pc = at("mutex_lock", exact=True, module=None)
    owner = at("fan_lock", ("fan_lock", "mutex_lock(&f->lock)"))
    case = report(
        pc,
        owner,
        code="<f0> 48 0f b1 17",  # lock cmpxchg [rdi],rdx
        registers={"rdi": address, "rdx": 1},
        access=Access("write", None, address),
    )
    assert decode(case, [owner], source, Types()).member == member


def test_a_call_through_a_null_member(source):
    owner = at("fan_stop", ("fan_stop", "f->ops->stop(f)"))
    case = report(None, owner, registers={"rax": 0}, access=Access("exec", None, 0))
    fault = decode(case, [owner], source, Types())
    assert (fault.symbol, fault.access, fault.address) == ("fan_stop", "exec", 0)
    assert (fault.struct, fault.member, fault.offset) == ("fan_ops", "stop", 8)


def test_a_call_through_a_register_with_garbage(source):
    pc = at("fan_stop", ("fan_stop", "f->ops->stop(f)"), exact=True)
    case = report(
        pc,
        code="<ff> d0",
        registers={"rax": 0x6B6B6B6B6B6B6B6B, "rsp": 0xFFFFC90000001000},
        kind="DoS",
        header="general protection fault, probably for non-canonical address",
    )
    fault = decode(case, [pc], source, Types())
    assert (fault.access, fault.address) == ("exec", 0x6B6B6B6B6B6B6B6B)
    assert fault.member == "stop"


def test_division_by_a_zero_member(source):
    pc = at("fan_rate", ("fan_rate", "1000 / f->period"), exact=True)
    case = report(
        pc, code="<f7> 77 48", registers={"rdi": 1}, kind="DoS", header="divide error: 0000 [#1]"
    )
    fault = decode(case, [pc], source, Types())
    assert (fault.struct, fault.member, fault.offset) == ("fan", "period", 0x48)
    assert fault.address is None


def test_a_kasan_check_faults_on_the_shadow(source):
    pc = at("fan_apply", *INLINED, exact=True)
    code = "48 b8 00 00 00 00 00 fc ff df 48 8d 7b 1c 48 89 fa 48 c1 ea 03 <0f> b6 14 02 48 89 f8"
    registers = {"rax": 0xDFFFFC0000000000, "rbx": 0, "rdi": 0x1C, "rdx": 3}
    case = report(
        pc,
        code=code,
        registers=registers,
        kind="DoS",
        header="general protection fault, probably for non-canonical address 0xdffffc0000000003",
        access=Access(None, None, 0xDFFFFC0000000003),
    )
    fault = decode(case, [pc], source, Types())
    assert fault.address == 0x1C
    assert (fault.member, fault.access) == ("nr", "read")
    assert fault.pointer is not None
    assert fault.pointer.register_ == "rbx"


def test_a_failed_check_is_no_memory_access(source):
    pc = at("fan_drop", ("fan_drop", "BUG_ON(f->period != 0)"), exact=True)
    case = report(
        pc,
        code="<0f> 0b",
        kind="BUG",
        header="kernel BUG at drivers/fan.c:52!",
        registers={"rax": 1},
    )
    result = decode_fault(case, [pc], source=source, types=Types())
    assert result is not None
    assert (result.fault.access, result.fault.address, result.fault.pointer) == (None, None, None)
    assert "BUG_ON(f->period != 0)" in result.findings[0].claim
    assert ";`" not in result.findings[0].claim


def test_list_debugging_blames_who_owns_the_entry(source):
    pc = at("__list_del_entry_valid", exact=True, module=None)
    owner = at("fan_drop", ("fan_drop", "list_del(&f->node)"))
    case = report(
        pc,
        owner,
        code="<0f> 0b",
        kind="MEMORY_SAFETY_BUG",
        header="kernel BUG at lib/list_debug.c:49!",
        registers={"rax": 1},
    )
    fault = decode(case, [owner], source, Types())
    assert fault.own_frame is not None
    assert fault.own_frame.function == "fan_drop"
    assert (fault.struct, fault.member, fault.offset) == ("fan", "node", 8)


def test_a_retpoline_general_protection_fault_is_a_bad_call():
    pc = at("__x86_indirect_thunk_rax", exact=True, module=None)
    owner = at("fan_stop")
    case = report(
        pc,
        owner,
        code="<c3> 90",
        kind="DoS",
        header="general protection fault: 0000 [#1]",
        registers={"rax": 0xDEAD000000000100, "rsp": 0xFFFFC90000001000},
    )
    fault = decode(case, [])
    assert (fault.access, fault.address) == ("exec", 0xDEAD000000000100)


def test_user_faults_and_lock_reports_have_no_fault():
    pc = at("fan_apply", exact=True)
    assert decode_fault(report(pc, kernel_bug=False)) is None
    assert decode_fault(report(None, pc, kind="LOCKDEP")) is None


def sanitizer_report():
    stack = [
        at("kasan_report", module=None),
        at("fan_apply", ("fan_apply", "u32 n = curve_size(f->curve)")),
    ]
    freed = [at("kfree", module=None), at("fan_drop", ("fan_drop", "list_del(&f->node)"))]
    made = [at("__kmalloc", module=None), at("fan_stop", ("fan_stop", "f->ops->stop(f)"))]
    case = report(
        None,
        *stack,
        kind="KASAN-USE-AFTER-FREE-READ",
        header="BUG: KASAN: slab-use-after-free in fan_apply",
        access=Access("read", 8, 0xFFFF000000001018, "fand", 7),
        memory=MemoryObject(0xFFFF000000001000, "kmalloc-96", 96, 0x18, "24 bytes inside of it"),
        traces=(
            Trace("alloc", tuple(i.frame for i in made), task="init", pid=1),
            Trace("free", tuple(i.frame for i in freed), task="drop", pid=9),
        ),
    )
    return case, [*stack, *freed, *made]


def test_a_sanitizer_knows_the_objects_history():
    case, frames = sanitizer_report()
    result = memory_facts(case, frames)
    assert result is not None
    memory = result.memory
    assert (memory.cache, memory.size, memory.offset) == ("kmalloc-96", 96, 0x18)
    assert memory.access is not None
    assert memory.alloc is not None
    assert memory.free is not None
    assert (memory.access.function, memory.access.pid) == ("fan_apply", 7)
    assert (memory.alloc.function, memory.alloc.task) == ("fan_stop", "init")
    assert (memory.free.function, memory.free.line) == ("fan_drop", line_of("list_del(&f->node)"))
    assert "freed in fan_drop()" in result.findings[0].claim


def test_a_sanitizers_offset_names_the_member(source):
    case, frames = sanitizer_report()
    fault = decode(case, frames, source, Types())
    assert (fault.struct, fault.member) == ("fan", "curve")


def test_reports_without_an_object_have_no_history():
    assert memory_facts(report(at("fan_apply", exact=True))) is None
