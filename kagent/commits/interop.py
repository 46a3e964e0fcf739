"""The index as LangChain knows such things: a retriever, a FAISS vector store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from kagent.commits.documents import render_document
from kagent.commits.embeddings import Embedder
from kagent.commits.model import Commit
from kagent.commits.store import Store
from kagent.errors import MissingExtraError

if TYPE_CHECKING:
    from langchain_community.vectorstores import FAISS

    from kagent.commits.index import CommitIndex

__all__ = ["CommitRetriever", "IndexEmbeddings", "faiss_store"]


class CommitRetriever(BaseRetriever):
    """Commits for a question, by all the means of `CommitIndex.search`."""

    index: Any
    """The `CommitIndex` to ask."""
    k: int = 4

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
    ) -> list[Document]:
        index: CommitIndex = self.index
        documents = []
        for number, hit in enumerate(index.search(query, self.k), 1):
            commit = index.get(hit.hash)
            if commit is not None:
                extra = {"score": hit.score, "confidence": hit.confidence, "why": list(hit.why)}
                documents.append(_document(commit, number, extra))
        return documents


class IndexEmbeddings(Embeddings):
    """The index's own embedding behind LangChain's interface."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self._embedder.embed_documents(texts).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        vector: list[float] = self._embedder.embed_query(text).tolist()
        return vector


def _document(commit: Commit, number: int, extra: dict[str, Any]) -> Document:
    facts = {
        "hash": commit.hash,
        "subject": commit.subject,
        "author": commit.author,
        "date": commit.date,
        "files": list(commit.files),
    }
    return Document(page_content=render_document(commit, number), metadata=facts | extra)


def faiss_store(store: Store, embedder: Embedder) -> FAISS:
    """A langchain-community FAISS store; one entry a vector, whole commits as documents.

    Raises:
        MissingExtraError: langchain-community is not installed.
    """
    try:
        import warnings

        with warnings.catch_warnings():
            # The package announces its end of life on import.
            warnings.simplefilter("ignore", DeprecationWarning)
            from langchain_community.docstore.in_memory import InMemoryDocstore
            from langchain_community.vectorstores import FAISS
            from langchain_community.vectorstores.utils import DistanceStrategy
    except ImportError as error:
        raise MissingExtraError("as_vectorstore()", "community") from error

    owners = store.owners()
    documents = {str(id): _document(commit, id, {}) for id, commit in enumerate(store.commits(), 1)}
    return FAISS(
        embedding_function=IndexEmbeddings(embedder),
        index=store.copy_vectors(),
        docstore=InMemoryDocstore(documents),
        index_to_docstore_id={row: str(owner) for row, owner in enumerate(owners.tolist())},
        distance_strategy=DistanceStrategy.MAX_INNER_PRODUCT,
    )
