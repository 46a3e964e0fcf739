"""Who waits for whom: columns, tree, Mermaid and the drawing."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from support.resolutions import deadlock_resolution

from kagent.report.html import to_fragment, to_html
from kagent.report.markdown import to_markdown
from kagent.report.picture import Box, draw
from kagent.report.terminal import to_text
from kagent.report.waits import MAX_VICTIMS, interleaving, mermaid, wait_tree
from kagent.resolution import Culprit, CycleMember, Deadlock, SourcePoint, Victim


def _point(function: str, line: int) -> SourcePoint:
    return SourcePoint(function=function, file="fs/vol.c", line=line)


def _member(task: str, pid: int, holds: str, waits: str, interrupt: bool = False) -> CycleMember:
    return CycleMember(
        task=task, pid=pid, holds=[holds], taken=[_point(f"{task}_take", pid)], waits_for=waits,
        lock_type="mutex", where=_point(f"{task}_ask", pid + 10), interrupt=interrupt,
    )  # fmt: skip


def _circle(length: int = 3, victims: int = 1) -> Deadlock:
    names = "abcdefghijkl"[:length]
    return Deadlock(
        verdict="deadlock",
        reason=f"{length} tasks",
        cycles=[
            [
                _member(name, at + 1, name.upper(), names[(at + 1) % length].upper())
                for at, name in enumerate(names)
            ]
        ],
        victims=[Victim(task="v", pid=40 + at, waits_for="A") for at in range(victims)],
    )


def test_lockdeps_columns_for_a_cycle_of_two() -> None:
    assert interleaving(_circle(2).cycles[0]) == [
        "CPU0 a[1]                         CPU1 b[2]",
        "---------                         ---------",
        "lock(A);  vol.c:1",
        "                                  lock(B);  vol.c:2",
        "lock(B);  vol.c:11",
        "                                  lock(A);  vol.c:12",
        "*** DEADLOCK ***",
    ]


def test_a_column_for_each_member_of_a_longer_cycle() -> None:
    rows = interleaving(_circle(5).cycles[0])
    assert len(rows) == 2 + 5 + 5 + 1
    starts = [len(row) - len(row.lstrip()) for row in rows[2:7]]
    assert starts == sorted(set(starts))


def test_an_interrupt_comes_last_and_on_the_cpu_it_stopped() -> None:
    stopped = _member("any", 1, "B", "A", interrupt=True)
    rows = interleaving([stopped, _member("task", 2, "A", "B")])
    assert [row.strip().split(";")[0] for row in rows[2:]] == [
        "lock(B)", "lock(A)", "lock(B)", "<Interrupt>", "lock(A)", "*** DEADLOCK ***",
    ]  # fmt: skip
    assert rows[5].startswith("<Interrupt>")
    assert rows[6].startswith("  lock(A);")


def test_mermaid_points_from_waiter_to_owner() -> None:
    text = mermaid(_circle())
    assert text.startswith("flowchart LR")
    for arrow in ('t0 -->|"B"| t1', 't2 -->|"A"| t0', 't3 -->|"A"| t0'):
        assert arrow in text


def test_the_tree_for_terminals() -> None:
    lines = wait_tree(_circle())
    assert "├─ a[1]" in lines
    assert "└─ c[3]" in lines
    assert "│    holds     A from a_take() at fs/vol.c:1" in lines
    assert "│    waits for mutex B in a_ask() at fs/vol.c:11" in lines
    assert lines[-2:] == ["queued behind it", "└─ v[40] waits for A"]


def test_many_victims_are_counted_rather_than_drawn() -> None:
    crowd = _circle(victims=300)
    assert f"and {300 - MAX_VICTIMS} more behind it" in mermaid(crowd)
    assert wait_tree(crowd)[-1] == "└─ and 260 more"
    picture = draw(crowd)
    assert picture is not None
    assert len(picture.boxes) == 3 + MAX_VICTIMS


def test_without_a_cycle_the_culprit_is_what_everybody_points_at() -> None:
    held_up = Deadlock(
        verdict="not-a-deadlock",
        reason="slow",
        culprit=Culprit(task="owner", pid=7, why="sleeps"),
        victims=[Victim(task="v", pid=8, waits_for="A")],
    )
    assert 't1 -->|"A"| t0' in mermaid(held_up)
    assert wait_tree(held_up) == ["owner[7]", "└─ v[8] waits for A"]


def test_nothing_to_draw() -> None:
    quiet = Deadlock(verdict="not-a-deadlock", reason="no task waits")
    assert mermaid(quiet) == ""
    assert draw(quiet) is None
    assert wait_tree(quiet) == []


def _overlap(one: Box, other: Box) -> bool:
    return abs(one.x - other.x) < one.width and abs(one.y - other.y) < one.height


@pytest.mark.parametrize("victims", [0, 1, 12])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 12])
def test_boxes_stand_apart_and_inside_the_drawing(length: int, victims: int) -> None:
    picture = draw(_circle(length, victims))
    assert picture is not None
    boxes = picture.boxes
    assert not [(i, j) for i in range(len(boxes)) for j in range(i) if _overlap(boxes[i], boxes[j])]
    for box in boxes:
        assert 0 < box.x - box.width / 2 < box.x + box.width / 2 < picture.width
        assert 0 < box.y - box.height / 2 < box.y + box.height / 2 < picture.height
    assert len(picture.arrows) == length + victims


def test_names_cannot_break_out_of_a_picture() -> None:
    evil = 'x"]; click t0 "javascript:alert(1)"\x1b[31m\n%%{init}%%<script>'
    found = Deadlock(
        verdict="not-a-deadlock",
        reason=evil,
        victims=[Victim(task=evil, pid=1, waits_for=evil)],
        culprit=Culprit(task=evil, pid=2, why="x"),
    )
    text = mermaid(found)
    assert 'javascript:alert(1)"' not in text
    assert "\x1b" not in text + "\n".join(wait_tree(found))
    assert all(line.count('"') in (0, 2, 4) for line in text.splitlines())
    page = to_html(deadlock_resolution().model_copy(update={"deadlock": found}))
    assert "<script" not in page


def test_every_view_shows_the_picture_in_its_own_way() -> None:
    res = deadlock_resolution()
    assert "```mermaid\nflowchart LR" in to_markdown(res)
    fragment = to_fragment(res)
    svg = fragment[fragment.index("<svg") : fragment.index("</svg>") + 6]
    assert len(ElementTree.fromstring(svg).findall("g")) >= 2
    assert "├─ " in to_text(res)
    assert "*** DEADLOCK ***" in to_text(res)
