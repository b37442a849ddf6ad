"""Verdicts with messages in them, made without a model."""

import datetime as dt
import hashlib

from classifier import Article, Match, Rule, Tag, Tags, parse_article
from classifier.alerts import MessageId
from classifier.delivery import Message
from classifier.ports import FileState, FileVersion, Headline, Ledger, Scored, Verdict
from classifier.tags import Band

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)


def article_of(text: str) -> Article:
    """Return an article of one sentence."""
    return parse_article(f"{text}\n\nThe city said so.".encode(), "a.txt")


def scored(text: str, *endpoints: str) -> Scored:
    """Return a verdict with one match and one message per endpoint; no endpoint, no match."""
    article = article_of(text)
    tag = Tag("wind", 0.9, Band.ALERT)
    tags = Tags({"sectors": (tag,)})
    rule = Rule(id="r", wanted={"sectors": frozenset({"wind"})}, bands=frozenset({Band.ALERT}), to=endpoints)
    messages = [
        Message(
            id=MessageId(f"msg_{hashlib.sha256((text + e).encode()).hexdigest()[:8]}"),
            endpoint_id=e,
            rule_id="r",
            body=text.encode(),
        )
        for e in endpoints
    ]
    headline = Headline(id=article.id, title=article.title, date=article.date, publisher=article.publisher)
    matches = (Match(rule=rule, reasons=(tag,)),) if endpoints else ()
    return Scored(article=headline, tags=tags, model="m@1", matches=matches, messages=tuple(messages))


def put(ledger: Ledger, file: FileVersion, verdict: Verdict, now: dt.datetime) -> FileState | None:
    """Record one file."""
    [state] = ledger.record([(file, verdict)], now)
    return state
