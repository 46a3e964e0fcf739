"""``--embedding openai:MODEL``: the real client against a real HTTP server on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.repository import fan_history

from kagent.commits import CommitIndex, CrashQuery
from kagent.errors import ModelError

pytestmark = pytest.mark.integration

SIZE = 64


def vector(text: str) -> list[float]:
    """Counts of hashed words: near for texts that share words."""
    numbers = [0.0] * SIZE
    for word in text.lower().split():
        numbers[hashlib.sha256(word.encode()).digest()[0] % SIZE] += 1.0
    return numbers


class EmbeddingServer(ThreadingHTTPServer):
    """``POST /v1/embeddings``; remembers what it was asked, and can be told to fail."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.fail_with: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: EmbeddingServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.headers["Authorization"], body))
        if self.path != "/v1/embeddings" or self.server.fail_with is not None:
            self.answer(self.server.fail_with or 404, {"error": {"message": "no such model"}})
            return
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data = [
            {"object": "embedding", "index": i, "embedding": self.encode(vector(text), body)}
            for i, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        self.answer(200, {"object": "list", "data": data, "model": body["model"], "usage": usage})

    @staticmethod
    def encode(numbers: list[float], body: dict[str, Any]) -> Any:
        if body.get("encoding_format") == "base64":
            return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        return numbers

    def answer(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EmbeddingServer]:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "KAGENT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with EmbeddingServer() as server:
        monkeypatch.setenv("KAGENT_BASE_URL", server.url)
        monkeypatch.setenv("KAGENT_MODEL_RETRIES", "0")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_build_reopen_search_and_update(server: EmbeddingServer, tmp_path: Path) -> None:
    repository, fix = fan_history(tmp_path / "repo")
    out = tmp_path / "index"
    CommitIndex.build(repository.path, out, embedding="openai:words-1").close()
    asked = [text for _, body in server.requests for text in body["input"]]
    assert len(asked) == 24
    assert all(isinstance(text, str) for text in asked)
    assert {body["model"] for _, body in server.requests} == {"words-1"}
    with CommitIndex.open(out) as index:
        assert index.stats()["dimension"] == SIZE
        assert index.search("fix NULL dereference of a fan without a curve")[0].hash == fix
        query = CrashQuery(functions=("fan_curve_lookup", "fan_apply"))
        assert index.search_crash(query)[0].hash == fix
        repository.commit("ring: tune\n")
        server.requests.clear()
        assert index.update() == 1
        assert sum(len(body["input"]) for _, body in server.requests) == 1
        assert index.verify() == []


def test_the_key_is_sent(
    server: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-local")
    repository, _ = fan_history(tmp_path / "repo", others=0)
    CommitIndex.build(repository.path, tmp_path / "index", embedding="openai:m").close()
    assert {key for key, _ in server.requests} == {"Bearer sk-local"}


def test_a_failing_endpoint_leaves_no_index(server: EmbeddingServer, tmp_path: Path) -> None:
    server.fail_with = 404
    repository, _ = fan_history(tmp_path / "repo", others=0)
    with pytest.raises(ModelError, match="openai:m failed") as caught:
        CommitIndex.build(repository.path, tmp_path / "index", embedding="openai:m")
    assert caught.value.hint
    assert not (tmp_path / "index").exists()
