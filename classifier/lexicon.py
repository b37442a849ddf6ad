"""
Words and phrases by which a reader recognises a label, folded into one concept term per label.

Hides: matching thousands of phrases in one walk over a text.
Keeps: nothing is tagged by a phrase; a concept is a term beside the words, and training decides what it is worth.
The longest phrase at a place wins and uses its words up: "free of charge", listed as misleading, is no "charge".
Case, hyphens and a final plural of the last word make no difference.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, zip_longest

from classifier.errors import CorpusError

CONCEPT_PREFIX = "concept_"  # with the label behind it: a token of its own for every vectorizer, and no English word
_WORD = re.compile(r"[^\W_]+")
_CUT = re.compile(rf"({_WORD.pattern})")
_LABEL = re.compile(r"[a-z][a-z0-9_]*")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """
    What names one label.

    Attributes:
        phrases: each makes the label's concept count once.
        misleading: phrases that contain such words in another sense; they count for nothing.
    """

    phrases: tuple[str, ...]
    misleading: tuple[str, ...] = ()


class _Node(dict[str, "_Node"]):
    """A step in the tree of phrases: the next words, and the labels of the phrase that ends here."""

    __slots__ = ("ends", "labels")

    def __init__(self) -> None:
        super().__init__()
        self.ends = False
        self.labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lexicon:
    """
    The phrases of all labels; one without labels finds nothing.

    Attributes:
        root: all phrases as a tree of words.
        openings: the phrases of one word, and the first two words of all others.
    """

    entries: Mapping[str, Phrases]
    root: _Node = field(init=False, repr=False, compare=False)
    openings: frozenset[str | tuple[str, str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        root = _Node()
        for label, entry in self.entries.items():
            for phrase in entry.phrases:
                for words in _forms(phrase):
                    _put(root, words, label)
        for entry in self.entries.values():
            for phrase in entry.misleading:
                for words in _forms(phrase):
                    _put(root, words, None)
        object.__setattr__(self, "root", root)
        pairs = ((word, following) for word, node in root.items() for following in node)
        object.__setattr__(self, "openings", frozenset([*(word for word, node in root.items() if node.ends), *pairs]))

    def find(self, text: str) -> Iterator[tuple[str, Span]]:
        """
        Yield (label, span) for every phrase found in *text*, from left to right, without overlaps.

        >>> entry = Phrases(phrases=("charging pile", "charge"), misleading=("charged with", "free of charge"))
        >>> lexicon = Lexicon({"charging": entry})
        >>> list(lexicon.find("Charging-piles are free of charge"))
        [('charging', (0, 14))]
        """
        if not self.root:
            return
        parts = _CUT.split(text)  # in turns what stands between the words, and a word
        words = list(map(str.lower, parts[1::2]))
        # Phrases begin with every other word; hardly one of them goes on.
        openings = self.openings
        begins = [i for i, pair in enumerate(zip_longest(words, words[1:])) if pair in openings or pair[0] in openings]
        bounds = list(accumulate(map(len, parts))) if begins else []
        reached = 0
        for position in begins:
            if position < reached:
                continue
            reached, labels = self._longest(words, position)
            if labels:
                span = (bounds[2 * position], bounds[2 * reached - 1])
                for label in labels:
                    yield label, span

    def concepts(self, text: str) -> tuple[str, ...]:
        """Return the concept terms of *text*, one per phrase found."""
        return tuple(CONCEPT_PREFIX + label for label, _ in self.find(text))

    def annotate(self, text: str) -> str:
        """Return *text* with the concepts found in it written behind, on a line of their own."""
        concepts = self.concepts(text)
        return f"{text}\n{' '.join(concepts)}" if concepts else text

    def _longest(self, words: Sequence[str], position: int) -> tuple[int, tuple[str, ...]]:
        node, end = self.root, position
        labels: tuple[str, ...] = ()
        for at in range(position, len(words)):
            following = node.get(words[at])
            if following is None:
                break
            node = following
            if node.ends:
                end, labels = at + 1, node.labels
        return end, labels


NO_LEXICON = Lexicon({})


def parse_lexicon(table: Mapping[str, object], *, source: str = "lexicon") -> Lexicon:
    """
    Build a lexicon from ``{label: {"phrases": [...], "misleading": [...]}}``.

    Raises:
        CorpusError: an entry is at fault.
    """
    entries = {}
    for label, entry in table.items():
        if not _LABEL.fullmatch(label):
            raise CorpusError(source, f"{label!r}: lower-case letters, digits and underscores make a label")
        if not isinstance(entry, Mapping) or (unknown := set(entry) - {"phrases", "misleading"}):
            hint = f", got {min(unknown)!r}" if isinstance(entry, Mapping) else ""
            raise CorpusError(source, f"{label}: a table with 'phrases' and 'misleading' needed{hint}")
        entries[label] = Phrases(
            phrases=_phrases(entry, "phrases", label, source), misleading=_phrases(entry, "misleading", label, source)
        )
    return Lexicon(entries)


def _phrases(entry: Mapping[str, object], key: str, label: str, source: str) -> tuple[str, ...]:
    value = entry.get(key, [])
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and _WORD.search(item) for item in value):
        raise CorpusError(source, f"{label}.{key}: a list of phrases needed")
    return tuple(value)


def _forms(phrase: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of a phrase, and with the usual plurals of its last word."""
    words = _WORD.findall(phrase.lower())
    *head, last = words
    yield (*head, last)
    yield (*head, f"{last}s")
    if last.endswith(("s", "x", "h")):
        yield (*head, f"{last}es")
    if last.endswith("y"):
        yield (*head, f"{last[:-1]}ies")


def _put(root: _Node, words: Sequence[str], label: str | None) -> None:
    """Add a phrase; None marks a misleading one, which takes the labels of the same words away."""
    node = root
    for word in words:
        node = node.setdefault(word, _Node())
    node.ends = True
    if label is None:
        node.labels = ()
    elif label not in node.labels:
        node.labels = (*node.labels, label)
