"""
Texts to a table of term counts, once, for as many fits as training needs.

Hides: which code reads the texts (see `scorer`: the same compiled pass, or plain Python), and the numbering of terms.
Keeps: for any choice of rows the terms, inverse document frequencies and weights that scikit-learn's `TfidfVectorizer`
with `vectorizer_settings` would fit on those texts; a test holds the two together. Two different words are told apart
by 64 bits of hash: among a million words there are two alike with a chance of 3e-8.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from classifier.article import normalise
from classifier.features import WORDS_AND_PAIRS, NgramRange, TermVectorizer, tokenise
from classifier.lexicon import Lexicon
from classifier.rows import Rows
from classifier.scorer import fetch_kernel

_NO_ROWS = Rows.of(np.empty((0, 1)), np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class Weighing:
    """
    What a fit on some texts decides.

    Attributes:
        columns: int64 of shape (n_terms,): which of the counted terms it keeps, in their order.
        idf: float64 of shape (n_terms,).
    """

    columns: NDArray[np.int64]
    idf: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TermCounts:
    """
    How often each term stands in each text.

    Attributes:
        terms: in the order of the number of texts they stand in, the most frequent first.
        counts: int64 of shape (n_texts, n_terms), columns ascending in every row.
    """

    terms: tuple[str, ...]
    counts: csr_matrix

    @classmethod
    def of(cls, texts: Sequence[str], lexicon: Lexicon, ngram_range: NgramRange, min_df: int = 1) -> "TermCounts":
        """Count words, the concepts of *lexicon*, and pairs; leave out what stands in fewer than *min_df* texts."""
        words, numbers, bounds = _read(texts, lexicon)
        of_text = np.repeat(np.arange(len(texts)), np.diff(bounds))
        parts = [_Counted.of(of_text, numbers, min_df)]
        names = [[words[number] for number in parts[0].numbers.tolist()]]
        if ngram_range == WORDS_AND_PAIRS:
            is_pair = of_text[1:] == of_text[:-1]
            pairs = (numbers[:-1] * len(words) + numbers[1:])[is_pair]
            parts.append(_Counted.of(of_text[1:][is_pair], pairs, min_df))
            names.append([" ".join(words[n] for n in divmod(pair, len(words))) for pair in parts[1].numbers.tolist()])
        terms = list(chain.from_iterable(names))
        frequencies = np.concatenate([part.frequencies for part in parts])
        order = np.array(sorted(range(len(terms)), key=lambda k: (-frequencies[k], terms[k])), np.int64)
        place = np.empty(len(terms), np.int64)
        place[order] = np.arange(len(terms))
        rows = np.concatenate([part.rows for part in parts])
        columns = place[np.concatenate([parts[0].columns, *(part.columns + len(names[0]) for part in parts[1:])])]
        counts = csr_matrix(
            (np.concatenate([part.counts for part in parts]), (rows, columns)), (len(texts), len(terms))
        )
        counts.sort_indices()
        return cls(tuple(terms[k] for k in order), counts)

    def fit(self, rows: NDArray[np.int64], min_df: int) -> Weighing:
        """Return the terms in at least *min_df* of the texts *rows*, and their inverse document frequencies there."""
        frequencies = np.bincount(self.counts[rows].indices, minlength=len(self.terms))
        columns = np.flatnonzero(frequencies >= min_df)
        return Weighing(columns, np.log((1 + len(rows)) / (1 + frequencies[columns])) + 1)

    def weigh(self, rows: NDArray[np.int64], weighing: Weighing) -> csr_matrix:
        """Return tf-idf weights, float64 of shape (n_rows, n_terms of *weighing*); each row has length 1, or 0."""
        matrix = self.counts[rows][:, weighing.columns].astype(np.float64)
        matrix.data = (1 + np.log(matrix.data)) * weighing.idf[matrix.indices]
        lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        matrix.data /= np.repeat(lengths, np.diff(matrix.indptr))
        return matrix


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """Counts of words or of pairs, those in too few texts left out; `columns` are positions in `numbers`."""

    numbers: NDArray[np.int64]
    frequencies: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, of_text: NDArray[np.int64], numbers: NDArray[np.int64], min_df: int) -> "_Counted":
        unique, inverse = np.unique(numbers, return_inverse=True)
        cells, counts = np.unique(of_text * max(1, len(unique)) + inverse, return_counts=True)
        rows, columns = np.divmod(cells, max(1, len(unique)))
        frequencies = np.bincount(columns, minlength=len(unique))
        keep = frequencies >= min_df
        place = np.cumsum(keep) - 1
        kept = keep[columns]
        return cls(unique[keep], frequencies[keep], rows[kept], place[columns[kept]], counts[kept])


def _read(texts: Sequence[str], lexicon: Lexicon) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Return all different words, the number of each token of each text in a row, and where each text begins in it."""
    kernel = fetch_kernel(TermVectorizer((), np.empty(0, np.float32)), lexicon, _NO_ROWS)
    if kernel is None:
        words: dict[str, int] = {}
        numbers = [[words.setdefault(token, len(words)) for token in tokens] for tokens in _tokens(texts, lexicon)]
        bounds = np.cumsum([0, *map(len, numbers)])
        return list(words), np.fromiter(chain.from_iterable(numbers), np.int64, int(bounds[-1])), bounds
    spelled = [kernel.spell(text) or kernel.spell_plain(_plain(text, lexicon)) for text in texts]
    hashes = np.concatenate([np.empty(0, np.uint64), *(spelling.hashes for spelling in spelled)])
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    bounds = np.cumsum([0, *(len(spelling.hashes) for spelling in spelled)])
    where = np.searchsorted(bounds, first, side="right") - 1
    return (
        [
            spelled[text].word(position - int(bounds[text]))
            for text, position in zip(where.tolist(), first.tolist(), strict=True)
        ],
        inverse,
        bounds,
    )


def _tokens(texts: Sequence[str], lexicon: Lexicon) -> Iterator[list[str]]:
    for text in texts:
        normal = normalise(text)
        yield [*tokenise(normal), *lexicon.concepts(normal)]


def _plain(text: str, lexicon: Lexicon) -> str:
    return " ".join(next(_tokens([text], lexicon)))
