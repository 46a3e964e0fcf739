"""What commands without a graph take from the user's environment and configuration file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kagent.cli.main import main
from kagent.settings import Settings
from kagent.source.tools import SourceTools
from kagent.sources import NAMES, listed, lookup

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch, capfdbinary) -> Run:
    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kagent", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = (text.decode() for text in capfdbinary.readouterr())
        return int(ended.value.code or 0), out, err

    return command


@pytest.fixture
def valve(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "valve.c").write_text("int valve_turn(int by)\n{\n\treturn by;\n}\n")
    return tree


def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "xdg" / "kagent"
    folder.mkdir(parents=True, mode=0o755)
    (folder / "config.toml").write_text(text)
    (folder / "config.toml").chmod(0o644)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


def test_every_setting_has_its_name_here():
    assert set(Settings.model_fields) == NAMES


def test_a_list_has_commas_in_a_variable_and_none_in_a_file():
    assert listed("a=b,c=d") == listed(["a=b", "c=d"]) == ["a=b", "c=d"]
    assert listed(None) == []


@pytest.mark.parametrize(
    "command",
    [
        ("decode", "-"),
        ("parse", "-"),
        ("source", "type", "x"),
        ("index", "stats", "x"),
        ("version",),
    ],
)
def test_no_command_goes_on_with_a_misspelt_setting(run, monkeypatch, command):
    monkeypatch.setenv("KAGENT_MODULS", "/somewhere")
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert err == (
        "kagent: error: unknown setting: KAGENT_MODULS\nhint: did you mean KAGENT_MODULES?\n"
    )


@pytest.mark.parametrize("command", ["analyze", "decode", "index"])
def test_help_comes_whatever_is_misspelt(run, monkeypatch, command):
    monkeypatch.setenv("KAGENT_MODULS", "/somewhere")
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert f"kagent {command}" in out


def test_source_is_read_where_the_configuration_file_says(run, monkeypatch, tmp_path, valve):
    configure(monkeypatch, tmp_path, f'kernel_src = "{valve}"\n')
    code, out, _ = run("source", "function", "valve_turn")
    assert code == 0
    assert "valve.c:1-4" in out


def test_every_command_reads_the_exported_env_file(run, monkeypatch, tmp_path, valve):
    (tmp_path / "env").write_text(f"KAGENT_KERNEL_SRC={valve}\nKAGENT_OFFLINE=1\n")
    monkeypatch.setenv("KAGENT_ENV_FILE", str(tmp_path / "env"))
    configure(monkeypatch, tmp_path, 'kernel_src = "/nowhere"\n')
    code, out, _ = run("source", "function", "valve_turn")
    assert (code, out.splitlines()[0]) == (0, "valve.c:1-4  valve_turn")
    assert (lookup("offline"), lookup("kernel_src")) == ("1", str(valve))
    monkeypatch.setenv("KAGENT_KERNEL_SRC", "")
    assert lookup("kernel_src") is None
    (tmp_path / "env").write_text("KAGENT_OFLINE=1\n")
    for command in (("decode", "x"), ("source", "type", "x"), ("version",)):
        code, out, err = run(*command)
        assert (code, out) == (2, "")
        assert f"unknown setting in {tmp_path / 'env'}: KAGENT_OFLINE" in err


def test_fix_status_looks_where_the_configuration_file_says(run, monkeypatch, tmp_path, valve):
    configure(monkeypatch, tmp_path, f'kernel_src = "{valve}"\n')
    code, _, err = run("fix-status", "0123456789ab")
    assert (code, err.splitlines()[0]) == (2, f"kagent: error: not a git repository: {valve}")


def test_an_option_wins_over_the_file(run, monkeypatch, tmp_path, valve):
    configure(monkeypatch, tmp_path, 'kernel_src = "/nowhere"\n')
    code, out, _ = run("source", "function", "valve_turn", "--kernel-src", str(valve))
    assert code == 0
    assert "valve.c:1-4" in out


def test_decode_takes_debug_info_from_the_configuration_file(run, monkeypatch, tmp_path):
    log = tmp_path / "log"
    log.write_text("[    5.0]  valve_turn+0x1/0x2\n")
    configure(monkeypatch, tmp_path, 'vmlinux = "/nowhere/vmlinux"\n')
    code, _, err = run("decode", str(log))
    assert code == 2
    assert "--vmlinux /nowhere/vmlinux is not a file" in err


def test_a_parser_that_fails_is_one_line(run, monkeypatch, valve):
    def broken(*_args: object, **_named: object) -> None:
        raise ZeroDivisionError("deep inside\nof a grammar")

    monkeypatch.setattr(SourceTools, "find_type", broken)
    code, out, err = run("source", "type", "valve", "--kernel-src", str(valve))
    assert (code, out) == (3, "")
    assert err == (
        "kagent: error: the source could not be read: ZeroDivisionError: deep inside of a grammar\n"
    )


def test_each_server_has_its_roots_read_in_a_child_of_their_own(monkeypatch, valve):
    pytest.importorskip("mcp")
    import anyio

    from kagent.isolation import scope
    from kagent.mcp_server import make_server
    from kagent.mcp_tools import Roots

    asked: list[object] = []
    worker = scope._worker
    monkeypatch.setattr(scope, "_worker", lambda key: (asked.append(key), worker(key))[1])
    roots = Roots([str(valve)])
    asked.clear()
    anyio.run(make_server(roots).call_tool, "lookup_function", {"name": "valve_turn"})
    assert set(asked) == {roots.given}
