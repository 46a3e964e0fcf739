"""The bundled samples: unpacked to the same bytes and hashes everywhere."""

from __future__ import annotations

import json
import shlex
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from kagent.demo import runner
from kagent.demo.runner import SAMPLES, Sample, commands, run, unpack
from kagent.errors import CorruptDataError, InputError, MissingDataError

EXPECTED = json.loads(
    (Path(__file__).parents[1] / "data" / "demo" / "expected.json").read_text("utf-8")
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    return unpack(SAMPLES["tidelink"], tmp_path_factory.mktemp("case"))


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_history_gets_the_recorded_hashes(unpacked):
    commits = EXPECTED["commits"]
    assert git(unpacked.repository, "rev-parse", "HEAD") == commits["head"]
    assert int(git(unpacked.repository, "rev-list", "--count", "HEAD")) == commits["count"]
    revision = unpacked.kernel_src.rpartition("@")[2]
    assert git(unpacked.repository, "rev-parse", revision) == commits["crashed"]["hash"]


def test_the_users_git_configuration_changes_nothing(tmp_path, monkeypatch):
    config = tmp_path / "gitconfig"
    config.write_text(
        "[user]\n\tname = Somebody\n\temail = s@example.net\n[commit]\n\tgpgsign = true\n"
        "[core]\n\thooksPath = /\n\tautocrlf = true\n[init]\n\tdefaultBranch = odd\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Nobody")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    into = tmp_path / "into"
    into.mkdir()
    repository = unpack(SAMPLES["tidelink"], into).repository
    monkeypatch.undo()
    assert git(repository, "rev-parse", "main") == EXPECTED["commits"]["head"]
    assert git(repository, "status", "--porcelain") == ""


def test_the_module_is_the_very_one_that_crashed(unpacked):
    (module,) = unpacked.modules.iterdir()
    assert module.name == "tidelink.ko"
    assert sha256(module.read_bytes()).hexdigest() == EXPECTED["module"]["sha256"]


def test_the_log_is_unpacked_byte_for_byte(unpacked):
    data = Path(runner.__file__).with_name("data") / "tidelink" / "console.log"
    assert unpacked.log.read_bytes() == data.read_bytes()


def test_the_commands_are_what_a_user_would_type(unpacked):
    build, analyze = map(shlex.split, commands(unpacked))
    assert build == [
        "kagent",
        "index",
        "build",
        str(unpacked.repository),
        "-o",
        str(unpacked.index),
    ]
    assert analyze[:3] == ["kagent", "analyze", str(unpacked.log)]
    assert analyze[3:] == [
        *("--modules", str(unpacked.modules)),
        *("--kernel-src", unpacked.kernel_src),
        *("--index", str(unpacked.index)),
    ]


def test_the_demo_counts_bytes_of_the_log_that_it_leaves(tmp_path):
    """The console log ends its lines with CR LF: text of it has fewer characters than bytes."""
    (report,) = run("tidelink", keep=tmp_path / "case").reports
    data = (tmp_path / "case" / "console.log").read_bytes()[slice(*report.span)]
    assert data.startswith(b"[    3.063434] BUG: kernel NULL pointer dereference")


def test_a_sample_may_be_a_log_alone(tmp_path):
    alone = unpack(SAMPLES["cve-2025-37958"], tmp_path)
    assert "split_huge_pmd_locked+0x3b5/0x2b60" in alone.log.read_text()
    assert commands(alone) == [f"kagent analyze {alone.log}"]


def test_an_unknown_sample_names_the_known_ones():
    with pytest.raises(InputError, match="no sample 'x'") as caught:
        run("x")
    assert "tidelink" in str(caught.value.hint)


def test_a_directory_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="is not empty"):
        run("tidelink", keep=tmp_path)
    with pytest.raises(InputError, match="cannot be used"):
        run("tidelink", keep=tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_git_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDataError, match="git is not installed") as caught:
        unpack(SAMPLES["tidelink"], tmp_path)
    assert "install" in str(caught.value.hint)


def test_a_history_that_does_not_apply_is_corrupt(tmp_path):
    broken = Sample("tidelink", "", log="console.log", series="console.log")
    with pytest.raises(CorruptDataError, match="git am failed"):
        unpack(broken, tmp_path)
