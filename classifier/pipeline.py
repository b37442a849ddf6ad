"""
The jobs of the daemon, over ports.

    ingest:   Inbox.settled | Ledger.unrecorded | Ledger.take | Inbox.read | Ledger.scored | Judge | apart |
        Ledger.kin | place | Ledger.story | news | route | within_budgets | Format.render | Ledger.record
    Judge:    parse_article | Model.tag_many | RuleSet.match | make_alert | make_summary | make_telling
    digests:  Ledger.due_digest | make_digest | Format.render_digest | Ledger.close_digest
    deliver:  Ledger.due_in_s | Ledger.claim | Sender.send | next_step | next_health | Ledger.settle

The functions here order calls; what to do is decided by the values they pass along.
A crash between any two calls loses nothing: a file without a verdict is found again, a message without a settlement
becomes due again. Longer than most modules because the order of calls is what a crash tests: it stands in one place.
"""

import datetime as dt
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import compress, islice

from classifier.alerts import MAX_TERMS, digest_id, make_alert, message_id, notice_id
from classifier.article import Article, parse_article
from classifier.delivery import EndpointHealth, Message, Outcome, Rate, RetryPolicy, next_health, next_step
from classifier.errors import ArticleError, LedgerError, QueueFullError
from classifier.model import Model
from classifier.pace import Pace
from classifier.payloads import STANDARD, Format, Summary, make_digest, make_summary, render_notice, timestamp
from classifier.ports import (
    Aside,
    Checkpoint,
    Claim,
    Clock,
    DueDigest,
    Duplicate,
    FileState,
    FileVersion,
    Headline,
    Held,
    HoldReason,
    Inbox,
    Jitter,
    Ledger,
    Rejected,
    Retention,
    Scored,
    Sender,
    Spread,
    Verdict,
    no_checkpoint,
)
from classifier.routing import Hold, Plan, PutAside, Route, Send, route, within_budgets
from classifier.rules import Match, RuleSet
from classifier.silences import Silence
from classifier.tags import Tags
from classifier.telling import (
    COOLDOWN,
    WINDOW,
    Kin,
    Place,
    StoryBooks,
    Telling,
    apart,
    is_overtaken,
    labels_told,
    make_telling,
    news,
    place,
)

LOOK_UP = 1_000  # versions asked of the ledger at once
LOOK_AGAIN = dt.timedelta(seconds=5)  # in a backlog, what has come meanwhile waits no longer than about this, or
LOOKS = 4  # so many times as long as a look takes: where the folder is large, looking is a fifth of the work at most,
LOOK_AGAIN_AT_LAST = dt.timedelta(minutes=1)  # but no longer than this
BATCH_FILES = 100  # recorded in one transaction: the disk is waited for once per batch
MAX_IN_DIGEST = 200  # alerts that a digest can show; of more it shows the strongest and counts the others
AT_ONCE = dt.timedelta(seconds=10)  # a burst to a quick endpoint takes less, and one to a slow endpoint no longer
BATCH_BYTES = 1_000_000  # a batch with more than this is full: what is in memory stays bounded
RENEWALS = 3  # claims are renewed when this part of their lease is over: long before others think that all of it is


@dataclass(slots=True)
class IngestReport:
    """What one scan found: how many files got which verdict, and how many messages were put into the outbox."""

    files: Counter[str] = field(default_factory=Counter)
    messages: int = 0


@dataclass(slots=True)
class DeliveryReport:
    """What one round of one endpoint came to: result to number of tries."""

    results: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Page:
    """The bytes of one file, and when they were read."""

    path: str
    raw: bytes
    read_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Judge:
    """
    Turns pages into verdicts: a value without any port, so that it can work in another process.

    Attributes:
        stopwatch: seconds since some instant.
    """

    model: Model
    rules: RuleSet
    stopwatch: Callable[[], float] = float  # always 0: nobody wants to know

    def __call__(self, pages: Sequence[Page]) -> list[Verdict]:
        """Return a verdict for each page; a page is never the reason that another has none."""
        began_s = self.stopwatch()
        articles = list(map(self._parsed, pages))
        tags = iter(self._tagged([article for article in articles if isinstance(article, Article)]))
        each_s = (self.stopwatch() - began_s) / max(1, len(pages))
        return [
            self._judge(article, next(tags), page.read_at, each_s) if isinstance(article, Article) else article
            for page, article in zip(pages, articles, strict=True)
        ]

    def _parsed(self, page: Page) -> Article | Rejected:
        try:
            return parse_article(page.raw, page.path)
        except ArticleError as error:
            return Rejected(reason=error.reason, detail=error.detail)
        except Exception as error:  # noqa: BLE001 - a fault of ours with one file must not keep all others waiting
            return _failed(error)

    def _tagged(self, articles: Sequence[Article]) -> Sequence[Tags | None]:
        """Return the tags of all, read in one go; None for each where that fails: then they are read one by one."""
        try:
            return self.model.tag_many(articles)
        except Exception:  # noqa: BLE001 - as above
            return [None] * len(articles)

    def _judge(self, article: Article, tags: Tags | None, now: dt.datetime, so_far_s: float) -> Verdict:
        began_s = self.stopwatch() - so_far_s
        try:
            return self._score(article, self.model.tag(article) if tags is None else tags, now, began_s)
        except Exception as error:  # noqa: BLE001 - as above
            return _failed(error)

    def _score(self, article: Article, tags: Tags, now: dt.datetime, began_s: float) -> Scored:
        matches = self.rules.match(article, tags, now)
        headline = Headline(id=article.id, title=article.title, date=article.date, publisher=article.publisher)
        return Scored(
            article=headline,
            tags=tags,
            model=self.model.reference,
            matches=matches,
            summaries=tuple(self._summaries(article, tags, matches, now)) if matches else (),
            messages=(),
            telling=make_telling(article) if matches else None,  # nobody hears of the others: half the work is saved
            story_id=article.id if not matches and any(tags) else None,
            took_s=self.stopwatch() - began_s,
        )

    def _summaries(self, article: Article, tags: Tags, matches: Sequence[Match], now: dt.datetime) -> Iterator[Summary]:
        explain = cache(self.model.explainer(article, n_terms=MAX_TERMS))  # several rules may ask for the same label
        for match in matches:
            yield make_summary(make_alert(article, tags, match, model=self.model.reference, explain=explain, now=now))


@dataclass(slots=True)
class _Batch:
    """Files read together and recorded together: those to be judged, and those whose verdict needs no judging."""

    files: list[FileVersion] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    decided: list[tuple[FileVersion, Verdict]] = field(default_factory=list)
    n_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.files) + len(self.decided) >= BATCH_FILES or self.n_bytes >= BATCH_BYTES


@dataclass(slots=True)
class _Claims:
    """
    The files that a scan has taken and not recorded: its own as long as it goes on, however slowly.

    They are renewed between two pieces of work, to read a file, or to judge or record a batch: a small part of a lease.
    One that stood still for longer than the lease leaves to others what they have taken meanwhile. What it had judged
    by then it records: whoever is first wins, and nothing is recorded twice.
    """

    ledger: Ledger
    clock: Clock
    lease: dt.timedelta
    held: set[FileVersion] = field(default_factory=set)
    _asked_at: dt.datetime = field(init=False)  # when the oldest of them was taken or renewed

    def take(self, files: Sequence[FileVersion]) -> Sequence[FileVersion]:
        """Return those of *files* that no other daemon is at work on."""
        now = self.clock()
        taken = self.ledger.take(files, now, self.lease)
        if not self.held:
            self._asked_at = now
        self.held.update(taken)
        return taken

    def renew(self) -> None:
        """See to it that what is held stays so, when it is time; called between any two pieces of work."""
        now = self.clock()
        if self.held and abs(now - self._asked_at) >= self.lease / RENEWALS:  # a clock set back renews, too
            self.held = set(self.ledger.take(list(self.held), now, self.lease))
            self._asked_at = now


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """
    Turns new files into verdicts.

    Attributes:
        judge: a `Judge`.
        spread: calls the judge; in other processes, perhaps, when there is much to do.
        formats: endpoint to the format it understands; `STANDARD` for those that are not here.
        paces: endpoint to how often it wants to be told; at once, each of them, for those that are not here.
        catch_up: what files say that had come longer ago than this goes into one digest; None for no such digest.
        lease: what a daemon was at work on is left to it for so long when it is gone; while it works it is renewed.
        cooldown: nobody hears of a story again within that time, unless there is news.
        story_window: how long later copies of an article are known for what they are.
        max_waiting: messages not delivered yet that make the queue full: no file is read then.
        should_stop: asked between files; a stopped scan goes on with the next one.
        on_file: told of every file whose verdict has been recorded.
    """

    inbox: Inbox
    ledger: Ledger
    judge: Callable[[Sequence[Page]], Sequence[Verdict]]
    clock: Clock
    formats: Mapping[str, Format] = field(default_factory=dict)
    paces: Mapping[str, Pace] = field(default_factory=dict)
    catch_up: dt.timedelta | None = None
    lease: dt.timedelta = dt.timedelta(seconds=60)
    cooldown: dt.timedelta = COOLDOWN
    story_window: dt.timedelta = WINDOW
    spread: Spread = map
    max_waiting: int = 100_000
    checkpoint: Checkpoint = no_checkpoint
    should_stop: Callable[[], bool] = lambda: False
    on_file: Callable[[FileVersion, Verdict], None] = lambda _file, _verdict: None

    def run(self) -> IngestReport:
        """
        Record a verdict for every settled file that has none.

        Raises:
            LedgerError: the ledger cannot be used now; files without a verdict are found again next time.
            QueueFullError: too many messages wait; the same.
            ArticleError: the folder cannot be read now.
        """
        report = IngestReport()
        underway: deque[_Batch] = deque()
        claims = _Claims(self.ledger, self.clock, self.lease)
        try:
            for verdicts in self.spread(self.judge, self._pages(underway, claims)):
                batch = underway.popleft()
                self._tell([*batch.decided, *zip(batch.files, verdicts, strict=True)], claims, report)
        finally:
            with suppress(LedgerError):  # the others wait a little longer then
                self.ledger.release()
        return report

    def _pages(self, underway: deque[_Batch], claims: _Claims) -> Iterator[Sequence[Page]]:
        """Yield what there is to judge, batch by batch; each batch waits in *underway* for its verdicts."""
        for batch in self._batches(claims):
            self._set_duplicates_aside(batch)
            underway.append(batch)
            yield batch.pages

    def _batches(self, claims: _Claims) -> Iterator[_Batch]:
        batch = _Batch()
        for file in self._new(claims):
            if self.should_stop():
                break
            if not batch.files and not batch.decided:
                self._refuse_when_full()
            if not self._read(file, batch):
                claims.held.discard(file)
            if batch.is_full:
                yield batch
                batch = _Batch()
        yield batch

    def _refuse_when_full(self) -> None:
        waiting = self.ledger.waiting(self.max_waiting)
        if waiting >= self.max_waiting:
            raise QueueFullError(waiting)

    def _new(self, claims: _Claims) -> Iterator[FileVersion]:
        """
        Yield the settled files that have no verdict, the newest and the oldest by turns.

        While a backlog lasts, the folder is looked at again now and then: what comes meanwhile does not wait for its
        end.
        """
        taken: set[FileVersion] = set()
        while True:
            began = self.clock()
            settled = self.inbox.settled()
            if taken:
                settled = [file for file in settled if file not in taken]
            now = self.clock()
            look_again_at = now + min(max(LOOK_AGAIN, LOOKS * (now - began)), LOOK_AGAIN_AT_LAST)
            ordered = _from_both_ends(settled)
            while some := list(islice(ordered, LOOK_UP)):
                new = self.ledger.unrecorded(some)
                self.inbox.done(set(some).difference(new) if new else some)
                taken.update(new)
                yield from self._mine(new, claims)
                if self.clock() >= look_again_at:
                    break
            else:
                return

    def _mine(self, files: Sequence[FileVersion], claims: _Claims) -> Iterator[FileVersion]:
        """Yield those of *files* that no other daemon is at work on, taking a batch of them at a time."""
        for start in range(0, len(files), BATCH_FILES):
            for file in claims.take(files[start : start + BATCH_FILES]):
                claims.renew()
                if file in claims.held:
                    yield file

    def _read(self, file: FileVersion, batch: _Batch) -> bool:
        """
        Put what was read of a file into *batch*; False when it is gone or has changed.

        Such a file has no verdict, and the next scan sees what is there then.
        """
        self.checkpoint("found")
        read = self.inbox.read(file)
        if read.problem is not None:
            batch.decided.append((file, read.problem))
        elif read.raw is not None:
            self.checkpoint("read")
            batch.files.append(file)
            batch.pages.append(Page(file.path, read.raw, self.clock()))
            batch.n_bytes += len(read.raw)
        return read.problem is not None or read.raw is not None

    def _set_duplicates_aside(self, batch: _Batch) -> None:
        digests = [hashlib.sha256(page.raw).hexdigest() for page in batch.pages]
        known = self.ledger.scored(digests) if digests else ()
        if known:
            batch.decided += [
                (file, Duplicate(sha256=digest))
                for file, digest in zip(batch.files, digests, strict=True)
                if digest in known
            ]
            is_new = [digest not in known for digest in digests]
            batch.files, batch.pages = list(compress(batch.files, is_new)), list(compress(batch.pages, is_new))

    def _tell(self, verdicts: Sequence[tuple[FileVersion, Verdict]], claims: _Claims, report: IngestReport) -> None:
        """
        Put the verdicts into words and record them.

        Those of one batch are recorded together, but for two that may tell one story: the second is compared with what
        the ledger knows of the first.
        """
        tellings = [_telling(verdict) for _, verdict in verdicts]
        for part in apart(tellings):
            rest = verdicts[part]
            while rest:
                claims.renew()
                left = self._tell_first(rest, report)
                claims.held.difference_update(file for file, _ in rest[: len(rest) - len(left)])
                rest = left

    def _tell_first(
        self, verdicts: Sequence[tuple[FileVersion, Verdict]], report: IngestReport
    ) -> Sequence[tuple[FileVersion, Verdict]]:
        """
        Record those of *verdicts* before the second of a story, no two of which are alike; return the others.

        They are put into words while others record: only when another daemon has told more of their stories meanwhile,
        they are put into words again, alone; where there are budgets, when another daemon has told anything.
        """
        mark = self.ledger.last_telling()
        ready = self._in_words(verdicts)
        self.checkpoint("scored")
        with self.ledger.alone():
            known = [(_telling(verdict), _story(verdict)) for _, verdict in ready]
            others = self.ledger.tellings_after(mark)
            if is_overtaken(known, others) or (others and any(self._has_budget(verdict) for _, verdict in ready)):
                ready = self._in_words(verdicts)
            states = self.ledger.record(ready, self.clock())
        self.checkpoint("recorded")
        self._note(ready, states, report)
        return verdicts[len(ready) :]

    def _in_words(self, verdicts: Sequence[tuple[FileVersion, Verdict]]) -> Sequence[tuple[FileVersion, Verdict]]:
        """Return the verdicts with what is to be sent, as many as are of different stories."""
        now = self.clock()
        told = [telling for _, verdict in verdicts if (telling := _telling(verdict))]
        silences = self.ledger.silences(now) if told else ()
        kin = iter(self.ledger.kin(told, now - self.story_window) if told else ())
        ready: list[tuple[FileVersion, Verdict | _Planned]] = []
        stories: set[str] = set()
        for file, verdict in verdicts:
            if not isinstance(verdict, Scored) or not verdict.matches:
                ready.append((file, verdict))
                continue
            where = _placed(verdict, next(kin) if verdict.telling else ())
            if isinstance(where, Rejected):
                ready.append((file, where))
                continue
            if where.story_id in stories:  # two that are not alike, but both like a third
                break
            stories.add(where.story_id)
            ready.append((file, self._planned(file, verdict, where, silences, now)))
        return self._worded(ready)

    def _note(
        self,
        verdicts: Sequence[tuple[FileVersion, Verdict]],
        states: Sequence[FileState | None],
        report: IngestReport,
    ) -> None:
        """Take note of what is in the ledger for certain."""
        self.inbox.done(file for (file, _), state in zip(verdicts, states, strict=True) if state is not None)
        for (file, verdict), state in zip(verdicts, states, strict=True):
            if state is None:
                continue
            report.files[state] += 1
            if isinstance(verdict, Scored) and state == "scored":
                report.messages += len(verdict.messages)
            elif isinstance(verdict, Scored):
                verdict = Duplicate(sha256=verdict.article.id)  # noqa: PLW2901 - as it was recorded
            self.on_file(file, verdict)

    def _has_budget(self, verdict: Verdict) -> bool:
        """Say whether what becomes of an article depends on how much else is told."""
        return isinstance(verdict, Scored) and any(
            match.rule.pace.at_most or any(self.paces.get(endpoint, Pace()).at_most for endpoint in match.to)
            for match in verdict.matches
        )

    def _planned(
        self, file: FileVersion, scored: Scored, where: Place, silences: Sequence[Silence], now: dt.datetime
    ) -> "_Planned | Rejected":
        """Return *scored* with its story, and what becomes of each alert as far as that depends on it alone."""
        books = StoryBooks(told={})
        if scored.telling and where.story_id != scored.article.id:  # nobody knows a new story
            books = self.ledger.story(where.story_id, scored.telling.source)
        lay = dt.timedelta(microseconds=(now.timestamp() * 1e9 - file.ctime_ns) // 1_000)
        is_late = self.catch_up is not None and lay > self.catch_up
        try:
            plans = tuple(self._plans(scored, where, books, silences, now, is_late=is_late))
        except Exception as error:  # noqa: BLE001 - as in the judge
            return _failed(error)
        told = {
            (plan.match.rule.id, plan.endpoint_id): labels_told(books, plan.summary, plan.endpoint_id)
            for plan in plans
            if _is_known(plan.way)
        }
        story_id = where.story_id if any(scored.tags) else None
        return _Planned(replace(scored, story_id=story_id, told=told), plans)

    def _plans(
        self,
        scored: Scored,
        where: Place,
        books: StoryBooks,
        silences: Sequence[Silence],
        now: dt.datetime,
        *,
        is_late: bool,
    ) -> Iterator[Plan]:
        text = cache(lambda: scored.telling.text if scored.telling else "")
        for match, summary in zip(scored.matches, scored.summaries, strict=True):
            for endpoint in match.to:
                added = news(where, summary, books, endpoint, now, self.cooldown)
                way = route(
                    match,
                    summary,
                    added,
                    endpoint,
                    story_id=where.story_id,
                    silences=silences,
                    text=text,
                    pace=self.paces.get(endpoint, Pace()),
                    is_late=is_late,
                    now=now,
                )
                yield Plan(match, replace(summary, news=added), endpoint, way)

    def _worded(
        self, verdicts: "Sequence[tuple[FileVersion, Verdict | _Planned]]"
    ) -> list[tuple[FileVersion, Verdict]]:
        """Keep within the budgets what was found together, and put it into the formats of the endpoints."""
        planned = [plan for _, verdict in verdicts if isinstance(verdict, _Planned) for plan in verdict.plans]
        decided = iter(within_budgets(planned, self.paces, self.ledger.made, self.clock()) if planned else ())
        found: list[tuple[FileVersion, Verdict]] = []
        for file, verdict in verdicts:
            if isinstance(verdict, _Planned):
                plans = list(islice(decided, len(verdict.plans)))
                try:
                    found.append((file, self._told(verdict.scored, plans)))
                except Exception as error:  # noqa: BLE001 - as in the judge
                    found.append((file, _failed(error)))
            else:
                found.append((file, verdict))
        return found

    def _told(self, scored: Scored, plans: Sequence[Plan]) -> Scored:
        messages, aside, held = [], [], []
        for plan in plans:
            rule_id, endpoint_id = plan.match.rule.id, plan.endpoint_id
            alert_id = message_id(scored.article.id, rule_id, endpoint_id)
            summary = replace(plan.summary, id=alert_id)
            match plan.way:
                case Send(not_before):
                    messages.append(
                        Message(
                            id=alert_id,
                            endpoint_id=endpoint_id,
                            rule_id=rule_id,
                            body=self.formats.get(endpoint_id, STANDARD).render_summary(summary),
                            not_before=not_before,
                        )
                    )
                case PutAside(why, due_at):
                    aside.append(
                        Aside(
                            rule_id=rule_id,
                            endpoint_id=endpoint_id,
                            summary=summary,
                            due_at=due_at,
                            reason=why,
                        )
                    )
                case Hold(silence):
                    reason: HoldReason = "silenced" if silence else "told"
                    number = silence.id if silence else None
                    held.append(Held(rule_id=rule_id, endpoint_id=endpoint_id, reason=reason, silence_id=number))
        return replace(scored, messages=tuple(messages), aside=tuple(aside), held=tuple(held))


def _failed(error: Exception) -> Rejected:
    return Rejected(reason="failed", detail=f"this program failed on it, {type(error).__name__}; please report it")


def _telling(verdict: Verdict) -> Telling | None:
    return verdict.telling if isinstance(verdict, Scored) else None


def _story(verdict: Verdict) -> str | None:
    return verdict.story_id if isinstance(verdict, Scored) else None


def _placed(scored: Scored, kin: Sequence[Kin]) -> Place | Rejected:
    try:
        return place(scored.telling, kin) if scored.telling else Place(story_id=scored.article.id)
    except Exception as error:  # noqa: BLE001 - as in the judge
        return _failed(error)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A scored file that is not put into words yet."""

    scored: Scored
    plans: tuple[Plan, ...]


def _is_known(way: Route) -> bool:
    """
    Say whether whoever an alert is for knows its story from now on.

    Whoever silences a story does, too: what is new in it is told all the same.
    """
    return not isinstance(way, Hold) or (way.silence is not None and way.silence.story_id is not None)


def _from_both_ends(files: Sequence[FileVersion]) -> Iterator[FileVersion]:
    """Yield the last, the first, the last but one, the second ... of *files*."""
    for first in range((len(files) + 1) // 2):
        last = len(files) - 1 - first
        yield files[last]
        if first != last:
            yield files[first]


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """
    Makes the digests of one endpoint that are due: everything that is, whenever it was to be, in one.

    Attributes:
        formats: endpoint to the format it understands; `STANDARD` for those that are not here.
    """

    ledger: Ledger
    clock: Clock
    formats: Mapping[str, Format] = field(default_factory=dict)

    def run(self, endpoint_id: str, ahead: dt.timedelta = dt.timedelta()) -> bool:
        """
        Put a digest of what is due for *endpoint_id* into its outbox; say whether there was something.

        Args:
            endpoint_id: of the endpoint.
            ahead: what falls due so soon is taken too.

        Raises:
            LedgerError: the ledger cannot be used now; what was put aside still is.
        """
        now = self.clock()
        due = self.ledger.due_digest(endpoint_id, now + ahead, MAX_IN_DIGEST)
        # When others are at it, or more has come meanwhile, the next round sees what is left.
        return due is not None and self.ledger.close_digest(due, self._message(due, now), now)

    def _message(self, due: DueDigest, now: dt.datetime) -> Message:
        story_of = {summary.article_id: story_id for summary, story_id in due.strongest}
        n_files: dict[str, int] = {}
        for summary, story_id in due.strongest:
            n_files[story_id] = max(n_files.get(story_id, 1), summary.news.n_files if summary.news else 1)
        digest = make_digest(
            [summary for summary, _ in due.strongest],
            since=min(due.since, now),
            until=now,
            story_of=lambda summary: story_of[summary.article_id],
            n_files=n_files,
            n_left_out=due.n_alerts - len(due.strongest),
            n_over_budget=due.n_over_budget,
        )
        body = self.formats.get(due.endpoint_id, STANDARD).render_digest(digest)
        message_id = digest_id(due.endpoint_id, due.at, due.last_id)
        return Message(id=message_id, endpoint_id=due.endpoint_id, rule_id=None, body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """
    Forgets what has been settled for long, bit by bit: nobody waits for the ledger longer than one bit takes.

    Attributes:
        should_stop: asked between bits; what is left is forgotten next time.
    """

    ledger: Ledger
    retention: Retention
    clock: Clock
    should_stop: Callable[[], bool] = lambda: False

    def run(self) -> int:
        """
        Forget everything that is older than *retention* says; return how many rows that were.

        Raises:
            LedgerError: the ledger cannot be used now.
        """
        forgotten = 0
        while not self.should_stop() and (some := self.ledger.prune(self.retention, self.clock())):
            forgotten += some
        return forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """
    Sends the due messages of one endpoint.

    One endpoint per call, so that a slow or dead one delays nobody else. A claim is for one try and is not renewed: the
    try has a wall-clock deadline, and the settings want a lease of more than twice that.

    Attributes:
        lease: longer than one try can take; one claim is settled before its lease runs out or not at all.
        rates: endpoint to how often it may be tried; any for an endpoint without.
        ops_to: endpoints that are told when another one changes its state.
        wait: called with seconds; may return early.
        on_change: told of each change of state, after it is stored.
    """

    ledger: Ledger
    sender: Sender
    policy: RetryPolicy
    lease: dt.timedelta
    clock: Clock
    jitter: Jitter
    rates: Mapping[str, Rate] = field(default_factory=dict)
    ops_to: tuple[str, ...] = ()
    wait: Callable[[float], object] = lambda _seconds: None
    checkpoint: Checkpoint = no_checkpoint
    should_stop: Callable[[], bool] = lambda: False
    on_change: Callable[[str, EndpointHealth], None] = lambda _endpoint_id, _health: None
    on_try: Callable[[Claim, str, str], None] = lambda _claim, _result, _detail: None

    def run(self, endpoint_id: str, until: dt.datetime | None = None) -> DeliveryReport:
        """
        Try every due message of *endpoint_id* once.

        Args:
            endpoint_id: of the endpoint.
            until: aware, UTC: what its rate lets out only after that is left, though what it lets out at once goes on
                for `AT_ONCE`; None to wait for all.

        Raises:
            LedgerError: the ledger cannot be used now; claimed messages become due again when their lease runs out.
        """
        report = DeliveryReport()
        # One at a time: the lease then only has to outlast one try, however slow the endpoint.
        rate = self.rates.get(endpoint_id)
        while not self.should_stop():
            seconds = self.ledger.due_in_s(endpoint_id, self.clock(), rate)
            if seconds is None or self._is_over(until, seconds):
                break
            if seconds:
                self.wait(seconds)
                continue
            if (claim := self.ledger.claim(endpoint_id, self.clock(), self.lease, rate)) is None:
                break  # nothing is due, or others were faster
            self._try(claim, report)
        return report

    def _is_over(self, until: dt.datetime | None, wait_s: float) -> bool:
        """Say whether a try that must wait so long comes too late."""
        last = dt.timedelta(seconds=wait_s) if wait_s else -AT_ONCE
        return until is not None and self.clock() + last > until

    def _try(self, claim: Claim, report: DeliveryReport) -> None:
        self.checkpoint("claimed")
        outcome = self.sender.send(claim.message, claim.attempts + 1)
        self.checkpoint("sent")
        now = self.clock()
        step = next_step(self.policy, claim.attempts + 1, outcome, now, self.jitter())
        endpoint_id = claim.message.endpoint_id
        followed: list[EndpointHealth] = []

        def follow(health: EndpointHealth) -> tuple[EndpointHealth, Sequence[Message]]:
            after = next_health(self.policy, health, outcome, step, now)
            if after.state is not health.state:
                followed.append(after)
            return after, make_notices(endpoint_id, health, after, outcome, self.ops_to)

        self.ledger.settle(claim, outcome, step, now, follow)
        self.checkpoint("settled")
        report.results[outcome.result] += 1
        self.on_try(claim, outcome.result, outcome.detail)
        for health in followed:
            self.on_change(endpoint_id, health)


def make_notices(
    endpoint_id: str, before: EndpointHealth, after: EndpointHealth, outcome: Outcome | None, ops_to: tuple[str, ...]
) -> tuple[Message, ...]:
    """
    Return what the endpoints in *ops_to* are told of a change of another one's state; nothing when there is none.

    Args:
        endpoint_id: whose state.
        before: as it was.
        after: as it is now.
        outcome: of the try that made the difference; None when a person did.
        ops_to: whom to tell; an endpoint is not told of itself.
    """
    if after.state is before.state or after.changed_at is None:
        return ()
    facts = {
        "failures": before.failures if outcome is None else max(before.failures, after.failures),
        "failing_since": timestamp(after.failing_since) if after.failing_since else None,
        "last_delivered_at": timestamp(after.delivered_at) if after.delivered_at else None,
        "last_result": str(outcome.result) if outcome else None,
        "last_status": outcome.status if outcome else None,
    }
    body = render_notice(
        endpoint_id, before=before.state, state=after.state, reason=after.reason, facts=facts, now=after.changed_at
    )
    return tuple(
        Message(id=notice_id(endpoint_id, after.state, after.changed_at, to), endpoint_id=to, rule_id=None, body=body)
        for to in ops_to
        if to != endpoint_id
    )
