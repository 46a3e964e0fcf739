"""MAINTAINERS by the rules of scripts/get_maintainer.pl."""

from __future__ import annotations

import time

import pytest

from kagent.source.maintainers import Maintainers

TEXT = """\
List of maintainers
===================

	M: *Mail* patches to: FullName <address@domain>

Maintainers List
----------------

EXT4 FILE SYSTEM
M:	Jane Doe <jane@example.org>
M:	"J. R." <jr@example.org>
R:	Reviewer <r@example.org>
L:	linux-ext4@vger.example (moderated for non-subscribers)
S:	Maintained
F:	fs/ext4/
F:	include/trace/events/ext4.h

FILESYSTEMS (VFS)
M:	V F <vfs@example.org>
L:	linux-fsdevel@vger.example
F:	fs/*
F:	include/linux/fs.h
X:	fs/super.c

NETWORKING DRIVERS
L:	netdev@vger.example
F:	drivers/net/
X:	drivers/net/wireless/

WIRELESS
L:	wireless@vger.example
F:	drivers/net/wireless/

ARM/TEGRA
L:	tegra@vger.example
N:	[^a-z]tegra

BROKEN PATTERNS
N:	((a+)+)+$
N:	[
F:	**********x

THE REST
M:	Everyone <all@example.org>
F:	*
F:	*/
"""


@pytest.fixture(scope="module")
def maintainers() -> Maintainers:
    return Maintainers(TEXT)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("fs/ext4/inode.c", "EXT4 FILE SYSTEM"),
        ("fs/read_write.c", "FILESYSTEMS (VFS)"),
        ("fs/xfs/xfs_log.c", None),  # fs/* is one level; the rest is nobody's in particular
        ("fs/super.c", None),
        ("include/linux/fs.h", "FILESYSTEMS (VFS)"),
        ("drivers/net/loopback.c", "NETWORKING DRIVERS"),
        ("drivers/net/wireless/x/y.c", "WIRELESS"),
        ("drivers/clk/clk-tegra.c", "ARM/TEGRA"),
        ("drivers/net/tegra.c", "NETWORKING DRIVERS"),  # F: beats N:
        ("kernel/fork.c", None),
    ],
)
def test_the_closest_pattern_wins(maintainers: Maintainers, path: str, name: str | None) -> None:
    found = maintainers.subsystem_of(path)
    assert (found.name if found else None) == name


def test_people_and_lists(maintainers: Maintainers) -> None:
    found = maintainers.subsystem_of("fs/ext4/super.c")
    assert found is not None
    assert found.maintainers == ("Jane Doe <jane@example.org>", '"J. R." <jr@example.org>')
    assert found.lists == ("linux-ext4@vger.example",)


def test_hostile_patterns_cost_no_time(maintainers: Maintainers) -> None:
    begin = time.perf_counter()
    assert maintainers.subsystem_of("a" * 500 + "!") is None
    assert time.perf_counter() - begin < 0.5


def test_an_empty_file() -> None:
    assert Maintainers("").subsystem_of("fs/inode.c") is None
