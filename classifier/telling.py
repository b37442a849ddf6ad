"""
What of a story has been told to whom, and what a later telling of it has to say.

    Telling + its Kin --place--> Place;  Place + Told --news--> News, or None: it has been told already

Keeps: pure; what was told is kept per story, rule and endpoint. Nobody hears of a story twice within the cool-down but
for a correction, and for new sentences that carry labels he has not been told yet.
"""

import datetime as dt
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from classifier.article import Article
from classifier.payloads.summaries import MAX_ADDED, MAX_CHANGE, News, Summary
from classifier.payloads.text import clean
from classifier.stories import (
    Candidate,
    Change,
    Comparison,
    Signature,
    SignatureTable,
    find_story,
    may_tell_same,
    sign_and_list,
)

COOLDOWN = dt.timedelta(days=1)
WINDOW = dt.timedelta(days=30)
_SAME_BEGINNING = 200  # characters by which a quoted sentence is recognised; quotes may be cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """
    One article as a telling of some story.

    Attributes:
        article_id: of the article.
        source: the name of its file.
        signature: what it is found by.
        wording: what shows quickly that another article tells another story, see `may_tell_same`.
        packed: its `Article.full_text`, compressed.
    """

    article_id: str
    source: str
    signature: Signature
    wording: bytes
    packed: bytes

    @property
    def text(self) -> str:
        """`Article.full_text`."""
        return unpack(self.packed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kin:
    """A telling seen before, with the story it belongs to."""

    telling: Telling
    story_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """
    What one endpoint has been told of one story because of one rule.

    Attributes:
        at: aware, UTC: when last.
        labels: that met the rule, in all alerts together.
    """

    at: dt.datetime
    labels: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryBooks:
    """
    What is known of one story.

    Attributes:
        n_files: other files that tell it.
        told: by rule and endpoint.
    """

    n_files: int = 0
    told: Mapping[tuple[str, str], Told]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryRow:
    """
    One story in a list.

    Attributes:
        id: of the article that told it first.
        title: of that article.
        last_at: aware, UTC: when the last article of it came.
        n_articles: articles that tell it.
        n_files: their files.
        n_alerts: messages made because of them.
        n_held: alerts that nobody was sent.
    """

    id: str
    title: str
    last_at: dt.datetime
    n_articles: int
    n_files: int
    n_alerts: int
    n_held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldAlert:
    """
    One alert that an article of a story made, or would have.

    Attributes:
        alert_id: the ``webhook-id``; None for one that nobody was sent.
        what: the state of the message, or why there is none.
    """

    rule_id: str
    endpoint_id: str
    alert_id: str | None
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryMember:
    """One article of a story, with its files and its alerts, those held back last."""

    story_id: str
    article_id: str
    title: str
    at: dt.datetime
    paths: tuple[str, ...]
    alerts: tuple[ToldAlert, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where an article stands among those seen before.

    Attributes:
        story_id: the id of the article that told the story first.
        is_correction: of an earlier telling.
        added: its sentences that the earlier telling does not have.
        changed: sentences before and after; nothing after for one that is gone, nothing before for one that is new.
    """

    story_id: str
    is_correction: bool = False
    added: tuple[str, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()


def unpack(packed: bytes) -> str:
    """Return the text of `Telling.packed`."""
    return zlib.decompress(packed).decode("utf-8", "surrogatepass")


def make_telling(article: Article) -> Telling:
    """Return *article* as a telling."""
    # The quickest level: the next ones save 3 % of the space and take a third longer.
    packed = zlib.compress(article.full_text.encode("utf-8", "surrogatepass"), 1)
    signature, wording = sign_and_list(article)
    return Telling(article_id=article.id, source=article.source, signature=signature, wording=wording, packed=packed)


def apart(tellings: Sequence[Telling | None]) -> list[slice]:
    """Cut a batch into parts, in order, within which no two tellings come from one source or may tell one story."""
    signed = [(i, item) for i, item in enumerate(tellings) if item is not None and item.signature.data]
    table = SignatureTable([item.signature for _, item in signed])
    parts, first = [], 0
    sources: set[str] = set()
    for i, telling in enumerate(tellings):
        if telling is None:
            continue
        sharing = table.sharing(telling.signature) if telling.signature.data else ()
        near = [signed[position][1].wording for position, _ in sharing if first <= signed[position][0] < i]
        if telling.source in sources or any(may_tell_same(telling.wording, near)):
            parts.append(slice(first, i))
            first, sources = i, set()
        sources.add(telling.source)
    return [*parts, slice(first, len(tellings))]


def is_overtaken(placed: Sequence[tuple[Telling | None, str | None]], newer: Sequence[Kin]) -> bool:
    """
    Say whether what was recorded in between may change where articles stand, or what is news in them.

    Args:
        placed: tellings with the story each was found to belong to.
        newer: what has been recorded since they were compared with the ledger.
    """
    signed = [kin.telling for kin in newer if kin.telling.signature.data]
    table = SignatureTable([telling.signature for telling in signed])
    stories, sources = {kin.story_id for kin in newer}, {kin.telling.source for kin in newer}
    for telling, story_id in placed:
        if telling is None:
            continue
        sharing = table.sharing(telling.signature) if telling.signature.data else ()
        near = [signed[position].wording for position, _ in sharing]
        if story_id in stories or telling.source in sources or any(may_tell_same(telling.wording, near)):
            return True
    return False


def place(telling: Telling, kin: Sequence[Kin]) -> Place:
    """Return the story that *telling* belongs to: that of the one of *kin* most like it, or one of its own."""
    if not kin:  # nearly always
        return Place(story_id=telling.article_id)
    known = {item.telling.article_id: item for item in kin}
    later = telling.text
    candidates = [
        Candidate(item.telling.article_id, item.telling.text, item.telling.source == telling.source) for item in kin
    ]
    found = find_story(later, candidates)
    if found is None:
        return Place(story_id=telling.article_id)
    earlier, comparison = found
    return Place(
        story_id=known[earlier.id].story_id,
        is_correction=comparison.relation == "correction",
        added=tuple(later[slice(*span)] for span in comparison.new_sentences),
        changed=_changed(comparison, earlier.text, later),
    )


def news(
    where: Place, summary: Summary, books: StoryBooks, endpoint_id: str, now: dt.datetime, cooldown: dt.timedelta
) -> News | None:
    """
    Say what an alert is to its endpoint: the first of its story, a correction, a follow-up; None when it is no news.

    Args:
        where: of the article.
        summary: of the match.
        books: of the story.
        endpoint_id: whom to tell.
        now: aware, UTC.
        cooldown: after it the story is told again.
    """
    n_files = books.n_files + 1
    told = books.told.get((summary.rule_id, endpoint_id))
    if told is not None and where.is_correction:
        changed = tuple((clean(before, MAX_CHANGE), clean(after, MAX_CHANGE)) for before, after in where.changed)
        return News(kind="correction", story_id=where.story_id, n_files=n_files, changed=changed[:MAX_ADDED])
    if told is not None and (labels := _labels_of(where.added, summary) - told.labels):
        added = tuple(clean(text, MAX_CHANGE) for text in where.added if _labels_of([text], summary) & labels)
        return News(kind="follow_up", story_id=where.story_id, n_files=n_files, added=added[:MAX_ADDED])
    # What was stored in the future, before the clock was set back, holds nothing up for longer than the cool-down.
    if told is None or abs(now - told.at) >= cooldown:
        return News(kind="report", story_id=where.story_id, n_files=n_files)
    return None


def labels_told(books: StoryBooks, summary: Summary, endpoint_id: str) -> frozenset[str]:
    """Return the labels that an endpoint will have heard of in this story once it gets the alert."""
    before = books.told.get((summary.rule_id, endpoint_id))
    return frozenset(summary.matched) | (before.labels if before else frozenset())


def _labels_of(sentences: Sequence[str], summary: Summary) -> frozenset[str]:
    """Return the labels that one of *sentences* is quoted for."""
    known = {clean(sentence)[:_SAME_BEGINNING] for sentence in sentences}
    return frozenset(
        label
        for label, evidence in summary.evidence.items()
        if any(quote.text[:_SAME_BEGINNING] in known for quote in evidence.quotes)
    )


def _changed(comparison: Comparison, earlier: str, later: str) -> tuple[tuple[str, str], ...]:
    """Return the sentences that differ, those with other facts first."""

    def pair(change: Change) -> tuple[str, str]:
        before = earlier[slice(*change.earlier)] if change.earlier else ""
        return before, later[slice(*change.later)] if change.later else ""

    ranked = sorted(comparison.changes, key=lambda change: not change.is_factual)
    return tuple(pair(change) for change in ranked)
