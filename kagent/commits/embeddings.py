"""Text to vectors, behind one interface, whoever makes them.

An embedding is named by a short id, which the index records: ``corpus`` (learnt from the commits
themselves, the default), ``huggingface:MODEL``, ``openai:MODEL``, or ``object:CLASS`` for an
`langchain_core.embeddings.Embeddings` that the caller supplied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from kagent.commits.lsa import Lsa
from kagent.egress import HUB, Purpose, async_client, client, gate_of
from kagent.errors import InputError, MissingDataError, MissingExtraError, ModelError

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

__all__ = ["CorpusEmbedder", "Embedder", "LangChainEmbedder", "make_embedder"]

LEARN_FROM = 40_000
"""Texts the corpus embedding is learnt from; more change little and cost much."""

Vectors = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Query and document sides of one embedding; both give unit vectors of one dimension."""

    id: str
    chunk_size: int
    """Characters of a text it reads whole."""

    def learn(self, texts: Iterable[str]) -> None:
        """See the corpus (or a sample) before the first text is embedded."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """One row per text."""

    def embed_query(self, text: str) -> Vectors:
        """One vector (d,)."""

    def save(self, path: Path) -> bool:
        """Write what was learnt; False when there is nothing to write."""

    def load(self, file: IO[bytes]) -> None:
        """Read what `save` wrote."""


class CorpusEmbedder:
    """Latent semantic analysis of the indexed commits."""

    id = "corpus"
    chunk_size = 6000

    def __init__(self) -> None:
        self._lsa: Lsa | None = None

    def learn(self, texts: Iterable[str]) -> None:
        self._lsa = Lsa.learn(texts)

    def learn_bags(self, bags: Sequence[Mapping[str, int]]) -> None:
        """`learn` from texts whose words were counted elsewhere."""
        self._lsa = Lsa.learn_bags(bags)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        if self._lsa is None:
            raise MissingDataError("the corpus embedding has not been learnt yet")
        return self._lsa.embed(texts)

    def embed_query(self, text: str) -> Vectors:
        vector: Vectors = self.embed_documents([text])[0]
        return vector

    def save(self, path: Path) -> bool:
        if self._lsa is None:
            return False
        self._lsa.save(path)
        return True

    def load(self, file: IO[bytes]) -> None:
        self._lsa = Lsa.load(file)


class LangChainEmbedder:
    """Any LangChain ``Embeddings``; its vectors are brought to unit length."""

    def __init__(self, embeddings: Embeddings, id: str, chunk_size: int = 2000) -> None:
        self.id = id
        self.chunk_size = chunk_size
        self._embeddings = embeddings

    def learn(self, texts: Iterable[str]) -> None:
        """Nothing: the model came trained."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        rows = self._ask(lambda: self._embeddings.embed_documents(list(texts)))
        if rows.ndim != 2 or len(rows) != len(texts):
            raise ModelError(f"{self.id} gave {rows.shape} for {len(texts)} texts")
        return _unit(rows)

    def embed_query(self, text: str) -> Vectors:
        rows = self._ask(lambda: [self._embeddings.embed_query(text)])
        vector: Vectors = _unit(rows)[0]
        return vector

    def save(self, path: Path) -> bool:  # noqa: ARG002
        return False

    def load(self, file: IO[bytes]) -> None:
        """Nothing was saved."""

    def _ask(self, call: Callable[[], list[list[float]]]) -> Vectors:
        import openai

        try:
            return np.asarray(call(), dtype=np.float32)
        except (openai.OpenAIError, OSError, ValueError) as error:
            raise ModelError(
                f"the embedding {self.id} failed: {error}",
                hint="check the endpoint and the model's name; `--embedding corpus` needs neither",
            ) from error


def _unit(rows: Vectors) -> Vectors:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, norms, out=rows, where=norms > 1e-9)
    return rows


def make_embedder(embedding: str | Embeddings, *, asked: bool = True) -> Embedder:
    """The embedder an id names, or one around a LangChain object.

    Where the id is not the user's own words but an index's (`asked` is false), texts go to an
    endpoint only if the user's settings name that.

    Raises:
        EgressError: the embedding needs an endpoint that is not open.
        InputError: no such kind of embedding.
        MissingExtraError: its package is not installed.
    """
    if not isinstance(embedding, str):
        return LangChainEmbedder(embedding, f"object:{type(embedding).__name__}")
    kind, _, model = embedding.partition(":")
    if embedding == "corpus":
        return CorpusEmbedder()
    if kind == "huggingface" and model:
        # Sentence transformers commonly read 256 word pieces and drop the rest.
        return LangChainEmbedder(_huggingface(model, asked=asked), embedding, chunk_size=1000)
    if kind == "openai" and model:
        return LangChainEmbedder(_openai(model, asked=asked), embedding)
    if kind == "object":
        raise InputError(
            f"this index was built with a {model or 'custom'} embedding object",
            hint="pass the same object: CommitIndex.open(dir, embedding=...)",
        )
    raise InputError(
        f"unknown embedding: {embedding}",
        hint="one of: corpus, huggingface:MODEL, openai:MODEL",
    )


def _huggingface(model: str, *, asked: bool) -> Embeddings:
    from kagent.settings import Settings

    if not asked and not Path(model).is_absolute() and Path(model).exists():
        raise InputError(
            f"the index wants an embedding model of the working directory: {model}",
            hint="start kagent elsewhere, or build the index with an absolute path",
        )
    settings = Settings()
    fetch = False
    if settings.hub:
        gate_of(settings).ask(Purpose.HUB, HUB)
        fetch = True
    try:
        from langchain_huggingface import HuggingFaceEmbeddings

        embeddings: Embeddings = HuggingFaceEmbeddings(
            model_name=model, model_kwargs={"local_files_only": not fetch}
        )
        return embeddings
    except ImportError as error:
        raise MissingExtraError(f"the embedding huggingface:{model}", "huggingface") from error
    except (OSError, ValueError) as error:
        raise MissingDataError(
            f"cannot load the embedding model {model}: {error}",
            hint="give the name of a model that is in the local cache, or a directory; "
            "KAGENT_HUB=1 fetches it from the Hugging Face hub",
        ) from error


def _openai(model: str, *, asked: bool) -> Embeddings:
    from kagent.settings import Settings

    settings = Settings()
    gate = gate_of(settings)
    if asked:
        gate.open(Purpose.EMBEDDING, settings.endpoint)
    gate.ask(Purpose.EMBEDDING, settings.endpoint)
    from langchain_openai import OpenAIEmbeddings
    from pydantic import SecretStr

    # Local servers take any key, but the client insists on one.
    key = settings.api_key or SecretStr("none")
    return OpenAIEmbeddings(
        model=model,
        base_url=settings.endpoint,
        api_key=key,
        # Servers other than OpenAI's take text, not OpenAI's token numbers.
        check_embedding_ctx_length=False,
        chunk_size=64,
        timeout=settings.model_timeout,
        max_retries=settings.model_retries,
        http_client=client(gate, Purpose.EMBEDDING),
        http_async_client=async_client(gate, Purpose.EMBEDDING),
    )
