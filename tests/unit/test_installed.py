"""The hint how to install more names where this very copy came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from kagent import installed
from kagent.errors import MissingExtraError


@pytest.fixture
def origin(monkeypatch, tmp_path) -> Callable[[object], str]:
    """The hint of an installed copy with this ``direct_url.json``; None for none."""

    def hint(content: object) -> str:
        info = tmp_path / "kagent-0.1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.4\nName: kagent\nVersion: 0.1.0\n")
        if content is not None:
            (info / "direct_url.json").write_text(json.dumps(content))
        monkeypatch.setattr(installed, "_PACKAGE", tmp_path / "kagent")
        monkeypatch.setattr(metadata, "distribution", lambda name: metadata.PathDistribution(info))
        return installed.hint_to_install("mcp")

    return hint


def test_from_the_checkout_it_runs_from(monkeypatch, tmp_path):
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setattr(installed, "_PACKAGE", root / "kagent")
    monkeypatch.chdir(root)
    assert installed.hint_to_install("mcp") == "pip install '.[mcp]'"
    monkeypatch.chdir(tmp_path)
    assert installed.hint_to_install("mcp") == f"pip install '{root}[mcp]'"
    assert MissingExtraError("the MCP server", "mcp").hint == installed.hint_to_install("mcp")


def test_installed_from_a_directory(origin, tmp_path, monkeypatch):
    checkout = tmp_path / "my kagent"
    checkout.mkdir()
    found = {"url": checkout.as_uri(), "dir_info": {}}
    assert origin(found) == f"pip install '{checkout}[mcp]'"
    monkeypatch.chdir(checkout)
    assert origin(found) == "pip install '.[mcp]'"


def test_installed_from_a_wheel(origin, tmp_path):
    wheel = tmp_path / "kagent-0.1.0-py3-none-any.whl"
    wheel.touch()
    found = {"url": wheel.as_uri(), "archive_info": {}}
    assert origin(found) == f"pip install '{wheel}[mcp]'"
    wheel.unlink()
    assert origin(found) == f"install the extra 'mcp' from where {wheel} came from"
    found = {"url": "https://example.org/kagent.whl", "archive_info": {}}
    assert origin(found) == "pip install 'kagent[mcp] @ https://example.org/kagent.whl'"


def test_installed_from_a_repository(origin):
    vcs = {"vcs": "git", "commit_id": "0123abc"}
    found = {"url": "https://example.org/kagent.git", "vcs_info": vcs}
    assert origin(found) == "pip install 'kagent[mcp] @ git+https://example.org/kagent.git@0123abc'"


def test_installed_by_name_from_an_index(origin):
    assert origin(None) == "pip install 'kagent[mcp]'"


def test_of_unknown_origin(origin, monkeypatch):
    def unknown(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    origin(None)
    monkeypatch.setattr(metadata, "distribution", unknown)
    assert installed.hint_to_install("mcp") == (
        "install the extra 'mcp' of the package this kagent came from"
    )
