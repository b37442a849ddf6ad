"""
The ledger in a SQL database: what was found, what was decided, what is to be sent. The only truth; everything else can
be killed.

Every method of `SqlLedger` is one transaction, durable when it returns; what happens within it is a function of one of
the modules here, which takes the open connection. A message is delivered under a lease with a token; who comes back
after the lease ran out cannot settle any more. In PostgreSQL several daemons may have one ledger.
"""

import datetime as dt
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from classifier.adapters.ledger import (
    books,
    deliveries,
    digests,
    endpoint_states,
    opinions,
    overviews,
    recording,
    retention,
    sharing,
    silences,
    tellings,
)
from classifier.adapters.ledger.copying import copy_ledger
from classifier.adapters.ledger.database import Database, Turn, check_url, sqlite_file
from classifier.alerts import MessageId
from classifier.backtest import Past
from classifier.delivery import EndpointHealth, Message, Outcome, Rate, Step
from classifier.feedback import Judged, Judgement, Subject
from classifier.ports import (
    AsideRow,
    Audit,
    Checkpoint,
    Claim,
    DueDigest,
    FileState,
    FileVersion,
    Follow,
    HeldRow,
    OutboxRow,
    Queue,
    Retention,
    Verdict,
    no_checkpoint,
)
from classifier.silences import Silence
from classifier.status import Overview
from classifier.telling import Kin, StoryBooks, StoryMember, StoryRow, Telling

__all__ = ["SqlLedger", "check_url", "copy_ledger", "sqlite_file"]


class SqlLedger:
    """
    A `Ledger` in SQLite or PostgreSQL.

    Args:
        url: ``sqlite:////path/to/file.db`` or ``postgresql://user@host/name``.
        migrate: bring the tables to this version's schema; otherwise they must be there already.
        checkpoint: told of places inside transactions where a crash must lose nothing.

    Raises:
        LedgerError: the database cannot be opened, is no ledger, is damaged, or was written by a newer version.
    """

    def __init__(self, url: str, *, migrate: bool = True, checkpoint: Checkpoint = no_checkpoint) -> None:
        self._checkpoint = checkpoint
        self._owner = secrets.token_hex(16)
        self._database = Database(url, migrate=migrate, checkpoint=checkpoint)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def clock(self) -> dt.datetime | None:
        """Return what time it is where the database is; None when that is here."""
        if not self._database.is_shared:
            return None
        with self._database.reading() as connection:
            now: dt.datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return now.astimezone(dt.UTC)

    # -- what was found, and what was decided ------------------------------------------------------------------------

    def unrecorded(self, files: Sequence[FileVersion]) -> Sequence[FileVersion]:
        """Return those of *files* that have no verdict yet, in the same order."""
        with self._database.reading() as connection:
            return recording.unrecorded(connection, files)

    def take(self, files: Sequence[FileVersion], now: dt.datetime, lease: dt.timedelta) -> Sequence[FileVersion]:
        """Return those of *files* to work on: no other daemon has taken them; asked for again, they are renewed."""
        if not self._database.is_shared:
            return files
        with self._database.writing() as connection:
            return sharing.take(connection, files, self._owner, now, lease)

    def release(self) -> None:
        """Leave to others what was taken and not recorded."""
        if self._database.is_shared:
            with self._database.writing() as connection:
                sharing.release(connection, self._owner)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Until the end of the context no other daemon records anything."""
        with self._database.alone(Turn.RECORD):
            yield

    def scored(self, sha256s: Collection[str]) -> Collection[str]:
        """Return those of *sha256s* that are the digest of bytes scored before."""
        with self._database.reading() as connection:
            return recording.scored(connection, sha256s)

    def record(self, verdicts: Sequence[tuple[FileVersion, Verdict]], now: dt.datetime) -> Sequence[FileState | None]:
        """Store what became of these files, with everything that follows from it, in one transaction."""
        with self._database.writing() as connection:
            states = recording.record(connection, verdicts, now)
            if self._database.is_shared:
                sharing.release(connection, self._owner, [file.path for file, _ in verdicts])
            self._checkpoint("recording")
        return states

    def newest_file_at(self) -> dt.datetime | None:
        """Return when the last file got its verdict; None when none ever did."""
        with self._database.reading() as connection:
            return books.newest_file_at(connection)

    def history(self, since: dt.datetime | None) -> Sequence[Past]:
        """Return the articles scored from *since* on, oldest first, with the tags they got; texts are not kept."""
        with self._database.reading(takes_long=True) as connection:
            return books.history(connection, since)

    # -- what was told of which story --------------------------------------------------------------------------------

    def kin(self, given: Sequence[Telling], since: dt.datetime) -> Sequence[Sequence[Kin]]:
        """Return for each the tellings since then that share most bands with it, and the last ones of its source."""
        with self._database.reading() as connection:
            return tellings.kin(connection, given, since)

    def last_telling(self) -> int:
        """Return a mark for `tellings_after`: everything recorded before this call is before it."""
        if not self._database.is_shared:  # there are no others
            return 0
        with self._database.reading() as connection:
            return tellings.last(connection)

    def tellings_after(self, mark: int) -> Sequence[Kin]:
        """Return the tellings recorded after *mark*, without their texts; none where there is one daemon only."""
        if not self._database.is_shared:
            return ()
        with self._database.reading() as connection:
            return tellings.after(connection, mark)

    def story(self, story_id: str, source: str) -> StoryBooks:
        """Return what is known of a story; *source* is not among the files it counts."""
        with self._database.reading() as connection:
            return tellings.story(connection, story_id, source)

    def stories(self, since: dt.datetime, limit: int) -> Sequence[StoryRow]:
        """Return the stories told since then, the one told last first."""
        with self._database.reading() as connection:
            return overviews.stories(connection, since, limit)

    def story_members(self, name: str) -> Sequence[StoryMember]:
        """Return the articles of the one story that *name* can mean, as for `stories_named`; the first told first."""
        with self._database.reading() as connection:
            return overviews.story_members(connection, name)

    # -- what people say of it ---------------------------------------------------------------------------------------

    def subjects(self, reference: str) -> Sequence[Subject]:
        """Return what a person may mean by a file name, an alert's id, an article's id, or the beginning of an id."""
        with self._database.reading() as connection:
            return opinions.subjects(connection, reference)

    def judge(self, submission_id: str, judgements: Sequence[Judgement]) -> bool:
        """Store what a person said; False, and nothing stored, when this submission has been recorded before."""
        with self._database.writing() as connection:
            return opinions.judge(connection, submission_id, judgements)

    def judged(self) -> Sequence[Judged]:
        """Return every article that people spoke of, the one first spoken of first, with all they said."""
        with self._database.reading() as connection:
            return opinions.judged(connection)

    def opinions(self) -> Mapping[tuple[str, str], int]:
        """Count what people said, label by label, by verdict and by how they said it; reads all of it."""
        with self._database.reading() as connection:
            return opinions.counted(connection)

    # -- what is held back -------------------------------------------------------------------------------------------

    def silences(self, now: dt.datetime) -> Sequence[Silence]:
        """Return the silences in force, oldest first."""
        with self._database.reading() as connection:
            return silences.in_force(connection, now)

    def add_silence(self, silence: Silence) -> tuple[Silence, int]:
        """Store a silence, hold back what waits for a digest and meets it; return it with its number, and how many."""
        with self._database.writing() as connection:
            return silences.add(connection, silence)

    def end_silence(self, silence_id: int, now: dt.datetime) -> bool:
        """End a silence now; False when there is none of this number in force."""
        with self._database.writing() as connection:
            return silences.end(connection, silence_id, now)

    def all_silences(self) -> Sequence[tuple[Silence, int]]:
        """Return every silence, the newest first, with how many alerts it held back."""
        with self._database.reading() as connection:
            return silences.listed(connection)

    def silenced(self, silence_id: int | None, limit: int) -> Sequence[HeldRow]:
        """Return the alerts that a silence, or any, held back, the newest first."""
        with self._database.reading() as connection:
            return silences.held_back(connection, "silenced", silence_id, limit)

    def stories_named(self, name: str, limit: int) -> Sequence[str]:
        """Return the stories that *name* can mean: the beginning of an id, a webhook-id, or the name of a file."""
        with self._database.reading() as connection:
            return silences.stories_named(connection, name, limit)

    # -- what is to be sent ------------------------------------------------------------------------------------------

    def due_in_s(self, endpoint_id: str, now: dt.datetime, rate: Rate | None = None) -> float | None:
        """Return how many seconds *rate* keeps a due message of an endpoint waiting; None when none is due."""
        with self._database.reading() as connection:
            return deliveries.due_in_s(connection, endpoint_id, now, rate)

    def turn(self, endpoint_id: str, now: dt.datetime, rate: Rate) -> float:
        """Count a try that is no message's against *rate* and return 0; or return how many seconds it must wait."""
        with self._database.writing() as connection:
            return deliveries.turn(connection, endpoint_id, now, rate)

    def claim(self, endpoint_id: str, now: dt.datetime, lease: dt.timedelta, rate: Rate | None = None) -> Claim | None:
        """Take the message of one endpoint that has been due longest, if any, for the time of *lease*."""
        with self._database.writing() as connection:
            claim = deliveries.claim(connection, endpoint_id, now, lease, rate)
            if claim is not None:
                self._checkpoint("claiming")
        return claim

    def settle(
        self,
        claim: Claim,
        outcome: Outcome,
        step: Step,
        now: dt.datetime,
        follow: Follow | None = None,
    ) -> bool:
        """Store what one try came to; False, and nothing stored, when somebody else took over."""
        with self._database.writing() as connection:
            is_settled = deliveries.settle(connection, claim, outcome, step, now)
            if is_settled and follow is not None:
                endpoint_states.follow(connection, claim.message.endpoint_id, claim.health, follow, now)
            if is_settled:
                self._checkpoint("settling")
        return is_settled

    def outbox(self, *, states: Sequence[str], limit: int) -> Sequence[OutboxRow]:
        """Return messages in these states, newest first."""
        with self._database.reading() as connection:
            return deliveries.listed(connection, states, limit)

    def backlog(self) -> Mapping[str, Mapping[str, int]]:
        """Count messages by endpoint and state, and alerts that wait for a digest as ``aside``."""
        with self._database.reading() as connection:
            return deliveries.backlog(connection)

    def queues(self, now: dt.datetime) -> Mapping[str, Queue]:
        """Return what waits, by endpoint; an endpoint for which nothing does is no key."""
        with self._database.reading() as connection:
            return deliveries.queues(connection, now)

    def waiting(self, limit: int) -> int:
        """Count the messages that are not delivered, dead ones included; no further than *limit*."""
        with self._database.reading() as connection:
            return deliveries.waiting(connection, limit)

    def retry(self, ids: Sequence[MessageId] | None, now: dt.datetime) -> int:
        """Make dead messages due again, all or those named, with a fresh schedule; return how many."""
        with self._database.writing() as connection:
            return deliveries.retry(connection, ids, now)

    def recover(self, endpoint_id: str | None, since: dt.datetime, now: dt.datetime) -> int:
        """Make every message made at *since* or later and not delivered due now, in the order they were made in."""
        with self._database.writing() as connection:
            return deliveries.recover(connection, endpoint_id, since, now)

    # -- what is sent in digests -------------------------------------------------------------------------------------

    def made(self, endpoint_id: str, start: dt.datetime, end: dt.datetime) -> Mapping[str, int]:
        """Count the messages, one alert each, made for an endpoint from *start* on and before *end*, by rule."""
        with self._database.reading() as connection:
            return digests.made(connection, endpoint_id, start, end)

    def due_digest(self, endpoint_id: str, now: dt.datetime, limit: int) -> DueDigest | None:
        """Return what goes into the digest of an endpoint that is to be made now; None when there is none."""
        with self._database.reading() as connection:
            return digests.due(connection, endpoint_id, now, limit)

    def close_digest(self, due: DueDigest, message: Message, now: dt.datetime) -> bool:
        """Put *message* into the outbox and its alerts into it; False, and nothing stored, when others were at it."""
        with self._database.writing() as connection:
            is_closed = digests.close(connection, due, message, now)
            if is_closed:
                self._checkpoint("closing")
        if is_closed:
            self._checkpoint("closed")
        return is_closed

    def put_aside(self, endpoint_id: str | None, limit: int, *, is_made: bool) -> Sequence[AsideRow]:
        """Return the alerts that wait for a digest, those due first first; or those that are in one, newest first."""
        with self._database.reading() as connection:
            return digests.listed(connection, endpoint_id, limit, is_made=is_made)

    # -- what is known of endpoints ----------------------------------------------------------------------------------

    def health(self, endpoint_id: str) -> EndpointHealth:
        """Return what is known of an endpoint; of one never heard of, that it is working."""
        with self._database.reading() as connection:
            return endpoint_states.health(connection, endpoint_id)

    def set_health(
        self,
        endpoint_id: str,
        before: EndpointHealth,
        after: EndpointHealth,
        now: dt.datetime,
        notices: Sequence[Message] = (),
    ) -> bool:
        """Store *after* and the notices; False, and nothing stored, when the state is no longer that of *before*."""
        with self._database.writing() as connection:
            return endpoint_states.change(connection, endpoint_id, before, after, now, notices)

    def retired_keys(
        self, endpoint_id: str, fingerprints: Sequence[str], now: dt.datetime
    ) -> Mapping[str, dt.datetime]:
        """Say since when each of an endpoint's keys but the first has stood behind another one; remember it."""
        with self._database.writing() as connection:
            return endpoint_states.retired_keys(connection, endpoint_id, fingerprints, now)

    # -- keeping the books -------------------------------------------------------------------------------------------

    def prune(self, limits: Retention, now: dt.datetime) -> int:
        """Forget a bounded number of each kind of what is older than *limits* say; return how many."""
        with self._database.writing() as connection:
            forgotten = retention.prune(connection, limits, now)
            self._checkpoint("pruning")
        self._checkpoint("pruned")
        return forgotten

    def scan_ended(self, folder_name: str, now: dt.datetime) -> None:
        """Remember that the folder of this name, which may be empty, has been looked at to the end."""
        with self._database.writing() as connection:
            overviews.mark(connection, overviews.scan_mark(folder_name), now)

    def overview(self, folder_name: str, midnight: dt.datetime, week: dt.datetime) -> Overview:
        """Return what happened since *midnight*, and since *week*; and when the folder of this name was looked at."""
        with self._database.reading() as connection:
            return overviews.overview(connection, folder_name, midnight, week)

    def audit(self) -> Audit:
        """Count everything and check that it adds up."""
        with self._database.reading(takes_long=True) as connection:
            return books.audit(connection)
