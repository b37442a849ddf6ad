"""
What a receiver is told when an article meets a rule, and the proof that goes with it.

Keeps: an alert can be made again from article, tags, match and model, and comes out the same but for its time;
its id depends on the article's bytes, the rule and the endpoint only, so a repeat is recognised wherever it happens.
"""

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NewType

from classifier.article import Article
from classifier.model import Contribution, Explanation
from classifier.rules import Match
from classifier.tags import Tag, Tags

MessageId = NewType("MessageId", str)

ALERT_TYPE = "article.matched"
DIGEST_TYPE = "article.digest"
DIGEST_PREFIX = "digest_"  # of the id
MAX_SENTENCES = 3
MAX_TERMS = 5
MAX_PHRASES = 4  # of one term
MAX_SENTENCE_CHARS = 600
SHORT_ID_CHARS = 16  # "msg_" and 48 bits: enough to name one of millions of alerts


@dataclass(frozen=True, slots=True)
class Quote:
    """
    A sentence of the article as scored, and where it stands in the decoded original, in characters.

    Attributes:
        weight: what its terms added to the logit of the label, in sum; above 0.
    """

    text: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """
    Why an article carries one tag.

    Attributes:
        quotes: the sentences that spoke for it most, strongest first, at most `MAX_SENTENCES`.
        terms: the words that spoke for it most, with what they added to the logit, at most `MAX_TERMS`.
        against: the same for what spoke against it.
    """

    quotes: tuple[Quote, ...]
    terms: tuple[tuple[str, float], ...]
    against: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """
    An article that meets a rule.

    Attributes:
        match: the rule and the tags that met it.
        article: the article.
        tags: all its tags.
        evidence: label to evidence, for the tags that were the reason.
        model: name and id of the model that gave the tags.
        created_at: aware, UTC.
    """

    match: Match
    article: Article
    tags: Tags
    evidence: dict[str, Evidence]
    model: str
    created_at: dt.datetime


def make_alert(
    article: Article, tags: Tags, match: Match, *, model: str, explain: Callable[[str], Explanation], now: dt.datetime
) -> Alert:
    """
    Put together what there is to say about one match.

    Args:
        article: what was scored.
        tags: what it got.
        match: the rule it meets.
        model: how the model is called in records.
        explain: label to explanation, of this article by this model.
        now: aware, UTC.
    """
    evidence = {tag.label: _evidence(explain(tag.label), article.title) for tag in match.reasons}
    return Alert(match=match, article=article, tags=tags, evidence=evidence, model=model, created_at=now)


def message_id(article_id: str, rule_id: str, endpoint_id: str) -> MessageId:
    """Return the ``webhook-id`` of an alert: the same for every retry, restart and re-scoring of the same bytes."""
    digest = hashlib.sha256(f"{article_id}\0{rule_id}\0{endpoint_id}".encode("utf-8", "surrogatepass"))
    return MessageId(f"msg_{digest.hexdigest()[:32]}")


def digest_id(endpoint_id: str, at: dt.datetime, last_id: int) -> MessageId:
    """Return the ``webhook-id`` of a digest, which says that it is one: of what was due then, up to that number."""
    digest = hashlib.sha256(f"{endpoint_id}\0{at.isoformat()}\0{last_id}".encode("utf-8", "surrogatepass"))
    return MessageId(f"{DIGEST_PREFIX}{digest.hexdigest()[:32]}")


def kind_of(message_id: str) -> str:
    """Say what a message of no rule is."""
    return "digest" if message_id.startswith(DIGEST_PREFIX) else "notice"


def short_id(alert_id: str) -> str:
    """Return what people are shown of an alert's id: long enough to name it, short enough to be read out."""
    return alert_id[:SHORT_ID_CHARS]


def notice_id(endpoint_id: str, state: str, changed_at: dt.datetime, to: str) -> MessageId:
    """Return the ``webhook-id`` of what one endpoint is told of a change of another."""
    digest = hashlib.sha256(f"{endpoint_id}\0{state}\0{changed_at.isoformat()}\0{to}".encode("utf-8", "surrogatepass"))
    return MessageId(f"msg_{digest.hexdigest()[:32]}")


def _evidence(explanation: Explanation, title: str) -> Evidence:
    # The receiver has the title anyway: it is quoted only when nothing else spoke for the label.
    sentences = [sentence for sentence in explanation.sentences if sentence.text != title] or explanation.sentences
    return Evidence(
        quotes=tuple(
            Quote(_shorten(sentence.text), sentence.start, sentence.end, round(sentence.weight, 3))
            for sentence in sentences[:MAX_SENTENCES]
        ),
        terms=tuple((_say(item), round(item.weight, 3)) for item in explanation.terms[:MAX_TERMS]),
        against=tuple((_say(item), round(item.weight, 3)) for item in explanation.against[:MAX_TERMS]),
    )


def _say(contribution: Contribution) -> str:
    """Return the words that counted, as they stand in the text; phrases of a concept one after the other."""
    return _shorten(", ".join(contribution.phrases[:MAX_PHRASES]))


def _shorten(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_SENTENCE_CHARS else flat[: MAX_SENTENCE_CHARS - 1].rstrip() + "\u2026"


def tag_record(tag: Tag) -> dict[str, object]:
    """Return a tag as it stands in every JSON we write."""
    return {"label": tag.label, "score": round(tag.score, 4), "band": str(tag.band)}
