"""
Which alerts would come and which would stay away if another model took over, with the same rules and articles.

Keeps: pure; both models are asked exactly as the daemon asks its own.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any

from classifier.article import Article
from classifier.backtest import Backtest, PastMatch, Recorder, Thin, tag_past, thin
from classifier.model import Model
from classifier.rules import Match, Rule, RuleSet
from classifier.tags import Band, Tag, Tags


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How one article stands to the labels of one rule under one model.

    Attributes:
        score: the highest `min_score` that its scores would pass, tags or not, 0 to 1.
        band: of the weakest facet; None when some facet has no tag at all.
        is_kept_out: whether the rule's `unless` is met.
    """

    score: float
    band: Band | None
    is_kept_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChange:
    """
    One alert that only one of the models would have caused.

    Attributes:
        match: under the model that causes it.
        before: under the old model; None, as is `after`, when both meet the rule and only the thinning differs.
        after: under the new one.
    """

    match: PastMatch
    before: Standing | None
    after: Standing | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """
    What becomes of one rule.

    Attributes:
        n_before: alerts under the old model.
        n_after: alerts under the new one.
        appeared: alerts of the new model only, in order of time.
        vanished: alerts of the old model only, in order of time.
    """

    rule_id: str
    n_before: int
    n_after: int
    appeared: tuple[AlertChange, ...]
    vanished: tuple[AlertChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """
    What a change of model comes to.

    Attributes:
        before: the back-test under the old model.
        rules: in the order of the rules.
    """

    before: Backtest
    rules: tuple[RuleChange, ...]

    def to_record(self, *, examples: int) -> dict[str, Any]:
        """Return it as plain JSON values, with at most *examples* alerts of each kind and rule."""
        return {
            "articles": self.before.n_articles,
            "first": self.before.first and self.before.first.isoformat(),
            "last": self.before.last and self.before.last.isoformat(),
            "rules": [
                {
                    "rule": change.rule_id,
                    "alerts_before": change.n_before,
                    "alerts_after": change.n_after,
                    "appear": len(change.appeared),
                    "vanish": len(change.vanished),
                    "examples": {
                        "appear": [_record(item) for item in change.appeared[:examples]],
                        "vanish": [_record(item) for item in change.vanished[:examples]],
                    },
                }
                for change in self.rules
            ],
        }


def _record(change: AlertChange) -> dict[str, Any]:
    def standing(item: Standing | None) -> dict[str, Any] | None:
        if item is None:
            return None
        band = item.band and str(item.band)
        return {"score": round(item.score, 4), "band": band, "is_kept_out": item.is_kept_out}

    match = change.match
    return {
        "article_id": match.article_id,
        "title": match.title,
        "at": match.at.isoformat(),
        "before": standing(change.before),
        "after": standing(change.after),
    }


def compare_models(
    articles: Iterable[tuple[Article, dt.datetime]],
    models: tuple[Model, Model],
    rules: tuple[RuleSet, RuleSet],
    *,
    thin: Thin = thin,
) -> Switch:
    """
    Replay articles under two models.

    Args:
        articles: each with its aware instant.
        models: the old one and the new one.
        rules: the same rules, checked against the labels of either model.
        thin: as for `classifier.backtest.replay`.
    """
    recorders = Recorder(rules[0]), Recorder(rules[1])
    standings: dict[tuple[str, str], tuple[Standing, Standing]] = {}
    streams = tee(articles)
    for before, after in zip(tag_past(streams[0], models[0]), tag_past(streams[1], models[1]), strict=True):
        met = recorders[0].add(before), recorders[1].add(after)
        if met[0] != met[1]:
            rows = [model.score([past.text]).row(0) for model, past in zip(models, (before, after), strict=True)]
            for pair in zip(rules[0].rules, rules[1].rules, strict=True):
                if pair[0].id in met[0] ^ met[1]:
                    standings[pair[0].id, before.article_id] = (
                        _standing(pair[0], before.tags, rows[0]),
                        _standing(pair[1], after.tags, rows[1]),
                    )
    reports = recorders[0].finish(thin), recorders[1].finish(thin)
    changes = []
    for old, new in zip(reports[0].rules, reports[1].rules, strict=True):
        changes.append(
            RuleChange(
                rule_id=old.rule.id,
                n_before=len(old.alerts),
                n_after=len(new.alerts),
                appeared=_only(new.alerts, old.alerts, standings, old.rule.id),
                vanished=_only(old.alerts, new.alerts, standings, old.rule.id),
            )
        )
    return Switch(before=reports[0], rules=tuple(changes))


def _only(
    alerts: Sequence[PastMatch],
    others: Sequence[PastMatch],
    standings: Mapping[tuple[str, str], tuple[Standing, Standing]],
    rule_id: str,
) -> tuple[AlertChange, ...]:
    known = {other.article_id for other in others}
    changes = []
    for match in alerts:
        if match.article_id not in known:
            before, after = standings.get((rule_id, match.article_id), (None, None))
            changes.append(AlertChange(match=match, before=before, after=after))
    return tuple(changes)


def _standing(rule: Rule, tags: Tags, scores: Mapping[str, float]) -> Standing:
    wanted = rule.when.wanted
    found: list[tuple[Tag, ...]] = [
        tuple(tag for tag in tags.by_facet[facet] if tag.label in labels) for facet, labels in wanted.items()
    ]
    band = Match(rule=rule, reasons=sum(found, ())).band if all(found) else None
    unless = rule.unless
    return Standing(
        score=min(max(scores[label] for label in labels) for labels in wanted.values()),
        band=band,
        is_kept_out=unless is not None and all(unless.find(tags, facet) for facet in unless.wanted),
    )
