"""
A trained model as pure data, and everything that is asked of it: scores, tags, explanations.

Hides: the arithmetic of a linear classifier on tf-idf features with its calibration folded into the weights; which
code reads the texts (see `scorer`).
Keeps: no file, no scikit-learn, no pickle; the same text always gives the same scores, whatever it is scored together
with.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, cast

import numpy as np

from classifier.article import Article, normalise, normalise_mapped, sentence_spans
from classifier.errors import ModelError
from classifier.features import TermVectorizer
from classifier.lexicon import CONCEPT_PREFIX, Lexicon
from classifier.rows import Rows, row_width
from classifier.scorer import Scorer, batches, in_order
from classifier.tags import Abstention, Bands, Scores, Tags, decide_tags
from classifier.taxonomy import Taxonomy

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Below these a linear model only repeats how frequent its labels were in training, so it had better say nothing.
MIN_TOKENS = 5
MIN_KNOWN_TOKENS = 3
MIN_KNOWN_SHARE = 0.25
# A text of the training language is full of its most frequent words; in another language hardly one of them occurs.
MIN_TOKENS_FOR_LANGUAGE = 20
MIN_FREQUENT_SHARE = 0.05
# Of a page that is a list of links little is left after cleaning.
MIN_KEPT_SHARE = 0.2
MAX_TOKENS_OF_LEFTOVERS = 60

Span = tuple[int, int]
Text = str | bytes | Article


@dataclass(frozen=True, slots=True)
class Contribution:
    """
    What one term did to one label's score.

    Attributes:
        term: as in the vocabulary: a lower-case word, or ``concept_`` and a label for that label's phrases.
        phrases: what stands in the text, lower case, each once.
        weight: what it added to the logit; negative when it spoke against the label.
        spans: where it stands, as character offsets into the original text.
    """

    term: str
    phrases: tuple[str, ...]
    weight: float
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the text as scored, its place in the original, and what its terms added to the logit in sum."""

    text: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    Why one label got its score.

    The weights of `terms` and `against` and the `intercept` add up to the `logit`; the score is its logistic function.

    Attributes:
        terms: what spoke for the label, strongest first.
        against: what spoke against it, strongest first.
        sentences: those that spoke for it, strongest first; a term in several sentences shares its weight among them.
    """

    label: str
    score: float
    logit: float
    intercept: float
    terms: tuple[Contribution, ...]
    against: tuple[Contribution, ...]
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Model:
    """
    A trained classifier.

    Attributes:
        name: the folder's name, e.g. ``nev-policy``.
        id: digest of everything that decides its answers.
        taxonomy: facets and labels; their order is the order of all score columns.
        bands: limits per label.
        lexicon: phrases that make concept terms.
        vectorizer: vocabulary and inverse document frequencies.
        rows: what each term adds to each label, and what it says for a text having any label at all.
        intercepts: float32 of shape (n_labels,).
        relevance_intercept: added to the sum of relevance; a text for which that is negative is off-topic.
    """

    name: str
    id: str
    taxonomy: Taxonomy
    bands: Mapping[str, Bands]
    lexicon: Lexicon
    vectorizer: TermVectorizer
    rows: Rows
    intercepts: "NDArray[np.float32]"
    relevance_intercept: float
    _scorer: Scorer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = (len(self.vectorizer.terms), row_width(len(self.labels)))
        if self.rows.numbers.shape != shape:
            raise ModelError(self.name, f"rows of shape {shape} needed, got {self.rows.numbers.shape}")
        object.__setattr__(self, "_scorer", Scorer(self.vectorizer, self.lexicon, self.rows))

    @property
    def weights(self) -> "NDArray[np.float32]":
        """What each term adds to each label: float32 of shape (n_terms, n_labels), made when asked for."""
        return self.rows.numbers[:, : len(self.labels)] * self.rows.scales[:, np.newaxis]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of all facets, in the order of the score columns."""
        return self.taxonomy.label_ids

    @property
    def reference(self) -> str:
        """How records name this model: ``name@id``."""
        return f"{self.name}@{self.id}"

    def prepare(self, text: str | Article) -> str:
        """
        Return the text the vectorizer sees: normalised, with the concepts found in it written behind.

        An `Article` counts with its title, twice, and its cleaned body. A string is taken as it stands: give
        `parse_article` the page instead when it still has menus and share buttons on it.
        """
        return self.lexicon.annotate(_given_text(text))

    def warm_up(self) -> bool:
        """
        Fetch the compiled text pass now, so that no article waits for it; return whether there is one.

        Without this call it comes by itself once a million characters have been read. The first time on a machine
        takes some ten seconds, later ones less than one.
        """
        return self._scorer.warm_up()

    def score(self, texts: Iterable[Text], *, threads: int = 1) -> Scores:
        """
        Return all scores: float32 of shape (n_articles, n_labels) in [0, 1], rows in the order of *texts*.

        Args:
            texts: strings, UTF-8 bytes or articles; read batch by batch.
            threads: how many work at once.

        Raises:
            ValueError: *threads* is below one.
        """
        parts = [np.empty((0, len(self.labels)), np.float32)]
        parts += in_order(lambda batch: self._read(batch)[0], batches(texts, _size), threads)
        return Scores(np.concatenate(parts), self.labels)

    def tag(self, text: Text) -> Tags:
        """Return the tags of one article."""
        return self._tag_batch([text])[0]

    def tag_many(self, texts: Iterable[Text], *, threads: int = 1) -> list[Tags]:
        """Return the tags of each article, in the order of *texts*; arguments as for `score`."""
        return list(chain.from_iterable(in_order(self._tag_batch, batches(texts, _size), threads)))

    def explain(self, text: str | Article, label: str) -> Explanation:
        """
        Say which words spoke for and against *label*, with their places.

        Offsets are into ``article.original`` for an `Article` and into *text* itself for a string.

        Raises:
            ModelError: the model has no such label.
        """
        return self.explainer(text)(label)

    def explainer(self, text: str | Article, *, n_terms: int | None = None) -> Callable[[str], Explanation]:
        """
        Return what does as `explain` for any label of one text: finding its words is most of the work.

        Args:
            text: as for `explain`.
            n_terms: so many terms for and against are enough, the strongest ones.
        """
        return _Page(self, text, n_terms).explain

    def _read(self, texts: Sequence[Text]) -> "tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]":
        """Return scores, relevance (n_texts,), and tokens, known and frequent ones (n_texts, 3)."""
        if Article in set(map(type, texts)):
            texts = [text.scored_text if isinstance(text, Article) else text for text in texts]
        sums, facts = self._scorer.run(cast("Sequence[str | bytes]", texts))
        n_labels = len(self.labels)
        return _sigmoid(sums[:, :n_labels] + self.intercepts), sums[:, n_labels] + self.relevance_intercept, facts

    def _tag_batch(self, texts: Sequence[Text]) -> Sequence[Tags]:
        values, relevance, facts = self._read(texts)
        reasons = _abstentions(texts, facts, relevance)
        return decide_tags(Scores(values, self.labels), self.bands, self.taxonomy, reasons)


def _abstentions(
    texts: Sequence[Text], facts: "NDArray[np.int32]", relevance: "NDArray[np.float32]"
) -> list[Abstention | None]:
    """Return for each text why it gets no tags, or None; *facts* are tokens, known and frequent ones, (n_texts, 3)."""
    n_tokens, n_known, n_frequent = facts.T
    is_short = n_tokens <= MAX_TOKENS_OF_LEFTOVERS
    is_short[is_short] = [_is_leftover(texts[position]) for position in np.flatnonzero(is_short).tolist()]
    is_foreign = (n_tokens >= MIN_TOKENS_FOR_LANGUAGE) & (n_frequent < MIN_FREQUENT_SHARE * n_tokens)
    reasons: list[Abstention | None] = [None] * len(texts)
    # From the weakest reason to the strongest: the last one found stays.
    for reason, holds in (
        (Abstention.OFF_TOPIC, relevance < 0),
        (Abstention.NO_KNOWN_WORDS, n_known < np.maximum(MIN_KNOWN_TOKENS, MIN_KNOWN_SHARE * n_tokens)),
        (Abstention.WRONG_LANGUAGE, is_foreign),
        (Abstention.MOSTLY_BOILERPLATE, is_short),
        (Abstention.TOO_SHORT, n_tokens < MIN_TOKENS),
    ):
        for position in np.flatnonzero(holds).tolist():
            reasons[position] = reason
    return reasons


def _size(texts: Sequence[Text]) -> int:
    try:
        return sum(map(len, texts))  # type: ignore[arg-type]
    except TypeError:  # articles among them
        return sum(len(text.text if isinstance(text, Article) else text) for text in texts)


def _given_text(text: str | Article) -> str:
    return normalise(text.scored_text if isinstance(text, Article) else text)


class _Page:
    """
    A text to explain: its terms, where they stand, and the way back to what the caller gave.

    Worked out once for all labels: the weight of each term; the sentences by their places in the original, where the
    two copies of a title are one; and for each pair of a term and a sentence how often the one stands in the other.
    Words and places of a term are looked up when somebody asks for them: most are among the strongest of no label.
    """

    def __init__(self, model: Model, text: str | Article, n_terms: int | None) -> None:
        self._model = model
        self._n_terms = n_terms
        self._text, self._normal = normalise_mapped(text.scored_text if isinstance(text, Article) else text)
        self._offsets = text.offsets if isinstance(text, Article) else None
        self._length = len(text.full_text) if isinstance(text, Article) else 0
        self._lead = len(text.scored_text) - self._length if isinstance(text, Article) else 0  # the title's first copy
        concepts = [(CONCEPT_PREFIX + name, span) for name, span in model.lexicon.find(self._text)]
        found = model.vectorizer.find(self._text, concepts)
        self._places = list(found.values())
        self._n_places = np.fromiter(map(len, self._places), np.int64, len(self._places))
        self._indices, self._values = model.vectorizer.weigh(list(found), self._n_places)
        spans = sentence_spans(self._text)
        origins = [self._to_original(*span) for span in spans]
        texts: dict[Span, str] = {}
        for span, origin in zip(spans, origins, strict=True):
            texts.setdefault(origin, self._text[slice(*span)])
        self._sentences = list(texts.items())
        number = {origin: position for position, origin in enumerate(texts)}
        self._set_shares([start for start, _ in spans], [number[origin] for origin in origins])
        self._say = cache(self._words_of)

    def _set_shares(self, starts: Sequence[int], numbers: Sequence[int]) -> None:
        """Count each term in each sentence; the sentences begin at *starts* and have these *numbers*."""
        of_term = np.repeat(np.arange(len(self._places)), self._n_places)
        begins = np.fromiter((start for places in self._places for start, _ in places), np.int64, len(of_term))
        sentences = np.searchsorted(np.array(starts, np.int64), begins, side="right") - 1
        of_sentence = np.array(numbers, np.int64)[np.maximum(sentences, 0)]
        pairs, self._counts = np.unique(of_term * len(numbers) + of_sentence, return_counts=True)
        self._term, self._sentence = np.divmod(pairs, max(1, len(numbers)))

    def explain(self, label: str) -> Explanation:
        """
        Say why *label* got its score.

        Raises:
            ModelError: the model has no such label.
        """
        model = self._model
        if label not in model.labels:
            raise ModelError(model.name, f"no label {label!r}; it has {', '.join(model.labels)}")
        column = model.labels.index(label)
        weights = (self._values * model.rows.column(column, self._indices)).astype(np.float64)
        intercept = float(model.intercepts[column])
        logit = sum(weights.tolist(), intercept)
        return Explanation(
            label=label,
            score=float(_sigmoid(np.array([logit], np.float32))[0]),
            logit=logit,
            intercept=intercept,
            terms=self._strongest(weights, np.argsort(-weights, kind="stable")[: np.count_nonzero(weights > 0)]),
            against=self._strongest(weights, np.argsort(weights, kind="stable")[: np.count_nonzero(weights < 0)]),
            sentences=self._carrying(weights),
        )

    def _strongest(self, weights: "NDArray[np.float64]", order: "NDArray[np.intp]") -> tuple[Contribution, ...]:
        chosen = order[: self._n_terms]
        found = []
        for position, weight in zip(chosen.tolist(), weights[chosen].tolist(), strict=True):
            term, phrases, spans = self._say(position)
            found.append(Contribution(term=term, phrases=phrases, weight=weight, spans=spans))
        return tuple(found)

    def _carrying(self, weights: "NDArray[np.float64]") -> tuple[Sentence, ...]:
        """Return the sentences that spoke for the label, strongest first."""
        shares = weights[self._term] / self._n_places[self._term] * self._counts
        sums = np.bincount(self._sentence, shares, len(self._sentences)).tolist()
        carrying = [(-total, *sentence) for total, sentence in zip(sums, self._sentences, strict=True) if total > 0]
        return tuple(Sentence(text, *origin, -total) for total, origin, text in sorted(carrying))

    def _words_of(self, position: int) -> tuple[str, tuple[str, ...], tuple[Span, ...]]:
        """Return a term, what stands there in lower case, and where in the original, each once, in order."""
        places = self._places[position]
        return (
            self._model.vectorizer.terms[self._indices[position]],
            tuple(dict.fromkeys(self._text[start:end].lower() for start, end in places)),
            tuple(dict.fromkeys(self._to_original(*place) for place in places)),
        )

    def _to_original(self, start: int, end: int) -> Span:
        start, end = self._normal.to_original(start, end)
        if self._offsets is None:
            return start, end
        if start >= self._lead:
            start, end = start - self._lead, end - self._lead
        return self._offsets.to_original(start, min(end, self._length))


def _is_leftover(text: Text) -> bool:
    """Say whether so little of a page is left after cleaning that it was hardly an article."""
    if not isinstance(text, Article):
        return False
    kept = sum(run[3] for run in text.offsets.runs)
    return kept < MIN_KEPT_SHARE * len("".join(text.original.split()))


def _sigmoid(logits: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Return the logistic function, written so that no logit overflows."""
    half = np.float32(0.5)
    probabilities: NDArray[np.float32] = half * (1 + np.tanh(half * logits))
    return probabilities
