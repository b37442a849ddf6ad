"""
The one place that builds adapters and hands them to the jobs; the only reader of the wall clock and of chance.

Keeps: settings, model and the jobs built from them are one value, `Work`, exchanged as a whole or not at all, so that
no file and no message ever sees half of a change. What a change must not touch (folder, ledger, port) is built once.
Longer than most modules, and `open_app` longer than most functions, because wiring is read from top to bottom.
"""

import datetime as dt
import logging
import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from classifier.adapters.artifacts import BUNDLED_MODEL, bundled, load_model
from classifier.adapters.changes import Changes
from classifier.adapters.inbox import FolderInbox
from classifier.adapters.ledger import SqlLedger
from classifier.adapters.monitor import Monitor
from classifier.adapters.systemd import Notifier
from classifier.adapters.webhook import AllowedRange, Endpoint, HttpSender
from classifier.delivery import Message, Result, RetryPolicy
from classifier.errors import ConfigError, ModelError, Problem
from classifier.health import MEANING, Alarms, Health, alive_message
from classifier.logs import event
from classifier.model import Model
from classifier.pipeline import Deliver, DeliveryReport, Ingest
from classifier.ports import Checkpoint, Claim, FileVersion, Rejected, Scored, Verdict
from classifier.service import Job
from classifier.settings import CheckedSettings, load_settings
from classifier.taxonomy import Taxonomy

_LOG = logging.getLogger("classifier")
CRASH_VARIABLE = "CLASSIFIER_CRASH_AT"
RELOAD = "settings in force"  # what health calls reading the settings again
CHECK_UP_S = 5.0
FOLLOW_S = 1.0  # between two looks at the settings file; a change counts at the second look that finds it
RETRY_REFUSED_S = (
    30.0  # what is missing may come by itself: a variable cannot, a model folder or a file of a secret can
)
SCAN_GRACE_S = 15.0  # a scan may wait 10 s for the ledger and some seconds for the largest article
MAX_PROBLEMS_LOGGED = 50


def utc_now() -> dt.datetime:
    """Return the present instant, aware, in UTC."""
    return dt.datetime.now(dt.UTC)  # noqa: TID251 - the one clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """
    Settings in force, and everything built from them; replaced as a whole when they change.

    Attributes:
        retired: set when another one has taken its place; its jobs then end after the file or message at hand.
    """

    checked: CheckedSettings
    model: Model
    ingest: Ingest
    deliver: Deliver
    retired: threading.Event


@dataclass(slots=True, kw_only=True)
class App:
    """
    Everything that runs, wired up.

    Attributes:
        work: what the settings decide, as it is now.
        build: makes another one.
        hangup: set to have the settings read again at once.
    """

    work: Work
    build: Callable[[CheckedSettings, Model], Work]
    inbox: FolderInbox
    ledger: SqlLedger
    health: Health
    monitor: Monitor
    notifier: Notifier
    stop: threading.Event
    hangup: threading.Event = field(default_factory=threading.Event)
    _changes: Changes = field(init=False)
    _refused: str | None = field(default=None, init=False)
    _refused_at: float = field(default=0.0, init=False)
    _alarms: Alarms = field(default_factory=Alarms, init=False)

    def __post_init__(self) -> None:
        self._took_over()

    @property
    def checked(self) -> CheckedSettings:
        """The settings in force."""
        return self.work.checked

    @property
    def model(self) -> Model:
        """The model in use."""
        return self.work.model

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
        found = self.work.ingest.run()
        sent = DeliveryReport()
        for endpoint_id in self.endpoint_ids:
            sent.results.update(self.work.deliver.run(endpoint_id).results)
        return dict(found.files), dict(sent.results)

    def jobs(self) -> dict[str, Job]:
        """Return what the daemon does again and again, by name, as the settings in force want it."""
        settings = self.checked.settings
        watchdog_s = self.notifier.watchdog_s or CHECK_UP_S * 3
        jobs: dict[str, tuple[Callable[[], object], float]] = {
            "scan": (self.scan, settings.folder.scan_every_s),
            "settings": (self.follow_settings, FOLLOW_S),
            "check-up": (self.check_up, min(CHECK_UP_S, watchdog_s / 3)),
            "alarms": (self.tell, CHECK_UP_S),
        }
        if settings.monitor.ping_to is not None:
            jobs["ping"] = (self.ping, settings.monitor.ping_every_s)
        for endpoint_id in self.endpoint_ids:
            jobs[f"deliver {endpoint_id}"] = (partial(self.deliver, endpoint_id), settings.delivery.check_every_s)
        return {name: Job(partial(self.health.watch, name, run), every_s) for name, (run, every_s) in jobs.items()}

    def scan(self) -> None:
        """Give every settled file a verdict."""
        self.work.ingest.run()
        self.health.scan_went_on()

    def deliver(self, endpoint_id: str) -> None:
        """Send the due messages of one endpoint."""
        self.work.deliver.run(endpoint_id)

    def follow_settings(self) -> None:
        """Read the settings again when somebody asked for it, when their files changed, or, refused, now and then."""
        is_asked = self.hangup.is_set()
        self.hangup.clear()
        is_again = self._refused is not None and time.monotonic() - self._refused_at > RETRY_REFUSED_S
        if self._changes.look() or is_asked or is_again:
            self.reload()

    def reload(self) -> bool:
        """
        Put the settings file as it is now into force, or leave everything as it is and say what is wrong with it.

        A file or message at hand is finished with the settings and the model it was begun with.
        """
        self.notifier.reloading()
        try:
            checked, model = self.health.watch(RELOAD, self._check_again)
        except (ConfigError, ModelError) as error:
            self._refuse(error)
        else:
            before, self.work = self.work, self.build(checked, model)
            before.retired.set()
            self._refused = None
            self._took_over()
            _LOG.info(
                "settings in force: %s; %d rules, %d endpoints",
                model.reference,
                len(checked.rules.rules),
                len(checked.receivers),
                extra=event(
                    "settings_in_force",
                    model=model.reference,
                    rules=len(checked.rules.rules),
                    endpoints=len(checked.receivers),
                ),
            )
            warn_strays(self.strays())
        self.monitor.reloaded(is_accepted=self._refused is None)
        self.notifier.ready()
        return self._refused is None

    def _check_again(self) -> tuple[CheckedSettings, Model]:
        checked, model = _check(self.checked.path)
        before = self.checked.settings
        problems = tuple(
            Problem(table, "cannot change while the daemon runs; restart it, or take the change back")
            for table in ("folder", "ledger", "monitor")
            if getattr(checked.settings, table) != getattr(before, table)
        )
        if problems:
            raise ConfigError(str(checked.path), problems)
        return checked, model

    def _refuse(self, error: ConfigError | ModelError) -> None:
        self._refused_at = time.monotonic()
        if str(error) == self._refused:
            return
        self._refused = str(error)
        lines = [str(item) for item in error.problems] if isinstance(error, ConfigError) else [str(error)]
        for line in lines[:MAX_PROBLEMS_LOGGED]:
            _LOG.error("settings refused: %s", line, extra=event("settings_refused", problem=line))
        _LOG.error(
            "settings refused: %d faults; those read before stay in force",
            len(lines),
            extra=event("settings_kept", faults=len(lines)),
        )

    def _took_over(self) -> None:
        named = self.checked.settings.model.path
        folder = self.checked.path.parent / named if named else bundled("models", BUNDLED_MODEL)
        self._changes = Changes((*self.checked.files, folder / "manifest.json"))
        self.monitor.uses(self.model.name, self.model.id)
        self.health.keep([*self.jobs(), RELOAD])

    def check_up(self) -> None:
        """Tell systemd that we live, look for what is wrong, count what waits."""
        self.notifier.alive()
        come, gone = self._alarms.follow(self.health.reasons(), utc_now())
        for reason in sorted(come):
            _LOG.error("alarm: %s: %s", reason, MEANING[reason], extra=event("alarm_raised", reason=reason))
        for reason in sorted(gone):
            _LOG.info("over: %s", reason, extra=event("alarm_over", reason=reason))
        self.monitor.queue(self.ledger.queues(utc_now()), self.endpoint_ids)

    def tell(self) -> None:
        """Tell those who want to know how we are."""
        for message in self._alarms.due(self.checked.settings.delivery.ops_to, time.monotonic()):
            self._alarms.settle(message, time.monotonic(), is_delivered=self._post(message))

    def ping(self) -> None:
        """Tell the dead man's switch that all is well; say nothing when it is not."""
        endpoint_id = self.checked.settings.monitor.ping_to
        if endpoint_id is not None and not self.health.reasons():
            self._post(alive_message(endpoint_id, secrets.token_hex(8), self.model.reference, utc_now()))

    def _post(self, message: Message) -> bool:
        """Post what does not go through the ledger."""
        outcome = self.work.deliver.sender.send(message, 1)
        result = str(outcome.result)
        self.monitor.tried(message.endpoint_id, result)
        if outcome.result is not Result.DELIVERED:
            _LOG.warning(
                "%r was not told how we are: %s: %s",
                message.endpoint_id,
                result,
                outcome.detail,
                extra=event("not_told", endpoint=message.endpoint_id, result=result, detail=outcome.detail),
            )
        return outcome.result is Result.DELIVERED

    @contextmanager
    def serving(self) -> Iterator[None]:
        """
        Answer /healthz and /metrics until the end of the context, if the settings name a port.

        Raises:
            ConfigError: the port cannot be listened on.
        """
        monitor = self.checked.settings.monitor
        if monitor.port is None:
            yield
            return
        with self.monitor.serving(monitor.host, monitor.port):
            _LOG.info(
                "/healthz and /metrics on port %d of %s",
                monitor.port,
                monitor.host,
                extra=event("serving", host=monitor.host, port=monitor.port),
            )
            yield


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
    checkpoint = _checkpoint()
    ledger = SqlLedger(checked.ledger_url)
    try:
        newest_at = ledger.newest_file_at()
        health = Health(
            time.monotonic,
            scan_within_s=2 * settings.folder.scan_every_s + SCAN_GRACE_S,
            fresh_within_s=settings.monitor.fresh_within_s,
            idle_s=(utc_now() - newest_at).total_seconds() if newest_at else 0.0,
        )
        monitor = Monitor(health)
        inbox = FolderInbox(
            checked.folder,
            settle_s=settings.folder.settle_s,
            max_bytes=settings.folder.max_bytes,
            pattern=settings.folder.pattern,
            ignore=settings.folder.ignore,
        )

        def on_file(file: FileVersion, verdict: Verdict) -> None:
            health.scan_went_on()
            health.file_came()
            monitor.took(verdict)
            _log_file(file, verdict)

        def on_try(claim: Claim, result: str, detail: str) -> None:
            monitor.tried(claim.message.endpoint_id, result)
            _log_try(claim, result, detail)

        def build(checked: CheckedSettings, model: Model) -> Work:
            retired = threading.Event()
            delivery = checked.settings.delivery

            def should_stop() -> bool:
                return stop.is_set() or retired.is_set()

            return Work(
                checked=checked,
                model=model,
                ingest=Ingest(
                    inbox=inbox,
                    ledger=ledger,
                    model=model,
                    rules=checked.rules,
                    clock=utc_now,
                    formats={item.id: item.format for item in checked.receivers},
                    checkpoint=checkpoint,
                    should_stop=should_stop,
                    on_file=on_file,
                    timing=monitor.scoring,
                ),
                deliver=Deliver(
                    ledger=ledger,
                    sender=_sender(checked),
                    policy=RetryPolicy(
                        schedule=tuple(dt.timedelta(seconds=wait) for wait in delivery.retry_s), jitter=delivery.jitter
                    ),
                    lease=dt.timedelta(seconds=delivery.lease_s),
                    clock=utc_now,
                    jitter=lambda: random.uniform(-1, 1),  # noqa: S311 - spreads load, guards nothing
                    checkpoint=checkpoint,
                    should_stop=should_stop,
                    on_try=on_try,
                ),
                retired=retired,
            )

        yield App(
            work=build(checked, model),
            build=build,
            inbox=inbox,
            ledger=ledger,
            health=health,
            monitor=monitor,
            notifier=Notifier(),
            stop=stop,
        )
    finally:
        ledger.close()


def _sender(checked: CheckedSettings) -> HttpSender:
    return HttpSender(
        [
            Endpoint(id=item.id, url=item.url, keys=item.keys, allow=tuple(AllowedRange(*pair) for pair in item.allow))
            for item in checked.receivers
        ],
        clock=utc_now,
        total_timeout_s=checked.settings.delivery.total_timeout_s,
        connect_timeout_s=checked.settings.delivery.connect_timeout_s,
    )


def warn_strays(strays: Mapping[str, int]) -> None:
    """Say which messages nobody delivers."""
    for endpoint_id, count in strays.items():
        _LOG.warning(
            "%d messages wait for endpoint %r, which is not in the settings: name it again to have them sent",
            count,
            endpoint_id,
            extra=event("strays", endpoint=endpoint_id, messages=count),
        )


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
            _LOG.info(
                "scored %r: %s; %d alerts",
                file.path,
                labels,
                len(verdict.messages),
                extra=event(
                    "file_scored",
                    file=file.path,
                    tags={tag.label: round(tag.score, 4) for tag in verdict.tags},
                    abstained=verdict.tags.abstained,
                    messages=len(verdict.messages),
                    model=verdict.model,
                ),
            )
        case Rejected():
            _LOG.warning(
                "rejected %r: %s: %s",
                file.path,
                verdict.reason,
                verdict.detail,
                extra=event("file_rejected", file=file.path, reason=verdict.reason, detail=verdict.detail),
            )
        case _:
            _LOG.info("duplicate %r", file.path, extra=event("file_duplicate", file=file.path, sha256=verdict.sha256))


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
        extra=event(
            "delivery",
            result=result,
            message=message.id,
            endpoint=message.endpoint_id,
            rule=message.rule_id,
            attempt=claim.attempts + 1,
            detail=detail,
        ),
    )
