"""
Two models on the same articles: which tags come and go, and whether the figures differ by more than chance.

Intervals are paired: both models are measured on the same resamples, so what makes an article hard for both
cancels out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from classifier.errors import ModelError
from classifier.evaluation import Rates, Table, facet_columns, tag_table
from classifier.examples import Example
from classifier.measures import Floats, Interval, draw_weights, interval
from classifier.model import Model

METRICS = ("macro_f1", "micro_f1", "alert_precision")


class Change(StrEnum):
    """What happened to a tag (of either band) from the first model to the second."""

    GAINED = "gained"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChange:
    """
    One tag that only one of the models gives.

    Attributes:
        id: the article's, with its `title`, the first line of its text.
        before: score of the first model, 0 where it abstains.
        after: score of the second.
        is_label: whether the article carries the label; None when nobody decided.
    """

    change: Change
    id: str
    title: str
    label: str
    before: float
    after: float
    is_label: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricChange:
    """
    One figure of one facet under both models.

    Attributes:
        difference: *after* less *before*; None when one of them is.
        interval: 95 % paired bootstrap interval of the difference; a difference is more than chance when 0 is outside.
    """

    facet: str
    metric: str
    before: float | None
    after: float | None
    difference: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """
    What a second model does that a first does not.

    Attributes:
        changes: in the order of the articles, then of the labels.
        metrics: `METRICS` of each facet, unknown labels masked.
    """

    n_examples: int
    changes: tuple[TagChange, ...]
    metrics: tuple[MetricChange, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values, numbers rounded to four digits."""
        return {
            "n_examples": self.n_examples,
            "metrics": [
                {
                    "facet": item.facet,
                    "metric": item.metric,
                    "before": _rounded(item.before),
                    "after": _rounded(item.after),
                    "difference": _rounded(item.difference),
                    "interval": item.interval and [_rounded(limit) for limit in item.interval],
                }
                for item in self.metrics
            ],
            "changes": [
                {
                    "change": str(item.change),
                    "id": item.id,
                    "title": item.title,
                    "label": item.label,
                    "before": _rounded(item.before),
                    "after": _rounded(item.after),
                    "is_label": item.is_label,
                }
                for item in self.changes
            ],
        }


def compare(before: Model, after: Model, examples: Sequence[Example]) -> Comparison:
    """
    Tag *examples* with both models and compare.

    Raises:
        ModelError: the models do not have the same facets and labels in the same order.
    """
    if _facets(before) != _facets(after):
        strange = sorted(set(before.labels) ^ set(after.labels))
        detail = f"other labels than {before.reference}"
        raise ModelError(after.reference, detail + (f": {', '.join(strange)}" if strange else ", or in another order"))
    first, second = tag_table(before, examples), tag_table(after, examples)
    return Comparison(
        n_examples=len(examples),
        changes=tuple(_changes(before, after, examples, first, second)),
        metrics=tuple(_metric_changes(before, first, second, draw_weights(len(examples)))),
    )


def _facets(model: Model) -> list[tuple[str, tuple[str, ...]]]:
    return [(facet.id, facet.label_ids) for facet in model.taxonomy]


def _changes(
    before: Model, after: Model, examples: Sequence[Example], first: Table, second: Table
) -> Iterator[TagChange]:
    # The tables hold no tag where a label is unknown, but a tag that comes or goes there is a change all the same.
    texts = [example.text for example in examples]
    for row, (old, new) in enumerate(zip(before.tag_many(texts), after.tag_many(texts), strict=True)):
        had, has = {tag.label for tag in old}, {tag.label for tag in new}
        for column, label in enumerate(before.labels):
            if (label in had) != (label in has):
                example = examples[row]
                yield TagChange(
                    change=Change.GAINED if label in has else Change.LOST,
                    id=example.id,
                    title=example.text.split("\n", 1)[0],
                    label=label,
                    before=float(first.scores[row, column]),
                    after=float(second.scores[row, column]),
                    is_label=None if label in example.unknown else label in example.labels,
                )


def _metric_changes(model: Model, first: Table, second: Table, weights: Floats) -> Iterator[MetricChange]:
    for facet, columns in facet_columns(model.taxonomy):
        old, new = (Rates(table.columns(columns), weights).overall() for table in (first, second))
        for metric in METRICS:
            difference = new[metric] - old[metric]
            yield MetricChange(
                facet=facet,
                metric=metric,
                before=_value(old[metric]),
                after=_value(new[metric]),
                difference=_value(difference),
                interval=interval(difference),
            )


def _value(rounds: Floats) -> float | None:
    return None if np.isnan(rounds[0]) else float(rounds[0])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
