"""
From scores to tags: which labels an article carries, and how sure that is.

A label's score falls into one of three bands: ``alert`` (right often enough to wake somebody), ``review`` (worth a
look) or silent (no tag). The limits are per label and belong to the model, because they are fitted with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from classifier.taxonomy import Taxonomy

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A facet that needs another one gives tags only where some label of that one comes this near to its review limit.
# Nearer would cost more right policy types than wrong ones; without it twice as many off-topic texts get one.
NEEDED_SHARE = 0.4


_score = attrgetter("score")


class Band(StrEnum):
    """How sure a tag is. A label below `REVIEW` is silent: it is no tag at all."""

    ALERT = "alert"
    REVIEW = "review"


class Abstention(StrEnum):
    """Why an article was given no tags at all."""

    TOO_SHORT = "too_short"
    WRONG_LANGUAGE = "wrong_language"
    NO_KNOWN_WORDS = "no_known_words"
    MOSTLY_BOILERPLATE = "mostly_boilerplate"
    OFF_TOPIC = "off_topic"


@dataclass(frozen=True, slots=True)
class Tag:
    """
    One label of one article.

    Attributes:
        label: the label's id.
        score: calibrated probability, 0 to 1.
        band: `Band.ALERT` or `Band.REVIEW`.
    """

    label: str
    score: float
    band: Band

    # Tags come from worker processes by the million; what dataclasses do for frozen ones takes ten times as long.
    def __reduce__(self) -> tuple[object, ...]:
        return Tag, (self.label, self.score, self.band)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """
    The scores of a batch of articles.

    Attributes:
        values: float32 of shape (n_articles, n_labels), each in [0, 1].
        labels: the columns.
    """

    values: "NDArray[np.float32]"
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)

    def row(self, position: int) -> dict[str, float]:
        """Return label to score for one article."""
        return dict(zip(self.labels, map(float, self.values[position]), strict=True))


@dataclass(frozen=True, slots=True)
class Bands:
    """
    The lowest scores of one label's bands.

    Attributes:
        alert: None when the label has too little data to promise its alerts; it then never reaches that band.
        review: at most *alert*.
    """

    alert: float | None
    review: float

    def band_of(self, score: float) -> Band | None:
        """Return the band *score* falls into, None when it is silent."""
        if self.alert is not None and score >= self.alert:
            return Band.ALERT
        return Band.REVIEW if score >= self.review else None


@dataclass(frozen=True, slots=True)
class Tags:
    """
    What one article is about.

    Every facet is an attribute by its plural name (``tags.sectors``, ``tags.policy_types``): a tuple of `Tag`, highest
    score first.

    Attributes:
        by_facet: the same as a mapping; every facet of the model is a key.
        abstained: None, or why the model said nothing.
    """

    by_facet: Mapping[str, tuple[Tag, ...]]
    abstained: Abstention | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return Tags, (self.by_facet, self.abstained)

    def __iter__(self) -> Iterator[Tag]:
        """Iterate over the tags of all facets, in the order of the taxonomy."""
        for tags in self.by_facet.values():
            yield from tags

    def __getattr__(self, name: str) -> tuple[Tag, ...]:
        if name.startswith("__") or name == "by_facet":  # asked for while unpickling, before the fields are there
            raise AttributeError(name)
        try:
            return self.by_facet[name]
        except KeyError:
            message = f"no facet {name!r}; this model has {', '.join(self.by_facet)}"
            raise AttributeError(message) from None

    def __bool__(self) -> bool:
        return any(self.by_facet.values())


def decide_tags(
    scores: Scores, bands: Mapping[str, Bands], taxonomy: Taxonomy, abstentions: Sequence[Abstention | None]
) -> tuple[Tags, ...]:
    """
    Keep, for each article, the labels whose score reaches their review or alert limit.

    Args:
        scores: the columns are the labels of *taxonomy*.
        bands: one per label.
        taxonomy: says which facet a label belongs to.
        abstentions: one per article; where there is a reason the article gets no tags.

    Returns:
        One `Tags` per article, highest score first; ties keep the order of the taxonomy.
    """
    limits = np.array([bands[label].review for label in scores.labels])
    found = (scores.values >= limits) & founded(scores.values, bands, taxonomy)
    found[[reason is not None for reason in abstentions]] = False
    facets = [(facet.plural, frozenset(facet.label_ids)) for facet in taxonomy]
    tagged: dict[int, list[Tag]] = {}
    rows, columns = np.nonzero(found)
    for row, column, score in zip(rows.tolist(), columns.tolist(), scores.values[rows, columns].tolist(), strict=True):
        label = scores.labels[column]
        if band := bands[label].band_of(score):
            tagged.setdefault(row, []).append(Tag(label, score, band))
    # Articles without tags share what they have in common: nothing, and why.
    untagged = {reason: Tags({plural: () for plural, _ in facets}, reason) for reason in {*abstentions}}
    return tuple(
        _by_facet(tagged[row], facets) if row in tagged else untagged[reason] for row, reason in enumerate(abstentions)
    )


def _by_facet(tags: list[Tag], facets: Sequence[tuple[str, frozenset[str]]]) -> Tags:
    """Return the tags of one article, highest score first; ties keep their order."""
    tags.sort(key=_score, reverse=True)
    return Tags({plural: tuple([tag for tag in tags if tag.label in labels]) for plural, labels in facets})


def founded(values: "NDArray[np.floating]", bands: Mapping[str, Bands], taxonomy: Taxonomy) -> "NDArray[np.bool_]":
    """
    Say where a label may be a tag at all: where the facet that its facet needs has something to show.

    Args:
        values: scores of shape (n_articles, n_labels), columns in the order of *taxonomy*.
        bands: one per label.
        taxonomy: says which facet needs which; see `NEEDED_SHARE`.

    Returns:
        Bool of the shape of *values*.
    """
    is_founded = np.ones(values.shape, np.bool_)
    columns, start = {}, 0
    for facet in taxonomy:
        columns[facet.id] = slice(start, start := start + len(facet.labels))
    for facet in taxonomy:
        if facet.needs is not None:
            needed = columns[facet.needs]
            limits = NEEDED_SHARE * np.array([bands[label].review for label in taxonomy.label_ids[needed]])
            is_sign = is_founded[:, needed] & (values[:, needed] >= limits)
            is_founded[:, columns[facet.id]] = is_sign.any(axis=1, keepdims=True)
    return is_founded
