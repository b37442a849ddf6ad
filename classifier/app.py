"""The one place that builds adapters and hands them to the jobs; the only reader of the wall clock and of chance."""

import datetime as dt
import logging
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from classifier.adapters.artifacts import load_model
from classifier.adapters.inbox import FolderInbox
from classifier.adapters.ledger import SqlLedger
from classifier.adapters.processes import Processes
from classifier.adapters.webhook import AllowedRange, Endpoint, HttpSender
from classifier.delivery import RetryPolicy
from classifier.errors import ConfigError, Problem
from classifier.model import Model
from classifier.pipeline import BATCH_FILES, Deliver, DeliveryReport, Ingest, Judge
from classifier.ports import Checkpoint, Claim, FileVersion, Rejected, Scored, Verdict
from classifier.settings import CheckedSettings, load_settings
from classifier.taxonomy import Taxonomy

_LOG = logging.getLogger("classifier")
BACKLOG = 2_000  # so many new files are worth starting processes, which takes about as long as a thousand files
CRASH_VARIABLE = "CLASSIFIER_CRASH_AT"


def utc_now() -> dt.datetime:
    """Return the present instant, aware, in UTC."""
    return dt.datetime.now(dt.UTC)  # noqa: TID251 - the one clock


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Everything that runs, wired up."""

    checked: CheckedSettings
    model: Model
    inbox: FolderInbox
    ledger: SqlLedger
    ingest: Ingest
    deliver: Deliver
    stop: threading.Event

    @property
    def endpoint_ids(self) -> tuple[str, ...]:
        """Ids of all endpoints, in the order of the settings."""
        return tuple(receiver.id for receiver in self.checked.receivers)

    def strays(self) -> dict[str, int]:
        """Return how many messages wait for endpoints that are not in the settings, by endpoint."""
        return stray_messages(self.ledger, self.endpoint_ids)

    def run_once(self) -> tuple[dict[str, int], dict[str, int]]:
        """Record what settles within one settle time, make one round of deliveries; return the counts of both."""
        self.inbox.settled()
        self.stop.wait(self.checked.settings.folder.settle_s)
        found = self.ingest.run()
        sent = DeliveryReport()
        for endpoint_id in self.endpoint_ids:
            sent.results.update(self.deliver.run(endpoint_id).results)
        return dict(found.files), dict(sent.results)


def stray_messages(ledger: SqlLedger, endpoint_ids: Sequence[str]) -> dict[str, int]:
    """Return how many pending messages are for none of *endpoint_ids*, by endpoint: nobody delivers those."""
    pending = ledger.outbox(states=["pending"], limit=1_000_000)
    return dict(Counter(row.endpoint_id for row in pending if row.endpoint_id not in endpoint_ids))


def check_settings(path: Path | str) -> CheckedSettings:
    """Read and check a settings file without opening anything else but the model it names."""
    return _check(path)[0]


def _check(path: Path | str) -> tuple[CheckedSettings, Model]:
    """Return the checked settings with the model they were checked against."""
    models: list[Model] = []

    def taxonomy_of(folder: Path | None) -> Taxonomy:
        models.append(load_model(folder))
        return models[-1].taxonomy

    return load_settings(path, taxonomy_of), models[-1]


@contextmanager
def open_app(path: Path | str) -> Iterator[App]:
    """
    Build everything a settings file asks for, and close it again.

    Raises:
        ConfigError: settings or folder are at fault.
        ModelError: the model cannot be loaded.
        LedgerError: the ledger cannot be opened.
    """
    checked, model = _check(path)
    settings = checked.settings
    if not checked.folder.is_dir():
        raise ConfigError(
            str(checked.path),
            (Problem("folder.path", f"there is no folder {str(checked.folder)!r}; make it or name another"),),
        )
    stop = threading.Event()
    ledger = SqlLedger(checked.ledger_url)
    try:
        inbox = FolderInbox(
            checked.folder,
            settle_s=settings.folder.settle_s,
            max_bytes=settings.folder.max_bytes,
            pattern=settings.folder.pattern,
            ignore=settings.folder.ignore,
        )
        sender = HttpSender(
            [
                Endpoint(
                    id=item.id, url=item.url, keys=item.keys, allow=tuple(AllowedRange(*pair) for pair in item.allow)
                )
                for item in checked.receivers
            ],
            clock=utc_now,
            total_timeout_s=settings.delivery.total_timeout_s,
            connect_timeout_s=settings.delivery.connect_timeout_s,
        )
        checkpoint = _checkpoint()
        yield App(
            checked=checked,
            model=model,
            inbox=inbox,
            ledger=ledger,
            ingest=Ingest(
                inbox=inbox,
                ledger=ledger,
                judge=Judge(model, checked.rules),
                spread=Processes(len(os.sched_getaffinity(0)), min_items=BACKLOG // BATCH_FILES),
                clock=utc_now,
                checkpoint=checkpoint,
                should_stop=stop.is_set,
                on_file=_log_file,
            ),
            deliver=Deliver(
                ledger=ledger,
                sender=sender,
                policy=RetryPolicy(
                    schedule=tuple(dt.timedelta(seconds=wait) for wait in settings.delivery.retry_s),
                    jitter=settings.delivery.jitter,
                ),
                lease=dt.timedelta(seconds=settings.delivery.lease_s),
                clock=utc_now,
                jitter=lambda: random.uniform(-1, 1),  # noqa: S311 - spreads load, guards nothing
                checkpoint=checkpoint,
                should_stop=stop.is_set,
                on_try=_log_try,
            ),
            stop=stop,
        )
    finally:
        ledger.close()


def _checkpoint() -> Checkpoint:
    """Return what tests use to kill this very process at a named point: nothing unless the variable is set."""
    wanted = os.environ.get(CRASH_VARIABLE)
    if wanted is None:
        return lambda _name: None

    def crash(name: str) -> None:
        if name == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    return crash


def _log_file(file: FileVersion, verdict: Verdict) -> None:
    match verdict:
        case Scored():
            labels = (
                ", ".join(f"{tag.label} {tag.score:.2f}" for tag in verdict.tags) or verdict.tags.abstained or "no tags"
            )
            _LOG.info("scored %r: %s; %d alerts", file.path, labels, len(verdict.messages))
        case Rejected():
            _LOG.warning("rejected %r: %s: %s", file.path, verdict.reason, verdict.detail)
        case _:
            _LOG.info("duplicate %r", file.path)


def _log_try(claim: Claim, result: str, detail: str) -> None:
    message = claim.message
    level = logging.INFO if result == "delivered" else logging.WARNING
    _LOG.log(
        level,
        "%s %s to %r (rule %r, try %d): %s",
        result,
        message.id,
        message.endpoint_id,
        message.rule_id,
        claim.attempts + 1,
        detail,
    )
