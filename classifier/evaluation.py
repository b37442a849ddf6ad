"""
How right tags are: counts, precision, recall and F1 per label and over labels, unknown labels masked.

Every average says what it is over. A label without positive examples has no recall and no F1; it is left out of macro
averages instead of counting as perfect or as failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifier.examples import Example, truth_table
from classifier.model import Model
from classifier.tags import Bands
from classifier.taxonomy import Taxonomy


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
    """

    label: str
    support: int
    tagged: int
    precision: float | None
    recall: float | None
    f1: float | None
    alert_precision: float | None
    alert_recall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetMetrics:
    """
    One facet.

    Attributes:
        macro_f1: mean over the labels with support.
        micro_f1: over all (example, label) pairs.
        alert_precision: over all tags in the alert band.
        alert_recall: share of all labels carried that reach it.
    """

    facet: str
    labels: tuple[LabelMetrics, ...]
    macro_f1: float | None
    micro_f1: float | None
    micro_precision: float | None
    micro_recall: float | None
    alert_precision: float | None
    alert_recall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    All facets.

    Attributes:
        n_examples: rows evaluated.
        off_topic: rows that carry no label at all.
        off_topic_tagged: how many of these got a tag of any band, unknown labels not counted.
    """

    n_examples: int
    off_topic: int
    off_topic_tagged: int
    facets: tuple[FacetMetrics, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the report as plain JSON values, numbers rounded to four digits."""
        return {
            "n_examples": self.n_examples,
            "off_topic": self.off_topic,
            "off_topic_tagged": self.off_topic_tagged,
            "facets": {
                facet.facet: {name: _rounded(getattr(facet, name)) for name in _FACET_FIELDS}
                | {
                    "labels": {
                        item.label: {name: _rounded(getattr(item, name)) for name in _LABEL_FIELDS}
                        for item in facet.labels
                    }
                }
                for facet in self.facets
            },
        }


_FACET_FIELDS = ("macro_f1", "micro_f1", "micro_precision", "micro_recall", "alert_precision", "alert_recall")
_LABEL_FIELDS = ("support", "tagged", "precision", "recall", "f1", "alert_precision", "alert_recall")


def evaluate(model: Model, examples: Sequence[Example]) -> Report:
    """Compare the tags *model* gives with the labels of *examples*; an article the model abstains on has no tags."""
    tags = model.tag_many(example.text for example in examples)
    shape = (len(examples), len(model.labels))
    tagged, alerted = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    column = {label: k for k, label in enumerate(model.labels)}
    for row, article_tags in enumerate(tags):
        for tag in article_tags:
            tagged[row, column[tag.label]] = True
            alerted[row, column[tag.label]] = tag.band == "alert"
    positive, known = truth_table(examples, model.labels)
    return _measure(tagged, alerted, positive, known, model.taxonomy)


def measure(
    scores: NDArray[np.float64], examples: Sequence[Example], bands: Mapping[str, Bands], taxonomy: Taxonomy
) -> Report:
    """Do what `evaluate` does for scores that are there already, of shape (n_examples, n_labels)."""
    labels = taxonomy.label_ids
    positive, known = truth_table(examples, labels)
    review = np.array([bands[label].review for label in labels])
    alert = np.array([np.inf if (limit := bands[label].alert) is None else limit for label in labels])
    return _measure((scores >= review) | (scores >= alert), scores >= alert, positive, known, taxonomy)


def _measure(
    tagged: NDArray[np.bool_],
    alerted: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    known: NDArray[np.bool_],
    taxonomy: Taxonomy,
) -> Report:
    off_topic = ~positive.any(axis=1)
    facets, start = [], 0
    for facet in taxonomy:
        columns = slice(start, start + len(facet.labels))
        start += len(facet.labels)
        mask = known[:, columns]
        counts = _Counts(tagged[:, columns] & mask, alerted[:, columns] & mask, positive[:, columns] & mask)
        facets.append(_facet_metrics(facet.id, facet.label_ids, counts))
    return Report(
        n_examples=len(positive),
        off_topic=int(off_topic.sum()),
        off_topic_tagged=int((tagged & known)[off_topic].any(axis=1).sum()),
        facets=tuple(facets),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Indicator tables of one facet with unknown cells set to False, each of shape (n_examples, n_labels)."""

    tagged: NDArray[np.bool_]
    alerted: NDArray[np.bool_]
    positive: NDArray[np.bool_]

    def of(self, column: int) -> "_Counts":
        return _Counts(self.tagged[:, [column]], self.alerted[:, [column]], self.positive[:, [column]])

    @property
    def support(self) -> int:
        return int(self.positive.sum())

    def precision(self, given: NDArray[np.bool_]) -> float | None:
        return _share(int((given & self.positive).sum()), int(given.sum()))

    def recall(self, given: NDArray[np.bool_]) -> float | None:
        return _share(int((given & self.positive).sum()), self.support)

    @property
    def f1(self) -> float | None:
        hits = int((self.tagged & self.positive).sum())
        return _share(2 * hits, int(self.tagged.sum()) + self.support) if self.support else None


def _facet_metrics(facet: str, labels: Sequence[str], counts: _Counts) -> FacetMetrics:
    rows = []
    for column, label in enumerate(labels):
        own = counts.of(column)
        rows.append(
            LabelMetrics(
                label=label,
                support=own.support,
                tagged=int(own.tagged.sum()),
                precision=own.precision(own.tagged),
                recall=own.recall(own.tagged),
                f1=own.f1,
                alert_precision=own.precision(own.alerted),
                alert_recall=own.recall(own.alerted),
            )
        )
    f1s = [row.f1 for row in rows if row.f1 is not None]
    return FacetMetrics(
        facet=facet,
        labels=tuple(rows),
        macro_f1=sum(f1s) / len(f1s) if f1s else None,
        micro_f1=counts.f1,
        micro_precision=counts.precision(counts.tagged),
        micro_recall=counts.recall(counts.tagged),
        alert_precision=counts.precision(counts.alerted),
        alert_recall=counts.recall(counts.alerted),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rounded(value: float | None) -> float | None:
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
        f"Seed {training['seed']}. Background corpora are of another genre: they teach words, with less weight, and",
        "decide no limits.",
        "",
        "## How well it does",
        "",
        f"Out of fold ({training['folds']} folds) on the {metrics['n_examples']} examples of the main corpora, tags of",
        "both bands, unknown labels masked. Examples of one source are held out together when the corpora have at",
        "least two sources per fold. Limits and calibration were fitted on these same scores, and a corpus is never",
        "quite like the news: expect less on new articles.",
        f"Of {metrics['off_topic']} examples without any label {metrics['off_topic_tagged']} got a tag.",
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


def _cell(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
