"""The embedding that is learnt from the corpus."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.linalg import svds

from kagent.commits.lsa import Lsa, _tfidf
from kagent.commits.names import words
from kagent.errors import IndexCorruptError

SUBJECTS = ("usb: hub", "ext4: extent", "tcp: socket", "btrfs: qgroup")
TEXTS = [
    f"{subject} {verb} {thing}"
    for subject in SUBJECTS
    for verb in ("fix leak of", "free the", "lock around", "check for NULL")
    for thing in ("buffer", "request", "work item", "timer")
]


def test_texts_of_one_subject_are_nearer() -> None:
    lsa = Lsa.learn(TEXTS)
    usb, ext4, hub = lsa.embed(
        ["usb: hub lock around timer", "ext4: extent free the buffer", "usb hub"]
    )
    assert usb @ hub > ext4 @ hub + 0.2


def test_vectors_have_unit_length_and_unknown_words_none() -> None:
    lsa = Lsa.learn(TEXTS)
    lengths = np.linalg.norm(lsa.embed([*TEXTS, "xyzzy", ""]), axis=1)
    assert lengths[:-2] == pytest.approx(1, abs=1e-5)
    assert list(lengths[-2:]) == [0, 0]


def test_learning_is_deterministic() -> None:
    assert np.array_equal(Lsa.learn(TEXTS).embed(TEXTS), Lsa.learn(TEXTS).embed(TEXTS))


def test_the_sketch_keeps_cosines() -> None:
    lsa = Lsa.learn(TEXTS)
    matrix = _tfidf([Counter(words(text)) for text in TEXTS], lsa.terms, lsa.idf)
    exact = (matrix @ matrix.T).toarray()
    sketch = np.asarray(matrix @ lsa.signs) / np.sqrt(lsa.signs.shape[1])
    assert np.abs(sketch @ sketch.T - exact).mean() < 0.1


def test_directions_agree_with_an_exact_decomposition() -> None:
    lsa = Lsa.learn(TEXTS, dimension=4)
    matrix = _tfidf([Counter(words(text)) for text in TEXTS], lsa.terms, lsa.idf)
    _, _, exact = svds(matrix, k=4)
    ours, _ = np.linalg.qr(lsa.projection)
    cosines = np.linalg.svd(exact @ ours, compute_uv=False)
    assert cosines.min() > 0.98


@pytest.mark.parametrize("texts", [["one"], [""], ["", "", ""], ["same text", "same text"]])
def test_hardly_any_text(texts: list[str]) -> None:
    lsa = Lsa.learn(texts)
    vectors = lsa.embed([*texts, "one text"])
    assert vectors.shape == (len(texts) + 1, lsa.dimension)
    assert np.isfinite(vectors).all()


def test_saving_and_loading(tmp_path: Path) -> None:
    lsa = Lsa.learn(TEXTS)
    lsa.save(tmp_path / "e.npz")
    with (tmp_path / "e.npz").open("rb") as file:
        again = Lsa.load(file)
    assert np.array_equal(again.embed(TEXTS), lsa.embed(TEXTS))


def test_what_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    pickled = np.array([{"a": 1}], dtype=object)
    signs = np.zeros((2, 24), np.uint8)
    np.savez(path, terms=pickled, idf=np.ones(1), projection=np.ones((1, 1)), signs=signs)
    with path.open("rb") as file, pytest.raises(IndexCorruptError):
        Lsa.load(file)
    names = np.frombuffer(b"a\nb", np.uint8)
    np.savez(path, terms=names, idf=np.ones(3), projection=np.ones((2, 1)), signs=signs)
    with path.open("rb") as file, pytest.raises(IndexCorruptError, match="fit each other"):
        Lsa.load(file)
