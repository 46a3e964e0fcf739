"""Whoever packs a tarball decides what lies in the working directory, and nothing else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.sink import sink
from support.trust_page import table
from typer.main import get_command

from kagent.cli.app import app
from kagent.errors import InputError
from kagent.settings import DEFAULT_ENDPOINT, Settings
from kagent.sources import ALSO, Source, lookup

LOG = Path(__file__).resolve().parents[2] / "kagent/demo/data/cve-2025-37958/trace.log"
ROWS = table("setting")
KEYS = table("the key")
VALUES: dict[str, Any] = {
    "vmlinux": "/x/vmlinux",
    "modules": "/x/modules",
    "kernel_src": "/x/linux@v6.1",
    "debug_dir": "/x/debug",
    "debuginfod_urls": "https://debuginfod.example",
    "source_map": "/build=/x/build",
    "index": "/x/index",
    "model": "qwen3",
    "models": "a,b",
    "api_key": "sk-1",
    "base_url": "http://127.0.0.1:1/v1",
    "fixes": 7,
    "model_retries": 3,
    "max_model_tokens": 300,
    "max_model_calls": 5,
    "max_task_agents": 3,
    "max_log_bytes": 4096,
    "model_timeout": 5.5,
    **dict.fromkeys(("allow_mismatch", "offline", "restore", "tracing", "hub"), True),
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("KAGENT_", "OPENAI_")) or name in ALSO.values():
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def configure(tmp_path: Path, **values: Any) -> Path:
    """Write the user's configuration file."""
    path = tmp_path / "config" / "kagent" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text("".join(f"{name} = {literal(value)}\n" for name, value in values.items()))
    path.chmod(0o600)
    return path


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def env_file(tmp_path: Path, **values: str) -> Path:
    path = tmp_path / "named.env"
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return path


def test_the_tarball_of_the_attack_gets_neither_key_nor_file(tmp_path: Path) -> None:
    with sink() as attacker:
        lines = f"KAGENT_MODEL=m\nKAGENT_BASE_URL={attacker.url}/v1\nKAGENT_KERNEL_SRC=/etc\n"
        for name in (".env", "kagent.toml", "config.toml", ".kagent", "langgraph.json"):
            (tmp_path / name).write_text(lines)
        done = subprocess.run(
            [sys.executable, "-m", "kagent", "analyze", str(LOG), "--json"],
            env={**os.environ, "OPENAI_API_KEY": "sk-secret"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert '"kind": "rules"' in done.stdout
        assert not attacker.got


def test_a_relative_configuration_directory_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path, model="evil")
    monkeypatch.setenv("XDG_CONFIG_HOME", "config")
    monkeypatch.setenv("HOME", ".")
    assert Settings().model is None


def test_the_page_lists_every_setting_once() -> None:
    assert [row["setting"] for row in ROWS] == list(Settings.model_fields)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["setting"])
def test_a_setting_has_the_names_of_its_row(
    row: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = row["setting"]
    names = [f"KAGENT_{name.upper()}", *filter(None, [ALSO.get(name)])]
    assert row["variable"] == ", ".join(names)
    flags = {
        option for p in get_command(app).get_command(None, "analyze").params for option in p.opts
    }
    if row["flag of kagent analyze"]:
        assert row["flag of kagent analyze"] in flags
    else:
        assert f"--{name.replace('_', '-')}" not in flags
    if row["configuration file"] == "no":
        configure(tmp_path, **{name: "/x"})
        with pytest.raises(InputError, match=name):
            Settings()
        return
    wanted = getattr(Settings(**{name: VALUES[name]}), name)
    assert wanted != getattr(Settings(), name)
    for variable in names:
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(VALUES[name]))
            assert getattr(Settings(), name) == wanted
            assert Settings().source(name) is Source.ENVIRONMENT
            assert lookup(name) == str(VALUES[name])
    path = env_file(tmp_path, **{names[0]: str(VALUES[name])})
    assert getattr(Settings(env_file=path), name) == wanted
    configure(tmp_path, **{name: VALUES[name]})
    assert getattr(Settings(), name) == wanted
    assert Settings().source(name) is Source.FILE


def test_a_stronger_source_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(tmp_path, fixes=1, model="file")
    assert Settings().fixes == 1
    named = env_file(tmp_path, KAGENT_FIXES="2", UNRELATED="x")
    assert Settings(env_file=named).fixes == 2
    monkeypatch.setenv("KAGENT_FIXES", "3")
    assert Settings(env_file=named).fixes == 3
    assert Settings(env_file=named, fixes=4).fixes == 4
    monkeypatch.setenv("KAGENT_MODEL", "")
    assert Settings().model is None
    monkeypatch.delenv("KAGENT_FIXES")
    monkeypatch.setenv("KAGENT_ENV_FILE", str(named))
    assert Settings().fixes == 2


def test_a_keyword_endpoint_wins_over_every_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGENT_BASE_URL", "https://default.example/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://other.example/v1")
    assert Settings(base_url="http://127.0.0.1:1/v1").endpoint == "http://127.0.0.1:1/v1"
    assert Settings().endpoint == "https://default.example/v1"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(mode: int, tmp_path: Path) -> None:
    configure(tmp_path, fixes=1).chmod(mode)
    with pytest.raises(InputError, match="written by others") as caught:
        Settings()
    assert "chmod" in str(caught.value.hint)


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    configure(tmp_path, fixes=1).parent.chmod(0o777)
    with pytest.raises(InputError, match="written by others"):
        Settings()


@pytest.mark.parametrize("mode", [0o720, 0o777, 0o1777])
def test_nor_may_they_write_to_a_directory_above_or_the_one_it_links_to(
    mode: int, tmp_path: Path
) -> None:
    path = configure(tmp_path, fixes=1)
    # In a sticky one, others cannot rename what is not theirs.
    told = contextlib.nullcontext() if mode == 0o1777 else pytest.raises(InputError, match="others")
    path.parent.parent.chmod(mode)
    with told:
        Settings()
    path.parent.parent.chmod(0o700)

    public = tmp_path / "public"
    public.mkdir()
    path.rename(public / "kagent.toml")
    path.symlink_to(public / "kagent.toml")
    Settings()
    public.chmod(mode)
    with told:
        Settings()


def test_a_file_of_settings_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    path = configure(tmp_path, fixes=1)
    path.write_text("a = " + "[" * 100_000)
    with pytest.raises(InputError, match="too deeply"):
        Settings()
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(InputError, match="larger than 1 MiB"):
        Settings()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="no regular file"):
        Settings()
    path.unlink()
    with pytest.raises(InputError, match="larger than 1 MiB"):
        Settings(env_file=Path("/dev/zero"))


def test_paths_in_the_file_do_not_depend_on_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    configure(tmp_path, kernel_src="~/linux@v6.1", source_map="drivers=~/drv")
    assert Settings().kernel_src == "/home/ada/linux@v6.1"
    assert Settings().source_map == ("drivers=/home/ada/drv",)
    configure(tmp_path, kernel_src="linux")
    with pytest.raises(InputError, match="not an absolute path"):
        Settings()


def test_names_that_no_setting_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="bas_url") as caught:
        Settings(bas_url="x")
    assert "base_url" in str(caught.value.hint)
    with monkeypatch.context() as patch:
        patch.setenv("KAGENT_OFLINE", "1")
        with pytest.raises(InputError, match="KAGENT_OFLINE") as caught:
            Settings()
        assert "KAGENT_OFFLINE" in str(caught.value.hint)
    with pytest.raises(InputError, match="KAGENT_MODLE"):
        Settings(env_file=env_file(tmp_path, KAGENT_MODLE="m"))
    configure(tmp_path, offlin=True)
    with pytest.raises(InputError, match="offlin") as caught:
        Settings()
    assert "offline" in str(caught.value.hint)


@pytest.mark.parametrize("line", ["KAGENT_MODEL", "this is no setting", "KAGENT_MODEL='m"])
def test_a_line_of_an_env_file_that_sets_nothing_is_refused(tmp_path: Path, line: str) -> None:
    named = tmp_path / "named.env"
    named.write_text(f"# mine\nKAGENT_FIXES=2\n{line}\n")
    with pytest.raises(InputError, match=r"named\.env: line 3 is not NAME=VALUE"):
        Settings(env_file=named)


def test_a_mistake_is_said_with_the_file_it_stands_in(tmp_path: Path) -> None:
    named = env_file(tmp_path, KAGENT_FOO="1")
    with pytest.raises(InputError, match=f"unknown setting in {named}: KAGENT_FOO") as caught:
        Settings(env_file=named)
    assert "did you mean" not in str(caught.value.hint)
    path = configure(tmp_path, modules=3)
    with pytest.raises(InputError, match="modules: Input should be a path") as caught:
        Settings()
    assert caught.value.hint == f"check {path}"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=f"{path}: it is not UTF-8"):
        Settings()


def test_an_env_file_expands_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    named = env_file(tmp_path, KAGENT_BASE_URL="https://evil.example/${SECRET}")
    assert "s3cret" not in Settings(env_file=named).endpoint


OTHER, OWN = "https://other.example/v1", "https://own.example/v1"


@pytest.mark.parametrize("column", list(KEYS[0])[1:])
@pytest.mark.parametrize("row", KEYS, ids=lambda row: row["the key"])
def test_a_key_goes_where_the_page_says(
    row: dict[str, str], column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = row["the key"]
    environment: dict[str, str] = {}
    named: dict[str, str] = {}
    config: dict[str, str] = {}
    given: dict[str, Any] = {}
    endpoint = OWN if "with" in who else None
    family = "OPENAI" if who.startswith("OPENAI") else "KAGENT"
    if who.startswith(("KAGENT", "OPENAI")):
        environment[f"{family}_API_KEY"] = "key"
        environment |= {f"{family}_BASE_URL": endpoint} if endpoint else {}
    elif who.startswith("--env-file"):
        named = {"KAGENT_API_KEY": "key"} | ({"KAGENT_BASE_URL": endpoint} if endpoint else {})
    elif who.startswith("configuration"):
        config = {"api_key": "key"} | ({"base_url": endpoint} if endpoint else {})
    else:
        given = {"api_key": "key"} | ({"base_url": endpoint} if endpoint else {})
    if column.startswith("--base-url"):
        given.setdefault("base_url", OTHER)
    elif column == "environment":
        other = "OPENAI" if family == "KAGENT" else "KAGENT"
        environment[f"{other}_BASE_URL"] = OTHER
    elif column == "--env-file":
        named.setdefault("KAGENT_BASE_URL", OTHER)
    elif column == "configuration file":
        config.setdefault("base_url", OTHER)
    else:
        assert column == "nobody"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if config:
        configure(tmp_path, **config)
    if named:
        given["env_file"] = env_file(tmp_path, **named)
    settings = Settings(**given)
    sent = settings.api_key is not None
    assert bool(settings.key_withheld) is not sent
    assert {"sent": sent, "withheld": not sent, "own": sent and settings.base_url == OWN}[
        row[column]
    ]
    if row[column] != "own":
        assert settings.endpoint == (DEFAULT_ENDPOINT if column == "nobody" else OTHER)
