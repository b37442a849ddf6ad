"""
What was told of which story.

Near-copies are looked up by their bands, in a time that does not grow with the ledger.
"""

import datetime as dt
import json
from collections.abc import Sequence

import sqlalchemy as sa

from classifier.adapters.ledger.schema import bands, files, tellings, told
from classifier.ports import Scored
from classifier.stories import Signature
from classifier.telling import Kin, StoryBooks, Telling, Told

MAX_KIN = 10  # tellings a new one is compared with, those with most bands in common
_MAX_VERSIONS = 3  # of one file that it is compared with besides


def kin(connection: sa.Connection, telling: Telling, since: dt.datetime) -> Sequence[Kin]:
    """Return the tellings since then that share most bands with *telling*, and the last ones of the same source."""
    shared = (
        sa.select(bands.c.telling_id)
        .join(tellings, tellings.c.id == bands.c.telling_id)
        .where(bands.c.band.in_(telling.signature.bands) & (tellings.c.seen_at >= since))
        .group_by(bands.c.telling_id)
        .order_by(sa.func.count().desc(), bands.c.telling_id.desc())
        .limit(MAX_KIN)
    )
    versions = (
        sa.select(tellings.c.id)
        .where((tellings.c.source == telling.source) & (tellings.c.seen_at >= since))
        .order_by(tellings.c.seen_at.desc(), tellings.c.id.desc())
        .limit(_MAX_VERSIONS)
    )
    ids = dict.fromkeys([*connection.scalars(shared), *connection.scalars(versions)])
    rows = {row.id: row for row in connection.execute(sa.select(tellings).where(tellings.c.id.in_(ids)))}
    found = []
    for row in (rows[key] for key in ids):
        signature = Signature(row.signature)
        earlier = Telling(article_id=row.article_id, source=row.source, signature=signature, packed=row.packed)
        found.append(Kin(telling=earlier, story_id=row.story_id))
    return found


def story(connection: sa.Connection, story_id: str, source: str) -> StoryBooks:
    """Return what is known of a story; *source* is not among the files it counts."""
    told_of = sa.select(told).where(told.c.story_id == story_id)
    paths = (
        sa.select(sa.func.count(files.c.path.distinct()))
        .join(tellings, tellings.c.article_id == files.c.article_id)
        .where((tellings.c.story_id == story_id) & (files.c.path != source))
    )
    by_reader = {
        (row.rule_id, row.endpoint_id): Told(at=row.told_at, labels=frozenset(json.loads(row.labels)))
        for row in connection.execute(told_of)
    }
    return StoryBooks(n_files=connection.scalar(paths) or 0, told=by_reader)


def record_telling(connection: sa.Connection, scored: Scored, now: dt.datetime) -> None:
    """Store where an article stands, and what has been told because of it."""
    telling = scored.telling
    if telling is None or scored.story_id is None:
        return
    row = {
        "article_id": telling.article_id,
        "story_id": scored.story_id,
        "source": telling.source,
        "signature": telling.signature.data,
        "packed": telling.packed,
        "seen_at": now,
    }
    connection.execute(tellings.insert(), row)
    mine_id = sa.select(tellings.c.id).where(tellings.c.article_id == telling.article_id)
    telling_id = connection.execute(mine_id).scalar_one()
    if keys := set(telling.signature.bands):
        connection.execute(bands.insert(), [{"band": band, "telling_id": telling_id} for band in sorted(keys)])
    for (rule_id, endpoint_id), labels in scored.told.items():
        mine = {"story_id": scored.story_id, "rule_id": rule_id, "endpoint_id": endpoint_id}
        connection.execute(told.delete().where(*(told.c[name] == value for name, value in mine.items())))
        connection.execute(told.insert(), mine | {"labels": json.dumps(sorted(labels)), "told_at": now})
