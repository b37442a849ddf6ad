"""
What was told of which story.

Near-copies are looked up by their bands, in a time that does not grow with the ledger. Each telling has 64 of them, and
they lie all over their table: to file a telling at once would be to write 64 pages of the disk for one article. So
tellings are filed many at a time, in the order of the keys; until then the `fresh` ones are compared one by one.
"""

import datetime as dt
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from typing import TypeVar

import sqlalchemy as sa

from classifier.adapters.ledger.database import parameter_mark
from classifier.adapters.ledger.schema import files, fresh, tellings, told
from classifier.ports import Scored
from classifier.stories import N_BANDS, Signature, SignatureTable, bands_of, may_tell_same
from classifier.telling import Kin, StoryBooks, Telling, Told

MAX_KIN = 10  # tellings a new one is compared with, those with most bands in common
MAX_FRESH = 2_000  # a megabyte to look through for each article or batch of them
_MAX_VERSIONS = 3  # of one file that it is compared with besides
_MAX_IN = 1_000  # values asked for in one statement; every database takes so many

_Value = TypeVar("_Value")
# Written out for the driver: SQLAlchemy would look longer at 65 parameters than the database does. `mark` is one.
SHARED = (
    "SELECT telling_id, count(*) FROM bands WHERE band IN ({marks}) AND telling_id >= {mark} GROUP BY telling_id"
    " ORDER BY 2 DESC, 1 DESC LIMIT {limit}"
)
_KEY = ("story_id", "rule_id", "endpoint_id")
_ITS_KEY = tuple(f"its_{name}" for name in _KEY)
_FORGET = told.delete().where(*(told.c[name] == sa.bindparam(its) for name, its in zip(_KEY, _ITS_KEY, strict=True)))
_FILE = "INSERT INTO bands (band, telling_id) VALUES (?, ?)"
_FILE_ALL = "INSERT INTO bands (band, telling_id) SELECT * FROM unnest(%s::bigint[], %s::bigint[])"


def kin(connection: sa.Connection, given: Sequence[Telling], since: dt.datetime) -> Sequence[Sequence[Kin]]:
    """
    Return for each telling those since then that share most bands with it, and the last ones of the same source.

    Those whose wording shows that they tell another story are left out.
    """
    oldest = sa.select(tellings.c.id).where(tellings.c.seen_at >= since).order_by(tellings.c.seen_at).limit(1)
    first = connection.scalar(oldest) if given else None
    if first is None:
        return [() for _ in given]
    new = connection.execute(sa.select(fresh).where(fresh.c.telling_id >= first)).all()
    table = SignatureTable([Signature(row.signature) for row in new])
    known = _versions(connection, given, since)
    mark = parameter_mark(connection)
    shared = SHARED.format(marks=", ".join([mark] * N_BANDS), mark=mark, limit=MAX_KIN)
    ids: list[list[int]] = []
    for telling in given:
        keys = telling.signature.bands
        alike: list[tuple[int, int]] = []  # how many bands are shared, and with which
        if keys:
            filed = connection.exec_driver_sql(shared, (*keys, first)).all()
            alike = [(-count, -telling_id) for telling_id, count in filed]
            alike += [(-count, -new[position].telling_id) for position, count in table.sharing(telling.signature)]
        found = [-telling_id for _, telling_id in nsmallest(MAX_KIN, alike)]
        ids.append(list(dict.fromkeys([*found, *known.get(telling.source, ())])))
    return _fetched(connection, given, ids, since)


def _versions(connection: sa.Connection, given: Sequence[Telling], since: dt.datetime) -> dict[str, Sequence[int]]:
    """Return the ids of the last tellings since then of each source that has any."""
    sources = {telling.source for telling in given}
    seen = tellings.c.seen_at >= since
    query = sa.select(tellings.c.source).where(seen).distinct()
    known = [source for some in _batched(sources) for source in connection.scalars(query.where(_is_in("source", some)))]
    latest = sa.select(tellings.c.id).where(seen).order_by(tellings.c.seen_at.desc(), tellings.c.id.desc())
    return {
        source: connection.scalars(latest.where(tellings.c.source == source).limit(_MAX_VERSIONS)).all()
        for source in known
    }


def _fetched(
    connection: sa.Connection, given: Sequence[Telling], ids: Sequence[Sequence[int]], since: dt.datetime
) -> list[Sequence[Kin]]:
    """Return the tellings with these *ids*, for each of *given*, that may tell its story."""
    wordings: dict[int, bytes] = {}
    query = sa.select(tellings.c.id, tellings.c.wording).where(tellings.c.seen_at >= since)
    for some in _batched({key for keys in ids for key in keys}):
        wordings.update((row.id, row.wording) for row in connection.execute(query.where(_is_in("id", some))))
    wanted = []
    for telling, keys in zip(given, ids, strict=True):
        there = [key for key in keys if key in wordings]
        may = may_tell_same(telling.wording, map(wordings.__getitem__, there))
        wanted.append([key for key, is_possible in zip(there, may, strict=True) if is_possible])
    found: dict[int, Kin] = {}
    for some in _batched({key for keys in wanted for key in keys}):
        for row in connection.execute(sa.select(tellings).where(_is_in("id", some))):
            earlier = Telling(
                article_id=row.article_id,
                source=row.source,
                signature=Signature(row.signature),
                wording=row.wording,
                packed=row.packed,
            )
            found[row.id] = Kin(telling=earlier, story_id=row.story_id)
    return [[found[key] for key in keys] for keys in wanted]


def _is_in(name: str, values: Collection[object]) -> sa.ColumnElement[bool]:
    return tellings.c[name].in_(values)


def _batched(values: Iterable[_Value]) -> Iterator[Sequence[_Value]]:
    left = iter(values)
    while some := list(islice(left, _MAX_IN)):
        yield some


def last(connection: sa.Connection) -> int:
    """Return the number of the last telling; numbers grow in the order of recording, since one records at a time."""
    return connection.scalar(sa.select(sa.func.max(tellings.c.id))) or 0


def after(connection: sa.Connection, number: int) -> Sequence[Kin]:
    """Return the tellings with a greater number, without their texts."""
    wanted = (tellings.c.article_id, tellings.c.story_id, tellings.c.source, tellings.c.signature, tellings.c.wording)
    return [
        Kin(
            telling=Telling(
                article_id=row.article_id,
                source=row.source,
                signature=Signature(row.signature),
                wording=row.wording,
                packed=b"",
            ),
            story_id=row.story_id,
        )
        for row in connection.execute(sa.select(*wanted).where(tellings.c.id > number))
    ]


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


def record_tellings(connection: sa.Connection, recorded: Sequence[Scored], now: dt.datetime) -> None:
    """Store where articles stand, each in a story of its own, and what has been told because of them."""
    given = [(item.telling, item.story_id) for item in recorded if item.telling is not None and item.story_id]
    if not given:
        return
    rows = [
        {
            "article_id": telling.article_id,
            "story_id": story_id,
            "source": telling.source,
            "signature": telling.signature.data,
            "wording": telling.wording,
            "packed": telling.packed,
            "seen_at": now,
        }
        for telling, story_id in given
    ]
    connection.execute(tellings.insert(), rows)
    signatures = {telling.article_id: telling.signature.data for telling, _ in given if telling.signature.data}
    query = sa.select(tellings.c.id, tellings.c.article_id)
    ids = [row for some in _batched(signatures) for row in connection.execute(query.where(_is_in("article_id", some)))]
    if ids:
        new = [{"telling_id": row.id, "signature": signatures[row.article_id]} for row in ids]
        connection.execute(fresh.insert(), new)
    known = {
        (item.story_id, *reader): {"labels": json.dumps(sorted(labels)), "told_at": now}
        for item in recorded
        for reader, labels in item.told.items()
    }
    if known:
        connection.execute(_FORGET, [dict(zip(_ITS_KEY, key, strict=True)) for key in known])
        connection.execute(told.insert(), [dict(zip(_KEY, key, strict=True)) | row for key, row in known.items()])
    if (connection.scalar(sa.select(sa.func.count()).select_from(fresh)) or 0) >= MAX_FRESH:
        _file(connection)


def _file(connection: sa.Connection) -> None:
    """Put the keys of the fresh tellings where they are looked up."""
    rows = connection.execute(sa.select(fresh)).all()
    keys = bands_of([Signature(row.signature) for row in rows])
    filed = sorted((band, row.telling_id) for row, mine in zip(rows, keys, strict=True) for band in set(mine))
    if connection.dialect.name == "postgresql":  # it would run the statement for each row
        connection.exec_driver_sql(_FILE_ALL, ([band for band, _ in filed], [number for _, number in filed]))
    else:
        connection.exec_driver_sql(_FILE, filed)
    connection.execute(fresh.delete())
