"""
Why one article meets a rule, or which of the rule's conditions it fails and by how much.

Keeps: what counts is decided by `Rule.examine` alone; the words here are added afterwards, so that an explanation
cannot say anything else than what the daemon does.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from classifier.article import Article
from classifier.literals import Literal, fold
from classifier.model import Model
from classifier.rule_check import lowest_score, why_never
from classifier.rules import Match, Result, Rule, RuleSet, TagCondition, waits_until
from classifier.tags import Tags

_MAX_NAMED = 4  # labels or words in one sentence


@dataclass(frozen=True, slots=True)
class NearLabel:
    """
    One label a condition names.

    Attributes:
        score: what the model gave it, 0 to 1.
        needs: the lowest score that counts for the condition; None when none does.
    """

    label: str
    score: float
    needs: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """
    One condition of a rule, and how an article stands to it.

    Attributes:
        condition: its key in the rule.
        text: one sentence, without full stop.
        labels: of a condition on labels: all it names, nearest to its limit first.
    """

    condition: str
    is_met: bool
    text: str
    labels: tuple[NearLabel, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleAnswer:
    """
    What one rule says to one article.

    Attributes:
        match: None when a condition is not met.
        reasons: every condition of the rule, in the order it is asked.
    """

    rule: Rule
    match: Match | None
    reasons: tuple[Reason, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the answer as plain JSON values, scores rounded to four digits."""
        match = self.match
        return {
            "rule": self.rule.id,
            "version": self.rule.version,
            "is_match": match is not None,
            "band": match and str(match.band),
            "to": list(match.to) if match else [],
            "not_before": match.not_before.isoformat() if match and match.not_before else None,
            "conditions": [
                {
                    "condition": reason.condition,
                    "is_met": reason.is_met,
                    "text": reason.text,
                    "labels": [
                        {
                            "label": near.label,
                            "score": round(near.score, 4),
                            "needs": None if near.needs is None else round(near.needs, 4),
                        }
                        for near in reason.labels
                    ],
                }
                for reason in self.reasons
            ],
        }


def explain_rules(rules: RuleSet, article: Article, model: Model, now: dt.datetime) -> tuple[RuleAnswer, ...]:
    """
    Ask every rule about one article.

    Args:
        rules: checked against the taxonomy of *model*.
        article: what is asked about.
        model: the one in use.
        now: aware; decides what waits for a rule's hours.
    """
    tags, scores = model.tag(article), model.score([article]).row(0)
    text = cache(lambda: fold(article.full_text))
    answers = []
    for rule in rules.rules:
        results = list(rule.examine(tags, text))
        tagged = tuple(tag for result in results if result.condition in rule.when.wanted for tag in result.tags)
        is_match = all(result.is_met for result in results)
        answers.append(
            RuleAnswer(
                rule=rule,
                match=Match(rule=rule, reasons=tagged, not_before=waits_until(rule, now)) if is_match else None,
                reasons=tuple(_reason(rule, result, tags, scores, model) for result in results),
            )
        )
    return tuple(answers)


def _reason(rule: Rule, result: Result, tags: Tags, scores: Mapping[str, float], model: Model) -> Reason:
    key = result.condition
    if key == "unless" and rule.unless is not None:
        labels = tuple(near for facet in rule.unless.wanted for near in _near(rule.unless, facet, scores, model))
        text = _say_nearest(labels, rule.unless, model) if result.is_met else f"{_say_tags(result)} keeps it out"
        return Reason(condition=key, is_met=result.is_met, text=text, labels=labels)
    if key in rule.when.wanted:
        labels = tuple(_near(rule.when, key, scores, model))
        text = _say_tags(result) if result.is_met else _say_missing(key, labels, rule.when, tags, model)
        return Reason(condition=key, is_met=result.is_met, text=text, labels=labels)
    found, asked = _quote(result.literals), _quote(rule.literals[key])
    text = f"{found} in the text" if result.literals else f"{asked} not in the text"
    return Reason(condition=key, is_met=result.is_met, text=text)


def _near(condition: TagCondition, facet: str, scores: Mapping[str, float], model: Model) -> list[NearLabel]:
    found = [
        NearLabel(label, scores[label], lowest_score(label, condition, model.bands))
        for label in condition.wanted[facet]
    ]
    return sorted(found, key=lambda near: (near.needs is None, (near.needs or 0.0) - near.score, near.label))


def _say_tags(result: Result) -> str:
    return ", ".join(f"{tag.label} {tag.score:.2f} ({tag.band})" for tag in result.tags)


def _say_missing(facet: str, labels: tuple[NearLabel, ...], condition: TagCondition, tags: Tags, model: Model) -> str:
    if tags.abstained:
        return f"the model gives this article no tags at all: {tags.abstained}"
    ready = [near for near in labels if near.needs is not None and near.score >= near.needs]
    if not ready:
        return _say_nearest(labels, condition, model)
    found = {tag.label: tag for tag in tags.by_facet[facet]}
    parts = []
    for near in ready[:_MAX_NAMED]:
        said = f"{near.label} {near.score:.2f}"
        if near.label in found:  # high enough, and yet it does not count: it is in a band that the rule leaves out
            parts.append(f"{said} is in the {found[near.label].band} band, which is not in bands")
        else:
            needed = next(item.needs for item in model.taxonomy if item.plural == facet)
            parts.append(f"{said} is high enough, but the article shows no {needed}, without which it is no tag")
    return "; ".join(parts)


def _say_nearest(labels: tuple[NearLabel, ...], condition: TagCondition, model: Model) -> str:
    parts = list(_say_gaps(labels[:_MAX_NAMED], condition, model))
    more = len(labels) - len(parts)
    return "; ".join(parts) + (f"; {more} more further off" if more > 0 else "")


def _say_gaps(labels: tuple[NearLabel, ...], condition: TagCondition, model: Model) -> Iterator[str]:
    for near in labels:
        if near.needs is None:
            yield f"{near.label} {near.score:.2f}: {why_never(near.label, condition, model.bands)}"
        else:
            yield f"{near.label} {near.score:.2f}, needs {near.needs:.2f}"


def _quote(literals: tuple[Literal, ...]) -> str:
    named = ", ".join(repr(literal.text) for literal in literals[:_MAX_NAMED])
    more = len(literals) - _MAX_NAMED
    return f"{named} and {more} more" if more > 0 else named
