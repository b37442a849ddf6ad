"""What became of files: looking up what is recorded already, and recording verdicts with all that follows from them."""

import datetime as dt
import json
from collections.abc import Collection, Iterator, Sequence

import sqlalchemy as sa

from classifier.adapters.ledger.database import Turn, parameter_mark, wait_for_turn
from classifier.adapters.ledger.digests import aside_row
from classifier.adapters.ledger.schema import (
    MAX_DETAIL,
    articles,
    aside,
    files,
    held,
    matches,
    outbox,
    outbox_row,
    storable,
)
from classifier.adapters.ledger.tellings import record_tellings
from classifier.alerts import tag_record
from classifier.ports import Duplicate, FileState, FileVersion, Rejected, Scored, Verdict

_MAX_IN = 1_000  # values asked for in one statement; every database takes so many


def unrecorded(connection: sa.Connection, versions: Sequence[FileVersion]) -> Sequence[FileVersion]:
    """Return those of *versions* that have no verdict yet, in the same order."""
    keys = list(map(_key, versions))
    known = _recorded(connection, keys)
    return [version for version, key in zip(versions, keys, strict=True) if key not in known]


def record(
    connection: sa.Connection, verdicts: Sequence[tuple[FileVersion, Verdict]], now: dt.datetime
) -> Sequence[FileState | None]:
    """
    Store what became of these files, with everything that follows from it, in one transaction.

    One daemon at a time: what another one has recorded meanwhile is seen, and so never recorded twice.
    """
    wait_for_turn(connection, Turn.RECORD)
    digests = [_digest(verdict) for _, verdict in verdicts]
    keys = [_key(file) for file, _ in verdicts]
    recorded = _recorded(connection, keys)
    known = scored(connection, {digest for digest in digests if digest})
    rows = _Rows(now)
    states = []
    for (_, verdict), key, digest in zip(verdicts, keys, digests, strict=True):
        state: FileState | None = None
        if key not in recorded:
            state = rows.add(key, verdict, is_known=digest in known)
        if state is not None:
            recorded.add(key)
        if state == "scored" and digest:
            known.add(digest)
        states.append(state)
    for table, values in rows.by_table.items():
        if values:
            connection.execute(table.insert(), values)
    record_tellings(connection, rows.scored, now)
    return states


_VERSION = ("path", "size", "mtime_ns", "ctime_ns", "inode")
_Key = tuple[str, int, int, int, str]
# Written out for the driver: the first scan of a process asks for every file of the folder, and SQLAlchemy would take
# longer over a thousand names than the database does.
_VERSIONS_OF = f"SELECT {', '.join(_VERSION)} FROM files WHERE path IN ({{marks}})"  # noqa: S608 - our own words


class _Rows:
    """Collects the rows of several verdicts, by table, in an order that foreign keys allow."""

    def __init__(self, now: dt.datetime) -> None:
        self._now = now
        self.by_table: dict[sa.Table, list[dict[str, object]]] = {
            table: [] for table in (articles, files, matches, outbox, held, aside)
        }
        self.scored: list[Scored] = []

    def add(self, file: _Key, verdict: Verdict, *, is_known: bool) -> FileState | None:
        """Add what follows from one verdict; *is_known* says whether its bytes have been scored before."""
        match verdict:
            case Scored() if not is_known:
                self._add_article(verdict)
                return self._add_file(file, "scored", article_id=verdict.article.id)
            case Scored():
                return self._add_file(file, "duplicate", article_id=verdict.article.id)
            case Duplicate():
                return self._add_file(file, "duplicate", article_id=verdict.sha256) if is_known else None
            case Rejected():
                return self._add_file(file, "rejected", reason=verdict.reason, detail=verdict.detail[:MAX_DETAIL])

    def _add_file(
        self,
        file: _Key,
        state: FileState,
        *,
        article_id: str | None = None,
        reason: str | None = None,
        detail: str | None = None,
    ) -> FileState:
        row: dict[str, object] = dict(zip(_VERSION, file, strict=True))
        row |= {"state": state, "reason": reason, "detail": detail, "article_id": article_id, "recorded_at": self._now}
        self.by_table[files].append(row)
        return state

    def _add_article(self, scored: Scored) -> None:
        article, tags = scored.article, scored.tags
        self.by_table[articles].append(
            {
                "id": article.id,
                "title": article.title,
                "date": article.date.isoformat() if article.date else None,
                "publisher": article.publisher,
                "tags": json.dumps(
                    {facet: [tag_record(tag) for tag in found] for facet, found in tags.by_facet.items()}
                ),
                "abstained": tags.abstained,
                "model": scored.model,
                "scored_at": self._now,
                "story_id": scored.story_id,
            }
        )
        for match in scored.matches:
            self.by_table[matches].append(
                {
                    "article_id": article.id,
                    "rule_id": match.rule.id,
                    "rule_version": match.rule.version,
                    "labels": json.dumps([tag.label for tag in match.reasons]),
                    "n_messages": sum(message.rule_id == match.rule.id for message in scored.messages),
                    "n_endpoints": len(match.to),
                    "created_at": self._now,
                }
            )
        self.scored.append(scored)
        self.by_table[held] += [
            {
                "article_id": article.id,
                "rule_id": item.rule_id,
                "endpoint_id": item.endpoint_id,
                "reason": item.reason,
                "silence_id": item.silence_id,
                "created_at": self._now,
            }
            for item in scored.held
        ]
        self.by_table[aside] += [aside_row(scored, item, self._now) for item in scored.aside]
        self.by_table[outbox] += [outbox_row(message, article.id, self._now) for message in scored.messages]


def _key(file: FileVersion) -> _Key:
    return storable(file.path), file.size, file.mtime_ns, file.ctime_ns, str(file.inode)


def _recorded(connection: sa.Connection, keys: Sequence[_Key]) -> set[_Key]:
    """Return all recorded versions of the files with the paths of these."""
    found: set[_Key] = set()
    for some in _batched([path for path, *_ in keys]):
        query = _VERSIONS_OF.format(marks=", ".join([parameter_mark(connection)] * len(some)))
        with connection.exec_driver_sql(query, tuple(some)) as rows:
            found.update(rows.cursor.fetchall())
    return found


def scored(connection: sa.Connection, sha256s: Collection[str]) -> set[str]:
    """Return those of *sha256s* that are the digest of bytes scored before."""
    found: set[str] = set()
    for some in _batched(list(sha256s)):
        found.update(connection.scalars(sa.select(articles.c.id).where(articles.c.id.in_(some))))
    return found


def _batched(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _MAX_IN] for start in range(0, len(values), _MAX_IN))


def _digest(verdict: Verdict) -> str | None:
    match verdict:
        case Scored():
            return verdict.article.id
        case Duplicate():
            return verdict.sha256
        case Rejected():
            return None
