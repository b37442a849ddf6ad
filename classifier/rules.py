"""
The user's rules: which tags of which articles are worth an alert, for whom, and when.

Hides: how a rule's conditions combine. Within a facet, and within a list of words, any is enough; every facet and every
list that the rule names must have one; nothing that it excludes may be there.
Keeps: rules are data; matching is pure, does not depend on the order of rules, and says which tags were the reason.
What decides a match is written once, in `Rule.examine`: matching, explaining and back-testing all ask there.
"""

import datetime as dt
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from classifier.article import Article
from classifier.errors import Problem, RuleError, did_you_mean
from classifier.hours import OpeningHours, parse_hours
from classifier.literals import Literal, fold, parse_literal
from classifier.pace import Pace, parse_pace
from classifier.tags import Band, Tag, Tags
from classifier.taxonomy import Taxonomy

MAX_RULES = 1_000
MAX_LITERALS = 500  # of one list of one rule
_MAX_ID = 64
MAX_LITERAL = 200  # characters

LITERAL_KEYS = ("keywords_any", "countries", "places", "keywords_none")
_CONDITION_KEYS = ("bands", "min_score")
_PACE_KEYS = ("digest", "at_most", "timezone")
_RULE_KEYS = ("id", "to", "to_review", *_CONDITION_KEYS, *LITERAL_KEYS, "unless", "active", *_PACE_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagCondition:
    """
    What an article's tags must be like.

    Attributes:
        wanted: facet plural to labels, in the order of the taxonomy; a tag of each facet named here is needed.
        bands: which tags count.
        min_score: the lowest score that counts, 0 to 1.
    """

    wanted: Mapping[str, frozenset[str]]
    bands: frozenset[Band]
    min_score: float = 0.0

    def find(self, tags: Tags, facet: str) -> tuple[Tag, ...]:
        """Return the tags that count for one facet, highest score first."""
        wanted = self.wanted[facet]
        return tuple(
            tag
            for tag in tags.by_facet.get(facet, ())
            if tag.label in wanted and tag.band in self.bands and tag.score >= self.min_score
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    One condition of a rule, held against one article.

    Attributes:
        condition: its key in the rule: a facet, one of `LITERAL_KEYS`, or ``unless``.
        is_met: False keeps the article out.
        tags: those that count for the condition; of ``unless``, those that keep the article out.
        literals: those that were found.
    """

    condition: str
    is_met: bool
    tags: tuple[Tag, ...] = ()
    literals: tuple[Literal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One rule.

    Attributes:
        id: unique among the rules; part of every alert and of its webhook-id.
        when: the tags an article needs.
        unless: tags that keep an article out; None when nothing does.
        literals: by key, those of `LITERAL_KEYS` that the rule has: one of each list must stand in the text, none of
            ``keywords_none`` may.
        active: when its alerts may go out; None for always. Outside they wait, they are not lost.
        pace: how often its alerts are told; where it says nothing the endpoint's counts.
        to: ids of the endpoints that get the alert; without any it is only recorded.
        to_review: the endpoints of matches of the review band; None when they are the same.
    """

    id: str
    when: TagCondition
    unless: TagCondition | None = None
    literals: Mapping[str, tuple[Literal, ...]] = field(default_factory=dict)
    active: OpeningHours | None = None
    pace: Pace = field(default_factory=Pace)
    to: tuple[str, ...]
    to_review: tuple[str, ...] | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every endpoint that can get something from it."""
        return tuple(dict.fromkeys((*self.to, *(self.to_review or ()))))

    @property
    def version(self) -> str:
        """Digest of the conditions, 8 hex digits: two alerts with the same version were decided by the same rule."""
        conditions: list[object] = [*_digestible(self.when)]
        if self.when.min_score or self.literals or self.unless:
            literals = {key: sorted(item.folded for item in items) for key, items in self.literals.items()}
            unless = self.unless and [*_digestible(self.unless), self.unless.min_score]
            conditions += [self.when.min_score, literals, unless]
        return hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:8]

    def examine(self, tags: Tags, text: Callable[[], str]) -> Iterator[Result]:
        """
        Hold every condition against one article, one after the other.

        Args:
            tags: what the model said.
            text: gives the article's text, through `fold`; asked only when there are words to look for.
        """
        for facet in self.when.wanted:
            found = self.when.find(tags, facet)
            yield Result(condition=facet, is_met=bool(found), tags=found)
        if self.unless is not None:
            by_facet = [self.unless.find(tags, facet) for facet in self.unless.wanted]
            excluding = sum(by_facet, ()) if all(by_facet) else ()
            yield Result(condition="unless", is_met=not excluding, tags=excluding)
        for key, literals in self.literals.items():
            present = tuple(literal for literal in literals if literal.is_in(text()))
            yield Result(condition=key, is_met=bool(present) != (key == "keywords_none"), literals=present)


def _digestible(condition: TagCondition) -> tuple[object, object]:
    wanted = sorted((facet, sorted(labels)) for facet, labels in condition.wanted.items())
    return wanted, sorted(condition.bands)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """
    A rule that an article meets.

    Attributes:
        rule: the rule.
        reasons: the tags that met it, in the order of the taxonomy.
        not_before: aware, UTC: the alert waits until then, because the rule was not active; None when it need not.
    """

    rule: Rule
    reasons: tuple[Tag, ...]
    not_before: dt.datetime | None = None

    @property
    def band(self) -> Band:
        """`Band.ALERT` when every facet of the rule has a reason in that band, otherwise `Band.REVIEW`."""
        sure = {tag.label for tag in self.reasons if tag.band is Band.ALERT}
        return Band.ALERT if all(sure & labels for labels in self.rule.when.wanted.values()) else Band.REVIEW

    @property
    def strength(self) -> float:
        """The highest `TagCondition.min_score` under which the rule would still match, 0 to 1."""
        best = [
            max((tag.score for tag in self.reasons if tag.label in labels), default=0.0)
            for labels in self.rule.when.wanted.values()
        ]
        return min(best, default=0.0)

    @property
    def to(self) -> tuple[str, ...]:
        """The endpoints that get this very alert; empty when it is only recorded."""
        if self.band is Band.REVIEW and self.rule.to_review is not None:
            return self.rule.to_review
        return self.rule.to


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules in force."""

    rules: tuple[Rule, ...]

    def match(self, article: Article | str, tags: Tags, now: dt.datetime) -> tuple[Match, ...]:
        """
        Return a `Match` for every rule that an article meets, in the order of the rules.

        Args:
            article: what was tagged, or its text; words are looked for in its title and cleaned body.
            tags: what the model said of it.
            now: aware; decides `Match.not_before` and nothing else.
        """
        text = cache(lambda: fold(article.full_text if isinstance(article, Article) else article))
        return tuple(match for rule in self.rules if (match := _match(rule, tags, text, now)))


def _match(rule: Rule, tags: Tags, text: Callable[[], str], now: dt.datetime) -> Match | None:
    reasons: list[Tag] = []
    for result in rule.examine(tags, text):
        if not result.is_met:
            return None
        reasons += result.tags
    return Match(rule=rule, reasons=tuple(reasons), not_before=waits_until(rule, now))


def waits_until(rule: Rule, now: dt.datetime) -> dt.datetime | None:
    """Return the instant, aware and in UTC, until which an alert of *rule* made *now* waits; None when it does not."""
    if rule.active is None:
        return None
    opens = rule.active.next_open(now)
    return opens if opens > now else None


# -- reading ---------------------------------------------------------------------------------------------------------


def parse_rules(tables: Sequence[object], taxonomy: Taxonomy, endpoints: Sequence[str]) -> RuleSet:
    """
    Build the rules from the ``[[rule]]`` tables of a settings file.

    Args:
        tables: each ``{"id", "to", <facet plural>: [labels]..., "bands"?, "min_score"?, "keywords_any"?,
            "keywords_none"?, "countries"?, "places"?, "unless"?, "active"?, "digest"?, "at_most"?, "timezone"?,
            "to_review"?}``.
        taxonomy: of the model in use; its facets are keys a rule may have.
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


class _ConditionReader:
    """Reads the labels, bands and score of one table, collecting problems instead of stopping at the first."""

    own_keys: tuple[str, ...] = _CONDITION_KEYS
    what = "it"

    def __init__(self, table: object, path: str, taxonomy: Taxonomy, problems: list[Problem]) -> None:
        self._table: Mapping[str, object] = table if isinstance(table, Mapping) else {}
        self._path = path
        self._taxonomy = taxonomy
        self._facets = {facet.plural: facet.label_ids for facet in taxonomy}
        self._problems = problems

    def read_condition(self) -> TagCondition:
        known = [*self.own_keys, *self._facets]
        strange = [key for key in self._table if key not in known]
        for key in strange:
            self._fault(key, f"no such key{did_you_mean(key, known)}; {self.what} has {', '.join(known)}")
        wanted = {
            facet: frozenset(self._names(facet, labels))
            for facet, labels in self._facets.items()
            if facet in self._table
        }
        if not wanted and not strange:
            self._fault("", f"no condition; name at least one of {', '.join(self._facets)}")
        bands = self._names("bands", [str(band) for band in Band]) if "bands" in self._table else [Band.ALERT]
        return TagCondition(wanted=wanted, bands=frozenset(map(Band, bands)), min_score=self._min_score())

    def _min_score(self) -> float:
        value = self._table.get("min_score", 0.0)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
        self._fault("min_score", f"a number from 0 to 1 needed, got {value!r}")
        return math.nan

    def _names(self, key: str, known: Sequence[str], *, at_least: int = 1) -> list[str]:
        value = self._table.get(key)
        if not isinstance(value, list) or len(value) < at_least or not all(isinstance(item, str) for item in value):
            names = ", ".join(known) or "(nothing defined yet)"
            self._fault(key, f"a list with {'at least one' if at_least else 'any'} of {names} needed, got {value!r}")
            return []
        for position, item in enumerate(value):
            if item not in known:
                self._fault(f"{key}[{position}]", f"there is no {item!r}{did_you_mean(item, known)}")
        return [item for item in value if item in known]

    def _fault(self, key: str, message: str) -> None:
        self._problems.append(Problem(f"{self._path}.{key}" if key else self._path, message))


class _RuleReader(_ConditionReader):
    own_keys = _RULE_KEYS
    what = "a rule"

    def __init__(
        self, table: object, path: str, taxonomy: Taxonomy, endpoints: Sequence[str], problems: list[Problem]
    ) -> None:
        super().__init__(table, path, taxonomy, problems)
        self._endpoints = endpoints

    def read(self) -> Rule:
        when = self.read_condition()
        return Rule(
            id=self._id(),
            when=when,
            unless=self._unless(),
            literals={key: self._literals(key) for key in LITERAL_KEYS if key in self._table},
            active=parse_hours(self._table["active"], self._fault_under("active")) if "active" in self._table else None,
            pace=parse_pace({key: self._table[key] for key in _PACE_KEYS if key in self._table}, self._fault),
            to=self._to("to") or (),
            to_review=self._to_review(when),
        )

    def _id(self) -> str:
        value = self._table.get("id")
        if isinstance(value, str) and 0 < len(value) <= _MAX_ID and value.isprintable():
            return value
        self._fault("id", f"a name of 1 to {_MAX_ID} printable characters needed, got {value!r}")
        return ""

    def _unless(self) -> TagCondition | None:
        if "unless" not in self._table:
            return None
        return _ConditionReader(
            self._table["unless"], f"{self._path}.unless", self._taxonomy, self._problems
        ).read_condition()

    def _to(self, key: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._names(key, self._endpoints, at_least=0)))

    def _to_review(self, when: TagCondition) -> tuple[str, ...] | None:
        if "to_review" not in self._table:
            return None
        if Band.REVIEW not in when.bands:
            self._fault("to_review", 'nothing would go there; add "review" to bands')
        return self._to("to_review")

    def _literals(self, key: str) -> tuple[Literal, ...]:
        value = self._table[key]
        if not isinstance(value, list) or not 0 < len(value) <= MAX_LITERALS:
            got = f"{len(value)} of them" if isinstance(value, list) else repr(value)
            self._fault(key, f"a list of 1 to {MAX_LITERALS} words or phrases needed, got {got}")
            return ()
        found = []
        for position, item in enumerate(value):
            literal = parse_literal(item) if isinstance(item, str) and len(item) <= MAX_LITERAL else None
            if literal is None:
                message = f"a word or a phrase of at most {MAX_LITERAL} characters needed, got {item!r}"
                self._fault(f"{key}[{position}]", message)
            else:
                found.append(literal)
        return tuple(dict.fromkeys(found))

    def _fault_under(self, key: str) -> Callable[[str, str], None]:
        return lambda inner, message: self._fault(f"{key}.{inner}" if inner else key, message)
