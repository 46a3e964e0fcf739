"""Real git repositories in a temporary directory, with a history worth searching."""

from __future__ import annotations

import atexit
import copy
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

__all__ = ["GitRepository", "fan_history"]

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada Example",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada Example",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


class GitRepository:
    """A worktree whose commits are a day apart, so that hashes are the same on every run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.day = 0
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *command: str, stdin: bytes | None = None) -> str:
        """Run git here; its output without the trailing newline."""
        when = f"{1_700_000_000 + self.day * 86_400} +0100"
        environment = os.environ | _IDENTITY
        environment |= {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        done = subprocess.run(
            ["git", *command],
            cwd=self.path,
            env=environment,
            input=stdin,
            check=True,
            capture_output=True,
        )
        return done.stdout.decode("utf-8", "replace").rstrip("\n")

    def commit(
        self, message: str | bytes, files: Mapping[str, str | bytes | None] | None = None
    ) -> str:
        """Write (None: delete) `files`, commit, return the hash; without files an empty commit."""
        for name, content in (files or {}).items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "-A")
        self.day += 1
        data = message.encode() if isinstance(message, str) else message
        verbatim = ("commit", "-q", "--allow-empty", "--cleanup=verbatim", "-F", "-")
        self.git(*verbatim, stdin=data)
        return self.git("rev-parse", "HEAD")


def fan_source(*, lookup_checks: bool = False, apply_body: str = "\treturn 0;\n") -> str:
    """A driver of three functions, as C."""
    check = "\tif (!curve)\n\t\treturn -EINVAL;\n\n" if lookup_checks else ""
    return (
        "#include <linux/fan.h>\n\n"
        "static int fan_curve_lookup(struct fan_curve *curve, int temp)\n"
        "{\n" + check + "\tint i;\n\n"
        "\tfor (i = 0; i < curve->points; i++)\n"
        "\t\tif (curve->table[i].temp > temp)\n"
        "\t\t\treturn curve->table[i].speed;\n"
        "\treturn 0;\n"
        "}\n\n"
        "static int fan_apply(struct fan *fan, int temp)\n"
        "{\n\tint speed = fan_curve_lookup(fan->curve, temp);\n\n"
        "\tfan->speed = speed;\n" + apply_body + "}\n\n"
        "static ssize_t speed_store(struct device *dev, const char *buf, size_t count)\n"
        "{\n\tstruct fan *fan = dev_get_drvdata(dev);\n\n"
        "\tfan_apply(fan, 42);\n"
        "\treturn count;\n"
        "}\n"
    )


FIX_MESSAGE = """\
hwmon: fan: fix NULL dereference in fan_curve_lookup()

A fan without a curve leaves fan->curve NULL. Writing its speed then
crashes:

  BUG: kernel NULL pointer dereference, address: 0000000000000010
  RIP: 0010:fan_curve_lookup+0x12/0x60
  Call Trace:
   fan_apply+0x20/0x50
   speed_store+0x2a/0x40

Return -EINVAL where there is no curve.

Fixes: {introduced} ("hwmon: add a fan driver")
Reported-by: Bob Example <bob@example.org>
Signed-off-by: Ada Example <ada@example.org>
"""


def fan_history(path: Path, others: int = 20) -> tuple[GitRepository, str]:
    """A history of `others` + 4 commits; also the hash that fixes ``fan_curve_lookup``."""
    template, fix = _fan_template(others)
    shutil.copytree(template.path, path)
    repository = copy.copy(template)
    repository.path = path
    return repository, fix


@functools.cache
def _fan_template(others: int) -> tuple[GitRepository, str]:
    """Made once a run: hundreds of git processes are slow."""
    scratch = tempfile.mkdtemp(prefix="fan-history-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    repository = GitRepository(Path(scratch) / "repo")
    introduced = repository.commit(
        "hwmon: add a fan driver\n\nIt sets speeds.\n\n"
        "Signed-off-by: Ada Example <ada@example.org>\n",
        {"drivers/hwmon/fan.c": fan_source()},
    )
    for number in range(others):
        name = ("ring", "port", "queue", "clock", "panel")[number % 5]
        body = f"int {name}_init_{number}(struct {name} *p)\n{{\n\tp->level = {number};\n}}\n"
        repository.commit(
            f"{name}: set up unit {number}\n\nThe {name} hardware wants level {number}.\n",
            {f"drivers/{name}/unit{number}.c": body},
        )
    repository.commit(
        "hwmon: fan: log the speed\n",
        {
            "drivers/hwmon/fan.c": fan_source(
                apply_body='\tpr_debug("%d\\n", speed);\n\treturn 0;\n'
            )
        },
    )
    fix = repository.commit(
        FIX_MESSAGE.format(introduced=introduced[:12]),
        {
            "drivers/hwmon/fan.c": fan_source(
                lookup_checks=True, apply_body='\tpr_debug("%d\\n", speed);\n\treturn 0;\n'
            )
        },
    )
    repository.commit("MAINTAINERS: add the fan driver\n", {"MAINTAINERS": "FAN\nM: Ada\n"})
    return repository, fix
