"""The ports in memory. They keep every promise of `classifier.ports`; the contract tests hold them to it."""

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Literal

from classifier.alerts import MessageId, message_id
from classifier.delivery import (
    Dead,
    Delivered,
    EndpointHealth,
    EndpointState,
    Message,
    Outcome,
    Rate,
    Result,
    RetryAt,
    Step,
)
from classifier.feedback import Judged, Judgement, Subject
from classifier.ports import (
    Aside,
    Audit,
    Claim,
    DueDigest,
    Duplicate,
    FileState,
    FileVersion,
    Follow,
    Held,
    OutboxRow,
    Queue,
    Read,
    Rejected,
    Retention,
    Scored,
    Verdict,
)
from classifier.silences import Silence
from classifier.stories import may_tell_same
from classifier.telling import Kin, StoryBooks, Telling, Told


@dataclass
class FakeClock:
    """Stands still until advanced."""

    now: dt.datetime

    def __call__(self) -> dt.datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now += dt.timedelta(seconds=seconds)


@dataclass
class FakeInbox:
    """Files given as name to bytes; all of them settled."""

    files: dict[str, bytes | Rejected | None] = field(default_factory=dict)
    finished: set[FileVersion] = field(default_factory=set)

    def settled(self) -> Sequence[FileVersion]:
        """Return the files that are not done, by name."""
        versions = [version_of(name, raw if isinstance(raw, bytes) else b"") for name, raw in self.files.items()]
        return sorted(
            (version for version in versions if version not in self.finished), key=lambda version: version.path
        )

    def read(self, file: FileVersion) -> Read:
        """Return the bytes, the problem, or nothing for a file that is gone."""
        found = self.files.get(file.path)
        return Read(None, found) if isinstance(found, Rejected) else Read(found)

    def done(self, files: Iterable[FileVersion]) -> None:
        """Forget them."""
        self.finished.update(files)


def version_of(name: str, raw: bytes = b"", *, inode: int = 1) -> FileVersion:
    """Return a file version that differs when the bytes do."""
    return FileVersion(path=name, size=len(raw), mtime_ns=hash(raw) % 10**12, ctime_ns=0, inode=inode)


@dataclass
class _Row:
    message: Message
    created_at: dt.datetime
    state: Literal["pending", "delivered", "dead"] = "pending"
    attempts: int = 0
    attempts_before_retry: int = 0
    due_at: dt.datetime | None = None
    scheduled_at: dt.datetime | None = None
    token: str | None = None
    last: Outcome | None = None
    settled_at: dt.datetime | None = None


@dataclass
class _Aside:
    item: Aside
    article_id: str
    story_id: str
    created_at: dt.datetime
    number: int
    message_id: MessageId | None = None


class FakeLedger:
    """A `Ledger` that forgets everything when it goes; in one thread, but for as many daemons as there are `beside`."""

    def __init__(self) -> None:
        self._owners = count()
        self._owner = next(self._owners)
        self.claims: dict[str, tuple[int, dt.datetime]] = {}
        self.files: dict[FileVersion, tuple[FileState, str | None]] = {}
        self.articles: set[str] = set()
        self.matches: Counter[tuple[str, str]] = Counter()
        self.healths: dict[str, EndpointHealth] = {}
        self.matched_at: dict[tuple[str, str], dt.datetime] = {}
        self.article_of: dict[MessageId, str] = {}
        self.rule_of: dict[MessageId, str | None] = {}
        self.recorded_at: dict[FileVersion, dt.datetime] = {}
        self.tellings: list[tuple[Kin, dt.datetime]] = []
        self.paths: dict[tuple[str, str], None] = {}
        self.told: dict[tuple[str, str, str], Told] = {}
        self.held: list[tuple[str, Held]] = []
        self.in_force: list[Silence] = []
        self.aside: list[_Aside] = []
        self.n_endpoints: Counter[tuple[str, str]] = Counter()
        self.verdicts: dict[str, Scored] = {}
        self.submissions: dict[str, list[Judgement]] = {}
        self._rows: dict[MessageId, _Row] = {}
        self._retired: dict[str, dict[str, dt.datetime]] = {}
        self._tokens = count(1)
        self._used_until: dict[str, dt.datetime] = {}
        self._recorded: list[dt.datetime] = []

    def beside(self) -> "FakeLedger":
        """Return the same ledger as another daemon has it."""
        other = copy(self)
        other._owner = next(self._owners)
        return other

    def unrecorded(self, versions: Sequence[FileVersion]) -> Sequence[FileVersion]:
        """Return those without a verdict."""
        return [version for version in versions if version not in self.files]

    def take(self, files: Sequence[FileVersion], now: dt.datetime, lease: dt.timedelta) -> Sequence[FileVersion]:
        """Take what is one's own or nobody's."""
        mine = []
        for file in self.unrecorded(files):
            owner, until = self.claims.get(file.path, (self._owner, now))
            if owner == self._owner or until <= now:
                self.claims[file.path] = self._owner, now + lease
                mine.append(file)
        return mine

    def release(self) -> None:
        """Give up all."""
        for path in [path for path, (owner, _) in self.claims.items() if owner == self._owner]:
            del self.claims[path]

    def alone(self) -> nullcontext[None]:
        """Do nothing: nobody else has a turn before this one ends."""
        return nullcontext()

    def scored(self, sha256s: Collection[str]) -> Collection[str]:
        """Return those of bytes that were scored."""
        return self.articles.intersection(sha256s)

    def record(self, verdicts: Sequence[tuple[FileVersion, Verdict]], now: dt.datetime) -> Sequence[FileState | None]:
        """Store verdicts."""
        for file, _ in verdicts:
            if self.claims.get(file.path, (None,))[0] == self._owner:
                del self.claims[file.path]
        return [self._record(file, verdict, now) for file, verdict in verdicts]

    def _record(self, file: FileVersion, verdict: Verdict, now: dt.datetime) -> FileState | None:
        if file in self.files:
            return None
        match verdict:
            case Scored() if verdict.article.id not in self.articles:
                self.files[file] = ("scored", None)
                self.articles.add(verdict.article.id)
                self.verdicts[verdict.article.id] = verdict
                for match in verdict.matches:
                    own = [message for message in verdict.messages if message.rule_id == match.rule.id]
                    self.matches[verdict.article.id, match.rule.id] = len(own)
                    self.matched_at[verdict.article.id, match.rule.id] = now
                    self.n_endpoints[verdict.article.id, match.rule.id] = len(match.to)
                self._record_story(verdict, now)
                for message in verdict.messages:
                    self.article_of[message.id], self.rule_of[message.id] = verdict.article.id, message.rule_id
                    self._rows[message.id] = _Row(
                        message, now, due_at=max(now, message.not_before or now), scheduled_at=now
                    )
            case Duplicate() if verdict.sha256 not in self.articles:
                return None
            case Scored() | Duplicate():
                self.files[file] = ("duplicate", None)
            case Rejected():
                self.files[file] = ("rejected", verdict.reason)
        if not isinstance(verdict, Rejected):
            article_id = verdict.article.id if isinstance(verdict, Scored) else verdict.sha256
            self.paths.pop((file.path, article_id), None)
            self.paths[file.path, article_id] = None
        self._recorded.append(now)
        self.recorded_at[file] = now
        return self.files[file][0]

    def _record_story(self, scored: Scored, now: dt.datetime) -> None:
        self.held += [(scored.article.id, item) for item in scored.held]
        for item in scored.aside:
            number = len(self.aside) + 1
            self.aside.append(_Aside(item, scored.article.id, scored.story_id or scored.article.id, now, number))
            alert_id = message_id(scored.article.id, item.rule_id, item.endpoint_id)
            self.article_of[alert_id], self.rule_of[alert_id] = scored.article.id, item.rule_id
        if scored.telling is None or scored.story_id is None:
            return
        self.tellings.append((Kin(telling=scored.telling, story_id=scored.story_id), now))
        for key, labels in scored.told.items():
            self.told[scored.story_id, *key] = Told(at=now, labels=labels)

    def kin(self, given: Sequence[Telling], since: dt.datetime) -> Sequence[Sequence[Kin]]:
        """Compare with all."""
        return [self._kin(telling, since) for telling in given]

    def last_telling(self) -> int:
        """Count them."""
        return len(self.tellings)

    def tellings_after(self, mark: int) -> Sequence[Kin]:
        """Return the later ones."""
        return [kin for kin, _ in self.tellings[mark:]]

    def _kin(self, telling: Telling, since: dt.datetime) -> Sequence[Kin]:
        mine = set(telling.signature.bands)
        shared = [
            (len(mine & set(kin.telling.signature.bands)), i, kin)
            for i, (kin, at) in enumerate(self.tellings)
            if at >= since
        ]
        alike = [kin for n, _, kin in sorted(shared, key=lambda item: (-item[0], -item[1])) if n][:10]
        same = [kin for _, _, kin in reversed(shared) if kin.telling.source == telling.source][:3]
        found = [*alike, *(kin for kin in same if kin not in alike)]
        may = may_tell_same(telling.wording, [kin.telling.wording for kin in found])
        return [kin for kin, is_possible in zip(found, may, strict=True) if is_possible]

    def story(self, story_id: str, source: str) -> StoryBooks:
        """Look through all."""
        ids = {kin.telling.article_id for kin, _ in self.tellings if kin.story_id == story_id}
        paths = {path for path, article_id in self.paths if article_id in ids and path != source}
        books = {key[1:]: value for key, value in self.told.items() if key[0] == story_id}
        return StoryBooks(n_files=len(paths), told=books)

    def subjects(self, reference: str) -> Sequence[Subject]:
        """Look through all."""
        if named := [article_id for path, article_id in self.paths if path == reference]:
            return [self._subject(named[-1])]
        if len(reference) < 6 or (reference.startswith("msg_") and len(reference) < 10):
            return []
        alerts = sorted(key for key in self.article_of if key.startswith(reference))
        if alerts:
            exact = [key for key in alerts if key == reference]
            return [self._subject(self.article_of[key], key) for key in (exact or alerts)[:5]]
        return [self._subject(key) for key in sorted(self.articles) if key.startswith(reference)][:5]

    def _subject(self, article_id: str, alert_id: MessageId | None = None) -> Subject:
        verdict = self.verdicts[article_id]
        rule_id = self.rule_of[alert_id] if alert_id else None
        met = [match for match in verdict.matches if rule_id in {None, match.rule.id}]
        return Subject(
            article_id=article_id,
            title=verdict.article.title,
            paths=self._paths(article_id),
            tags=verdict.tags,
            model=verdict.model,
            alert_id=alert_id,
            rule_id=met[0].rule.id if len(met) == 1 else None,
            matched=tuple(tag.label for tag in met[0].reasons) if len(met) == 1 else (),
        )

    def _paths(self, article_id: str) -> tuple[str, ...]:
        return tuple(path for path, known in self.paths if known == article_id)

    def judge(self, submission_id: str, judgements: Sequence[Judgement]) -> bool:
        """Keep them."""
        if submission_id in self.submissions:
            return False
        self.submissions[submission_id] = list(judgements)
        return True

    def judged(self) -> Sequence[Judged]:
        """Gather by article."""
        said: dict[str, list[Judgement]] = {}
        for item in (item for items in self.submissions.values() for item in items):
            said.setdefault(item.article_id, []).append(item)
        return [
            Judged(
                article_id=key,
                title=self.verdicts[key].article.title,
                paths=self._paths(key),
                judgements=tuple(items),
            )
            for key, items in said.items()
        ]

    def silences(self, now: dt.datetime) -> Sequence[Silence]:
        """Return those that have not ended."""
        return [silence for silence in self.in_force if silence.until > now]

    def made(self, endpoint_id: str, start: dt.datetime, end: dt.datetime) -> Mapping[str, int]:
        """Count alerts by rule."""
        return Counter(
            row.message.rule_id
            for row in self._rows.values()
            if row.message.endpoint_id == endpoint_id and start <= row.created_at < end and row.message.rule_id
        )

    def due_digest(self, endpoint_id: str, now: dt.datetime, limit: int) -> DueDigest | None:
        """Return what is due."""
        due = [] if self._is_closed(endpoint_id, now) else self._due_aside(endpoint_id, now)
        if not due:
            return None
        ranked = sorted(due, key=lambda row: (row.item.summary.strength, -row.number), reverse=True)
        return DueDigest(
            endpoint_id=endpoint_id,
            at=now,
            last_id=max(row.number for row in due),
            n_alerts=len(due),
            n_over_budget=sum(row.item.reason == "budget" for row in due),
            since=min(row.created_at for row in due),
            strongest=tuple((row.item.summary, row.story_id) for row in ranked[:limit]),
        )

    def close_digest(self, due: DueDigest, message: Message, now: dt.datetime) -> bool:
        """Point to the message."""
        rows = [row for row in self._due_aside(due.endpoint_id, due.at) if row.number <= due.last_id]
        if len(rows) != due.n_alerts:
            return False
        self._rows[message.id] = _Row(message, now, due_at=now, scheduled_at=now)
        for row in rows:
            row.message_id = message.id
        return True

    def _due_aside(self, endpoint_id: str, now: dt.datetime) -> list[_Aside]:
        slack = now + dt.timedelta(seconds=60)
        return [
            row
            for row in self.aside
            if row.item.endpoint_id == endpoint_id
            and row.message_id is None
            and (row.item.due_at <= now or row.created_at > slack)
        ]

    def _is_closed(self, endpoint_id: str, now: dt.datetime) -> bool:
        health, slack = self.health(endpoint_id), now + dt.timedelta(seconds=60)
        if health.state is EndpointState.DISABLED:
            return True
        return health.paused_until is not None and now < health.paused_until and (health.failed_at or now) <= slack

    def claim(self, endpoint_id: str, now: dt.datetime, lease: dt.timedelta, rate: Rate | None = None) -> Claim | None:
        """Take the message due longest."""
        due = self._due(endpoint_id, now)
        used_until = self._used_until.get(endpoint_id)
        if not due or (rate and rate.wait_s(used_until, now)):
            return None
        if rate:
            self._used_until[endpoint_id] = rate.count(used_until, now)
        row = self._rows[min(due)[1]]
        row.token, row.due_at, row.scheduled_at = str(next(self._tokens)), now + lease, now
        attempts = row.attempts - row.attempts_before_retry
        return Claim(message=row.message, attempts=attempts, token=row.token, health=self.health(endpoint_id))

    def turn(self, endpoint_id: str, now: dt.datetime, rate: Rate) -> float:
        """Ask the rate, and count."""
        used_until = self._used_until.get(endpoint_id)
        if seconds := rate.wait_s(used_until, now):
            return seconds
        self._used_until[endpoint_id] = rate.count(used_until, now)
        return 0.0

    def due_in_s(self, endpoint_id: str, now: dt.datetime, rate: Rate | None = None) -> float | None:
        """Ask the rate."""
        if not self._due(endpoint_id, now):
            return None
        return rate.wait_s(self._used_until.get(endpoint_id), now) if rate else 0.0

    def _due(self, endpoint_id: str, now: dt.datetime) -> list[tuple[dt.datetime, MessageId]]:
        slack = now + dt.timedelta(seconds=60)
        if self._is_closed(endpoint_id, now):
            return []
        return [
            (row.due_at, row.message.id)
            for row in self._rows.values()
            if row.message.endpoint_id == endpoint_id
            and row.due_at is not None
            and (row.due_at <= now or (row.scheduled_at or now) > slack)
        ]

    def settle(
        self,
        claim: Claim,
        outcome: Outcome,
        step: Step,
        now: dt.datetime,
        follow: Follow | None = None,
    ) -> bool:
        """Store what came of a try."""
        row = self._rows[claim.message.id]
        if row.token != claim.token:
            return False
        row.token, row.last, row.scheduled_at = None, outcome, now
        row.attempts += 1
        match step:
            case Delivered():
                row.state, row.due_at, row.settled_at = "delivered", None, now
            case RetryAt():
                row.due_at = step.at
            case Dead():
                row.state, row.due_at = "dead", None
        before = self.health(claim.message.endpoint_id)
        if follow is not None and before.state is claim.health.state:
            after, notices = follow(before)
            self.set_health(claim.message.endpoint_id, before, after, now, notices)
        return True

    def health(self, endpoint_id: str) -> EndpointHealth:
        """Return what is known."""
        return self.healths.get(endpoint_id, EndpointHealth())

    def set_health(
        self,
        endpoint_id: str,
        before: EndpointHealth,
        after: EndpointHealth,
        now: dt.datetime,
        notices: Sequence[Message] = (),
    ) -> bool:
        """Store it unless the state has changed."""
        if self.health(endpoint_id).state is not before.state:
            return False
        self.healths[endpoint_id] = after
        for message in notices:
            self._rows[message.id] = _Row(message, now, due_at=max(now, message.not_before or now), scheduled_at=now)
        return True

    def retired_keys(
        self, endpoint_id: str, fingerprints: Sequence[str], now: dt.datetime
    ) -> Mapping[str, dt.datetime]:
        """Remember since when."""
        known = self._retired.get(endpoint_id, {})
        old = [item for item in fingerprints if item != fingerprints[0]]
        self._retired[endpoint_id] = {item: known.get(item, now) for item in old}
        return self._retired[endpoint_id]

    def backlog(self) -> Mapping[str, Mapping[str, int]]:
        """Count."""
        counts: dict[str, Counter[str]] = {}
        for row in self._rows.values():
            counts.setdefault(row.message.endpoint_id, Counter())[row.state] += 1
        for waiting in self.aside:
            if waiting.message_id is None:
                counts.setdefault(waiting.item.endpoint_id, Counter())["aside"] += 1
        return counts

    def outbox(self, *, states: Sequence[str], limit: int) -> Sequence[OutboxRow]:
        """List messages."""
        rows = [
            OutboxRow(
                id=row.message.id,
                rule_id=row.message.rule_id,
                endpoint_id=row.message.endpoint_id,
                state=row.state,
                attempts=row.attempts,
                next_attempt_at=row.due_at,
                last_result=str(row.last.result) if row.last else None,
                last_detail=row.last.detail if row.last else None,
                created_at=row.created_at,
            )
            for row in self._rows.values()
            if row.state in states
        ]
        return sorted(rows, key=lambda row: (-row.created_at.timestamp(), row.id))[:limit]

    def retry(self, ids: Sequence[MessageId] | None, now: dt.datetime) -> int:
        """Make dead messages due."""
        rows = [row for row in self._rows.values() if row.state == "dead" and (ids is None or row.message.id in ids)]
        return self._make_due(rows, now)

    def recover(self, endpoint_id: str | None, since: dt.datetime, now: dt.datetime) -> int:
        """Make everything that is not delivered due."""
        rows = [
            row
            for row in self._rows.values()
            if row.state != "delivered"
            and row.token is None
            and row.created_at >= since
            and endpoint_id in {None, row.message.endpoint_id}
        ]
        return self._make_due(rows, now)

    @staticmethod
    def _make_due(rows: Sequence[_Row], now: dt.datetime) -> int:
        for row in rows:
            row.state, row.due_at, row.scheduled_at = "pending", row.created_at, now
            row.attempts_before_retry = row.attempts
        return len(rows)

    def queues(self, now: dt.datetime) -> dict[str, Queue]:
        """Count what waits."""
        due: dict[str, list[dt.datetime]] = {}
        n_due: Counter[str] = Counter()
        for row in self._rows.values():
            if row.due_at is not None:
                since = max(row.due_at, row.scheduled_at or row.due_at)
                due.setdefault(row.message.endpoint_id, []).append(since)
                n_due[row.message.endpoint_id] += row.due_at <= now or (row.scheduled_at or now) > now + dt.timedelta(
                    seconds=60
                )
        aside = Counter(waiting.item.endpoint_id for waiting in self.aside if waiting.message_id is None)
        return {
            endpoint_id: Queue(
                pending=len(due.get(endpoint_id, ())),
                oldest_due_s=max(0.0, (now - min(due.get(endpoint_id, [now]))).total_seconds()),
                aside=aside[endpoint_id],
                due=n_due[endpoint_id],
            )
            for endpoint_id in due.keys() | aside.keys()
        }

    def newest_file_at(self) -> dt.datetime | None:
        """Return when the last verdict was stored."""
        return max(self._recorded, default=None)

    def waiting(self, limit: int) -> int:
        """Count what is not delivered."""
        return min(limit, sum(row.state != "delivered" for row in self._rows.values()))

    def prune(self, retention: Retention, now: dt.datetime) -> int:
        """Forget settled rows."""
        forgotten = 0
        for key in [key for key, at in self.matched_at.items() if at < now - retention.records]:
            own = [
                row for row in self._rows.values() if (self.article_of.get(row.message.id), row.message.rule_id) == key
            ]
            aside = [item for item in self.aside if (item.article_id, item.item.rule_id) == key]
            digests = [self._rows[item.message_id] if item.message_id else None for item in aside]
            if all(row is not None and row.state == "delivered" for row in [*own, *digests]):
                del self.matched_at[key], self.matches[key], self.n_endpoints[key]
                self.aside[:] = [item for item in self.aside if item not in aside]
                self.held[:] = [
                    (article_id, item) for article_id, item in self.held if (article_id, item.rule_id) != key
                ]
                for row in own:
                    del self._rows[row.message.id]
                forgotten += 1
        forgotten += self._prune_digests(now - retention.records)
        for row in self._rows.values():
            if row.settled_at is not None and row.settled_at < now - retention.bodies and row.message.body:
                row.message = replace(row.message, body=b"")
                forgotten += 1
        for file in [file for file, at in self.recorded_at.items() if at < now - retention.records]:
            if self.files[file][0] != "scored":
                del self.files[file], self.recorded_at[file]
                forgotten += 1
        kept = [(kin, at) for kin, at in self.tellings if at >= now - retention.stories]
        forgotten += len(self.tellings) - len(kept)
        self.tellings[:] = kept
        old = [key for key, told in self.told.items() if told.at < now - retention.stories]
        for story_key in old:
            del self.told[story_key]
        forgotten += len(old)
        return forgotten

    def _prune_digests(self, before: dt.datetime) -> int:
        full = {item.message_id for item in self.aside}
        empty = [
            row.message.id
            for row in self._rows.values()
            if row.settled_at is not None and row.settled_at < before and row.message.rule_id is None
            if row.state == "delivered" and row.message.id not in full
        ]
        for key in empty:
            del self._rows[key]
        return len(empty)

    def audit(self) -> Audit:
        """Count."""
        told = sum(row.message.rule_id is not None for row in self._rows.values()) + len(self.held) + len(self.aside)
        is_sound = told == self.n_endpoints.total()
        return Audit(
            files=dict(Counter(state for state, _ in self.files.values())),
            rejections=dict(Counter(reason for _, reason in self.files.values() if reason)),
            articles=len(self.articles),
            matches=len(self.matches),
            messages=dict(Counter(row.state for row in self._rows.values())),
            held=len(self.held),
            aside=sum(item.message_id is None for item in self.aside),
            in_digests=sum(item.message_id is not None for item in self.aside),
            faults=() if is_sound else ("the matches do not add up",),
        )


@dataclass
class FakeSender:
    """Answers every message with the next outcome; delivered when there is none left."""

    outcomes: list[Outcome] = field(default_factory=list)
    sent: list[tuple[Message, int]] = field(default_factory=list)

    def send(self, message: Message, attempt: int) -> Outcome:
        """Keep the message, give the answer."""
        self.sent.append((replace(message), attempt))
        return self.outcomes.pop(0) if self.outcomes else Outcome(result=Result.DELIVERED, status=204)
