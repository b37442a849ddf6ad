"""
The user's rules: which tags of which articles are worth an alert, and for whom.

Hides: how a rule's conditions combine. Within a facet any label is enough; every facet the rule names must have one.
Keeps: matching is pure, does not depend on the order of rules, and says which tags were the reason.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from classifier.errors import Problem, RuleError
from classifier.tags import Band, Tag, Tags
from classifier.taxonomy import Taxonomy

MAX_RULES = 1_000
_MAX_ID = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One rule.

    Attributes:
        id: unique among the rules; part of every alert and of its webhook-id.
        wanted: facet plural to labels; an article needs one tag of each facet named here.
        bands: which tags count.
        to: ids of the endpoints that get the alert.
    """

    id: str
    wanted: Mapping[str, frozenset[str]]
    bands: frozenset[Band]
    to: tuple[str, ...]

    @property
    def version(self) -> str:
        """Digest of the conditions, 8 hex digits: two alerts with the same version were decided by the same rule."""
        conditions = [sorted((facet, sorted(labels)) for facet, labels in self.wanted.items()), sorted(self.bands)]
        return hashlib.sha256(json.dumps(conditions).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A rule that an article meets, and the tags that were the reason, in the order of the taxonomy."""

    rule: Rule
    reasons: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules in force."""

    rules: tuple[Rule, ...]

    def match(self, tags: Tags) -> tuple[Match, ...]:
        """Return a `Match` for every rule the *tags* meet, in the order of the rules."""
        return tuple(match for rule in self.rules if (match := _match(rule, tags)))


def _match(rule: Rule, tags: Tags) -> Match | None:
    reasons: list[Tag] = []
    for facet, facet_tags in tags.by_facet.items():
        if (wanted := rule.wanted.get(facet)) is None:
            continue
        found = [tag for tag in facet_tags if tag.label in wanted and tag.band in rule.bands]
        if not found:
            return None
        reasons += found
    return Match(rule=rule, reasons=tuple(reasons)) if reasons else None


def parse_rules(tables: Sequence[object], taxonomy: Taxonomy, endpoints: Sequence[str]) -> RuleSet:
    """
    Build the rules from the ``[[rule]]`` tables of a settings file.

    Args:
        tables: each ``{"id", "to", "bands"?, <facet plural>: [labels]...}``.
        taxonomy: of the model in use; its facets are the keys a rule may have.
        endpoints: ids that ``to`` may name.

    Raises:
        RuleError: with every problem of every rule.
    """
    problems: list[Problem] = []
    if len(tables) > MAX_RULES:
        problems.append(Problem("rule", f"{len(tables)} rules, at most {MAX_RULES} are allowed"))
    rules = [_RuleReader(table, f"rule[{i}]", taxonomy, endpoints, problems).read() for i, table in enumerate(tables)]
    first: dict[str, int] = {}
    for position, rule in enumerate(rules):
        if rule.id and first.setdefault(rule.id, position) != position:
            problems.append(
                Problem(
                    f"rule[{position}].id",
                    f"{rule.id!r} is the id of rule[{first[rule.id]}] too; every rule needs its own",
                )
            )
    if problems:
        raise RuleError("rules", tuple(problems))
    return RuleSet(tuple(rules))


class _RuleReader:
    """Reads one table, collecting problems instead of stopping at the first."""

    def __init__(
        self, table: object, path: str, taxonomy: Taxonomy, endpoints: Sequence[str], problems: list[Problem]
    ) -> None:
        self._table: Mapping[str, object] = table if isinstance(table, Mapping) else {}
        self._path = path
        self._facets = {facet.plural: facet.label_ids for facet in taxonomy}
        self._endpoints = endpoints
        self._problems = problems

    def read(self) -> Rule:
        known = ["id", "to", "bands", *self._facets]
        strange = [key for key in self._table if key not in known]
        for key in strange:
            self._fault(key, f"no such key{_suggest(key, known)}; a rule has {', '.join(known)}")
        wanted = {
            facet: frozenset(self._names(facet, labels))
            for facet, labels in self._facets.items()
            if facet in self._table
        }
        if not wanted and not strange:
            self._fault("", f"no condition; name at least one of {', '.join(self._facets)}")
        bands = self._names("bands", [str(band) for band in Band]) if "bands" in self._table else [Band.ALERT]
        return Rule(
            id=self._id(),
            wanted=wanted,
            bands=frozenset(map(Band, bands)),
            to=tuple(dict.fromkeys(self._names("to", self._endpoints))),
        )

    def _id(self) -> str:
        value = self._table.get("id")
        if isinstance(value, str) and 0 < len(value) <= _MAX_ID and value.isprintable():
            return value
        self._fault("id", f"a name of 1 to {_MAX_ID} printable characters needed, got {value!r}")
        return ""

    def _names(self, key: str, known: Sequence[str]) -> list[str]:
        value = self._table.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            self._fault(
                key, f"a list with at least one of {', '.join(known) or '(nothing defined yet)'} needed, got {value!r}"
            )
            return []
        for position, item in enumerate(value):
            if item not in known:
                self._fault(f"{key}[{position}]", f"there is no {item!r}{_suggest(item, known)}")
        return [item for item in value if item in known]

    def _fault(self, key: str, message: str) -> None:
        self._problems.append(Problem(f"{self._path}.{key}" if key else self._path, message))


def _suggest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
