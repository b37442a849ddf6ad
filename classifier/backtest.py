"""
What rules would have sent, had they been in force: how much, when, and how that changes with the score they ask for.

    archive --tag_past--> Past --replay--> RuleHistory, one per rule --thin--> the alerts that would have gone out

Keeps: pure; a rule is asked exactly as the daemon asks it. Only what matched is remembered, its text compressed, so a
long archive can be replayed.
"""

import datetime as dt
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from classifier.article import Article
from classifier.model import Model
from classifier.rules import Match, Rule, RuleSet
from classifier.stories import Candidate, find_story, sign
from classifier.tags import Band, Tags

# Lower ends of the score histogram, and the points of the threshold curve. Near 1 they are closer together, because
# that is where the scores of a calibrated model crowd.
STEPS = (*(round(0.05 * i, 2) for i in range(19)), 0.92, 0.94, 0.96, 0.98, 0.99)
_MAX_CANDIDATES = 10  # articles that one is compared with, those most alike
_BATCH = 64  # articles tagged together


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """
    One article of the past with its tags.

    Attributes:
        at: aware, UTC: when it came out, or when it was found.
        text: what words are looked for in: the article, or "" where only its tags are known.
        model: name and id of the model that gave the tags.
        story_id: the story it tells, where that is known already.
    """

    article_id: str
    title: str
    at: dt.datetime
    tags: Tags
    text: Article | str
    model: str
    story_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastMatch:
    """
    An article of the past that meets a rule, perhaps but for its `min_score`.

    Attributes:
        strength: as of `Match`.
        to: the endpoints that would have got it.
        story_id: the story it tells.
    """

    article_id: str
    title: str
    at: dt.datetime
    strength: float
    band: Band
    to: tuple[str, ...]
    story_id: str


Thin = Callable[[Sequence[PastMatch]], Sequence[PastMatch]]


def thin(matches: Sequence[PastMatch], cooldown: dt.timedelta = dt.timedelta(days=1)) -> Sequence[PastMatch]:
    """
    Return those of one rule's matches that become alerts of their own, out of *matches* in order of time.

    An endpoint is told of a story once within the cool-down. Corrections and follow-ups, which depend on what was sent
    before, are not counted: there are a few more alerts than this says.
    """
    told: dict[tuple[str, str], dt.datetime] = {}
    kept = []
    for match in matches:
        readers = [(match.story_id, endpoint) for endpoint in match.to or ("",)]
        new = [reader for reader in readers if reader not in told or match.at - told[reader] >= cooldown]
        if new:
            kept.append(match)
            told.update(dict.fromkeys(new, match.at))
    return kept


class _Shelf:
    """The articles of the past that matched something, by the story they tell."""

    def __init__(self) -> None:
        self._by_band: dict[int, list[str]] = {}
        self._packed: dict[str, bytes] = {}
        self._story_of: dict[str, str] = {}

    def put(self, article: Article) -> str:
        """Return the story of *article*: that of the one most like it, or one of its own."""
        shared: Counter[str] = Counter()
        keys = sign(article).bands
        for key in keys:
            shared.update(self._by_band.get(key, ()))
        candidates = [
            Candidate(key, zlib.decompress(self._packed[key]).decode("utf-8", "surrogatepass"))
            for key, _ in shared.most_common(_MAX_CANDIDATES)
        ]
        found = find_story(article.full_text, candidates)
        self._story_of[article.id] = self._story_of[found[0].id] if found else article.id
        self._packed[article.id] = zlib.compress(article.full_text.encode("utf-8", "surrogatepass"))
        for key in keys:
            self._by_band.setdefault(key, []).append(article.id)
        return self._story_of[article.id]


@dataclass(frozen=True, slots=True)
class Bin:
    """
    One step of the score histogram, and of the threshold curve.

    Attributes:
        start: lowest strength in it, one of `STEPS`; it ends where the next begins, the last one holds 1 too.
        matches: how many matches there are in it.
        alerts: how many alerts there would be with *start* as ``min_score``.
        is_sent: whether the rule as it is lets such matches through, at least the strongest of them.
    """

    start: float
    matches: int
    alerts: int
    is_sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleHistory:
    """
    What one rule would have sent.

    Attributes:
        rule: as asked.
        candidates: the matches there would be without its ``min_score``, in order of time.
        n_wide: how many alerts there would be with both bands.
        thin: as given to `replay`.
    """

    rule: Rule
    candidates: tuple[PastMatch, ...]
    n_wide: int
    thin: Thin = field(compare=False)

    @property
    def alerts(self) -> tuple[PastMatch, ...]:
        """The alerts, in order of time."""
        return self.alerts_at(self.rule.when.min_score)

    def alerts_at(self, min_score: float) -> tuple[PastMatch, ...]:
        """Return the alerts there would be with another ``min_score``."""
        return tuple(self.thin([match for match in self.candidates if match.strength >= min_score]))

    def bins(self) -> tuple[Bin, ...]:
        """Return the histogram from its first filled bin upwards."""
        counts = Counter(bisect_right(STEPS, match.strength) - 1 for match in self.candidates)
        ends = (*STEPS[1:], 1.0)
        return tuple(
            Bin(
                start=STEPS[i],
                matches=counts[i],
                alerts=len(self.alerts_at(STEPS[i])),
                is_sent=ends[i] > self.rule.when.min_score,
            )
            for i in range(min(counts, default=len(STEPS)), len(STEPS))
        )

    def busiest(self) -> tuple[dt.date, int] | None:
        """Return the day, in UTC, with the most alerts and how many those were; the earliest of several."""
        days = Counter(alert.at.date() for alert in self.alerts)
        return max(days.items(), key=lambda item: (item[1], -item[0].toordinal()), default=None)

    def examples(self, count: int) -> tuple[PastMatch, ...]:
        """Return at most *count* alerts, strongest first, spread evenly from the strongest to the weakest."""
        ranked = sorted(self.alerts, key=lambda alert: (-alert.strength, alert.at, alert.article_id))
        if len(ranked) <= count:
            return tuple(ranked)
        step = (len(ranked) - 1) / max(count - 1, 1)
        return tuple(ranked[round(i * step)] for i in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """
    A replay.

    Attributes:
        n_articles: how many articles there were.
        first: day of the earliest, in UTC; None without articles.
        last: day of the latest.
        models: what gave the tags, by number of articles, most first.
    """

    n_articles: int
    first: dt.date | None
    last: dt.date | None
    models: tuple[tuple[str, int], ...]
    rules: tuple[RuleHistory, ...]

    @property
    def n_days(self) -> int:
        """Days from the first to the last, both counted; 0 without articles."""
        return 0 if self.first is None or self.last is None else (self.last - self.first).days + 1

    def to_record(self, *, examples: int) -> dict[str, Any]:
        """Return the replay as plain JSON values, with at most *examples* alerts of each rule."""
        return {
            "articles": self.n_articles,
            "first": self.first and self.first.isoformat(),
            "last": self.last and self.last.isoformat(),
            "days": self.n_days,
            "models": dict(self.models),
            "rules": [_record(history, self.n_days, examples) for history in self.rules],
        }


def _record(history: RuleHistory, n_days: int, examples: int) -> dict[str, Any]:
    busiest = history.busiest()
    alerts = history.alerts
    return {
        "rule": history.rule.id,
        "version": history.rule.version,
        "to": list(history.rule.to),
        "min_score": history.rule.when.min_score,
        "alerts": len(alerts),
        "alerts_per_day": round(len(alerts) / n_days, 4) if n_days else 0.0,
        "by_band": dict(Counter(str(alert.band) for alert in alerts)),
        "alerts_with_both_bands": history.n_wide,
        "busiest": busiest and {"day": busiest[0].isoformat(), "alerts": busiest[1]},
        "scores": [
            {"min_score": item.start, "matches": item.matches, "alerts": item.alerts} for item in history.bins()
        ],
        "examples": [_match_record(alert) for alert in history.examples(examples)],
    }


def _match_record(match: PastMatch) -> dict[str, Any]:
    return {
        "article_id": match.article_id,
        "title": match.title,
        "at": match.at.isoformat(),
        "score": round(match.strength, 4),
        "band": str(match.band),
        "to": list(match.to),
    }


def tag_past(articles: Iterable[tuple[Article, dt.datetime]], model: Model) -> Iterator[Past]:
    """Tag articles, each with its aware instant, in the order given; one with bytes seen before is left out."""
    seen: set[str] = set()
    rest = iter(articles)
    while batch := list(islice(rest, _BATCH)):
        new = list({article.id: (article, at) for article, at in reversed(batch) if article.id not in seen}.values())
        new.reverse()
        seen.update(article.id for article, _ in new)
        for (article, at), tags in zip(new, model.tag_many([article for article, _ in new]), strict=True):
            yield Past(
                article_id=article.id, title=article.title, at=at, tags=tags, text=article, model=model.reference
            )


def without_literals(rule: Rule) -> Rule:
    """Return *rule* without its words, for articles whose text is not known: it then lets at least as much through."""
    return replace(rule, literals={})


class Recorder:
    """
    Holds articles of the past against rules, one after the other, and remembers what matched.

    Args:
        rules: what would have been in force.
    """

    def __init__(self, rules: RuleSet) -> None:
        always = [replace(rule, active=None) for rule in rules.rules]
        self._rules = rules
        self._loose = RuleSet(tuple(replace(rule, when=replace(rule.when, min_score=0.0)) for rule in always))
        self._wide = RuleSet(tuple(replace(rule, when=replace(rule.when, bands=frozenset(Band))) for rule in always))
        self._candidates: dict[str, list[PastMatch]] = {rule.id: [] for rule in rules.rules}
        self._widened: dict[str, list[PastMatch]] = {rule.id: [] for rule in rules.rules}
        self._shelf = _Shelf()
        self._models: Counter[str] = Counter()
        self._first = self._last = dt.date.min

    def add(self, past: Past) -> frozenset[str]:
        """Take one article in; return the ids of the rules it meets."""
        day = past.at.astimezone(dt.UTC).date()
        self._first, self._last = (min(self._first, day), max(self._last, day)) if self._models else (day, day)
        self._models[past.model] += 1
        limit = {rule.id: rule.when.min_score for rule in self._rules.rules}
        met = set()
        loose = self._loose.match(past.text, past.tags, past.at)
        wide = self._wide.match(past.text, past.tags, past.at)
        story_id = past.story_id or past.article_id
        if (loose or wide) and isinstance(past.text, Article):
            story_id = self._shelf.put(past.text)
        for match in loose:
            self._candidates[match.rule.id].append(_past_match(past, match, story_id))
            if match.strength >= limit[match.rule.id]:
                met.add(match.rule.id)
        for match in wide:
            self._widened[match.rule.id].append(_past_match(past, match, story_id))
        return frozenset(met)

    def finish(self, thin: Thin = thin) -> Backtest:
        """Return what was found; see the function `thin`."""
        return Backtest(
            n_articles=self._models.total(),
            first=self._first if self._models else None,
            last=self._last if self._models else None,
            models=tuple(self._models.most_common()),
            rules=tuple(
                RuleHistory(
                    rule=rule,
                    candidates=_in_order(self._candidates[rule.id]),
                    n_wide=len(thin(_in_order(self._widened[rule.id]))),
                    thin=thin,
                )
                for rule in self._rules.rules
            ),
        )


def replay(past: Iterable[Past], rules: RuleSet, *, thin: Thin = thin) -> Backtest:
    """
    Hold every article of the past against every rule.

    Args:
        past: in any order.
        rules: what would have been in force.
        thin: see the function of that name.
    """
    recorder = Recorder(rules)
    for article in past:
        recorder.add(article)
    return recorder.finish(thin)


def _past_match(article: Past, match: Match, story_id: str) -> PastMatch:
    return PastMatch(
        article_id=article.article_id,
        title=article.title,
        at=article.at,
        strength=match.strength,
        band=match.band,
        to=match.to,
        story_id=story_id,
    )


def _in_order(matches: Iterable[PastMatch]) -> tuple[PastMatch, ...]:
    return tuple(sorted(matches, key=lambda match: (match.at, match.article_id)))
