"""
Labelled examples: what training learns from and evaluation compares with.

A label is present, absent or unknown in an example. Unknown labels are neither positive nor negative: they are masked everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        text: title and body, cleaned as `parse_article` cleans a page.
        labels: ids of the labels it carries.
        unknown: ids of the labels nobody decided.
        source: where the row came from, for slices.
    """

    id: str
    text: str
    labels: frozenset[str]
    unknown: frozenset[str]
    source: str = ""


def parse_example(row: Mapping[str, object], taxonomy: Taxonomy, *, source: str = "corpus", line: int | None = None) -> Example:
    """
    Read one corpus row.

    Args:
        row: ``{"id", "title", "text", "source", <facet plural>: [labels], <facet plural>_unknown: [labels]}``; other keys are ignored.
            A facet that is missing altogether is unknown as a whole.
        taxonomy: which facets and labels there are.
        source: what error messages call the corpus.
        line: the row's line in it.

    Raises:
        CorpusError: a key is missing or of the wrong kind, or a label is not in the taxonomy.
    """

    def fault(message: str) -> CorpusError:
        return CorpusError(source, message, line=line)

    def text_of(key: str) -> str:
        value = row.get(key, "")
        if not isinstance(value, str):
            raise fault(f"{key!r} needs a text, got {value!r}")
        return value

    def labels_of(key: str, known: Sequence[str]) -> set[str]:
        value = row.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise fault(f"{key!r} needs a list of labels, got {value!r}")
        if strange := sorted(set(value) - set(known)):
            raise fault(f"{key!r} holds {strange[0]!r}, which the taxonomy does not have")
        return set(value)

    if not text_of("text").strip() and not text_of("title").strip():
        raise fault("neither 'title' nor 'text' holds a text")
    labels: set[str] = set()
    unknown: set[str] = set()
    for facet in taxonomy:
        if facet.plural not in row and f"{facet.plural}_unknown" not in row:
            unknown.update(facet.label_ids)
            continue
        labels |= labels_of(facet.plural, facet.label_ids)
        unknown |= labels_of(f"{facet.plural}_unknown", facet.label_ids)
    if both := sorted(labels & unknown):
        raise fault(f"{both[0]!r} is both given and unknown")
    page = "\n\n".join(part for part in (text_of("title"), text_of("text")) if part.strip())
    try:
        text = parse_article(page.encode("utf-8", "replace"), source).full_text
    except ArticleError as error:
        raise fault(error.detail) from error
    return Example(
        id=str(row.get("id", line)), text=text, labels=frozenset(labels), unknown=frozenset(unknown), source=text_of("source")
    )


def truth_table(examples: Sequence[Example], labels: Sequence[str]) -> "tuple[NDArray[np.bool_], NDArray[np.bool_]]":
    """Return (is_positive, is_known), both of shape (n_examples, n_labels)."""
    positive = np.array([[label in example.labels for label in labels] for example in examples], dtype=np.bool_)
    unknown = np.array([[label in example.unknown for label in labels] for example in examples], dtype=np.bool_)
    shape = (len(examples), len(labels))
    return positive.reshape(shape), ~unknown.reshape(shape)
