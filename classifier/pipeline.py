"""
The two jobs of the daemon, over ports.

    ingest:   Inbox.settled | Ledger.unrecorded | Inbox.read | parse_article | Model.tag | RuleSet.match | make_alert |
        Format.render | Ledger.record
    deliver:  RateLimit.wait_s | Ledger.claim | Sender.send | next_step | next_health | Ledger.settle

The functions here order calls; what to do is decided by the values they pass along.
A crash between any two calls loses nothing: a file without a verdict is found again, a message without a settlement
becomes due again.
"""

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial

from classifier.alerts import make_alert, message_id, notice_id
from classifier.article import Article, parse_article
from classifier.delivery import EndpointHealth, Message, Outcome, RateLimit, RetryPolicy, next_health, next_step
from classifier.errors import ArticleError
from classifier.model import Model
from classifier.payloads import STANDARD, Format, render_notice, timestamp
from classifier.ports import (
    Checkpoint,
    Claim,
    Clock,
    Duplicate,
    FileVersion,
    Inbox,
    Jitter,
    Ledger,
    Rejected,
    Scored,
    Sender,
    Verdict,
)
from classifier.rules import RuleSet

BATCH = 200  # versions asked of the ledger at once


def _no_checkpoint(_name: str) -> None:
    """Be nothing but a place in the code."""


@dataclass(slots=True)
class IngestReport:
    """What one scan found: how many files got which verdict, and how many messages were put into the outbox."""

    files: Counter[str] = field(default_factory=Counter)
    messages: int = 0


@dataclass(slots=True)
class DeliveryReport:
    """What one round of one endpoint came to: result to number of tries."""

    results: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """
    Turns new files into verdicts.

    Attributes:
        formats: endpoint to the format it understands; `STANDARD` for those that are not here.
        should_stop: asked between files; a stopped scan goes on with the next one.
        timing: gives a context around the scoring of each article.
    """

    inbox: Inbox
    ledger: Ledger
    model: Model
    rules: RuleSet
    clock: Clock
    formats: Mapping[str, Format] = field(default_factory=dict)
    checkpoint: Checkpoint = _no_checkpoint
    should_stop: Callable[[], bool] = lambda: False
    on_file: Callable[[FileVersion, Verdict], None] = lambda _file, _verdict: None
    timing: Callable[[], AbstractContextManager[object]] = nullcontext

    def run(self) -> IngestReport:
        """
        Record a verdict for every settled file that has none.

        Raises:
            LedgerError: the ledger cannot be used now; files without a verdict are found again next time.
        """
        report = IngestReport()
        settled = self.inbox.settled()
        for start in range(0, len(settled), BATCH):
            batch = settled[start : start + BATCH]
            new = set(self.ledger.unrecorded(batch))
            self.inbox.done(file for file in batch if file not in new)
            for file in (file for file in batch if file in new):
                if self.should_stop():
                    return report
                self._take(file, report)
        return report

    def _take(self, file: FileVersion, report: IngestReport) -> None:
        self.checkpoint("found")
        read = self.inbox.read(file)
        if read.problem is not None:
            verdict: Verdict = read.problem
        elif read.raw is not None:
            self.checkpoint("read")
            verdict = self._judge(file, read.raw)
        else:
            return  # gone or changed: it has no verdict, and the next scan sees what is there then
        self.checkpoint("scored")
        self.ledger.record(file, verdict, self.clock())
        self.checkpoint("recorded")
        self.inbox.done([file])
        report.files[_STATE_OF[type(verdict)]] += 1
        report.messages += len(verdict.messages) if isinstance(verdict, Scored) else 0
        self.on_file(file, verdict)

    def _judge(self, file: FileVersion, raw: bytes) -> Verdict:
        sha256 = hashlib.sha256(raw).hexdigest()
        if self.ledger.has_content(sha256):
            return Duplicate(sha256=sha256)
        try:
            with self.timing():
                return self._score(parse_article(raw, file.path))
        except ArticleError as error:
            return Rejected(reason=error.reason, detail=error.detail)
        except Exception as error:  # noqa: BLE001 - a fault of ours with one file must not keep all others waiting
            return Rejected(
                reason="failed", detail=f"this program failed on it, {type(error).__name__}; please report it"
            )

    def _score(self, article: Article) -> Scored:
        tags = self.model.tag(article)
        explain = cache(partial(self.model.explain, article))  # several rules may ask for the same label
        now = self.clock()
        alerts = tuple(
            make_alert(
                article,
                tags,
                match,
                model=self.model.reference,
                explain=explain,
                now=now,
            )
            for match in self.rules.match(article, tags, now)
        )
        messages = []
        for alert in alerts:
            rule = alert.match.rule
            messages += [
                Message(
                    id=message_id(article, rule.id, endpoint),
                    endpoint_id=endpoint,
                    rule_id=rule.id,
                    body=self.formats.get(endpoint, STANDARD).render(alert),
                )
                for endpoint in alert.match.to
            ]
        return Scored(article=article, tags=tags, model=self.model.reference, alerts=alerts, messages=tuple(messages))


_STATE_OF: Mapping[type[Verdict], str] = {Scored: "scored", Duplicate: "duplicate", Rejected: "rejected"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """
    Sends the due messages of one endpoint.

    One endpoint per call, so that a slow or dead one delays nobody else.

    Attributes:
        lease: longer than one try can take; one claim is settled before its lease runs out or not at all.
        limits: endpoint to its rate limit; none for an endpoint without.
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
    limits: Mapping[str, RateLimit] = field(default_factory=dict)
    ops_to: tuple[str, ...] = ()
    wait: Callable[[float], object] = lambda _seconds: None
    checkpoint: Checkpoint = _no_checkpoint
    should_stop: Callable[[], bool] = lambda: False
    on_change: Callable[[str, EndpointHealth], None] = lambda _endpoint_id, _health: None
    on_try: Callable[[Claim, str, str], None] = lambda _claim, _result, _detail: None

    def run(self, endpoint_id: str) -> DeliveryReport:
        """
        Try every due message of *endpoint_id* once.

        Raises:
            LedgerError: the ledger cannot be used now; claimed messages become due again when their lease runs out.
        """
        report = DeliveryReport()
        # One at a time: the lease then only has to outlast one try, however slow the endpoint.
        limit = self.limits.get(endpoint_id)
        while not self.should_stop():
            if limit is not None and (seconds := limit.wait_s(self.clock())):
                self.wait(seconds)
                continue
            if (claim := self.ledger.claim(endpoint_id, self.clock(), self.lease)) is None:
                break
            if limit is not None:
                limit.count()
            self._try(claim, report)
        return report

    def _try(self, claim: Claim, report: DeliveryReport) -> None:
        self.checkpoint("claimed")
        outcome = self.sender.send(claim.message, claim.attempts + 1)
        self.checkpoint("sent")
        now = self.clock()
        step = next_step(self.policy, claim.attempts + 1, outcome, now, self.jitter())
        health = next_health(self.policy, claim.health, outcome, step, now)
        endpoint_id = claim.message.endpoint_id
        notices = make_notices(endpoint_id, claim.health, health, outcome, self.ops_to)
        is_settled = self.ledger.settle(claim, outcome, step, now, health, notices)
        self.checkpoint("settled")
        report.results[outcome.result] += 1
        self.on_try(claim, outcome.result, outcome.detail)
        if is_settled and health.state is not claim.health.state:
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
