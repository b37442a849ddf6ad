"""
What is wrong with a corpus, before a model learns it.

    examples --count----> articles per label and pair of labels, lengths, labels nobody gave
             --compare--> articles made from each other, in the corpus and across corpora
             --fit------> labels that a small fit would not give, names and years it learnt by heart

Faults are what training must not start with: near-duplicates, leaks, labels without examples. All else is for a reader
to judge. The fit here is deliberately plain and has no part in any model.
Longer than most modules because every check stands beside the values it reports.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from classifier.article import normalise, sentence_spans
from classifier.examples import Example, truth_table
from classifier.taxonomy import Taxonomy

Progress = Callable[[str, int, int], None]
NEAR_DUPLICATE = 0.05  # Jaccard of word 5-grams; articles written apart share less than a hundredth
FEW_EXAMPLES = 5  # with fewer, neither learning nor measuring means anything
MAX_LISTED = 1000  # pairs of articles; formulaic corpora have more of them than anybody reads
_GRAM = 5
_WORST = 20
_TOP_TERMS = 30
_TOP_PAIRS = 20
_FOLDS = 5
_MIN_TO_FIT = 2 * _FOLDS
_NAME_SHARE = 0.8
_NAME_MIN = 2  # occurrences in mid-sentence; one alone shows no habit
_BLOCK = 256  # articles compared with all others at once: bounds memory
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_WORD = re.compile(r"\w+")
_CASED_WORD = re.compile(r"[^\W\d_]\w+")
# As in models, but with years: a corpus whose years give labels away misleads every other learner too.
_TERM = r"(?u)\b(?:[^\W\d_]\w+|(?:18|19|20)\d\d)\b"
_YEAR = re.compile(r"(?:18|19|20)\d\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetCounts:
    """
    How one facet is labelled.

    Attributes:
        labels: articles per label, in the order of the taxonomy.
        without: articles that were judged and carry none of its labels.
        undecided: articles for which all of its labels are unknown.
    """

    labels: dict[str, int]
    without: int
    undecided: int


@dataclass(frozen=True, slots=True, order=True)
class Overlap:
    """
    Two articles and the share of their word 5-grams that both have.

    Attributes:
        jaccard: in [0, 1].
        first: an article of the corpus.
        second: another one of it, or of a corpus it is compared with.
        corpus: the name of that corpus; empty for the corpus itself.
    """

    jaccard: float
    first: str
    second: str
    corpus: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Doubt:
    """A label of an article, given or not, and what a fit that had not seen the article would score it, in [0, 1]."""

    score: float
    label: str
    article: str


@dataclass(frozen=True, slots=True)
class NameTerm:
    """
    A strong term of a label that looks like a name or a year.

    Attributes:
        label: whose.
        rank: from 1, the strongest.
        term: one word or two.
        kind: ``name`` or ``year``.
    """

    label: str
    rank: int
    term: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusReport:
    """
    What `check_corpus` found.

    Attributes:
        articles: how many.
        unlabelled: how many carry no label of any facet.
        facets: counts, by facet id.
        pairs: (label of the first facet, label of the second, articles with both), the most frequent ones.
        words: words per article: percentile to count.
        largest_overlap: between any two articles of the corpus; None with fewer than two.
        near_duplicates: pairs from `NEAR_DUPLICATE` on, the worst first, `MAX_LISTED` at most.
        n_near_duplicates: all of them.
        leaks: the same between the corpus and others.
        n_leaks: all of them.
        missing: labels without a single example.
        rare: labels with some, but fewer than `FEW_EXAMPLES`.
        doubtful_given: labels that are given but score low out of fold, the worst first.
        doubtful_absent: labels that are not given but score high.
        name_terms: by label and rank.
        has_capitals: whether the texts have capitals at all; without them no name can be told.
        has_fit: whether there was enough to fit.
    """

    articles: int
    unlabelled: int
    facets: dict[str, FacetCounts]
    pairs: tuple[tuple[str, str, int], ...]
    words: dict[int, int]
    largest_overlap: Overlap | None
    near_duplicates: tuple[Overlap, ...]
    n_near_duplicates: int
    leaks: tuple[Overlap, ...]
    n_leaks: int
    missing: tuple[str, ...]
    rare: tuple[str, ...]
    doubtful_given: tuple[Doubt, ...]
    doubtful_absent: tuple[Doubt, ...]
    name_terms: tuple[NameTerm, ...]
    has_capitals: bool
    has_fit: bool

    @property
    def faults(self) -> tuple[str, ...]:
        """What training must not start with, one sentence each."""
        found = []
        if self.n_near_duplicates:
            found.append(f"{self.n_near_duplicates} pairs of articles are near-duplicates")
        if self.n_leaks:
            found.append(f"{self.n_leaks} pairs of articles leak between corpora")
        if self.missing:
            found.append(f"{len(self.missing)} labels have no example: {', '.join(self.missing)}")
        return tuple(found)

    def to_record(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return {**asdict(self), "faults": list(self.faults)}


def check_corpus(
    examples: Sequence[Example],
    taxonomy: Taxonomy,
    *,
    against: Mapping[str, Sequence[Example]] | None = None,
    seed: int = 0,
    n_jobs: int = -1,
    on_progress: Progress | None = None,
) -> CorpusReport:
    """
    Look at a corpus from all sides.

    Args:
        examples: the corpus; at least one, ids unique.
        taxonomy: facets and labels.
        against: other corpora by name, e.g. the one kept for testing: nothing may stand in both.
        seed: decides the folds.
        n_jobs: processes, as in joblib; has no influence on the result.
        on_progress: called with a step's name, how much of it is done, and its size.
    """
    report = on_progress or (lambda _step, _done, _size: None)
    counts = {facet.id: _count_facet(examples, facet.label_ids) for facet in taxonomy}
    support = {label: count for facet in counts.values() for label, count in facet.labels.items()}
    near, n_near, largest = _overlaps(examples, against or {}, report)
    given, absent, terms = _fit(examples, taxonomy.label_ids, seed, n_jobs, report)
    names, has_capitals = _find_names(examples)
    lengths = [len(_WORD.findall(example.text)) for example in examples]
    return CorpusReport(
        articles=len(examples),
        unlabelled=sum(not example.labels for example in examples),
        facets=counts,
        pairs=_label_pairs(examples, taxonomy),
        words={q: int(value) for q, value in zip(_QUANTILES, np.percentile(lengths, _QUANTILES), strict=True)},
        largest_overlap=largest,
        near_duplicates=tuple(pair for pair in near if not pair.corpus)[:MAX_LISTED],
        n_near_duplicates=n_near[0],
        leaks=tuple(pair for pair in near if pair.corpus)[:MAX_LISTED],
        n_leaks=n_near[1],
        missing=tuple(label for label, count in support.items() if not count),
        rare=tuple(label for label, count in support.items() if 0 < count < FEW_EXAMPLES),
        doubtful_given=given,
        doubtful_absent=absent,
        name_terms=_name_terms(terms, names),
        has_capitals=has_capitals,
        has_fit=bool(terms),
    )


# -- counts ----------------------------------------------------------------------------------------------------------


def _count_facet(examples: Sequence[Example], labels: Sequence[str]) -> FacetCounts:
    counts = Counter(label for example in examples for label in example.labels)
    undecided = [example.unknown.issuperset(labels) for example in examples]
    bare = [example.labels.isdisjoint(labels) for example in examples]
    return FacetCounts(
        labels={label: counts[label] for label in labels},
        without=sum(b and not u for b, u in zip(bare, undecided, strict=True)),
        undecided=sum(undecided),
    )


def _label_pairs(examples: Sequence[Example], taxonomy: Taxonomy) -> tuple[tuple[str, str, int], ...]:
    if len(taxonomy.facets) < 2:  # noqa: PLR2004 - a pair needs two
        return ()
    first, second = (facet.label_ids for facet in taxonomy.facets[:2])
    counts = Counter(
        (a, b) for example in examples for a in first if a in example.labels for b in second if b in example.labels
    )
    return tuple((a, b, count) for (a, b), count in counts.most_common(_TOP_PAIRS))


# -- near-duplicates -------------------------------------------------------------------------------------------------


def _overlaps(
    examples: Sequence[Example], against: Mapping[str, Sequence[Example]], report: Progress
) -> tuple[list[Overlap], tuple[int, int], Overlap | None]:
    """Return overlaps from the limit on, worst first; how many inside and across; and the largest one inside."""
    n_own = len(examples)
    rows = [*examples, *(example for others in against.values() for example in others)]
    corpus_of = [""] * n_own + [name for name, others in against.items() for _ in others]
    grams = _gram_table([example.text for example in rows])
    sizes = np.diff(grams.indptr)
    across = grams.T.tocsr()
    found: list[Overlap] = []
    counts, largest = [0, 0], None
    for start in range(0, n_own, _BLOCK):
        stop = min(start + _BLOCK, n_own)
        shared = (grams[start:stop] @ across).tocoo()
        first, second = shared.row + start, shared.col
        jaccard = shared.data / (sizes[first] + sizes[second] - shared.data)
        inside = (first < second) & (second < n_own)
        if inside.any():
            best = int(np.flatnonzero(inside)[np.argmax(jaccard[inside])])
            pair = Overlap(float(jaccard[best]), rows[first[best]].id, rows[second[best]].id)
            largest = max(pair, largest) if largest else pair
        for side, mask in enumerate((inside, second >= n_own)):
            near = np.flatnonzero(mask & (jaccard >= NEAR_DUPLICATE))
            counts[side] += len(near)
            found += [
                Overlap(round(float(jaccard[i]), 4), rows[first[i]].id, rows[second[i]].id, corpus_of[second[i]])
                for i in near[np.argsort(-jaccard[near], kind="stable")][:MAX_LISTED]
            ]
        report("comparing", stop, n_own)
    found.sort(key=lambda pair: (-pair.jaccard, pair.first, pair.second))
    if largest is None and n_own > 1:
        largest = Overlap(0.0, rows[0].id, rows[1].id)
    return found, (counts[0], counts[1]), largest


def _gram_table(texts: Iterable[str]) -> csr_matrix:
    """Return which word 5-grams each text has: int32 ones, (n_texts, n_grams); a shorter text is one gram."""
    number_of: dict[tuple[str, ...], int] = {}
    indices: list[int] = []
    ends = [0]
    for text in texts:
        words = _WORD.findall(text.lower())
        grams = {tuple(words[i : i + _GRAM]) for i in range(max(1, len(words) - _GRAM + 1))}
        indices += [number_of.setdefault(gram, len(number_of)) for gram in grams]
        ends.append(len(indices))
    return csr_matrix((np.ones(len(indices), np.int32), indices, ends), shape=(len(ends) - 1, len(number_of)))


# -- a small fit -----------------------------------------------------------------------------------------------------


def _fit(
    examples: Sequence[Example], labels: Sequence[str], seed: int, n_jobs: int, report: Progress
) -> tuple[tuple[Doubt, ...], tuple[Doubt, ...], dict[str, list[str]]]:
    """Return doubtful labels (given, absent) and the strongest terms per label; labels with few examples have none."""
    positive, known = truth_table(examples, labels)
    enough = (positive & known).sum(axis=0) >= FEW_EXAMPLES
    columns = np.flatnonzero(enough & ((~positive & known).sum(axis=0) >= FEW_EXAMPLES)).tolist()
    if len(examples) < _MIN_TO_FIT or not columns:
        return (), (), {}
    vectorizer = TfidfVectorizer(token_pattern=_TERM, ngram_range=(1, 2), sublinear_tf=True, min_df=2, dtype=np.float32)
    try:
        matrix = vectorizer.fit_transform([normalise(example.text) for example in examples])
    except ValueError:  # no two texts share a word
        return (), (), {}
    folds = np.random.default_rng(seed).permutation(np.arange(len(examples)) % _FOLDS)
    run = Parallel(n_jobs=n_jobs, return_as="generator")
    work = (delayed(_score_label)(matrix, positive[:, k], known[:, k], folds) for k in columns)
    vocabulary = vectorizer.get_feature_names_out()
    given: list[Doubt] = []
    absent: list[Doubt] = []
    terms: dict[str, list[str]] = {}
    for done, (column, (scores, strongest)) in enumerate(zip(columns, run(work), strict=True), start=1):
        label = labels[column]
        terms[label] = [str(vocabulary[i]) for i in strongest]
        is_wrong = known[:, column] & (positive[:, column] != (scores > 0.5))  # noqa: PLR2004 - the middle
        for row in np.flatnonzero(is_wrong).tolist():
            side = given if positive[row, column] else absent
            side.append(Doubt(round(float(scores[row]), 4), label, examples[row].id))
        report("fitting", done, len(columns))
    absent.sort(key=lambda doubt: (-doubt.score, doubt.label, doubt.article))
    return tuple(sorted(given)[:_WORST]), tuple(absent[:_WORST]), terms


def _score_label(
    matrix: csr_matrix, positive: NDArray[np.bool_], known: NDArray[np.bool_], folds: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return out-of-fold probabilities, shape (n_examples,), and the terms that speak most for the label."""

    def fit(rows: NDArray[np.bool_]) -> LogisticRegression:
        regression = LogisticRegression(C=8.0, solver="liblinear", class_weight="balanced", random_state=0)
        return regression.fit(matrix[rows], positive[rows])

    scores = np.full(len(positive), 0.5)
    for fold in range(_FOLDS):
        rows, held = known & (folds != fold), folds == fold
        if positive[rows].any() and not positive[rows].all():  # else one fold has all there is: nothing to say
            scores[held] = fit(rows).predict_proba(matrix[held])[:, 1]
    coefficients = fit(known).coef_[0]
    strongest = np.argsort(-coefficients, kind="stable")[:_TOP_TERMS]
    return scores, strongest[coefficients[strongest] > 0]


# -- names and years -------------------------------------------------------------------------------------------------


def _find_names(examples: Iterable[Example]) -> tuple[set[str], bool]:
    """
    Return the words, in lower case, that stand capitalised in mid-sentence nearly always, and whether any word does.

    Abbreviations in capitals are no names. Headlines and other lines that capitalise most words tell nothing.
    """
    forms: dict[str, Counter[str]] = {}
    for example in examples:
        for start, end in sentence_spans(example.text):
            for word in _inner_words(example.text[start:end]):
                forms.setdefault(word.lower(), Counter())[_form(word)] += 1
    names = {
        word
        for word, count in forms.items()
        if count["capitalised"] >= _NAME_MIN
        and count["capitalised"] > count["abbreviation"]
        and count["plain"] < (1 - _NAME_SHARE) * count.total()
    }
    return names, any(count["capitalised"] for count in forms.values())


def _form(word: str) -> str:
    if not word[0].isupper():
        return "plain"
    # GWh is an abbreviation like US, PetroChina a name.
    n_capitals = sum(char.isupper() for char in word)
    return "abbreviation" if n_capitals > 1 and 2 * n_capitals >= len(word) else "capitalised"


def _inner_words(sentence: str) -> list[str]:
    """Return the words after which a capital is a choice: not the first, not after a quotation mark or colon."""
    found = list(_CASED_WORD.finditer(sentence))
    inner = [
        word for word in found[1:] if not re.search(r"[\"'\u201c\u2018(:;\u2013\u2014-]\s*$", sentence[: word.start()])
    ]
    capitals = sum(word[0][0].isupper() for word in inner)
    return [word[0] for word in inner] if 2 * capitals <= len(inner) else []


def _name_terms(terms: Mapping[str, Sequence[str]], names: set[str]) -> tuple[NameTerm, ...]:
    found = []
    for label, strongest in terms.items():
        for rank, term in enumerate(strongest, start=1):
            words = term.split()
            if any(_YEAR.fullmatch(word) for word in words):
                found.append(NameTerm(label, rank, term, "year"))
            elif not names.isdisjoint(words):
                found.append(NameTerm(label, rank, term, "name"))
    return tuple(found)
