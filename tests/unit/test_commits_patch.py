"""What a diff touches, what a message says, how names are read."""

from __future__ import annotations

import time

import pytest

from kagent.commits.message import looks_like_fix, parse_fixes, parse_trailers
from kagent.commits.names import base_symbol, named_symbols, words
from kagent.commits.patch import read_patch
from kagent.commits.plumbing import is_plumbing
from kagent.commits.releases import release_date

DIFF = """\
diff --git a/drivers/hwmon/fan.c b/drivers/hwmon/fan.c
index 1234..5678 100644
--- a/drivers/hwmon/fan.c
+++ b/drivers/hwmon/fan.c
@@ -10,9 +10,12 @@ static int fan_curve_lookup(struct fan_curve *curve, int temp)
 \tint i;
\x20
+\tif (!curve->table)
+\t\treturn -EINVAL;
 \treturn 0;
 }
\x20
-static void fan_old(void)
+static void fan_new(struct fan *fan,
+\t\t    int speed)
 {
+\tmutex_lock(&fan->lock);
 }
\x20
 static int fan_untouched(void)
 {
diff --git a/fs/read_write.c b/fs/read_write.c
--- a/fs/read_write.c
+++ b/fs/read_write.c
@@ -1,3 +1,4 @@
 SYSCALL_DEFINE3(read, unsigned int, fd, char __user *, buf, size_t, count)
 {
+\treturn ksys_read(fd, buf, count);
 }
"""


def test_functions_are_those_with_changed_lines() -> None:
    patch = read_patch(DIFF)
    assert patch.functions == ("fan_curve_lookup", "fan_old", "fan_new", "sys_read")
    assert patch.files == ("drivers/hwmon/fan.c", "fs/read_write.c")


def test_identifiers_come_from_changed_lines_only() -> None:
    identifiers = read_patch(DIFF).identifiers
    assert {"table", "mutex_lock", "lock", "ksys_read"} <= set(identifiers)
    assert "fan_untouched" not in identifiers


def test_both_names_of_a_renamed_file_count() -> None:
    diff = "diff --git a/old.c b/new.c\nsimilarity index 100%\nrename from old.c\nrename to new.c"
    assert read_patch(diff).files == ("new.c", "old.c")


@pytest.mark.parametrize(
    ("header", "function"),
    [
        ("static __printf(2, 3) void vlog(struct log *l, const char *f, ...)", "vlog"),
        ("int __init fan_init(void)", "fan_init"),
        ("TRACE_EVENT(fan_speed,", "fan_speed"),
        ("pub fn probe(dev: &Device) -> Result {", "probe"),
    ],
)
def test_ways_to_define_a_function(header: str, function: str) -> None:
    suffix = "rs" if "fn" in header.split() else "c"
    diff = f"diff --git a/x.{suffix} b/x.{suffix}\n@@ -1,3 +1,4 @@ {header}\n+\tx();\n"
    assert read_patch(diff).functions == (function,)


@pytest.mark.parametrize("header", ["static struct ops fan_ops = {", "out_unlock:", "#define X(a)"])
def test_other_headers_define_none(header: str) -> None:
    diff = f"diff --git a/x.c b/x.c\n@@ -1,3 +1,4 @@ {header}\n+\tx();\n"
    assert read_patch(diff).functions == ()


def test_reading_a_hostile_patch_is_linear() -> None:
    line = "+" + "a(" * 40_000 + "\n" + "@@ -1 +1 @@ " + "static " * 5_000 + "\n"
    start = time.perf_counter()
    read_patch("diff --git a/x.c b/x.c\n@@ -1 +1 @@\n" + line * 10)
    assert time.perf_counter() - start < 2


def test_trailers_are_the_last_paragraphs() -> None:
    message = (
        'Note: this is prose.\nAnd goes on.\n\nFixes: 1234567890ab ("fan: add")\n'
        "[ada: typo]\nCc: stable@vger.kernel.org\n\nSigned-off-by: A <a@b>\n"
    )
    assert parse_trailers(message) == (
        ("Fixes", '1234567890ab ("fan: add")'),
        ("Cc", "stable@vger.kernel.org"),
        ("Signed-off-by", "A <a@b>"),
    )
    assert parse_fixes(message) == ("1234567890ab",)


def test_a_message_without_trailers_has_none() -> None:
    assert parse_trailers("Just prose: with a colon\nin the middle.\n") == ()
    assert parse_trailers("") == ()


def test_fix_words() -> None:
    assert looks_like_fix("fan: fix a leak")
    assert looks_like_fix("fan: Avoid NULL dereference")
    assert not looks_like_fix("fan: add prefix support")


@pytest.mark.parametrize(
    ("symbol", "base"),
    [
        ("foo.isra.0", "foo"),
        ("foo.constprop.0.cold", "foo"),
        ("foo.llvm.123456", "foo"),
        ("__x64_sys_read", "sys_read"),
        ("__se_compat_sys_ioctl", "sys_ioctl"),
        ("__do_sys_bpf", "sys_bpf"),
        ("tcp_sendmsg", "tcp_sendmsg"),
    ],
)
def test_base_symbol(symbol: str, base: str) -> None:
    assert base_symbol(symbol) == base


def test_plumbing_frames() -> None:
    for name in (
        "do_syscall_64",
        "vfs_write",
        "schedule",
        "mutex_lock",
        "kasan_report",
        "__asan_load8",
    ):
        assert is_plumbing(name), name
    for name in ("ext4_es_insert_extent", "split_huge_pmd_locked", "tcp_sendmsg", "fan_apply"):
        assert not is_plumbing(name), name


def test_words_give_a_name_and_its_parts() -> None:
    assert words("Fix the leak in usb_get_dev() at ffff888012345678") == [
        "fix", "leak", "usb_get_dev", "usb", "get",
    ]  # fmt: skip


def test_named_symbols() -> None:
    text = "In foo_bar() and probe(), RIP: do_it+0x10/0x20, not plain words"
    assert named_symbols(text) == ["foo_bar", "probe", "do_it"]


@pytest.mark.parametrize(
    ("release", "day", "development"),
    [
        ("6.1.0", "2022-12-11", True),
        ("6.1.0-rc8", "2022-12-11", True),
        ("6.1.0-rc1-00012-gabc", "2022-10-23", True),
        ("5.15.0-rc2-next-20210921", "2021-09-21", True),
        ("6.1.0-syzkaller-09515-g80bd9028feca", "2022-12-11", True),
        ("6.1.0-00123-g0123456789ab", "2022-12-11", True),
        ("6.1.10", "2023-02-19", False),
        ("6.1.0-18-amd64", "2022-12-11", False),
        ("7.0.0-rc8", "2026-04-12", True),
    ],
)
def test_release_dates(release: str, day: str, development: bool) -> None:
    found = release_date(release)
    assert found is not None
    assert (found[0].isoformat(), found[1]) == (day, development)


@pytest.mark.parametrize("release", ["", "custom", "1.2.3", "99.0.0", "6.1.0-next-20219999"])
def test_unknown_releases(release: str) -> None:
    assert release_date(release) is None
