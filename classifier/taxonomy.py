"""
The labels a model can give, grouped in facets.

A facet is data: its labels, its definitions and the word used for it in JSON, TOML and Python (`Facet.plural`) all
come from the taxonomy, so a third facet needs a new table in the file and no code.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from classifier.errors import CorpusError

_MAX_NAME = 64
_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{_MAX_NAME - 1}}}")
# Words that already mean something else in a tag record, a corpus row or a rule, so no facet can be called that.
_RESERVED = frozenset(
    {
        "id",
        "title",
        "text",
        "date",
        "source",
        "article_id",
        "abstained",
        "model",
        "bands",
        "to",
        "to_review",
        "min_score",
        "keywords_any",
        "keywords_none",
        "countries",
        "places",
        "unless",
        "active",
        "facets",
        "labels",
        "form",
        "quality",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """
    One label of a facet.

    Attributes:
        id: lower-case name, unique in its facet, e.g. ``power_batteries``.
        definition: what a text must report to carry the label.
        cues: phrases that typically name it; for readers and later for features, never a rule.
    """

    id: str
    definition: str
    cues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """
    One question asked of every article; any number of its labels may apply.

    Attributes:
        id: singular name, e.g. ``sector``.
        plural: the key in corpus rows, rules and tag records, e.g. ``sectors``.
        labels: at least one, in the order the model scores them.
        needs: id of an earlier facet without which this one makes no sense: a policy is about some sector, or about
            nothing this taxonomy knows. None when it stands alone.
    """

    id: str
    plural: str
    labels: tuple[Label, ...]
    needs: str | None = None

    @property
    def label_ids(self) -> tuple[str, ...]:
        """The ids of the labels, in order."""
        return tuple(label.id for label in self.labels)


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """All facets, in order. Label ids are unique over all facets, so a label names its facet."""

    facets: tuple[Facet, ...]
    _facet_of: dict[str, Facet] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_facet_of", {label: facet for facet in self.facets for label in facet.label_ids})

    def __iter__(self) -> Iterator[Facet]:
        return iter(self.facets)

    @property
    def label_ids(self) -> tuple[str, ...]:
        """Every label of every facet: the order of the columns of all score tables."""
        return tuple(self._facet_of)

    def facet_of(self, label: str) -> Facet:
        """Return the facet that *label* belongs to; KeyError when it is none of ours."""
        return self._facet_of[label]


def parse_taxonomy(table: Mapping[str, object], *, source: str = "taxonomy") -> Taxonomy:
    """
    Build a taxonomy from the parsed content of a ``taxonomy.toml``.

    Args:
        table: ``{"facet": [{"id", "plural", "needs", "label": [{"id", "definition", "cues"}]}]}``.
        source: what error messages call the input.

    Raises:
        CorpusError: the first entry at fault, by its path.
    """
    if unknown := set(table) - {"facet"}:
        raise CorpusError(source, f"unknown key {min(unknown)!r}; a taxonomy holds [[facet]] tables only")
    facets = tuple(
        _parse_facet(raw, f"facet[{i}]", source) for i, raw in enumerate(_tables(table, "facet", "", source))
    )
    _refuse_repeats(
        [name for facet in facets for name in dict.fromkeys((facet.id, facet.plural))], "facet name", source
    )
    _refuse_repeats([label for facet in facets for label in facet.label_ids], "label id", source)
    for i, facet in enumerate(facets):
        if facet.needs is not None and facet.needs not in (earlier := [other.id for other in facets[:i]]):
            wanted = f"the id of an earlier facet ({', '.join(earlier) or 'there is none'})"
            raise CorpusError(source, f"facet[{i}].needs: {wanted} needed, got {facet.needs!r}")
    return Taxonomy(facets)


def make_label_id(name: str) -> str:
    """
    Return the label id that stands for *name*, however other people write their labels.

    Accents are taken off, everything else that an id cannot hold becomes one underscore. An id that would start with a
    digit, or that means something else in our records, gets ``label_`` before it; a name without any Latin letter or
    digit gets its digest. An id that is right already stays as it is. Two names can share an id: see `infer_facet`.

    >>> [make_label_id(name) for name in ["money-fx", "Énergie solaire", "2nd hand", "text", "power_batteries"]]
    ['money_fx', 'energie_solaire', 'label_2nd_hand', 'label_text', 'power_batteries']
    """
    if _NAME.fullmatch(name) and name not in _RESERVED:
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii").lower()
    label = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if not label:
        label = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
        return f"label_{label}"
    if not label[0].isalpha() or label in _RESERVED:
        label = f"label_{label}"
    return label[:_MAX_NAME].rstrip("_")


def infer_facet(facet_id: str, names: Iterable[str], *, source: str = "taxonomy") -> Facet:
    """
    Make a facet of the labels that stand in somebody's data.

    Args:
        facet_id: its singular name.
        names: the labels as written there; each becomes the definition of its label.
        source: what error messages call the input.

    Raises:
        CorpusError: there is no name, the facet cannot be called that, or two names share an id.
    """
    name_of: dict[str, str] = {}
    for name in sorted(set(names)):
        label = make_label_id(name)
        if label in name_of:
            raise CorpusError(
                source, f"labels {name_of[label]!r} and {name!r} would both be {label!r}; rename or merge one of them"
            )
        name_of[label] = name
    table = {
        "id": facet_id,
        "label": [{"id": label, "definition": name} for label, name in name_of.items()],
    }
    return parse_taxonomy({"facet": [table]}, source=source).facets[0]


def _parse_facet(raw: Mapping[str, object], path: str, source: str) -> Facet:
    _refuse_unknown(raw, {"id", "plural", "needs", "label"}, path, source)
    facet_id = _name(raw, "id", path, source)
    plural = _name(raw, "plural", path, source) if "plural" in raw else facet_id + "s"
    needs = _name(raw, "needs", path, source) if "needs" in raw else None
    labels = tuple(
        _parse_label(item, f"{path}.label[{i}]", source)
        for i, item in enumerate(_tables(raw, "label", path + ".", source))
    )
    return Facet(id=facet_id, plural=plural, labels=labels, needs=needs)


def _parse_label(raw: Mapping[str, object], path: str, source: str) -> Label:
    _refuse_unknown(raw, {"id", "definition", "cues"}, path, source)
    definition, cues = raw.get("definition", ""), raw.get("cues", [])
    if not isinstance(definition, str):
        raise CorpusError(source, f"{path}.definition: a text needed, got {definition!r}")
    if not isinstance(cues, list) or not all(isinstance(cue, str) and cue for cue in cues):
        raise CorpusError(source, f"{path}.cues: a list of phrases needed, got {cues!r}")
    return Label(id=_name(raw, "id", path, source), definition=definition, cues=tuple(cues))


def _tables(raw: Mapping[str, object], key: str, prefix: str, source: str) -> list[Mapping[str, object]]:
    value = raw.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, Mapping) for item in value):
        raise CorpusError(source, f"{prefix}{key}: at least one [[{prefix and 'facet.'}{key}]] table needed")
    return value


def _name(raw: Mapping[str, object], key: str, path: str, source: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise CorpusError(source, f"{path}.{key}: a lower-case name such as 'power_batteries' needed, got {value!r}")
    if value in _RESERVED:
        raise CorpusError(
            source, f"{path}.{key}: {value!r} already means something else in our records; choose another name"
        )
    return value


def _refuse_unknown(raw: Mapping[str, object], known: set[str], path: str, source: str) -> None:
    if unknown := sorted(set(raw) - known):
        raise CorpusError(source, f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")


def _refuse_repeats(names: list[str], what: str, source: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise CorpusError(source, f"{what} {name!r} stands twice; every one must be its own")
        seen.add(name)
