"""What people said of alerts: finding what they mean, and keeping every word."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from classifier.adapters.ledger.books import read_tags
from classifier.adapters.ledger.schema import articles, aside, feedback, files, matches, outbox
from classifier.feedback import MIN_REFERENCE, Judged, Judgement, Subject, Verdict

MAX_FOUND = 5  # subjects told apart when a name fits several
_ALERT = re.compile(rf"msg_[0-9A-Za-z_-]{{{MIN_REFERENCE},60}}")
_DIGEST = re.compile(rf"[0-9a-f]{{{MIN_REFERENCE},64}}")


def subjects(connection: sa.Connection, reference: str) -> Sequence[Subject]:
    """
    Return what *reference* may mean, at most `MAX_FOUND`.

    That is the article last seen under this file name; else alerts, else articles, whose id begins with it.
    """
    named = (
        sa.select(files.c.article_id)
        .where((files.c.path == reference) & files.c.article_id.is_not(None))
        .order_by(files.c.recorded_at.desc(), files.c.id.desc())
        .limit(1)
    )
    if (article_id := connection.scalar(named)) is not None:
        return [_article(connection, article_id)]
    if _ALERT.fullmatch(reference):
        alerts = _alerts()
        begins = alerts.c.id.startswith(reference, autoescape=True)
        found = connection.scalars(sa.select(alerts.c.id).where(begins).order_by(alerts.c.id).limit(MAX_FOUND)).all()
        return [_alert(connection, item) for item in ([reference] if reference in found else found)]
    if _DIGEST.fullmatch(reference):
        ids = sa.select(articles.c.id).where(articles.c.id.startswith(reference, autoescape=True))
        found = connection.scalars(ids.order_by(articles.c.id).limit(MAX_FOUND)).all()
        return [_article(connection, item) for item in found]
    return []


def _alert(connection: sa.Connection, alert_id: str) -> Subject:
    alerts = _alerts()
    query = (
        sa.select(alerts.c.article_id, alerts.c.rule_id, matches.c.labels)
        .join(
            matches,
            (matches.c.article_id == alerts.c.article_id) & (matches.c.rule_id == alerts.c.rule_id),
        )
        .where(alerts.c.id == alert_id)
    )
    row = connection.execute(query).one()
    return _subject(connection, row.article_id, alert_id, row.rule_id, row.labels)


def _alerts() -> sa.Subquery:
    """Return all alerts: those that are messages of their own, and those that are told in digests."""
    alone = sa.select(outbox.c.id, outbox.c.article_id, outbox.c.rule_id).where(outbox.c.article_id.is_not(None))
    return alone.union_all(sa.select(aside.c.alert_id, aside.c.article_id, aside.c.rule_id)).subquery()


def _article(connection: sa.Connection, article_id: str) -> Subject:
    query = sa.select(matches.c.rule_id, matches.c.labels).where(matches.c.article_id == article_id)
    met = connection.execute(query).all()
    if len(met) == 1:
        return _subject(connection, article_id, None, met[0].rule_id, met[0].labels)
    return _subject(connection, article_id, None, None, None)


def _subject(
    connection: sa.Connection, article_id: str, alert_id: str | None, rule_id: str | None, labels: str | None
) -> Subject:
    row = connection.execute(sa.select(articles).where(articles.c.id == article_id)).one()
    return Subject(
        article_id=article_id,
        title=row.title,
        paths=_paths(connection, [article_id]).get(article_id, ()),
        tags=read_tags(row.tags, row.abstained),
        model=row.model,
        alert_id=alert_id,
        rule_id=rule_id,
        matched=tuple(json.loads(labels)) if labels else (),
    )


def _paths(connection: sa.Connection, article_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return article to the names of its files, newest last."""
    found: dict[str, tuple[str, ...]] = {}
    for article_id in article_ids:
        query = (
            sa.select(files.c.path).where(files.c.article_id == article_id).order_by(files.c.recorded_at, files.c.id)
        )
        found[article_id] = tuple(dict.fromkeys(connection.scalars(query)))
    return found


def judge(connection: sa.Connection, submission_id: str, judgements: Sequence[Judgement]) -> bool:
    """Store what a person said; False, and nothing stored, when this submission has been recorded before."""
    seen = sa.select(sa.literal(1)).where(feedback.c.submission_id == submission_id).limit(1)
    if connection.scalar(seen) is not None:
        return False
    rows = [
        {
            "submission_id": submission_id,
            "position": position,
            "article_id": item.article_id,
            "alert_id": item.alert_id,
            "rule_id": item.rule_id,
            "verdict": str(item.verdict),
            "label": item.label,
            "model": item.model,
            "note": item.note,
            "given_by": item.by,
            "via": item.via,
            "given_at": item.at,
        }
        for position, item in enumerate(judgements)
    ]
    connection.execute(feedback.insert(), rows)
    return True


def judged(connection: sa.Connection) -> Sequence[Judged]:
    """Return every article that people spoke of, the one first spoken of first, with all they said."""
    query = (
        sa.select(feedback, articles.c.title)
        .join(articles, articles.c.id == feedback.c.article_id)
        .order_by(feedback.c.id)
    )
    titles: dict[str, str] = {}
    said: dict[str, list[Judgement]] = {}
    for row in connection.execute(query):
        titles[row.article_id] = row.title
        said.setdefault(row.article_id, []).append(
            Judgement(
                article_id=row.article_id,
                alert_id=row.alert_id,
                rule_id=row.rule_id,
                verdict=Verdict(row.verdict),
                label=row.label,
                model=row.model,
                note=row.note,
                by=row.given_by,
                via=row.via,
                at=row.given_at,
            )
        )
    paths = _paths(connection, said)
    return [
        Judged(article_id=key, title=titles[key], paths=paths[key], judgements=tuple(items))
        for key, items in said.items()
    ]


def counted(connection: sa.Connection) -> Mapping[tuple[str, str], int]:
    """Count what people said, label by label, by verdict and by how they said it."""
    query = sa.select(feedback.c.verdict, feedback.c.via, sa.func.count())
    rows = connection.execute(query.group_by(feedback.c.verdict, feedback.c.via))
    return {(verdict, via): count for verdict, via, count in rows}
