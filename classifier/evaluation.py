"""
How right tags are: counts, precision, recall and F1 per label and over labels, unknown labels masked.

Every average says what it is over. A label without positive examples has no recall and no F1; it is left out of macro
averages instead of counting as perfect or as failed. Intervals are 95 % bootstrap intervals over articles with a fixed
seed, so the same scores always give the same report. Longer than most modules because it is mostly the values a report
consists of; the arithmetic is in `classifier.measures`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from classifier.examples import Example, truth_table
from classifier.measures import (
    CalibrationBin,
    Flags,
    Floats,
    Interval,
    Point,
    average_precisions,
    calibration_bins,
    calibration_error,
    draw_weights,
    interval,
    mean_known,
    precision_recall_curve,
    shares,
)
from classifier.model import Explanation, Model, Span
from classifier.tags import Bands, founded
from classifier.taxonomy import Taxonomy

COVERAGE_CUTS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
# Per kind of error: as many as somebody reads.
MAX_ERRORS = 12
_MARKED_TERMS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMetrics:
    """
    One label: tags of both bands compared with the truth.

    Attributes:
        support: examples that carry the label.
        precision: None when nothing was tagged.
        recall: None without support.
        f1: None without support.
        alert_precision: of the tags in the alert band; None when there are none.
        alert_recall: share of the support that reaches the alert band.
        average_precision: of the scores, whatever the limits; None without support.
        intervals: of precision, recall, f1 and average_precision, by name; a value that is None has none.
        curve: (recall, precision) at falling scores.
    """

    label: str
    support: int
    tagged: int
    precision: float | None
    recall: float | None
    f1: float | None
    alert_precision: float | None
    alert_recall: float | None
    average_precision: float | None
    intervals: Mapping[str, Interval]
    curve: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetMetrics:
    """
    One facet.

    Attributes:
        macro_f1: mean over the labels with support.
        micro_f1: over all (example, label) pairs.
        alert_precision: over all tags in the alert band.
        alert_recall: share of all labels carried that reach it.
        macro_average_precision: mean over the labels with support.
        calibration_error: expected calibration error over all known cells.
        intervals: of the others but calibration_error, by name.
    """

    facet: str
    labels: tuple[LabelMetrics, ...]
    macro_f1: float | None
    micro_f1: float | None
    micro_precision: float | None
    micro_recall: float | None
    alert_precision: float | None
    alert_recall: float | None
    macro_average_precision: float | None
    calibration_error: float | None
    intervals: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """
    What is left when tags (of both bands) below *cut* are dropped.

    Attributes:
        tagged: tags left.
        kept: their share of all tags; None when there are none at all.
        precision: of the tags left; None when none is.
        recall: share of all labels carried that are among them.
    """

    cut: float
    tagged: int
    kept: float | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """
    Some of the examples: those of one source, or of one third by length.

    Attributes:
        kind: ``source`` or ``length``.
        support: labels they carry, over all facets.
        macro_f1: mean over the labels of all facets with support in the slice.
    """

    kind: str
    name: str
    n_examples: int
    support: int
    macro_f1: float | None
    micro_f1: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """
    How often *tagged* was tagged where *label* was the only label of the facet.

    Attributes:
        n_examples: examples that carry *label* alone and where *tagged* is known to be wrong.
    """

    facet: str
    label: str
    tagged: str
    count: int
    n_examples: int

    @property
    def share(self) -> float:
        """*count* of *n_examples*."""
        return self.count / self.n_examples


class ErrorKind(StrEnum):
    """Which way a tag was wrong."""

    FALSE_POSITIVE = "false_positive"
    FALSE_NEGATIVE = "false_negative"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelError:
    """
    A label that was tagged and is wrong, or is right and was not tagged.

    Attributes:
        row: the example's place in what was evaluated.
        id: the example's id.
    """

    kind: ErrorKind
    row: int
    id: str
    label: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    All facets.

    Attributes:
        n_examples: rows evaluated.
        off_topic: rows that carry no label at all.
        off_topic_tagged: how many of these got a tag of any band, unknown labels not counted.
        off_topic_rate: their share; None when there is no such row.
        calibration_error: expected calibration error over the known cells of all facets.
        calibration: the same cells by score.
        coverage: one per cut of `COVERAGE_CUTS`.
        slices: by source, then by length.
        confusions: most frequent first.
        errors: highest false positives first, then lowest false negatives, `MAX_ERRORS` of each.
    """

    n_examples: int
    off_topic: int
    off_topic_tagged: int
    off_topic_rate: float | None
    off_topic_interval: Interval | None
    facets: tuple[FacetMetrics, ...]
    calibration_error: float | None
    calibration: tuple[CalibrationBin, ...]
    coverage: tuple[Coverage, ...]
    slices: tuple[Slice, ...]
    confusions: tuple[Confusion, ...]
    errors: tuple[LabelError, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the report as plain JSON values without curves and errors, numbers rounded to four digits."""
        return {
            "n_examples": self.n_examples,
            "off_topic": self.off_topic,
            "off_topic_tagged": self.off_topic_tagged,
            "off_topic_rate": _rounded(self.off_topic_rate),
            "off_topic_interval": self.off_topic_interval and [_rounded(limit) for limit in self.off_topic_interval],
            "facets": {
                facet.facet: _record(facet, _FACET_FIELDS)
                | {"intervals": _interval_record(facet.intervals)}
                | {
                    "labels": {
                        item.label: _record(item, _LABEL_FIELDS) | {"intervals": _interval_record(item.intervals)}
                        for item in facet.labels
                    }
                }
                for facet in self.facets
            },
            "calibration_error": _rounded(self.calibration_error),
            "calibration": [_record(item, _BIN_FIELDS) for item in self.calibration],
            "coverage": [_record(item, _COVERAGE_FIELDS) for item in self.coverage],
            "slices": [_record(item, _SLICE_FIELDS) for item in self.slices],
        }


_FACET_FIELDS = (
    "macro_f1",
    "micro_f1",
    "micro_precision",
    "micro_recall",
    "alert_precision",
    "alert_recall",
    "macro_average_precision",
    "calibration_error",
)
_LABEL_FIELDS = (
    "support",
    "tagged",
    "precision",
    "recall",
    "f1",
    "alert_precision",
    "alert_recall",
    "average_precision",
)
_BIN_FIELDS = ("low", "high", "count", "mean_score", "positive_share")
_COVERAGE_FIELDS = ("cut", "tagged", "kept", "precision", "recall")
_SLICE_FIELDS = ("kind", "name", "n_examples", "support", "macro_f1", "micro_f1")


def _record(value: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: _rounded(getattr(value, name)) for name in names}


def _interval_record(intervals: Mapping[str, Interval]) -> dict[str, list[float | None]]:
    return {name: [_rounded(limit) for limit in limits] for name, limits in intervals.items()}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Table:
    """
    Tags and truth of a batch, every table of shape (n_examples, n_labels); unknown cells are False but in *known*.

    Attributes:
        scores: 0 in the rows a model abstained on.
    """

    scores: Floats
    tagged: Flags
    alerted: Flags
    positive: Flags
    known: Flags

    def columns(self, columns: slice) -> "Table":
        """Return the same for some labels."""
        names = ("scores", "tagged", "alerted", "positive", "known")
        return Table(**{name: getattr(self, name)[:, columns] for name in names})


def facet_columns(taxonomy: Taxonomy) -> Iterator[tuple[str, slice]]:
    """Yield each facet's id with its columns of the score table."""
    start = 0
    for facet in taxonomy:
        yield facet.id, slice(start, start + len(facet.labels))
        start += len(facet.labels)


def tag_table(model: Model, examples: Sequence[Example]) -> Table:
    """Tag *examples*; an article the model abstains on has no tags, and counts as scored 0."""
    texts = [example.text for example in examples]
    scores = model.score(texts).values.astype(np.float64)
    tagged, alerted = np.zeros(scores.shape, np.bool_), np.zeros(scores.shape, np.bool_)
    column = {label: k for k, label in enumerate(model.labels)}
    for row, article_tags in enumerate(model.tag_many(texts)):
        scores[row] *= article_tags.abstained is None
        for tag in article_tags:
            tagged[row, column[tag.label]] = True
            alerted[row, column[tag.label]] = tag.band == "alert"
    return _masked(scores, tagged, alerted, examples, model.labels)


def evaluate(model: Model, examples: Sequence[Example]) -> Report:
    """Compare the tags *model* gives with the labels of *examples*; an article the model abstains on has no tags."""
    return _measure(tag_table(model, examples), examples, model.taxonomy)


def measure(scores: Floats, examples: Sequence[Example], bands: Mapping[str, Bands], taxonomy: Taxonomy) -> Report:
    """Do what `evaluate` does for scores that are there already, of shape (n_examples, n_labels)."""
    labels = taxonomy.label_ids
    review = np.array([bands[label].review for label in labels])
    alert = np.array([np.inf if (limit := bands[label].alert) is None else limit for label in labels])
    is_founded = founded(scores, bands, taxonomy)
    tagged, alerted = is_founded & ((scores >= review) | (scores >= alert)), is_founded & (scores >= alert)
    return _measure(_masked(scores, tagged, alerted, examples, labels), examples, taxonomy)


def _masked(scores: Floats, tagged: Flags, alerted: Flags, examples: Sequence[Example], labels: Sequence[str]) -> Table:
    positive, known = truth_table(examples, labels)
    return Table(scores=scores, tagged=tagged & known, alerted=alerted & known, positive=positive & known, known=known)


def _measure(table: Table, examples: Sequence[Example], taxonomy: Taxonomy) -> Report:
    weights = draw_weights(len(examples))
    off_topic = ~table.positive.any(axis=1)
    strange = off_topic & table.tagged.any(axis=1)
    off_topic_rates = shares(weights @ strange, weights @ off_topic)
    columns = list(facet_columns(taxonomy))
    bins = calibration_bins(table.scores[table.known], table.positive[table.known])
    return Report(
        n_examples=len(examples),
        off_topic=int(off_topic.sum()),
        off_topic_tagged=int(strange.sum()),
        off_topic_rate=_value(off_topic_rates),
        off_topic_interval=interval(off_topic_rates),
        facets=tuple(
            _facet_metrics(facet, taxonomy.label_ids[where], table.columns(where), weights) for facet, where in columns
        ),
        calibration_error=calibration_error(bins),
        calibration=bins,
        coverage=tuple(_coverage(table, cut) for cut in COVERAGE_CUTS),
        slices=tuple(_slices(table, examples)),
        confusions=tuple(
            sorted(
                (
                    item
                    for facet, where in columns
                    for item in _confusions(facet, taxonomy.label_ids[where], table.columns(where))
                ),
                key=lambda item: (-item.share, -item.count),
            )
        ),
        errors=(
            *_worst(ErrorKind.FALSE_POSITIVE, table, examples, taxonomy.label_ids),
            *_worst(ErrorKind.FALSE_NEGATIVE, table, examples, taxonomy.label_ids),
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """
    Shares of one table under each row of *weights*: per label of shape (n_weights, n_labels), over all (n_weights,).

    NaN stands for a share of nothing.
    """

    table: Table
    weights: Floats
    _counts: dict[str, Floats] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        table, positive = self.table, self.table.positive
        flags = {
            "tagged": table.tagged,
            "alerted": table.alerted,
            "support": positive,
            "hits": table.tagged & positive,
            "alert_hits": table.alerted & positive,
        }
        object.__setattr__(self, "_counts", {name: self.weights @ cells for name, cells in flags.items()})

    def by_label(self) -> dict[str, Floats]:
        """Return precision, recall, f1, alert_precision, alert_recall per label."""
        return _rates(self._counts)

    def overall(self) -> dict[str, Floats]:
        """Return macro_f1 and the shares over all cells."""
        micro = _rates({name: counts.sum(axis=1) for name, counts in self._counts.items()})
        return {
            "macro_f1": mean_known(self.by_label()["f1"]),
            "micro_f1": micro["f1"],
            "micro_precision": micro["precision"],
            "micro_recall": micro["recall"],
            "alert_precision": micro["alert_precision"],
            "alert_recall": micro["alert_recall"],
        }


def _rates(counts: Mapping[str, Floats]) -> dict[str, Floats]:
    hits, support = counts["hits"], counts["support"]
    return {
        "precision": shares(hits, counts["tagged"]),
        "recall": shares(hits, support),
        "f1": np.where(support > 0, shares(2 * hits, counts["tagged"] + support), np.nan),
        "alert_precision": shares(counts["alert_hits"], counts["alerted"]),
        "alert_recall": shares(counts["alert_hits"], support),
    }


def _facet_metrics(facet: str, labels: Sequence[str], table: Table, weights: Floats) -> FacetMetrics:
    rates = Rates(table, weights)
    by_label = rates.by_label()
    by_label["average_precision"] = np.column_stack(
        [
            average_precisions(table.scores[known, k], table.positive[known, k], weights[:, known])
            for k, known in enumerate(table.known.T)
        ]
    )
    overall = rates.overall() | {"macro_average_precision": mean_known(by_label["average_precision"])}
    rows = []
    for k, label in enumerate(labels):
        own, known = {name: values[:, k] for name, values in by_label.items()}, table.known[:, k]
        rows.append(
            LabelMetrics(
                label=label,
                support=int(table.positive[:, k].sum()),
                tagged=int(table.tagged[:, k].sum()),
                intervals=_intervals(own, ("precision", "recall", "f1", "average_precision")),
                curve=precision_recall_curve(table.scores[known, k], table.positive[known, k]),
                **{name: _value(values) for name, values in own.items()},
            )
        )
    return FacetMetrics(
        facet=facet,
        labels=tuple(rows),
        calibration_error=calibration_error(calibration_bins(table.scores[table.known], table.positive[table.known])),
        intervals=_intervals(overall, tuple(overall)),
        **{name: _value(values) for name, values in overall.items()},
    )


def _value(rounds: Floats) -> float | None:
    return None if np.isnan(rounds[0]) else float(rounds[0])


def _intervals(rounds: Mapping[str, Floats], names: Sequence[str]) -> dict[str, Interval]:
    return {name: limits for name in names if (limits := interval(rounds[name])) is not None}


def _coverage(table: Table, cut: float) -> Coverage:
    left = table.tagged & (table.scores >= cut)
    hits, tagged = int((left & table.positive).sum()), int(left.sum())
    return Coverage(
        cut=cut,
        tagged=tagged,
        kept=_share(tagged, int(table.tagged.sum())),
        precision=_share(hits, tagged),
        recall=_share(hits, int(table.positive.sum())),
    )


def _slices(table: Table, examples: Sequence[Example]) -> Iterator[Slice]:
    sources = [example.source or "no source" for example in examples]
    groups = [("source", name, np.array([source == name for source in sources])) for name in sorted(set(sources))]
    if examples:
        words = np.array([len(example.text.split()) for example in examples])
        short, middle = (int(edge) for edge in np.quantile(words, [1 / 3, 2 / 3]))
        groups += [
            ("length", f"up to {short} words", words <= short),
            ("length", f"{short + 1} to {middle} words", (words > short) & (words <= middle)),
            ("length", f"more than {middle} words", words > middle),
        ]
    for kind, name, rows in groups:
        if rows.any():
            overall = Rates(table, rows[None, :].astype(np.float64)).overall()
            yield Slice(
                kind=kind,
                name=name,
                n_examples=int(rows.sum()),
                support=int(table.positive[rows].sum()),
                macro_f1=_value(overall["macro_f1"]),
                micro_f1=_value(overall["micro_f1"]),
            )


def _confusions(facet: str, labels: Sequence[str], table: Table) -> Iterator[Confusion]:
    alone = (table.positive & (table.positive.sum(axis=1, keepdims=True) == 1)).T.astype(np.float64)
    counts, examples = alone @ table.tagged, alone @ table.known
    for row, label in enumerate(labels):
        for column, tagged in enumerate(labels):
            if row != column and counts[row, column]:
                yield Confusion(
                    facet=facet,
                    label=label,
                    tagged=tagged,
                    count=int(counts[row, column]),
                    n_examples=int(examples[row, column]),
                )


def _worst(kind: ErrorKind, table: Table, examples: Sequence[Example], labels: Sequence[str]) -> Iterator[LabelError]:
    if kind is ErrorKind.FALSE_POSITIVE:
        cells, ranks = table.tagged & ~table.positive, -table.scores
    else:
        cells, ranks = table.positive & ~table.tagged, table.scores
    rows, columns = np.nonzero(cells)
    for place in np.argsort(ranks[rows, columns], kind="stable")[:MAX_ERRORS]:
        row, column = int(rows[place]), int(columns[place])
        yield LabelError(
            kind=kind,
            row=row,
            id=examples[row].id,
            label=labels[column],
            score=float(table.scores[row, column]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """
    An error with the text it was made on.

    Attributes:
        title: the first line of the text.
        text: as it was scored.
        speaks_for: spans of the terms that spoke most for the label; spans of both kinds do not overlap.
        speaks_against: spans of those that spoke most against it.
    """

    error: LabelError
    title: str
    text: str
    speaks_for: tuple[Span, ...]
    speaks_against: tuple[Span, ...]


def explain_errors(model: Model, examples: Sequence[Example], errors: Sequence[LabelError]) -> tuple[Passage, ...]:
    """Return the text of each error with its strongest terms, as `Model.explain` finds them."""
    passages = []
    for error in errors:
        text = examples[error.row].text
        speaks_for, speaks_against = _strongest(model.explain(text, error.label), len(text))
        passages.append(
            Passage(
                error=error,
                title=text.split("\n", 1)[0],
                text=text,
                speaks_for=speaks_for,
                speaks_against=speaks_against,
            )
        )
    return tuple(passages)


def _strongest(why: Explanation, length: int) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Return where the strongest terms stand; a character that two of them cover goes to the stronger one."""
    signs = np.zeros(length, np.int8)
    for term in sorted((*why.terms, *why.against), key=lambda item: -abs(item.weight))[:_MARKED_TERMS]:
        for start, end in term.spans:
            part = signs[start:end]
            part[part == 0] = 1 if term.weight > 0 else -1
    return _runs(signs == 1), _runs(signs == -1)


def _runs(flags: Flags) -> tuple[Span, ...]:
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False)).tolist()
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rounded(value: Any) -> Any:  # noqa: ANN401 - whatever a record holds
    return round(value, 4) if isinstance(value, float) else value


def model_card(manifest: Mapping[str, Any], notes: str = "") -> str:
    """
    Return the model card, Markdown: what the model is, what it learnt from, how well it does, what it cannot do.

    Args:
        manifest: ``name``, ``model_id``, ``facets``, ``bands``, ``training`` and ``metrics`` as `classifier train`
            writes them.
        notes: what there is to say about the corpora, Markdown.
    """
    training, metrics = manifest["training"], manifest["metrics"]
    keys = ("macro_f1", "micro_f1", "alert_precision", "alert_recall")
    lines = [
        f"# {manifest['name']}@{manifest['model_id']}",
        "",
        "A linear classifier on tf-idf of words and concepts (the phrases of `lexicon.json`, one term per label):",
        "one logistic regression per label on terms scaled by log-count ratios, calibrated (Platt), with an alert",
        "and a review limit per label. Pure data in `scorer.npz`; `pipeline.joblib` computes the same from the text",
        "with its concepts written behind (`Model.prepare`).",
        "",
        "## Trained on",
        "",
        "| corpus | examples | role | SHA-256 |",
        "|---|---|---|---|",
        *(
            f"| {item['name']} | {item['examples']} | {item['role']} | `{item['sha256'][:16]}` |"
            for item in training["corpora"]
        ),
        "",
        f"Seed {training['seed']}. Background corpora are of another genre: their own regression's score is one small",
        "feature beside the words, and they decide no limits.",
        "",
        "## How well it does",
        "",
        f"Out of fold ({training['folds']} folds) on the {metrics['n_examples']} examples of the main corpora, tags of",
        "both bands, unknown labels masked. Examples of one source are held out together when the corpora have at",
        "least two sources per fold. Limits and calibration were fitted on these same scores, and a corpus is never",
        "quite like the news: expect less on new articles.",
        f"Of {metrics['off_topic']} examples without any label {metrics['off_topic_tagged']} got a tag.",
        *_calibration_line(metrics),
        "",
        "| facet | macro F1 | micro F1 | alert precision | alert recall |",
        "|---|---|---|---|---|",
        *(f"| {name} | {' | '.join(_cell(facet[key]) for key in keys)} |" for name, facet in metrics["facets"].items()),
        "",
        "## Labels",
        "",
        "Support counts the main corpora, positives the background too. A label without an alert limit never reaches",
        "the alert band.",
        "",
        "| label | support | positives | precision | recall | F1 | alert limit | review limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for facet in metrics["facets"].values():
        for label, row in facet["labels"].items():
            bands = manifest["bands"][label]
            cells = [_cell(row[key]) for key in ("precision", "recall", "f1")] + [
                _cell(bands["alert"]),
                _cell(bands["review"]),
            ]
            lines.append(f"| {label} | {row['support']} | {training['positives'][label]} | {' | '.join(cells)} |")
    lines += ["", "## Definitions", ""]
    lines += [
        f"- **{label['id']}**: {label['definition'] or 'none given'}"
        for facet in manifest["facets"]
        for label in facet["labels"]
    ]
    if notes:
        lines += ["", "## About the corpora", "", notes.strip()]
    lines += [
        "",
        "## Limits",
        "",
        "- It knows the language and the genre of its main corpora; on other texts scores are not calibrated.",
        "- A tag says what a text reports, not that it is true or in force.",
        "",
        "## Loading it safely",
        "",
        "`classifier.load_model(folder)` checks every digest and unpickles nothing. `pipeline.joblib` is a pickle:",
        "`joblib.load` it only when its SHA-256 is the one in a manifest you trust.",
        "",
    ]
    return "\n".join(lines)


def _calibration_line(metrics: Mapping[str, Any]) -> list[str]:
    error = metrics.get("calibration_error")
    return [] if error is None else [f"Scores are off by {error:.3f} on average (expected calibration error, 10 bins)."]


def _cell(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
