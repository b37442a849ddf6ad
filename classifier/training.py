"""
Labelled examples in, a calibrated linear classifier out.

    examples --folds--> out-of-fold scores --> calibration and bands
             --fit----> weights, with the calibration folded in --> Model (pure data) and a scikit-learn pipeline that
             computes the same

One binary logistic regression per label on shared tf-idf features, scaled per label by log-count ratios. Examples
whose label is unknown do not take part in that label's fit. Everything that turns scores into decisions (Platt's
sigmoid, the bands) is fitted on out-of-fold scores of the examples themselves.

*Background* examples, of another genre and labelled by other people, have no say in the decisions. A regression of
their own gives every text one score per label, and that score stands as one more, small feature beside the words: where
the background is right about the genre the fit leans on it, where it is not the fit leaves it. Mixed with the examples
instead, at any weight, the background's other habits of labelling cost more than its words bring (Hal Daumé III,
"Frustratingly Easy Domain Adaptation" (2007), calls the score as a feature PRED). Being linear it disappears into the
weights.

Platt: "Probabilistic Outputs for Support Vector Machines" (1999), with his smoothed targets. The sigmoid of a linear
score is again a linear score, so it disappears into weights and intercepts.

Longer than most modules because fit, calibration and bands are one procedure.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn import config_context
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import LabelBinarizer

from classifier.counting import TermCounts, Weighing
from classifier.errors import CorpusError
from classifier.examples import Example, truth_table
from classifier.features import WORDS, WORDS_AND_PAIRS, NgramRange, TermVectorizer, vectorizer_settings
from classifier.lexicon import NO_LEXICON, Lexicon
from classifier.model import Model
from classifier.rows import Rows
from classifier.tags import Bands
from classifier.taxonomy import Taxonomy

Progress = Callable[[str, int, int], None]
_Parallel = Callable[[Iterable[Any]], Iterable[Any]]  # what joblib.Parallel is to us


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """
    How to train.

    Attributes:
        ngram_range: (1, 1) for words, (1, 2) for words and pairs of words; None means words where a lexicon finds the
            phrases that matter, and pairs where there is none.
        min_df: a term must stand in so many examples.
        max_terms: the terms with the largest weights are kept, so many at most.
        inverse_regularisation: C of the logistic regression.
        ratio_power: terms are scaled by their log-count ratio to this power; 0 leaves them as they are.
        background_scale: standard deviation of the background's score as a feature; tf-idf vectors have length 1. The
            smaller, the less the fit leans on it.
        background_inverse_regularisation: C of the background's own regression.
        folds: for out-of-fold scores; whole sources are held out when there are enough of them.
        alert_precision: out-of-fold precision from which on there is an alert band. More than the nine in ten that
            alerts promise, because new articles are less like the corpus than its folds are like each other.
        alert_min_score: no alert below this score, however clean a corpus looks there: on real pages it was there that
            alerts were wrong.
        relevance_loss: this share of examples with a label may be taken for off-topic.
        relevance_min_negatives: with fewer examples without any label nothing is called off-topic.
        alert_min_positives: labels with fewer positive examples get no alert band.
        n_jobs: processes, as in joblib; -1 for all cores. Has no influence on the result. To start them takes longer
            than a few thousand texts do in one.
    """

    ngram_range: NgramRange | None = None
    min_df: int = 3
    max_terms: int = 40_000
    inverse_regularisation: float = 8.0
    ratio_power: float = 0.35
    background_scale: float = 0.03
    background_inverse_regularisation: float = 0.3
    folds: int = 5
    alert_precision: float = 0.93
    alert_min_score: float = 0.8
    relevance_loss: float = 0.025
    relevance_min_negatives: int = 30
    alert_min_positives: int = 10
    n_jobs: int = 1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Training:
    """
    What training gives.

    Attributes:
        model: ready to use.
        pipeline: the same as fitted scikit-learn objects of standard classes.
        out_of_fold: float64 of shape (n_examples, n_labels): calibrated scores of each example from a fit that had not
            seen it.
        off_topic: bool of shape (n_examples,): examples that such a fit took for off-topic.
        support: positive examples per label, background included.
    """

    model: Model
    pipeline: Pipeline
    out_of_fold: NDArray[np.float64]
    off_topic: NDArray[np.bool_]
    support: dict[str, int]

    @property
    def decided_scores(self) -> NDArray[np.float64]:
        """`out_of_fold` with nothing left of the examples taken for off-topic: they would have had no tags."""
        return np.where(self.off_topic[:, np.newaxis], 0.0, self.out_of_fold)


def train(
    examples: Sequence[Example],
    taxonomy: Taxonomy,
    *,
    background: Sequence[Example] = (),
    lexicon: Lexicon = NO_LEXICON,
    spec: TrainingSpec | None = None,
    seed: int = 0,
    name: str = "model",
    on_progress: Progress | None = None,
) -> Training:
    """
    Train a model.

    Args:
        examples: labelled texts of the genre the model is for.
        taxonomy: facets and labels.
        background: labelled texts of another genre.
        lexicon: phrases per label, for concept terms; its labels need not be all of the taxonomy's.
        spec: how to train; the defaults suit some thousand articles.
        seed: decides the folds. The same data, spec and seed give the same model id.
        name: the model's name.
        on_progress: called with a step's name, how much of it is done, and its size.

    Raises:
        CorpusError: too few examples, or a label without positive or without negative ones here or in *background*.
    """
    spec = spec or TrainingSpec()
    ngram_range = spec.ngram_range or (WORDS if lexicon.entries else WORDS_AND_PAIRS)
    spec = replace(spec, ngram_range=ngram_range)
    labels = taxonomy.label_ids
    data = _Data.gather(examples, background, labels, lexicon, spec, seed)
    _check(data, labels, spec)
    run = Parallel(n_jobs=spec.n_jobs, return_as="generator")  # in processes: liblinear has one source of chance
    fitted = _with_relevance(data, spec)
    raw = _out_of_fold(fitted, spec, run, on_progress)
    raw, relevance = raw[:, :-1], raw[:, -1]
    sigmoids = _fit_sigmoids(raw, data)
    calibrated = _logistic(raw * sigmoids[:, 0] + sigmoids[:, 1])
    everything = np.arange(data.n_own)
    weighing, coefficients, intercepts = _fit(fitted, everything, spec, run, _step(on_progress, "fit", len(labels) + 1))
    keep = _strongest(coefficients, spec.max_terms)
    # The sigmoid of label k is folded into column k. Scores of the final fit are a little more extreme than those of
    # the folds; that is left.
    offsets = (intercepts[:-1] * sigmoids[:, 0] + sigmoids[:, 1]).astype(np.float32)
    terms = [data.counts.terms[column] for column in weighing.columns[keep]]
    idf = weighing.idf[keep].astype(np.float32)
    bands = decide_bands(calibrated, data.positive[: data.n_own], data.known[: data.n_own], labels, spec)
    limit = _relevance_limit(relevance, fitted, spec)
    model = Model(
        name=name,
        id="",
        taxonomy=taxonomy,
        bands=bands,
        lexicon=lexicon,
        vectorizer=TermVectorizer(terms, idf, ngram_range),
        rows=Rows.of(coefficients[keep, :-1] * sigmoids[:, 0], coefficients[keep, -1]),
        intercepts=offsets,
        relevance_intercept=float(np.float32(intercepts[-1] - limit)),
    )
    model = replace(model, id=_model_id(model))
    support = dict(zip(labels, (data.positive & data.known).sum(axis=0).tolist(), strict=True))
    return Training(
        model=model,
        pipeline=build_pipeline(model),
        out_of_fold=calibrated,
        off_topic=relevance < limit,
        support=support,
    )


def build_pipeline(model: Model) -> Pipeline:
    """
    Return scikit-learn objects that compute what *model* computes.

    ``pipeline.predict_proba([model.prepare(text), ...])`` has shape (n_articles, n_labels) and equals
    ``model.score([text, ...]).values`` to 1e-4. Only standard classes are inside, so the pickle needs nothing of ours.
    """
    vectorizer = TfidfVectorizer(
        **vectorizer_settings(model.vectorizer.ngram_range),
        vocabulary={term: i for i, term in enumerate(model.vectorizer.terms)},
    )
    vectorizer.idf_ = model.vectorizer.idf.astype(np.float64)
    weights = model.weights
    n_terms, n_labels = weights.shape
    classifier = OneVsRestClassifier(LogisticRegression())
    classifier.n_features_in_ = n_terms
    # As after a fit on an indicator matrix: several labels at once, each with its own column.
    classifier.label_binarizer_ = LabelBinarizer(sparse_output=True).fit(
        np.eye(max(2, n_labels), dtype=int)[:, :n_labels]
    )
    classifier.estimators_ = [_fitted_regression(weights[:, k], model.intercepts[k]) for k in range(n_labels)]
    return make_pipeline(vectorizer, classifier)


def _fitted_regression(coefficients: NDArray[np.float32], intercept: np.float32) -> LogisticRegression:
    regression = LogisticRegression()
    regression.classes_ = np.array([0, 1])
    regression.coef_ = coefficients[np.newaxis, :]
    regression.intercept_ = np.array([intercept])
    regression.n_features_in_ = len(coefficients)
    return regression


def decide_bands(
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    known: NDArray[np.bool_],
    labels: Sequence[str],
    spec: TrainingSpec,
) -> dict[str, Bands]:
    """
    Choose each label's limits on out-of-fold scores.

    The review limit is where F1 is best, drawn towards the limit that is best for all labels together the fewer
    positives a label has. The alert limit is the lowest score above which precision stays at *spec.alert_precision*,
    after one wrong alert has been added to what was seen; a label with too few positives, or one that never gets
    there, has none. No alert limit is below *spec.alert_min_score*.
    """
    everything = known.ravel()
    overall = _best_f1_limit(scores.ravel()[everything], positive.ravel()[everything])
    bands = {}
    for column, label in enumerate(labels):
        mask = known[:, column]
        values, truth = scores[mask, column], positive[mask, column]
        n_positive = int(truth.sum())
        trust = n_positive / (n_positive + 20)  # twenty positives: half the label's own limit, half the common one
        review = trust * _best_f1_limit(values, truth) + (1 - trust) * overall if n_positive else overall
        alert = _precise_limit(values, truth, spec.alert_precision) if n_positive >= spec.alert_min_positives else None
        bands[label] = Bands(
            None if alert is None else round(max(alert, review, spec.alert_min_score), 4), round(review, 4)
        )
    return bands


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """
    Terms and truth of the examples, then of the background.

    Attributes:
        folds: int64 of shape (n_own,): which fold an example belongs to.
        weights: float64 of shape (n_texts,): how much each counts in a fit; None when all count the same.
    """

    counts: TermCounts
    positive: NDArray[np.bool_]
    known: NDArray[np.bool_]
    folds: NDArray[np.int64]
    n_own: int
    weights: NDArray[np.float64] | None

    @classmethod
    def gather(
        cls,
        examples: Sequence[Example],
        background: Sequence[Example],
        labels: Sequence[str],
        lexicon: Lexicon,
        spec: TrainingSpec,
        seed: int,
    ) -> "_Data":
        folds = _deal_folds([example.source for example in examples], spec.folds, seed)
        rows = [*examples, *background]
        positive, known = truth_table(rows, labels)
        counts = TermCounts.of([row.text for row in rows], lexicon, spec.ngram_range or WORDS, spec.min_df)
        weights = np.array([row.weight for row in rows])
        return cls(counts, positive, known, folds, len(examples), None if (weights == 1.0).all() else weights)

    def truth(self, rows: NDArray[np.int64], column: int) -> "_Truth":
        """Return what is known of one label in some of the texts."""
        weights = None if self.weights is None else self.weights[rows]
        return self.positive[rows, column], self.known[rows, column], weights


def _with_relevance(data: _Data, spec: TrainingSpec) -> _Data:
    """
    Return the data with one more column: does the text have any label?

    Unknown of background, which shows no off-topic texts of the genre; of texts without a label most of whose labels
    are unknown; and of all when too few examples have none.
    """
    has_any = data.positive.any(axis=1)
    is_own = np.arange(len(data.positive)) < data.n_own
    is_decided = is_own & (has_any | (data.known.mean(axis=1) >= 0.5))  # noqa: PLR2004 - half of the labels
    is_enough = int((~has_any & is_decided).sum()) >= spec.relevance_min_negatives
    return replace(
        data,
        positive=np.column_stack([data.positive, has_any]),
        known=np.column_stack([data.known, is_decided & is_enough]),
    )


def _relevance_limit(relevance: NDArray[np.float64], data: _Data, spec: TrainingSpec) -> float:
    """Return the out-of-fold sum below which a text is off-topic; so low that none is when nothing could be learnt."""
    own = slice(0, data.n_own)
    relevant = data.known[own, -1] & data.positive[own, -1]
    return float(np.quantile(relevance[relevant], spec.relevance_loss)) if relevant.any() else -1e6


def _deal_folds(sources: Sequence[str], n_folds: int, seed: int) -> NDArray[np.int64]:
    """
    Return the fold of each example: all examples of a source in one, when there are at least two sources per fold.

    Texts of one source share habits of their writers; examples dealt one by one would be tried on their own siblings
    and look better than any new article will.
    """
    names, group = np.unique(np.array(sources, dtype=str), return_inverse=True)
    if len(names) < 2 * n_folds:
        group = np.arange(len(sources))
    fold_of_group = np.random.default_rng(seed).permutation(np.arange(int(group.max(initial=-1)) + 1) % n_folds)
    return fold_of_group[group]


def _check(data: _Data, labels: Sequence[str], spec: TrainingSpec) -> None:
    if data.n_own < 2 * spec.folds:
        raise CorpusError("corpus", f"at least {2 * spec.folds} examples needed, got {data.n_own}")
    for column, label in enumerate(labels):
        for wanted, count in (
            ("positive", (data.positive & data.known)[:, column].sum()),
            ("negative", (~data.positive & data.known)[:, column].sum()),
        ):
            if not count:
                raise CorpusError(
                    "corpus", f"label {label!r} has no {wanted} example; add some, or take it out of the taxonomy"
                )


def _step(on_progress: Progress | None, name: str, size: int, before: int = 0) -> Callable[[int], None]:
    return (lambda done: on_progress(name, before + done, size)) if on_progress else (lambda _done: None)


def _out_of_fold(
    data: _Data, spec: TrainingSpec, run: "_Parallel", on_progress: Progress | None
) -> NDArray[np.float64]:
    """Return the linear score of each example from a fit that had not seen its fold."""
    raw = np.zeros((data.n_own, data.positive.shape[1]))
    total = spec.folds * data.positive.shape[1]
    for number in range(spec.folds):
        held, rows = np.flatnonzero(data.folds == number), np.flatnonzero(data.folds != number)
        report = _step(on_progress, "cross-validation", total, number * data.positive.shape[1])
        weighing, coefficients, intercepts = _fit(data, rows, spec, run, report)
        raw[held] = data.counts.weigh(held, weighing) @ coefficients + intercepts
    return raw


def _fit(
    data: _Data, rows: NDArray[np.int64], spec: TrainingSpec, run: "_Parallel", report: Callable[[int], None]
) -> tuple[Weighing, NDArray[np.float64], NDArray[np.float64]]:
    """Fit one regression per label on *rows*: coefficients (n_terms, n_labels), intercepts (n_labels,)."""
    weighing = data.counts.fit(rows, spec.min_df)
    matrix = data.counts.weigh(rows, weighing)
    others = np.arange(data.n_own, len(data.positive))
    background = data.counts.weigh(others, weighing)
    columns = []
    jobs = (
        delayed(_fit_label)(
            matrix,
            data.truth(rows, k),
            background,
            data.truth(others, k),
            spec,
        )
        for k in range(data.positive.shape[1])
    )
    for done, column in enumerate(run(jobs), start=1):
        columns.append(column)
        report(done)
    coefficients, intercepts = zip(*columns, strict=True)
    return weighing, np.stack(coefficients, axis=1), np.array(intercepts)


# Is positive, is known, weight (None: all the same); of shape (n_texts,) each.
_Truth = tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64] | None]


@dataclass(frozen=True, slots=True, eq=False)
class _Labelled:
    """Texts as term vectors, shape (n_texts, n_terms), with the truth about one label."""

    matrix: csr_matrix
    target: NDArray[np.bool_]
    known: NDArray[np.bool_]
    weights: NDArray[np.float64] | None

    def known_rows(self) -> "_Labelled":
        """Return what is known: a copy, made where it is needed; all labels share one matrix on the way."""
        if self.known.all():
            return self
        weights = None if self.weights is None else self.weights[self.known]
        return _Labelled(self.matrix[self.known], self.target[self.known], self.known[self.known], weights)

    @property
    def is_one_sided(self) -> bool:
        """Are there no positives, or no negatives?"""
        return bool(self.target.all() or not self.target.any())


def _fit_label(
    own_matrix: csr_matrix,
    own_truth: _Truth,
    background_matrix: csr_matrix,
    background_truth: _Truth,
    spec: TrainingSpec,
) -> tuple[NDArray[np.float64], float]:
    """
    Fit one label.

    The matrices are arguments of their own because they are the same for all labels: a cluster is sent them once.
    """
    own = _Labelled(own_matrix, *own_truth).known_rows()
    background = _Labelled(background_matrix, *background_truth).known_rows()
    if own.is_one_sided:  # a fold can lose all positives of a rare label: no evidence either way
        return np.zeros(own.matrix.shape[1]), -4.0
    if background.is_one_sided:
        return _regress(own, spec.inverse_regularisation, spec.ratio_power)
    prior, _ = _regress(background, spec.background_inverse_regularisation, spec.ratio_power)
    opinion = own.matrix @ prior
    prior *= spec.background_scale / max(float(opinion.std()), 1e-9)
    coefficients, intercept = _regress(own, spec.inverse_regularisation, spec.ratio_power, own.matrix @ prior)
    # An opinion that is wrong more often than right is chance, not knowledge.
    return coefficients[:-1] + max(float(coefficients[-1]), 0.0) * prior, intercept


def _regress(
    texts: _Labelled,
    inverse_regularisation: float,
    ratio_power: float,
    opinion: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], float]:
    """Return coefficients and intercept; the last coefficient is that of the *opinion* when there is one."""
    matrix, target = texts.matrix, texts.target
    scale = np.abs(_log_count_ratio(matrix, target)) ** ratio_power
    scaled = csr_matrix((matrix.data * scale[matrix.indices], matrix.indices, matrix.indptr), matrix.shape)
    if opinion is not None:
        scaled = hstack([scaled, opinion[:, np.newaxis]], format="csr")
        scale = np.append(scale, 1.0)
    # In the dual, a variable per text and not per term: there are far fewer of them. Its end is as near as the primal's
    # with its default tolerance, within 0.001 of the exact sums.
    regression = LogisticRegression(
        C=inverse_regularisation,
        class_weight="balanced",
        solver="liblinear",
        dual=True,
        tol=1e-3,
        max_iter=5_000,
        random_state=0,
    )
    with config_context(
        assume_finite=True, skip_parameter_validation=True
    ):  # a fifth of the time of so many small fits
        regression.fit(scaled, target, sample_weight=texts.weights)
    return regression.coef_[0] * scale, float(regression.intercept_[0])


def _log_count_ratio(matrix: csr_matrix, target: NDArray[np.bool_]) -> NDArray[np.float64]:
    """
    Return the logarithm of how much more frequent each term is in positive than in negative examples, shape (n_terms,).

    Terms scaled by it make the regression look first where the label is distinctive, instead of adding up many words
    that are a little more frequent with it: Wang and Manning, "Baselines and Bigrams" (2012). We scale by a power of
    it, which loses less on labels with few examples.
    """
    is_positive = np.repeat(target, np.diff(matrix.indptr))
    in_positive, in_negative = (
        1.0 + np.bincount(matrix.indices[side], minlength=matrix.shape[1]) for side in (is_positive, ~is_positive)
    )
    ratio: NDArray[np.float64] = np.log(in_positive / in_positive.sum()) - np.log(in_negative / in_negative.sum())
    return ratio


def _fit_sigmoids(raw: NDArray[np.float64], data: _Data) -> NDArray[np.float64]:
    """Return slope and offset of Platt's sigmoid per label, (n_labels, 2); few positives lean on the common ones."""
    positive, known = data.positive[: data.n_own], data.known[: data.n_own]
    everything = known.ravel()
    common = _fit_sigmoid(raw.ravel()[everything], positive.ravel()[everything])
    sigmoids = np.tile(common, (raw.shape[1], 1))
    for column in range(raw.shape[1]):
        mask = known[:, column]
        truth = positive[mask, column]
        if truth.any() and not truth.all():
            trust = truth.sum() / (truth.sum() + 10)
            sigmoids[column] = trust * _fit_sigmoid(raw[mask, column], truth) + (1 - trust) * common
    return sigmoids


def _fit_sigmoid(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Fit slope and offset by Newton's method on Platt's smoothed targets; a positive slope keeps the order."""
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    design = np.stack([scores, np.ones_like(scores)], axis=1)
    theta = np.array([1.0, 0.0])
    for _ in range(100):
        probability = _logistic(design @ theta)
        gradient = design.T @ (probability - target) + 1e-3 * (theta - [1.0, 0.0])
        hessian = (design * (probability * (1 - probability))[:, np.newaxis]).T @ design + 1e-3 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta = theta - step * min(1.0, 2.0 / float(np.abs(step).max()))
        if np.abs(step).max() < 1e-8:  # noqa: PLR2004
            break
    return np.array([max(theta[0], 0.05), theta[1]])


def _logistic(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(0.5 * logits))


def _strongest(coefficients: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Return the positions of the terms with the largest weight for any label, in their old order."""
    if len(coefficients) <= size:
        return np.arange(len(coefficients))
    strength = np.abs(coefficients).max(axis=1)
    return np.sort(np.argsort(-strength, kind="stable")[:size])


def _best_f1_limit(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the limit with the best F1, in the middle of the gap below the last score it keeps."""
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(positive[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + positive.sum())
    return _between(ordered, int(np.argmax(f1)))


def _precise_limit(scores: NDArray[np.float64], positive: NDArray[np.bool_], precision: float) -> float | None:
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    good = np.flatnonzero(hits / (np.arange(len(order)) + 2) >= precision)
    return _between(scores[order], int(good[-1])) if len(good) else None


def _between(ordered: NDArray[np.float64], last: int) -> float:
    following = ordered[last + 1] if last + 1 < len(ordered) else 0.0
    return float((ordered[last] + following) / 2)


def _model_id(model: Model) -> str:
    """Digest everything that decides a tag: 12 hex digits."""
    digest = hashlib.sha256("\n".join(model.vectorizer.terms).encode())
    for array in (model.vectorizer.idf, model.rows.numbers, model.rows.scales, model.intercepts):
        digest.update(array.tobytes())
    facts = (
        [(facet.id, facet.plural, facet.needs, facet.label_ids) for facet in model.taxonomy],
        sorted((label, asdict(item)) for label, item in model.bands.items()),
        sorted((label, asdict(entry)) for label, entry in model.lexicon.entries.items()),
        model.relevance_intercept,
        model.vectorizer.ngram_range,
    )
    digest.update(repr(facts).encode())
    return digest.hexdigest()[:12]
