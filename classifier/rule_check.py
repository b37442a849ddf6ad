"""
What is wrong with a set of rules although each of them can be read: rules that nothing can meet, that contradict
themselves or each other, or that send the same article to the same endpoint twice.

Keeps: everything here follows from the rules and the model's limits alone; no article is looked at. What is called a
fault holds for every article there can be.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations

from classifier.literals import Literal
from classifier.rules import Rule, RuleSet, TagCondition
from classifier.tags import Band, Bands

# Abbreviations that are everyday words once capitals do not count.
_EVERYDAY = frozenset(
    "aid all am an any are as at be can do fast for has he in is it may no now on or so to us who".split()
)
_POSITIVE_KEYS = ("keywords_any", "countries", "places")


class Kind(StrEnum):
    """What is wrong. The first three are faults, the others are worth knowing."""

    UNREACHABLE = "unreachable"
    CONTRADICTORY = "contradictory"
    REPEATED = "repeated"
    OVERLAPPING = "overlapping"
    IDLE = "idle"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class Remark:
    """
    One thing to know about one rule, or about several together.

    Attributes:
        rules: ids; none when it is about an endpoint.
        text: one sentence, without full stop.
    """

    kind: Kind
    rules: tuple[str, ...]
    text: str

    @property
    def is_fault(self) -> bool:
        """Whether the rules cannot do what they were written for."""
        return self.kind in {Kind.UNREACHABLE, Kind.CONTRADICTORY, Kind.REPEATED}


def check_rules(rules: RuleSet, limits: Mapping[str, Bands], endpoints: Sequence[str]) -> tuple[Remark, ...]:
    """
    Look at each rule and at each pair of rules.

    Args:
        rules: what is to be checked.
        limits: the model's, one per label.
        endpoints: ids of all endpoints.

    Returns:
        Faults first, both parts in the order of the rules.
    """
    remarks = [remark for rule in rules.rules for remark in _check_one(rule, limits)]
    remarks += [remark for first, second in combinations(rules.rules, 2) for remark in _check_pair(first, second)]
    used = {endpoint for rule in rules.rules for endpoint in rule.endpoints}
    remarks += [
        Remark(Kind.IDLE, (), f"endpoint {endpoint!r}: no rule sends to it")
        for endpoint in endpoints
        if endpoint not in used
    ]
    return tuple(sorted(remarks, key=lambda remark: not remark.is_fault))


# -- one rule --------------------------------------------------------------------------------------------------------


def _check_one(rule: Rule, limits: Mapping[str, Bands]) -> Iterator[Remark]:
    ids = (rule.id,)
    yield from _check_reach(rule.when, limits, ids)
    if rule.unless is not None:
        yield from _check_unless(rule, rule.unless, limits)
    for key in _POSITIVE_KEYS:
        yield from _check_literals(rule, key)
    for literals in rule.literals.values():
        for literal in literals:
            if literal.text.isupper() and literal.folded in _EVERYDAY:
                yield Remark(
                    Kind.AMBIGUOUS,
                    ids,
                    f"{literal.text!r} also finds the word {literal.folded!r}, because capitals do not count; "
                    "write a longer name",
                )
    if rule.when.min_score:
        floors = [
            floor
            for labels in rule.when.wanted.values()
            for label in labels
            if (floor := _floor(label, rule.when, limits)) is not None
        ]
        if floors and rule.when.min_score <= min(floors):
            yield Remark(
                Kind.IDLE,
                ids,
                f"min_score {rule.when.min_score:g} changes nothing: its labels count from {min(floors):.2f} on anyway",
            )


def _floor(label: str, condition: TagCondition, limits: Mapping[str, Bands]) -> float | None:
    """Return the lowest score with which *label* would count if there were no `min_score`; None when none would."""
    alert, review = limits[label].alert, limits[label].review
    if Band.REVIEW in condition.bands and (alert is None or review < alert):
        return review
    return alert if Band.ALERT in condition.bands else None


def lowest_score(label: str, condition: TagCondition, limits: Mapping[str, Bands]) -> float | None:
    """Return the lowest score with which *label* counts for *condition*; None when no score does."""
    floor = _floor(label, condition, limits)
    if floor is None:
        return None
    needed, alert = max(floor, condition.min_score), limits[label].alert
    if Band.ALERT not in condition.bands and alert is not None and needed >= alert:
        return None
    return needed


def why_never(label: str, condition: TagCondition, limits: Mapping[str, Bands]) -> str:
    """Say why no score of *label* counts for *condition*."""
    alert = limits[label].alert
    if Band.REVIEW not in condition.bands:
        return 'no alert band, there is too little data to promise one; add "review" to bands'
    if alert is not None and condition.min_score >= alert:
        return f'alert band from {alert:.2f} on, min_score is {condition.min_score:g}; add "alert" to bands'
    return 'no review band; add "alert" to bands'


def _check_reach(condition: TagCondition, limits: Mapping[str, Bands], ids: tuple[str, ...]) -> Iterator[Remark]:
    for facet, labels in condition.wanted.items():
        dead = _never(labels, condition, limits)
        kind = Kind.UNREACHABLE if sum(map(len, dead.values())) == len(labels) else Kind.IDLE
        for why, names in dead.items():
            yield Remark(kind, ids, f"{facet}: {', '.join(names)}: {why}")


def _never(labels: frozenset[str], condition: TagCondition, limits: Mapping[str, Bands]) -> dict[str, list[str]]:
    """Return the labels no score of which counts, by the reason why."""
    dead: dict[str, list[str]] = {}
    for label in sorted(labels):
        if lowest_score(label, condition, limits) is None:
            dead.setdefault(why_never(label, condition, limits), []).append(label)
    return dead


def _check_unless(rule: Rule, unless: TagCondition, limits: Mapping[str, Bands]) -> Iterator[Remark]:
    ids = (rule.id,)
    if _implies(rule.when, unless):
        yield Remark(Kind.CONTRADICTORY, ids, "whatever its labels let in, its `unless` keeps out")
    for remark in _check_reach(unless, limits, ids):
        lead = "unless keeps nothing out" if remark.is_fault else "unless"
        yield replace(remark, text=f"{lead}: {remark.text}")


def _check_literals(rule: Rule, key: str) -> Iterator[Remark]:
    wanted, refused = rule.literals.get(key, ()), rule.literals.get("keywords_none", ())
    lost = {literal: other for literal in wanted for other in refused if other.is_in(literal.folded)}
    for literal, other in lost.items():
        is_whole = len(lost) == len(wanted)
        tail = "; nothing meets this rule" if is_whole else "; it never lets anything in"
        yield Remark(
            Kind.CONTRADICTORY if is_whole else Kind.IDLE,
            (rule.id,),
            f"{key} asks for {literal.text!r}, keywords_none refuses {other.text!r}{tail}",
        )


# -- two rules -------------------------------------------------------------------------------------------------------


def _check_pair(first: Rule, second: Rule) -> Iterator[Remark]:
    shared = [endpoint for endpoint in first.endpoints if endpoint in second.endpoints]
    if not shared:
        return
    where = ", ".join(map(repr, shared))
    if _contains(first, second) and _contains(second, first):
        yield Remark(Kind.REPEATED, (first.id, second.id), f"the same conditions: {where} gets every alert twice")
        return
    for inner, outer in ((first, second), (second, first)):
        if _contains(inner, outer):
            if _excludes(inner) and _contains(replace(inner, unless=None, literals=_without_refusals(inner)), outer):
                text = f"what {inner.id!r} keeps out, {outer.id!r} sends to {where} all the same"
                yield Remark(Kind.CONTRADICTORY, (inner.id, outer.id), text)
            else:
                text = f"all that meets {inner.id!r} meets {outer.id!r} too: {where} gets it twice"
                yield Remark(Kind.OVERLAPPING, (inner.id, outer.id), text)
            return
    if (common := _common_labels(first, second)) is not None:
        what = f"both want {', '.join(common)}" if common else "they ask about different facets"
        yield Remark(Kind.OVERLAPPING, (first.id, second.id), f"{what}: {where} can get one article twice")


def _contains(inner: Rule, outer: Rule) -> bool:
    """Say whether every article that meets *inner* is sure to meet *outer*; False when that cannot be told."""
    refused = outer.literals.get("keywords_none", ())
    return (
        _implies(inner.when, outer.when)
        and (outer.unless is None or (inner.unless is not None and _implies(outer.unless, inner.unless)))
        and all(
            _finds(inner.literals.get(key, ()), outer.literals[key]) for key in _POSITIVE_KEYS if key in outer.literals
        )
        and all(any(own.is_in(other.folded) for own in inner.literals.get("keywords_none", ())) for other in refused)
    )


def _implies(narrow: TagCondition, wide: TagCondition) -> bool:
    """Say whether tags that meet *narrow* always meet *wide*."""
    return (
        all(facet in narrow.wanted and narrow.wanted[facet] <= labels for facet, labels in wide.wanted.items())
        and narrow.bands <= wide.bands
        and narrow.min_score >= wide.min_score
    )


def _finds(narrow: Sequence[Literal], wide: Sequence[Literal]) -> bool:
    """Say whether a text with one of *narrow* always has one of *wide*."""
    return bool(narrow) and all(any(other.is_in(own.folded) for other in wide) for own in narrow)


def _excludes(rule: Rule) -> bool:
    return rule.unless is not None or "keywords_none" in rule.literals


def _without_refusals(rule: Rule) -> dict[str, tuple[Literal, ...]]:
    return {key: literals for key, literals in rule.literals.items() if key != "keywords_none"}


def _common_labels(first: Rule, second: Rule) -> list[str] | None:
    """
    Return the labels that both rules want; None when few articles or none will meet both.

    Rules that want other labels of the same facet can meet in an article with both, but that is not worth a line.
    """
    if not first.when.bands & second.when.bands:
        return None
    for one, other in ((first, second), (second, first)):
        if one.unless is not None and _implies(other.when, one.unless):
            return None
    common = []
    for facet in first.when.wanted.keys() & second.when.wanted.keys():
        both = first.when.wanted[facet] & second.when.wanted[facet]
        if not both:
            return None
        common += sorted(both)
    return sorted(common)
