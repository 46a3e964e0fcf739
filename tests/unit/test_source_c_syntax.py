"""What stands on a line of kernel C."""

from __future__ import annotations

import time

import pytest

from kagent.source.annotations import strip_suffixes
from kagent.source.c_syntax import CSyntax as CSource

TEXT = """\
static __always_inline int first(const struct fan_curve *c, u8 __user *p, int n)
{
	struct a *b = c->next, **d, e[4];
	for (unsigned int i = 0; i < c->nr; i++)
		b->x.y[3]->z = READ_ONCE(c->q);
	list_for_each_entry(b, &c->head, node) {
		mutex_lock(&v->data_lock); spin_lock_irqsave(&c->lock, flags);
	}
	d->ops->sync(d,
		container_of(p, struct foo, bar), "a,b", f(1, 2));
	{
		long b = 1;
	}
	return rc(n ? "," : ')');
}

SYSCALL_DEFINE2(frob, unsigned int, fd, const struct stat __user *, st)
{
	int rc;
}

asmlinkage __visible void __init __no_sanitize_address start_kernel(void)
{
}

struct foo *pointer_result(void (*callback)(int inner), struct list_head list[])
	__acquires(&x->lock) __must_hold(y)
{
	return NULL;
}

int prototype(int a);
#define macro(x) do { (x)->y = 1; } while (0)
"""


@pytest.fixture(scope="module")
def source() -> CSource:
    return CSource(TEXT)


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(TEXT.splitlines(), 1) if text in line)


def test_function_extents(source: CSource) -> None:
    assert [(f.name, f.start, f.end, f.macro) for f in source.functions] == [
        ("first", 1, 15, None),
        ("frob", 17, 20, "SYSCALL_DEFINE2"),
        ("start_kernel", 22, 24, None),
        ("pointer_result", 26, 30, None),
    ]
    assert source.function_at(16) is None


def test_member_accesses_in_source_order(source: CSource) -> None:
    found = source.field_accesses(line_of("READ_ONCE"))
    assert [(a.base, a.member, a.arrow) for a in found] == [
        ("b", "x", True),
        ("b->x", "y", False),
        ("b->x.y[3]", "z", True),
        ("c", "q", True),
    ]
    assert found[2].expression == "b->x.y[3]->z"
    (bound,) = source.field_accesses(line_of("i < c->nr"))
    assert bound.expression == "c->nr"


def test_calls_on_a_line_with_their_arguments(source: CSource) -> None:
    found = source.calls(line_of("mutex_lock"))
    assert [(c.function, c.arguments) for c in found] == [
        ("mutex_lock", ("&v->data_lock",)),
        ("spin_lock_irqsave", ("&c->lock", "flags")),
    ]


def test_a_call_over_two_lines_is_found_on_both(source: CSource) -> None:
    line = line_of("d->ops->sync")
    (call,) = source.calls(line)
    assert call.function == "d->ops->sync"
    assert call.arguments == ("d", "container_of(p, struct foo, bar)", '"a,b"', "f(1, 2)")
    assert (call.line, call.end) == (line, line + 1)
    assert [c.function for c in source.calls(line + 1)] == ["container_of", "f"]


def test_quotes_hide_commas(source: CSource) -> None:
    (call,) = source.calls(line_of("return rc"))
    assert call.arguments == ("n ? \",\" : ')'",)


def test_declared_types(source: CSource) -> None:
    found = [(d.name, d.type, d.pointers, d.parameter) for d in source.declarations(4)]
    assert found == [
        ("c", "struct fan_curve", 1, True),
        ("p", "u8", 1, True),
        ("n", "int", 0, True),
        ("b", "struct a", 1, False),
        ("d", "struct a", 2, False),
        ("e", "struct a", 0, False),
        ("i", "unsigned int", 0, False),
        ("b", "long", 0, False),
    ]
    assert source.declarations(16) == []


def test_syscall_parameters(source: CSource) -> None:
    found = [(d.name, d.type, d.pointers, d.parameter) for d in source.declarations(19)]
    assert found == [
        ("fd", "unsigned int", 0, True),
        ("st", "struct stat", 1, True),
        ("rc", "int", 0, False),
    ]


def test_parameters_of_a_callback_are_not_the_functions(source: CSource) -> None:
    names = [d.name for d in source.declarations(line_of("return NULL"))]
    assert names == ["callback", "list"]


def test_braces_that_balance_on_one_branch_only() -> None:
    source = CSource(
        """\
static int before(int a)
{
	return a;
}

static noinline int
split(struct file *file,
      int (*callback)(int))
	__releases(&file->f_lock)
{
	struct inode *inode;
#ifdef CONFIG_X
	if (file) {
#else
	if (!file) {
#endif
		return 1;
	}
	return file->f_mode;
}

/* A comment. */
int after(void)
{
	return 0;
}
"""
    )
    assert [(f.name, f.start, f.end) for f in source.functions] == [
        ("before", 1, 4),
        ("split", 6, 20),
        ("after", 23, 26),
    ]
    assert [(d.name, d.parameter) for d in source.declarations(19)] == [
        ("file", True),
        ("callback", True),
        ("inode", False),
    ]
    assert [a.expression for a in source.field_accesses(19)] == ["file->f_mode"]


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("foo", "foo"),
        ("foo.isra.0", "foo"),
        ("foo.constprop.0.isra.0.cold", "foo"),
        ("foo.part.3", "foo"),
        ("foo.llvm.1234567890", "foo"),
        ("__pfx_foo", "foo"),
        ("__UNIQUE_ID.5", "__UNIQUE_ID"),
        ("foo.bar", "foo.bar"),
    ],
)
def test_suffixes(symbol: str, name: str) -> None:
    assert strip_suffixes(symbol) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{" * 20_000,
        "(" * 20_000 + ")" * 20_000,
        "int f(" + "int a," * 20_000 + "int z)\n{\n}\n",
        "a->" * 20_000 + "b;",
        "__attribute__((" * 5_000,
        "__aligned(" + "(a)" * 5_000,
        "\udcff\0\x01 int f(void)\n{\n}\n",
    ],
)
def test_odd_text_is_answered_in_time(text: str) -> None:
    begin = time.perf_counter()
    source = CSource(text)
    assert len(source.functions) <= 1
    source.calls(1)
    source.field_accesses(1)
    source.declarations(1)
    assert time.perf_counter() - begin < 3
