"""
An alert as every format shows it, several of them as a digest, and how both get shorter.

Hides: which characters and how much of an article may be shown, and what is left out first when there is no room.
Keeps: a `Summary` is small, clean and holds nothing of the article but what is shown; it can be written to JSON and
read back (`summary_record`, `parse_summary`), so a digest can be made of alerts recorded long ago. All that is not
evidence is bounded so tightly that a summary without evidence fits into every format. Longer than most modules because
what is shown, how it gets shorter and how it is written down hold for the same few values.
"""

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from classifier.alerts import Alert, Evidence, Quote, tag_record
from classifier.article import Article
from classifier.payloads.text import clean, safe_link
from classifier.tags import Band, Tag

MAX_TITLE = 500
MAX_NAME = 255
MAX_REFERENCE = 128  # of a model
MAX_QUOTE = 600
MAX_TAGS = 40  # of one summary, those that met the rule first
MAX_ADDED = 5  # sentences that are new, or pairs of those that changed
MAX_CHANGE = 400  # characters of each
MAX_BARE = 3  # alerts of one story once a digest has no room for its sentences

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """
    What an alert adds to what was told of its story.

    Attributes:
        kind: ``report`` when there is nothing to compare it with, or it was long ago.
        story_id: SHA-256 of the article that told the story first.
        n_files: files that tell it so far.
        added: sentences that are new, clean.
        changed: sentences before and after, clean; one of the two is empty when there is none.
    """

    kind: Literal["report", "follow_up", "correction"]
    story_id: str
    n_files: int
    added: tuple[str, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """
    What is said of one alert; every text in it is clean.

    Attributes:
        id: of the alert, the ``webhook-id`` of its message; None for one that nobody is sent.
        rule_id: the rule the article met.
        rule_version: digest of the rule's conditions.
        article_id: SHA-256 of the file's bytes.
        title: headline; may be empty.
        date: day of publication, ISO 8601, or None.
        source: the news source the page names, or None.
        link: where the page says it stands, fit to be clicked, or None.
        file_name: of the article, below the watched folder.
        tags: facet to its tags, highest score first.
        matched: the labels that met the rule.
        evidence: label to evidence, for labels in `matched`.
        model: name and id of the model.
        created_at: aware, UTC.
        is_truncated: some evidence was left out.
        news: what it adds to its story; None when that is not known.
    """

    rule_id: str
    rule_version: str
    article_id: str
    title: str
    date: str | None
    source: str | None
    link: str | None
    file_name: str
    tags: Mapping[str, tuple[Tag, ...]]
    matched: tuple[str, ...]
    evidence: Mapping[str, Evidence]
    model: str
    created_at: dt.datetime
    is_truncated: bool = False
    news: News | None = None
    id: str | None = None

    @property
    def is_bare(self) -> bool:
        """Whether nothing is left that could be left out."""
        return not _weakest_first(self)

    @property
    def heading(self) -> str:
        """The title, or the name of the file where there is none; never empty."""
        return self.title or self.file_name or "(no title)"

    @property
    def reasons(self) -> tuple[Tag, ...]:
        """The tags that met the rule, highest score first."""
        tags = [tag for tags in self.tags.values() for tag in tags if tag.label in self.matched]
        return tuple(sorted(tags, key=lambda tag: -tag.score))

    @property
    def strength(self) -> tuple[bool, float]:
        """For sorting: whether a tag of the alert band met the rule, and the highest score of those that did."""
        return max(((tag.band is Band.ALERT, tag.score) for tag in self.reasons), default=(False, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """
    What a digest tells once, however many files and rules it came from.

    Attributes:
        id: of the story.
        summaries: at least one, strongest first.
        n_files: files that tell it, as far as known.
    """

    id: str
    summaries: tuple[Summary, ...]
    n_files: int

    @property
    def lead(self) -> Summary:
        """The strongest summary."""
        return self.summaries[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The stories of one label of the first facet, strongest first; `label` is empty for stories without one."""

    label: str
    stories: tuple[Story, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """
    The alerts of some time, told at once.

    Attributes:
        since: aware, UTC; the first instant it covers.
        until: the last; also its timestamp.
        sections: strongest first.
        n_left_out: alerts that belong to this time and are not in `sections`.
        n_over_budget: alerts, among all, that are here because there were too many to be sent one by one.
        is_truncated: something was left out to meet the limits of a format.
    """

    since: dt.datetime
    until: dt.datetime
    sections: tuple[Section, ...]
    n_left_out: int = 0
    n_over_budget: int = 0
    is_truncated: bool = False

    @property
    def stories(self) -> tuple[Story, ...]:
        """All stories, in the order of the sections."""
        return tuple(story for section in self.sections for story in section.stories)

    @property
    def n_alerts(self) -> int:
        """Alerts that are in `sections`."""
        return sum(len(story.summaries) for story in self.stories)


def make_summary(alert: Alert) -> Summary:
    """
    Return what is said of *alert*.

    Raises:
        ValueError: a score or weight is not finite.
    """
    record = article_record(alert.article)
    matched = [tag.label for tag in alert.match.reasons]
    ranked = sorted(alert.tags, key=lambda tag: (tag.label not in matched, -tag.score))
    kept = {tag.label for tag in ranked[:MAX_TAGS]}
    return Summary(
        rule_id=clean(alert.match.rule.id),
        rule_version=alert.match.rule.version,
        article_id=record["id"],
        title=record["title"],
        date=record["date"],
        source=record["source"],
        link=record["link"],
        file_name=record["file_name"],
        tags={
            facet: tuple(replace(tag, score=_finite(tag.score)) for tag in tags if tag.label in kept)
            for facet, tags in alert.tags.by_facet.items()
        },
        matched=tuple(label for label in matched if label in kept),
        evidence={label: _cleaned(evidence) for label, evidence in alert.evidence.items() if label in kept},
        model=clean(alert.model, MAX_REFERENCE),
        created_at=alert.created_at,
        is_truncated=len(ranked) > MAX_TAGS or record["title"] != clean(alert.article.title),
    )


def make_digest(
    summaries: Sequence[Summary],
    *,
    since: dt.datetime,
    until: dt.datetime,
    story_of: Callable[[Summary], str] = lambda summary: summary.article_id,
    n_files: Mapping[str, int] | None = None,
    n_left_out: int = 0,
    n_over_budget: int = 0,
) -> Digest:
    """
    Group alerts by story, and stories by the strongest label of their first facet.

    The result does not depend on the order of *summaries*.

    Args:
        summaries: any number.
        since: aware, UTC.
        until: aware, UTC.
        story_of: which story a summary belongs to; without it every article is a story of its own.
        n_files: story to how many files tell it; without it as many as there are articles among *summaries*.
        n_left_out: alerts of this time that are not among *summaries*.
        n_over_budget: alerts, of all, that were too many to be sent one by one.
    """
    ranked = sorted(summaries, key=lambda item: (*(-part for part in item.strength), item.article_id, item.rule_id))
    by_story: dict[str, list[Summary]] = {}
    for summary in ranked:
        by_story.setdefault(story_of(summary), []).append(summary)
    by_label: dict[str, list[Story]] = {}
    for story_id, members in by_story.items():
        seen = len({summary.article_id for summary in members})
        story = Story(id=story_id, summaries=tuple(members), n_files=(n_files or {}).get(story_id, seen))
        by_label.setdefault(_label_of(story.lead), []).append(story)
    sections = tuple(Section(label=label, stories=tuple(stories)) for label, stories in by_label.items())
    return Digest(since=since, until=until, sections=sections, n_left_out=n_left_out, n_over_budget=n_over_budget)


def _label_of(summary: Summary) -> str:
    first_facet = next(iter(summary.tags.values()), ())
    return next((tag.label for tag in first_facet), "")


def _cleaned(evidence: Evidence) -> Evidence:
    return Evidence(
        quotes=tuple(
            replace(quote, text=clean(quote.text, MAX_QUOTE), weight=_finite(quote.weight)) for quote in evidence.quotes
        ),
        terms=tuple((clean(term, MAX_NAME), _finite(weight)) for term, weight in evidence.terms),
        against=tuple((clean(term, MAX_NAME), _finite(weight)) for term, weight in evidence.against),
    )


def _finite(value: float) -> float:
    """Return *value*; ValueError when it is no number: an alert about such a score is not to be sent."""
    if not math.isfinite(value):
        message = f"a score or weight of an alert must be a finite number, got {value}"
        raise ValueError(message)
    return value


# -- shorter ---------------------------------------------------------------------------------------------------------


def shorten(summary: Summary, compose: Callable[[Summary], T], fits: Callable[[T], bool]) -> T:
    """
    Return what *compose* makes of *summary* with as little evidence left out as it takes to fit.

    The weakest goes first: of the sentences all but the strongest one of each label, then the words for and against,
    then those strongest sentences. Without any evidence it is returned whether it fits or not.
    """
    pieces = _weakest_first(summary)
    return _least(len(pieces), lambda n: compose(_without(summary, frozenset(pieces[:n]))), fits)


def shorten_digest(digest: Digest, compose: Callable[[Digest], T], fits: Callable[[T], bool]) -> T:
    """
    Return what *compose* makes of *digest* with as little left out as it takes to fit.

    The weakest story goes first: of every story all evidence but one sentence of each alert, then that and all alerts
    but the strongest `MAX_BARE`, then the story itself. `Digest.n_left_out` counts the alerts.
    """
    stories = sorted(digest.stories, key=lambda story: story.lead.strength)

    def reduce(n: int) -> Digest:
        gone, bare, brief = ({story.id for story in stories[: max(0, n - done * len(stories))]} for done in (2, 1, 0))
        sections = []
        for section in digest.sections:
            left = tuple(
                _reduced(story, is_bare=story.id in bare) if story.id in brief else story
                for story in section.stories
                if story.id not in gone
            )
            if left:
                sections.append(replace(section, stories=left))
        reduced = replace(digest, sections=tuple(sections), is_truncated=digest.is_truncated or n > 0)
        return replace(reduced, n_left_out=digest.n_left_out + digest.n_alerts - reduced.n_alerts)

    return _least(3 * len(stories), lambda n: compose(reduce(n)), fits)


def _least(n: int, compose: Callable[[int], T], fits: Callable[[T], bool]) -> T:
    """Return what *compose* makes of the smallest number up to *n* with which it fits, else of *n*; by bisection."""
    composed = compose(0)
    if n == 0 or fits(composed):
        return composed
    low, high = 1, n
    while low < high:
        middle = (low + high) // 2
        if fits(compose(middle)):
            high = middle
        else:
            low = middle + 1
    return compose(high)


def _reduced(story: Story, *, is_bare: bool) -> Story:
    members = story.summaries[:MAX_BARE] if is_bare else story.summaries
    return replace(story, summaries=tuple(_brief(summary, is_bare=is_bare) for summary in members))


Piece = tuple[str, str, int]  # label, kind, position


def _weakest_first(summary: Summary) -> list[Piece]:
    pieces: list[tuple[int, float, int, Piece]] = []
    for label, evidence in summary.evidence.items():
        for i, quote in enumerate(evidence.quotes):
            pieces.append((0 if i else 2, quote.weight, -i, (label, "quotes", i)))
        for kind, terms in (("terms", evidence.terms), ("against", evidence.against)):
            pieces += [(1, abs(weight), -i, (label, kind, i)) for i, (_, weight) in enumerate(terms)]
    if summary.news is not None:
        for kind in ("added", "changed"):
            pieces += [(3, 0.0, -i, ("", kind, i)) for i in range(len(getattr(summary.news, kind)))]
    return [piece for *_, piece in sorted(pieces)]


def _without(summary: Summary, gone: frozenset[Piece]) -> Summary:
    if not gone:
        return summary
    evidence = {
        label: Evidence(
            quotes=tuple(item for i, item in enumerate(old.quotes) if (label, "quotes", i) not in gone),
            terms=tuple(item for i, item in enumerate(old.terms) if (label, "terms", i) not in gone),
            against=tuple(item for i, item in enumerate(old.against) if (label, "against", i) not in gone),
        )
        for label, old in summary.evidence.items()
    }
    news = summary.news and replace(
        summary.news,
        added=tuple(item for i, item in enumerate(summary.news.added) if ("", "added", i) not in gone),
        changed=tuple(item for i, item in enumerate(summary.news.changed) if ("", "changed", i) not in gone),
    )
    return replace(summary, evidence=evidence, news=news, is_truncated=True)


def _brief(summary: Summary, *, is_bare: bool) -> Summary:
    """Leave one sentence, or none."""
    pieces = _weakest_first(summary)
    quotes = [piece for piece in pieces if piece[1] == "quotes"]
    return _without(summary, frozenset(pieces).difference(() if is_bare else quotes[-1:]))


# -- records ---------------------------------------------------------------------------------------------------------


def timestamp(moment: dt.datetime) -> str:
    """Return *moment* as RFC 3339 in UTC, to the second."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def article_record(article: Article) -> dict[str, Any]:
    """Return what an alert says of an article."""
    return {
        "id": article.id,
        "title": clean(article.title, MAX_TITLE),
        "date": article.date.isoformat() if article.date else None,
        "source": clean(article.publisher, MAX_NAME) or None,
        "link": safe_link(article.link),
        "file_name": clean(article.source, MAX_NAME),
    }


def summary_record(summary: Summary) -> dict[str, Any]:
    """Return *summary* as JSON holds it: the ``data`` of the standard message."""
    of_label = {tag.label: tag for tags in summary.tags.values() for tag in tags}
    return (
        ({"id": summary.id} if summary.id else {})
        | {
            "rule": {"id": summary.rule_id, "version": summary.rule_version},
            "article": {
                "id": summary.article_id,
                "title": summary.title,
                "date": summary.date,
                "source": summary.source,
                "link": summary.link,
                "file_name": summary.file_name,
            },
            "tags": {facet: [tag_record(tag) for tag in tags] for facet, tags in summary.tags.items()},
            "matched": list(summary.matched),
            "evidence": {
                label: {key: value for key, value in tag_record(of_label[label]).items() if key != "label"}
                | _evidence_record(evidence)
                for label, evidence in summary.evidence.items()
            },
            "model": summary.model,
            "truncated": summary.is_truncated,
        }
        | ({"story": _news_record(summary.news)} if summary.news else {})
    )


def parse_summary(record: Mapping[str, Any], created_at: dt.datetime) -> Summary:
    """
    Read back what `summary_record` wrote.

    Raises:
        KeyError: it is no such record.
    """
    article = record["article"]
    return Summary(
        rule_id=record["rule"]["id"],
        rule_version=record["rule"]["version"],
        article_id=article["id"],
        title=article["title"],
        date=article["date"],
        source=article["source"],
        link=article.get("link"),  # absent from messages recorded before there were links
        file_name=article["file_name"],
        tags={
            facet: tuple(Tag(tag["label"], tag["score"], Band(tag["band"])) for tag in tags)
            for facet, tags in record["tags"].items()
        },
        matched=tuple(record["matched"]),
        evidence={label: _parse_evidence(item) for label, item in record["evidence"].items()},
        model=record["model"],
        created_at=created_at,
        is_truncated=record["truncated"],
        news=_parse_news(record["story"]) if "story" in record else None,
        id=record.get("id"),
    )


def digest_record(digest: Digest) -> dict[str, Any]:
    """Return *digest* as JSON holds it: the ``data`` of the standard message."""
    return {
        "since": timestamp(digest.since),
        "until": timestamp(digest.until),
        "sections": [
            {
                "label": section.label or None,
                "stories": [
                    {
                        "id": story.id,
                        "n_files": story.n_files,
                        "alerts": [summary_record(summary) for summary in story.summaries],
                    }
                    for story in section.stories
                ],
            }
            for section in digest.sections
        ],
        "alerts": digest.n_alerts,
        "left_out": digest.n_left_out,
        "over_budget": digest.n_over_budget,
        "truncated": digest.is_truncated,
    }


def _news_record(news: News) -> dict[str, Any]:
    return {
        "id": news.story_id,
        "kind": news.kind,
        "files": news.n_files,
        "new_sentences": list(news.added),
        "changes": [{"before": before or None, "after": after or None} for before, after in news.changed],
    }


def _parse_news(record: Mapping[str, Any]) -> News:
    return News(
        kind=record["kind"],
        story_id=record["id"],
        n_files=record["files"],
        added=tuple(record["new_sentences"]),
        changed=tuple((change["before"] or "", change["after"] or "") for change in record["changes"]),
    )


def _evidence_record(evidence: Evidence) -> dict[str, Any]:
    return {
        "sentences": [
            {"text": quote.text, "start": quote.start, "end": quote.end, "weight": quote.weight}
            for quote in evidence.quotes
        ],
        "terms": [{"term": term, "weight": weight} for term, weight in evidence.terms],
        "against": [{"term": term, "weight": weight} for term, weight in evidence.against],
    }


def _parse_evidence(record: Mapping[str, Any]) -> Evidence:
    return Evidence(
        quotes=tuple(
            Quote(item["text"], item["start"], item["end"], item.get("weight", 0.0)) for item in record["sentences"]
        ),
        terms=tuple((item["term"], item["weight"]) for item in record["terms"]),
        against=tuple((item["term"], item["weight"]) for item in record["against"]),
    )
