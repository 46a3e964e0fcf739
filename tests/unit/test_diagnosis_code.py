"""Reading kernel C: member accesses, calls, and what is held at a line."""

from kagent.diagnosis.code import parse_function, strip_parens, variable_type
from kagent.diagnosis.locks.held import dropped_at, held_at, signals_after
from kagent.diagnosis.reader import Reader
from kagent.source import SourceTree

SOURCE = """static noinline int f(struct a *x, struct b __user *y)
{
	struct c local, *p = g(1);

	x->hdr.len = p->table[2]->size;
	*x->out = 3;
	return x->ops->run(p, &local.lock) / x->div;
}
"""

LOCKS = """static int f(struct a *x)
{
	mutex_lock(&x->m);
	if (bad) {
		mutex_unlock(&x->m);
		return -1;
	}
	spin_lock(&x->s);
	if (!mutex_trylock(&x->t))
		goto out;
	if (y)
		spin_unlock(&x->s);
	guard(rwsem_read)(&x->r);
	scoped_guard(mutex, &x->g) { foo(); }
	while (k) {
		down(&x->sem);
		bar(x);
		up(&x->sem);
	}
	scoped_guard(mutex, &x->h) {
		baz(x);
		complete(&x->done);
	}
	return 0;
}
"""


def held(line, source=LOCKS):
    function = parse_function(source, name="f")
    return [taken.argument for taken in held_at(Reader(), function, line)]


def test_types_of_parameters_and_locals():
    function = parse_function(SOURCE, name="f")
    assert function.parameters == (("x", "struct a *"), ("y", "struct b *"))
    assert function.variables["p"] == "struct c *"
    assert function.variables["local"] == "struct c"


def test_member_accesses_with_their_steps():
    function = parse_function(SOURCE, name="f", start=10)
    by_text = {access.text: access for access in function.accesses()}
    assert by_text["x->hdr.len"].steps == (("->", "hdr"), (".", "len"))
    assert by_text["x->hdr.len"].written
    assert by_text["p->table[2]->size"].steps == (("->", "table"), ("->", "size"))
    assert not by_text["p->table[2]->size"].written
    assert by_text["x->out"].pointee
    assert by_text["local.lock"].address_of
    assert by_text["x->hdr.len"].line == 14


def test_calls_through_a_member_and_divisors():
    function = parse_function(SOURCE, name="f")
    (call,) = function.calls(7, 7)
    assert call.through is not None
    assert call.through.text == "x->ops->run"
    assert call.arguments == ("p", "&local.lock")
    assert [access.text for access in function.divisors(7)] == ["x->div"]


def test_loop_macros_read_a_member():
    text = "void f(void)\n{\n\tlist_for_each_entry(pos, &head, node)\n\t\tuse(pos);\n}\n"
    (access,) = parse_function(text, name="f").loop_members(3, 3)
    assert access.text == "pos->node"


def test_types_of_globals():
    text = "static struct conn *last;\nstatic struct vdir dirs[4];\nstruct net init_net = {\n"
    assert variable_type(text, "last") == "struct conn *"
    assert variable_type(text, "dirs") == "struct vdir"
    assert variable_type(text, "init_net") == "struct net"
    assert variable_type(text, "other") is None


def test_parentheses():
    assert strip_parens("((&x))") == "&x"
    assert strip_parens("(a) + (b)") == "(a) + (b)"


def test_nothing_is_held_at_the_first_lock():
    assert held(3) == []


def test_an_error_path_that_returned_did_not_release():
    assert held(8) == ["&x->m"]


def test_branches_trylocks_and_guards():
    assert held(14) == ["&x->m", "&x->t", "&x->r"]


def test_a_loop_body_knows_what_it_took():
    assert held(17)[-1] == "&x->sem"


def test_a_scoped_guard_holds_in_its_block_only():
    assert held(21)[-1] == "&x->h"
    assert "&x->g" not in held(21)


def test_a_positive_trylock_that_left_was_not_taken():
    text = "int f(struct a *x)\n{\n\tif (mutex_trylock(&x->m))\n\t\treturn 1;\n\tg(x);\n}\n"
    assert held(5, text) == []


def test_a_function_that_returns_with_the_lock_held(tmp_path):
    (tmp_path / "a.c").write_text(
        "static void inner(struct a *p)\n{\n\tmutex_lock(&p->m);\n\tif (p->bad) {\n"
        "\t\tmutex_unlock(&p->m);\n\t\treturn;\n\t}\n}\n"
        "static void begin(struct a *q)\n{\n\tinner(q);\n\tspin_lock(&q->s);\n"
        "\tspin_unlock(&q->s);\n}\n"
        "static void work(void)\n{\n\tbegin(&global);\n\tsleep();\n\tend(&global);\n}\n"
    )
    reader = Reader(SourceTree.open(tmp_path))
    function = reader.function_named("work", "a.c")
    assert function is not None
    (taken,) = held_at(reader, function, 18)
    assert taken.argument == "&global.m"
    assert taken.call.line == 17


def test_signals_after_a_line():
    function = parse_function(LOCKS, name="f")
    assert [taken.argument for taken in signals_after(Reader(), function, 17)] == [
        "&x->sem",
        "&x->done",
    ]


def test_a_callee_may_release_its_callers_lock():
    body = ("spin_unlock(&x->lock);", "call(x);", "spin_lock(&x->lock);", "end(x);")
    text = "\n".join(["void f(struct x *x)", "{", *body, "}"])
    function = parse_function(text, name="f")
    assert [taken.argument for taken in dropped_at(Reader(), function, 4)] == ["&x->lock"]
    assert dropped_at(Reader(), function, 6) == []
    assert held_at(Reader(), function, 6) == [], "it was the caller's, and is again"


GOTO = """\
int f(struct x *x)
{
	mutex_lock(&x->a);
	if (x->bad)
		goto fail;
	mutex_lock(&x->b);
	work(x);
	mutex_unlock(&x->b);
	mutex_unlock(&x->a);
	return 0;
fail:
	cancel_work_sync(&x->work);
	settle(x);
	mutex_unlock(&x->a);
	return -EIO;
}"""


def test_behind_a_return_only_a_goto_leads():
    function = parse_function(GOTO, name="f")

    def held(line):
        return [taken.argument for taken in held_at(Reader(), function, line)]

    assert held(7) == ["&x->a", "&x->b"]
    assert held(12) == ["&x->a"]
    assert held(13) == ["&x->a"]
    assert held(15) == []


def test_wrappers_are_found_in_headers_beside_the_file(tmp_path):
    (tmp_path / "empty.h").write_text("")
    (tmp_path / "x.h").write_text("#define x_lock(p) \\\n\tmutex_lock(&(p)->lock)\n")
    includes = "".join(f'#include "{name}.h"\n' for name in ("empty", "gone", "x"))
    (tmp_path / "x.c").write_text(f"{includes}void f(struct x *x)\n{{\n\tx_lock(x);\n\tg();\n}}\n")
    reader = Reader(SourceTree.open(tmp_path))
    function = reader.function_named("f", "x.c")
    assert [taken.argument for taken in held_at(reader, function, 7)] == ["&(x)->lock"]
