"""
Labelled examples: what training learns from and evaluation compares with.

A label is present, absent or unknown in an example. Unknown labels are neither positive nor negative: they are masked
everywhere.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from classifier.article import parse_article
from classifier.errors import ArticleError, CorpusError
from classifier.taxonomy import Taxonomy

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """
    One text and what is known of its labels.

    Attributes:
        id: unique in its corpus.
        text: `Article.scored_text` of the row, cleaned as a page is.
        labels: ids of the labels it carries.
        unknown: ids of the labels nobody decided.
        source: where the row came from; training holds whole sources out together when there are enough of them.
        weight: how much it counts when weights of terms are fitted, above 0; figures count each example once.
    """

    id: str
    text: str
    labels: frozenset[str]
    unknown: frozenset[str]
    source: str = ""
    weight: float = 1.0

    @property
    def digest(self) -> str:
        """12 hex digits that tell this text from others: how a model remembers what it learnt from."""
        return hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()[:12]


def with_feedback(examples: Sequence[Example], feedback: Sequence[Example], weight: float) -> tuple[Example, ...]:
    """
    Return the examples with what people said of alerts.

    Where both have the same text, what was said replaces what the example has of these labels and nothing else, in its
    place and with the weight of feedback; other feedback comes behind.

    Args:
        examples: of a corpus.
        feedback: made of what people said; most of its labels are unknown.
        weight: of every example that feedback went into.
    """
    said = {item.digest: item for item in feedback}
    merged = []
    for example in examples:
        later = said.pop(example.digest, None)
        if later is not None:
            labels = later.labels | (example.labels & later.unknown)
            unknown = example.unknown & later.unknown
            example = replace(example, labels=labels, unknown=unknown, weight=weight)  # noqa: PLW2901 - the same text
        merged.append(example)
    return (*merged, *(replace(item, weight=weight) for item in said.values()))


def parse_example(
    row: Mapping[str, object], taxonomy: Taxonomy, *, source: str = "corpus", line: int | None = None
) -> Example:
    """
    Read one corpus row.

    Args:
        row: ``{"id", "title", "text", "source", <facet plural>: [labels], <facet plural>_unknown: [labels]}``; other
            keys are ignored. A facet that is missing altogether is unknown as a whole.
        taxonomy: which facets and labels there are.
        source: what error messages call the corpus.
        line: the row's line in it.

    Raises:
        CorpusError: a key is missing or of the wrong kind, or a label is not in the taxonomy.
    """
    try:
        title, text = _text(row, "title"), _text(row, "text")
        labels, unknown = _known_labels(row, taxonomy)
        page = "\n\n".join(part for part in (title, text) if part.strip())
        return Example(
            id=str(row.get("id", line)),
            text=parse_article(page.encode("utf-8", "replace"), source).scored_text,
            labels=frozenset(labels),
            unknown=frozenset(unknown),
            source=_text(row, "source"),
        )
    except ArticleError as error:
        raise CorpusError(source, f"'title' and 'text' together: {error.detail}", line=line) from error
    except _FaultError as error:
        raise CorpusError(source, str(error), line=line) from None


class _FaultError(Exception):
    """What is wrong with a row, before anybody has said which row it is."""


def _known_labels(row: Mapping[str, object], taxonomy: Taxonomy) -> tuple[set[str], set[str]]:
    labels: set[str] = set()
    unknown: set[str] = set()
    for facet in taxonomy:
        if facet.plural not in row and f"{facet.plural}_unknown" not in row:
            unknown.update(facet.label_ids)
            continue
        labels |= _labels(row, facet.plural, facet.label_ids)
        unknown |= _labels(row, f"{facet.plural}_unknown", facet.label_ids)
    if both := labels & unknown:
        raise _FaultError(f"{min(both)!r} is both given and unknown")
    return labels, unknown


def _text(row: Mapping[str, object], key: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str):
        raise _FaultError(f"{key!r} needs a text, got {value!r}")
    return value


def _labels(row: Mapping[str, object], key: str, known: Sequence[str]) -> set[str]:
    value = row.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _FaultError(f"{key!r} needs a list of labels, got {value!r}")
    if strange := set(value) - set(known):
        raise _FaultError(f"{key!r} holds {min(strange)!r}, which the taxonomy does not have")
    return set(value)


def truth_table(examples: Sequence[Example], labels: Sequence[str]) -> "tuple[NDArray[np.bool_], NDArray[np.bool_]]":
    """Return (is_positive, is_known), both of shape (n_examples, n_labels)."""
    positive = np.array([[label in example.labels for label in labels] for example in examples], dtype=np.bool_)
    unknown = np.array([[label in example.unknown for label in labels] for example in examples], dtype=np.bool_)
    shape = (len(examples), len(labels))
    return positive.reshape(shape), ~unknown.reshape(shape)
