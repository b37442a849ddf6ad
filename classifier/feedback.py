"""
What people say of alerts: right, wrong, or a label missing; and what that makes known about articles.

    Subject + verdict + labels --judge--> Judgements --settle--> label to yes or no --corpus_row--> a row to train from

Keeps: pure. Every word of a person is kept; the last one about a label counts. A label of which nobody spoke is
unknown: neither the tags a model gave nor the silence of a person become an example.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from classifier.errors import FeedbackError, did_you_mean, one_line
from classifier.tags import Tags
from classifier.taxonomy import Taxonomy

MAX_NOTE = 1_000  # characters
MAX_BY = 100
MAX_LABELS = 100  # of one submission
MIN_REFERENCE = 6  # hex digits that name an article, or an alert behind "msg_"
SOURCE = "feedback"  # of the rows made of it
VIAS = ("command", "callback")


class Verdict(StrEnum):
    """What a person says of an alert, or of a label of an article."""

    RIGHT = "right"
    WRONG = "wrong"
    MISSING = "missing"  # the article should carry the label


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """
    What a person can have an opinion of: an alert, or an article without saying which alert of it.

    Attributes:
        article_id: SHA-256 of the file's bytes.
        title: headline; may be empty.
        paths: of the files with these bytes, as the ledger writes them; newest last.
        tags: what the model said.
        model: name and id of it.
        alert_id: the ``webhook-id``; None for an article.
        rule_id: the rule that was met; None when that is several, or none.
        matched: the labels that met it; empty when they are not known.
    """

    article_id: str
    title: str
    paths: tuple[str, ...]
    tags: Tags
    model: str
    alert_id: str | None = None
    rule_id: str | None = None
    matched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """
    One thing a person said.

    Attributes:
        article_id: of which article.
        alert_id: of which alert; None when it was said of the article.
        rule_id: the alert's rule, if known.
        verdict: what was said.
        label: of which label; None for "this alert is wrong" without saying which of its labels is.
        model: whose tags were judged.
        note: in the person's own words; may be empty.
        by: who said it, as far as known.
        via: how: one of `VIAS`.
        at: aware, UTC.
    """

    article_id: str
    alert_id: str | None
    rule_id: str | None
    verdict: Verdict
    label: str | None
    model: str
    note: str
    by: str
    via: str
    at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An article of which people spoke, with everything they said, in the order they said it."""

    article_id: str
    title: str
    paths: tuple[str, ...]
    judgements: tuple[Judgement, ...]


def choose(reference: str, found: Sequence[Subject]) -> Subject:
    """
    Return the one subject that a reference names.

    Args:
        reference: what a person wrote: an alert's id, an article's id, the beginning of one, or a file name.
        found: what the ledger has under that name.

    Raises:
        FeedbackError: it is none, or several.
    """
    if not found:
        problem = (
            f"no alert, article or file of this name is in the ledger, got {reference!r}; give the id an alert shows,"
            f" at least {MIN_REFERENCE} digits of it, or the name of the file"
        )
        raise FeedbackError("unknown", problem)
    if len(found) > 1:
        names = ", ".join((item.alert_id or item.article_id)[:20] for item in found)
        raise FeedbackError("ambiguous", f"{reference!r} may be {names}; give more of the id")
    return found[0]


def judge(
    subject: Subject,
    verdict: Verdict,
    labels: Sequence[str],
    known: Sequence[str],
    *,
    by: str,
    via: str,
    note: str,
    now: dt.datetime,
) -> tuple[Judgement, ...]:
    """
    Return what a person says of *subject*, label by label.

    Without labels, ``right`` means every label the alert was sent for. ``wrong`` means that label when there is one;
    of several nobody knows which is wrong, so the alert is, and no label is known to be.

    Args:
        subject: what was judged.
        verdict: what was said.
        labels: of which labels; for ``missing`` at least one.
        known: the labels there are.
        by: who says so.
        via: one of `VIAS`.
        note: anything else; may be empty.
        now: aware, UTC.

    Raises:
        FeedbackError: a label is unknown, or was not given and so is neither right nor wrong, or none is named where
            one is needed; note or name are too long.
    """
    _check_words(by, note)
    for label in labels:
        if label not in known:
            near = did_you_mean(label, known) or "; `classifier model show` lists them"
            raise FeedbackError("label", f"there is no label {label!r}{near}")
    given = [tag.label for tag in subject.tags]
    if verdict is not Verdict.MISSING and (strange := [label for label in labels if label not in given]):
        problem = f"the model did not give {strange[0]!r}, so it is neither right nor wrong; say missing when it should"
        raise FeedbackError("label", f"{problem} have given it, its tags are {', '.join(given) or 'none'}")
    chosen: Sequence[str | None] = tuple(dict.fromkeys(labels)) or _meant(subject, verdict)
    if len(chosen) > MAX_LABELS:
        raise FeedbackError("label", f"at most {MAX_LABELS} labels at once, got {len(chosen)}")
    return tuple(
        Judgement(
            article_id=subject.article_id,
            alert_id=subject.alert_id,
            rule_id=subject.rule_id,
            verdict=verdict,
            label=label,
            model=subject.model,
            note=_plain(note),
            by=_plain(by),
            via=via,
            at=now,
        )
        for label in chosen
    )


def _check_words(by: str, note: str) -> None:
    for name, text, limit in (("note", note, MAX_NOTE), ("by", by, MAX_BY)):
        if len(text) > limit:
            raise FeedbackError("words", f"{name} has {len(text)} characters; at most {limit} are kept")


def _plain(text: str) -> str:
    """Return what any database and any terminal can hold."""
    return one_line(" ".join(text.split()))


def _meant(subject: Subject, verdict: Verdict) -> Sequence[str | None]:
    """Return the labels that somebody means who names none."""
    if verdict is Verdict.MISSING:
        raise FeedbackError("label", "which label is missing? name it behind the word")
    if verdict is Verdict.WRONG and (subject.rule_id is not None or subject.alert_id is not None):
        return subject.matched if len(subject.matched) == 1 else (None,)
    if not subject.matched:
        given = ", ".join(tag.label for tag in subject.tags) or "none"
        raise FeedbackError("label", f"it is not known which labels are meant; name them, its tags are {given}")
    return subject.matched


def settle(judgements: Iterable[Judgement]) -> dict[str, bool]:
    """
    Return what is known of an article: label to whether it carries it, by the last word about each.

    Args:
        judgements: all of one article, in the order they were said.
    """
    return {item.label: item.verdict is not Verdict.WRONG for item in judgements if item.label is not None}


def corpus_row(judged: Judged, text: str, taxonomy: Taxonomy) -> dict[str, object] | None:
    """
    Return a row for training that holds what people said of one article, and nothing else.

    Args:
        judged: the article and what was said.
        text: its page, decoded.
        taxonomy: the labels there are; what was said of others is left out.

    Returns:
        A row as `parse_example` takes it. In a facet that somebody spoke of, all labels but those stand under
        ``<facet plural>_unknown``; a facet nobody spoke of is not there, and so unknown as a whole. None when nothing
        is known of any label.
    """
    known: Mapping[str, bool] = settle(judged.judgements)
    row: dict[str, object] = {"id": judged.article_id, "title": "", "text": text, "source": SOURCE}
    is_known = False
    for facet in taxonomy:
        if not any(label in known for label in facet.label_ids):
            continue
        is_known = True
        row[facet.plural] = [label for label in facet.label_ids if known.get(label)]
        row[f"{facet.plural}_unknown"] = [label for label in facet.label_ids if label not in known]
    return row if is_known else None
