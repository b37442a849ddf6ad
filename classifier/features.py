"""
Text to weighted terms: words, pairs of words and concepts, counted and weighed as scikit-learn does it.

Hides: tokens, lower-casing, counting, inverse document frequencies, length normalisation.
Keeps: for the settings of `vectorizer_settings` and the same vocabulary, the same features and weights as scikit-learn
to float32 precision, without importing it. The daemon scores with this; `pipeline.joblib` scores with scikit-learn; a
test holds the two together.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A token starts with a letter: years, amounts and dates say nothing about the subject and would be learnt by heart;
# V2G, L3 and CO2 stay.
TOKEN_PATTERN = r"(?u)\b[^\W\d_]\w+\b"  # noqa: S105 - of a word, not a password
VECTORIZER_SETTINGS: Mapping[str, object] = {
    "lowercase": True,
    "token_pattern": TOKEN_PATTERN,
    "sublinear_tf": True,
    "norm": "l2",
}
NgramRange = tuple[int, int]
WORDS: NgramRange = (1, 1)
WORDS_AND_PAIRS: NgramRange = (1, 2)
_TOKEN = re.compile(TOKEN_PATTERN)
_CUT = re.compile(f"({TOKEN_PATTERN.removeprefix('(?u)')})")
N_FREQUENT = 20  # terms of the lowest inverse document frequency: in English the, of, and, to, in ...

Span = tuple[int, int]


def vectorizer_settings(ngram_range: NgramRange) -> dict[str, Any]:
    """Return the arguments of scikit-learn's `TfidfVectorizer` that make the terms of a model with this range."""
    return {**VECTORIZER_SETTINGS, "ngram_range": ngram_range}


def tokenise(text: str) -> list[str]:
    """
    Return the words of a normalised text, in lower case, in order.

    >>> tokenise("In 2023 the EU paid for V2G")
    ['in', 'the', 'eu', 'paid', 'for', 'v2g']
    """
    return _TOKEN.findall(text.lower())


@dataclass(frozen=True, slots=True, eq=False)
class TermVector:
    """
    The known terms of one text.

    Attributes:
        indices: int64 of shape (n_terms,), positions in the vocabulary, each once.
        values: float32 of shape (n_terms,), tf-idf weights with Euclidean length 1 (all zero without terms).
        n_tokens: how many words the text has.
        n_known: how many of them are in the vocabulary.
        n_frequent: how many are among the terms that stand in the most texts.
    """

    indices: "NDArray[np.int64]"
    values: "NDArray[np.float32]"
    n_tokens: int
    n_known: int
    n_frequent: int


class TermVectorizer:
    """
    A fixed vocabulary with inverse document frequencies.

    Attributes:
        terms: the vocabulary: lower-case words, concept terms, and pairs of them with a blank between.
        idf: float32 of shape (n_terms,), each positive.
        ngram_range: `WORDS` or `WORDS_AND_PAIRS`. A pair is two tokens in a row; the concepts of a text are tokens
            behind its last word.
    """

    def __init__(self, terms: Sequence[str], idf: "NDArray[np.float32]", ngram_range: NgramRange = WORDS) -> None:
        self.terms = tuple(terms)
        self.idf = idf
        self.ngram_range = ngram_range
        self._index = {term: position for position, term in enumerate(self.terms)}
        by_frequency = (i for i in np.argsort(idf, kind="stable").tolist() if " " not in self.terms[i])
        self.frequent = frozenset(islice(by_frequency, N_FREQUENT))

    def transform(self, text: str, concepts: Sequence[str] = ()) -> TermVector:
        """
        Count and weigh the known terms of *text* and of the *concepts* found in it.

        The same as scikit-learn makes of the text with the concepts written behind it.
        """
        words = tokenise(text)
        counts = Counter(map(self._index.get, words))
        n_known = len(words) - counts[None]
        n_frequent = sum(counts[index] for index in self.frequent)
        counts.update(map(self._index.get, concepts))
        if self.ngram_range == WORDS_AND_PAIRS:
            counts.update(self._index.get(f"{first} {second}") for first, second in pairwise([*words, *concepts]))
        known = {index: count for index, count in counts.items() if index is not None}
        indices, values = self.weigh(list(known), np.fromiter(known.values(), np.int64, len(known)))
        return TermVector(indices, values, len(words), n_known, n_frequent)

    def weigh(
        self, terms: Sequence[int], counts: "NDArray[np.int64]"
    ) -> "tuple[NDArray[np.int64], NDArray[np.float32]]":
        """Return the positions *terms* and their weights, as in a `TermVector`, for what occurs *counts* times."""
        indices = np.array(terms, np.int64)
        values = (1 + np.log(counts.astype(np.float32))) * self.idf[indices]
        length = float(np.sqrt(np.dot(values, values)))
        return indices, values / length if length else values

    def find(self, text: str, concepts: Sequence[tuple[str, Span]] = ()) -> dict[int, list[Span]]:
        """Return where each known term stands: vocabulary position to spans in *text*, in order."""
        lowered = text.lower()
        parts = _CUT.split(lowered)  # in turns what stands between the tokens, and a token
        bounds = list(accumulate(map(len, parts)))
        if len(lowered) != len(text):
            origin = _origins(text)
            bounds = [origin[position] for position in bounds]
        spans = list(zip(bounds[0::2], bounds[1::2], strict=False))
        n_words = len(spans)
        tokens = [*parts[1::2], *(term for term, _ in concepts)]
        spans += [span for _, span in concepts]
        found: dict[int, list[Span]] = {}
        for index, span in zip(map(self._index.get, tokens), spans, strict=True):
            if index is not None:
                found.setdefault(index, []).append(span)
        if self.ngram_range == WORDS_AND_PAIRS:
            for position, pair in enumerate(pairwise(tokens)):
                if (index := self._index.get(" ".join(pair))) is not None:
                    (start, _), (_, end) = spans[position], spans[position + 1]
                    is_text = position + 1 < n_words  # a concept stands where its phrase does
                    found.setdefault(index, []).append((start, end) if is_text else spans[position + 1])
        return found


def _origins(text: str) -> list[int]:
    """Return the position in *text* of each position in the lower-cased text: a dotted capital I becomes two."""
    origins = [position for position, char in enumerate(text) for _ in char.lower()]
    return [*origins, len(text)]
