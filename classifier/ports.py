"""
What the pipeline needs from the outside world: a folder, a ledger, a network.

Every instant is aware and in UTC. Implementations may be called from several threads at once.
`tests/fakes.py` implements all three in memory; the contract tests run over the fakes and the real adapters alike.
Longer than most modules because it is all that passes between core and edge: values and promises, no code.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from classifier.alerts import MessageId
from classifier.article import ArticleId
from classifier.delivery import EndpointHealth, Message, Outcome, Rate, Step
from classifier.feedback import Judged, Judgement, Subject
from classifier.payloads import Summary
from classifier.routing import AsideReason
from classifier.rules import Match
from classifier.silences import Silence
from classifier.tags import Tags
from classifier.telling import WINDOW, Kin, StoryBooks, Telling

Clock = Callable[[], dt.datetime]  # now, aware, UTC
Jitter = Callable[[], float]  # a fresh number in [-1, 1]
Checkpoint = Callable[[str], None]  # told the name of each point, of those below, where a crash must lose nothing
CHECKPOINTS = (
    "migrating",  # the schema is changed, not committed
    "migrated",
    "found",  # a settled file without a verdict, not read yet
    "read",
    "scored",  # a batch of files, not recorded yet
    "recording",  # the verdicts are written, not committed
    "recorded",
    "claiming",  # the lease is written, not committed
    "claimed",
    "sent",  # the receiver has answered, which nobody has written down yet
    "settling",  # the answer is written down, not committed
    "settled",
    "closing",  # a digest and that its alerts are in it are written, not committed
    "closed",
    "pruning",  # something old is deleted, not committed
    "pruned",
    "swapping",  # changed settings or another model are ready to take over
)

_In = TypeVar("_In")
_Out = TypeVar("_Out")

FileState = Literal["scored", "duplicate", "rejected"]
HoldReason = Literal["told", "silenced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVersion:
    """
    One file as it was found; any change to it makes another version.

    Attributes:
        path: relative to the watched folder; bytes that are no UTF-8 stand as backslash escapes.
        size: bytes.
        mtime_ns: time of last change of the content, ns since 1970.
        ctime_ns: time of last change of content or inode, ns since 1970.
        inode: number on its file system.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """What the ledger keeps of an article; the text stays in its file."""

    id: ArticleId
    title: str
    date: dt.date | None
    publisher: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """
    A match that an endpoint is not told of.

    Attributes:
        reason: ``told`` when it has heard of the story, ``silenced`` when somebody does not want to hear of it.
        silence_id: which silence it was.
    """

    rule_id: str
    endpoint_id: str
    reason: HoldReason
    silence_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """
    An alert that an endpoint is told of in a digest.

    Attributes:
        summary: what there is to say.
        due_at: aware, UTC: when the digest is made.
        reason: as `PutAside.reason`.
    """

    rule_id: str
    endpoint_id: str
    summary: Summary
    due_at: dt.datetime
    reason: AsideReason


@dataclass(frozen=True, slots=True, kw_only=True)
class AsideRow:
    """
    An alert of a digest, as `classifier digest list` shows it.

    Attributes:
        message_id: of the digest it is in; None while that is to be made.
    """

    article_id: str
    title: str
    story_id: str | None
    rule_id: str
    endpoint_id: str
    reason: str
    due_at: dt.datetime
    created_at: dt.datetime
    message_id: MessageId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDigest:
    """
    The alerts of one endpoint that go into its next digest, which is to be made now.

    Attributes:
        at: aware, UTC: they are those that were due then,
        last_id: and whose number is not above this one.
        n_alerts: how many they are.
        n_over_budget: how many of them because there were too many.
        since: when the first of them was put aside.
        strongest: the strongest of them, with their stories; not all, when they are many.
    """

    endpoint_id: str
    at: dt.datetime
    last_id: int
    n_alerts: int
    n_over_budget: int
    since: dt.datetime
    strongest: tuple[tuple[Summary, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRow:
    """An alert that was held back, as `classifier silence held` shows it."""

    article_id: str
    title: str
    story_id: str | None
    rule_id: str
    endpoint_id: str
    silence_id: int | None
    held_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """
    A file that was read and scored, the rules its article meets, and what is to be sent because of them.

    Attributes:
        summaries: what there is to say about each of the matches.
        telling: the article as a telling of its story; None for one that meets no rule, which nobody is told of.
        story_id: of the article that told the story first: its own when it meets no rule, otherwise known when
            *messages* are; None for one without tags.
        told: by rule and endpoint, the labels that have been told of the story once *messages* are sent.
        held: what nobody is told of.
        aside: what is told in digests.
        took_s: seconds to parse, tag and explain it; of what was read together, its even share.
    """

    article: Headline
    tags: Tags
    model: str
    matches: tuple[Match, ...]
    summaries: tuple[Summary, ...] = ()
    messages: tuple[Message, ...]
    telling: Telling | None = None
    story_id: str | None = None
    told: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    held: tuple[Held, ...] = ()
    aside: tuple[Aside, ...] = ()
    took_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """A file with the same bytes as one scored before."""

    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """
    A file that cannot be scored, and a sentence for people.

    Attributes:
        reason: one of `ArticleError.REASONS`.
    """

    reason: str
    detail: str


Verdict = Scored | Duplicate | Rejected


@dataclass(frozen=True, slots=True)
class Read:
    """A file's bytes, and whether it was still the version asked for when they had been read."""

    raw: bytes | None
    problem: Rejected | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    The right to deliver one message, until the lease runs out.

    Attributes:
        message: what to send.
        attempts: tries made before this one.
        token: proves the claim when it is settled; another claim of the same message has another token.
        health: what is known of its endpoint.
    """

    message: Message
    attempts: int
    token: str
    health: EndpointHealth = field(default_factory=EndpointHealth)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One message as `classifier outbox list` shows it."""

    id: MessageId
    rule_id: str | None
    endpoint_id: str
    state: Literal["pending", "delivered", "dead"]
    attempts: int
    next_attempt_at: dt.datetime | None
    last_result: str | None
    last_detail: str | None
    created_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """
    How long what is settled is kept. What is not settled, and which bytes were scored, is kept for ever.

    Attributes:
        bodies: of delivered messages, since they were delivered.
        attempts: of delivered messages, since they were made.
        records: matches all of whose messages are delivered, with these; duplicates and rejected files.
        stories: texts that newer articles are compared with.
    """

    bodies: dt.timedelta
    attempts: dt.timedelta
    records: dt.timedelta
    stories: dt.timedelta = WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """
    The ledger's books.

    Attributes:
        files: state to number of files.
        rejections: reason to number of files.
        articles: articles scored.
        matches: (article, rule) pairs.
        messages: state to number of messages.
        held: (article, rule, endpoint) triples that nobody is told of.
        aside: those that wait for a digest.
        in_digests: those that are in one.
        faults: what does not add up, one sentence each; empty when all is well.
    """

    files: dict[str, int]
    rejections: dict[str, int]
    articles: int
    matches: int
    messages: dict[str, int]
    faults: tuple[str, ...]
    held: int = 0
    aside: int = 0
    in_digests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """
    What waits for one endpoint.

    Attributes:
        pending: messages neither delivered nor dead.
        oldest_due_s: for how many seconds the message due longest has been due; 0 when none is due.
        aside: alerts that wait for a digest.
        due: those of *pending* that may be tried now, as far as the endpoint and its rate let them.
    """

    pending: int = 0
    oldest_due_s: float = 0.0
    aside: int = 0
    due: int = 0


Follow = Callable[
    [EndpointHealth], tuple[EndpointHealth, Sequence[Message]]
]  # what becomes of an endpoint; whom to tell


def no_checkpoint(_name: str) -> None:
    """Be nothing but a place in the code."""


class Inbox(Protocol):
    """A folder that others put files into. Never changes, moves or deletes them."""

    def settled(self) -> Sequence[FileVersion]:
        """Return the files that have not changed for the settle time and were not yet `done`, oldest first."""
        ...

    def read(self, file: FileVersion) -> Read:
        """Return the bytes of exactly this version; neither bytes nor problem when it is gone or has changed since."""
        ...

    def done(self, files: Iterable[FileVersion]) -> None:
        """Forget these versions: they are in the ledger."""
        ...


class Ledger(Protocol):
    """
    Everything that must survive a crash. Each method is one transaction; what it returned from is durable.

    Some ledgers can be shared by several daemons; nothing is promised to one that does not also hold among many.

    Raises:
        LedgerError: from every method, when the database cannot do it now.
    """

    def unrecorded(self, files: Sequence[FileVersion]) -> Sequence[FileVersion]:
        """Return those of *files* that have no verdict yet, in the same order."""
        ...

    def take(self, files: Sequence[FileVersion], now: dt.datetime, lease: dt.timedelta) -> Sequence[FileVersion]:
        """
        Return those of *files*, which `unrecorded` gave, to work on, in the same order: no other daemon has taken them.

        The others leave them alone until they are recorded, released, or the time of *lease* is over. Asked for what it
        has, a daemon gets another *lease*, even a late one; what others have taken or recorded since is theirs.
        """
        ...

    def release(self) -> None:
        """Leave to others what was taken and not recorded."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """
        Until the end of the context no other daemon records anything.

        So what `kin` and `story` say is still true when what follows from it is recorded. What is recorded in it is
        durable when the context has ended.
        """
        ...

    def scored(self, sha256s: Collection[str]) -> Collection[str]:
        """Return those of *sha256s* that are the digest of bytes scored before."""
        ...

    def record(self, verdicts: Sequence[tuple[FileVersion, Verdict]], now: dt.datetime) -> Sequence[FileState | None]:
        """
        Store what became of these files, with all that follows from it: all of it, or on an error nothing.

        Returns:
            What each file was recorded as; a scored one turns out a duplicate when its bytes were recorded in between.
            None for a file that is recorded already, or a duplicate of what the ledger has forgotten since.
        """
        ...

    def kin(self, given: Sequence[Telling], since: dt.datetime) -> Sequence[Sequence[Kin]]:
        """
        Return for each of *given* the tellings since then that are most like it, and the last ones of the same source.

        Those whose wording shows that they tell another story (`may_tell_same`) are left out. Takes no longer when the
        ledger grows older.
        """
        ...

    def last_telling(self) -> int:
        """Return a mark for `tellings_after`: everything recorded before this call is before it."""
        ...

    def tellings_after(self, mark: int) -> Sequence[Kin]:
        """Return the tellings recorded after *mark*, at least those of other daemons, without their texts."""
        ...

    def story(self, story_id: str, source: str) -> StoryBooks:
        """Return what is known of a story; *source* is not among the files it counts."""
        ...

    def subjects(self, reference: str) -> Sequence[Subject]:
        """
        Return what a person may mean, a few at most.

        Args:
            reference: the name of a file, which means the article last seen under it; else an alert's id, an
                article's id, or the beginning of one.
        """
        ...

    def judge(self, submission_id: str, judgements: Sequence[Judgement]) -> bool:
        """
        Store what a person said; False, and nothing stored, when this submission has been recorded before.

        Nothing that was said before is changed.
        """
        ...

    def judged(self) -> Sequence[Judged]:
        """Return every article that people spoke of, the one first spoken of first, with all they said."""
        ...

    def silences(self, now: dt.datetime) -> Sequence[Silence]:
        """Return the silences in force, oldest first."""
        ...

    def due_in_s(self, endpoint_id: str, now: dt.datetime, rate: Rate | None = None) -> float | None:
        """Return how many seconds *rate* keeps a due message of an endpoint waiting; None when none is due."""
        ...

    def turn(self, endpoint_id: str, now: dt.datetime, rate: Rate) -> float:
        """Count a try that is no message's against *rate* and return 0; or return how many seconds it must wait."""
        ...

    def claim(self, endpoint_id: str, now: dt.datetime, lease: dt.timedelta, rate: Rate | None = None) -> Claim | None:
        """
        Take the message of one endpoint that has been due longest, if any, for the time of *lease*.

        Each try is counted against *rate*, whoever makes it; when that is used up there is no claim. An endpoint that
        is disabled or paused has nothing due. What was stored in the future, before the clock was set back, is due now.
        """
        ...

    def settle(
        self,
        claim: Claim,
        outcome: Outcome,
        step: Step,
        now: dt.datetime,
        follow: Follow | None = None,
    ) -> bool:
        """
        Store what one try came to; False, and nothing stored, when somebody else took over.

        Args:
            claim: what was tried.
            outcome: what it came to.
            step: what becomes of the message.
            now: aware, UTC.
            follow: decides what becomes of the endpoint; given what is known of it now, which may be more than what
                the claim says. Not called when its state was changed by somebody else meanwhile.
        """
        ...

    def made(self, endpoint_id: str, start: dt.datetime, end: dt.datetime) -> Mapping[str, int]:
        """Count the messages, one alert each, made for an endpoint from *start* on and before *end*, by rule."""
        ...

    def due_digest(self, endpoint_id: str, now: dt.datetime, limit: int) -> DueDigest | None:
        """
        Return what goes into the digest of an endpoint that is to be made now; None when there is none.

        An endpoint that is disabled or paused has none: all that comes meanwhile will be one. What was put aside in
        the future, before the clock was set back, is due now.
        """
        ...

    def close_digest(self, due: DueDigest, message: Message, now: dt.datetime) -> bool:
        """Put *message* into the outbox and its alerts into it; False, and nothing stored, when others were at it."""
        ...

    def health(self, endpoint_id: str) -> EndpointHealth:
        """Return what is known of an endpoint; of one never heard of, that it is working."""
        ...

    def set_health(
        self,
        endpoint_id: str,
        before: EndpointHealth,
        after: EndpointHealth,
        now: dt.datetime,
        notices: Sequence[Message] = (),
    ) -> bool:
        """Store *after* and the notices; False, and nothing stored, when the state is no longer that of *before*."""
        ...

    def retired_keys(
        self, endpoint_id: str, fingerprints: Sequence[str], now: dt.datetime
    ) -> Mapping[str, dt.datetime]:
        """Say since when each of an endpoint's keys but the first has stood behind another one; remember it."""
        ...

    def backlog(self) -> Mapping[str, Mapping[str, int]]:
        """Count messages by endpoint and state, and alerts that wait for a digest as ``aside``."""
        ...

    def outbox(self, *, states: Sequence[str], limit: int) -> Sequence[OutboxRow]:
        """Return messages in these states, newest first."""
        ...

    def retry(self, ids: Sequence[MessageId] | None, now: dt.datetime) -> int:
        """Make dead messages due again, all or those named, with a fresh schedule; return how many."""
        ...

    def recover(self, endpoint_id: str | None, since: dt.datetime, now: dt.datetime) -> int:
        """
        Make every message made at *since* or later and not delivered due now, with a fresh schedule; return how many.

        They go out in the order they were made in. Messages being tried at this moment are left alone.
        """
        ...

    def queues(self, now: dt.datetime) -> Mapping[str, Queue]:
        """Return what waits, by endpoint; an endpoint for which nothing does is no key."""
        ...

    def newest_file_at(self) -> dt.datetime | None:
        """Return when the last file got its verdict; None when none ever did."""
        ...

    def waiting(self, limit: int) -> int:
        """Count the messages that are not delivered, dead ones included; no further than *limit*."""
        ...

    def prune(self, retention: Retention, now: dt.datetime) -> int:
        """Forget some of what is older than *retention* says; return how much: nothing when there is no more."""
        ...

    def audit(self) -> Audit:
        """Count everything and check that it adds up."""
        ...


class Sender(Protocol):
    """The network. A bad endpoint never raises: trouble is an `Outcome`."""

    def send(self, message: Message, attempt: int) -> Outcome:
        """Post *message* once."""
        ...


class Spread(Protocol):
    """
    `map`, or something that calls a function for several items at once.

    The results come in the order of the items; only a bounded number of items is taken ahead of the results.
    """

    def __call__(self, function: Callable[[_In], _Out], items: Iterable[_In], /) -> Iterator[_Out]:
        """Call *function* for each of *items*; it may run in another process, so it and its items are pickled."""
        ...
