"""
What runs: the settings in force with everything built from them, and how others take their place.

Keeps: settings, model and the jobs built from them are one value, `Work`, exchanged as a whole or not at all, so that
no file and no message ever sees half of a change.
"""

import datetime as dt
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from classifier.adapters.artifacts import BUNDLED_MODEL, bundled
from classifier.adapters.changes import Changes
from classifier.adapters.hints import hints
from classifier.adapters.inbox import FolderInbox
from classifier.adapters.ledger import SqlLedger
from classifier.adapters.listener import listening
from classifier.adapters.monitor import Monitor
from classifier.adapters.systemd import Notifier
from classifier.callback import MAX_BODY, FeedbackDesk
from classifier.delivery import Message, Result
from classifier.errors import ConfigError, LedgerError, ModelError, Problem
from classifier.health import MEANING, Alarms, Health, alive_message
from classifier.logs import event
from classifier.model import Model
from classifier.pipeline import Deliver, Digests, Ingest, Prune
from classifier.ports import Checkpoint, Clock, no_checkpoint
from classifier.routing import CATCH_UP
from classifier.service import CallIn, Job
from classifier.settings import CheckedSettings

_LOG = logging.getLogger("classifier")
PRUNE_EVERY_S = 3_600.0
MIN_PAUSE_S = 0.1  # between two looks at the folder
RELOAD = "settings in force"  # what health calls reading the settings again
CHECK_UP_S = 5.0
FOLLOW_S = 1.0  # between two looks at the settings file; a change counts at the second look that finds it
RETRY_REFUSED_S = 30.0  # what is missing may come by itself: a model folder or the file of a secret can, or the ledger
MAX_PROBLEMS_LOGGED = 50


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
    digests: Digests
    deliver: Deliver
    prune: Prune
    retired: threading.Event


@dataclass(slots=True, kw_only=True)
class Daemon:
    """
    Everything that runs, wired up.

    Attributes:
        work: what the settings decide, as it is now.
        check: reads a settings file and the model it names.
        build: makes another `work` of them.
        hangup: set to have the settings read again at once.
    """

    work: Work
    check: Callable[[Path], tuple[CheckedSettings, Model]]
    build: Callable[[CheckedSettings, Model], Work]
    clock: Clock
    inbox: FolderInbox
    ledger: SqlLedger
    health: Health
    monitor: Monitor
    notifier: Notifier
    stop: threading.Event
    checkpoint: Checkpoint = no_checkpoint
    hangup: threading.Event = field(default_factory=threading.Event)
    _call_in: CallIn = field(default=lambda _name, _seconds: None, init=False)
    _hinted: threading.Event = field(default_factory=threading.Event, init=False)
    _pause_s: float = field(default=0.0, init=False)
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
        sent: Counter[str] = Counter()
        for endpoint_id in self.endpoint_ids:  # when it is called next is not known: what was found late goes out now
            self.work.digests.run(endpoint_id, CATCH_UP.every or dt.timedelta())
        if self.endpoint_ids:
            with ThreadPoolExecutor(len(self.endpoint_ids)) as pool:  # a slow endpoint delays no other
                for report in pool.map(self.work.deliver.run, self.endpoint_ids):
                    sent.update(report.results)
        return dict(found.files), dict(sent)

    def jobs(self) -> dict[str, Job]:
        """Return what the daemon does again and again, by name, as the settings in force want it."""
        settings = self.checked.settings
        watchdog_s = self.notifier.watchdog_s or CHECK_UP_S * 3
        jobs: dict[str, tuple[Callable[[], object], float]] = {
            "scan": (self.scan, settings.folder.scan_every_s),
            "settings": (self.follow_settings, FOLLOW_S),
            "check-up": (self.check_up, min(CHECK_UP_S, watchdog_s / 3)),
            "alarms": (self.tell, CHECK_UP_S),
            "prune": (self.prune, PRUNE_EVERY_S),
        }
        if settings.monitor.ping_to is not None:
            jobs["ping"] = (self.ping, settings.monitor.ping_every_s)
        for endpoint_id in self.endpoint_ids:
            jobs[f"deliver {endpoint_id}"] = (partial(self.deliver, endpoint_id), settings.delivery.check_every_s)
        return {name: Job(partial(self.health.watch, name, run), every_s) for name, (run, every_s) in jobs.items()}

    def started(self, call_in: CallIn) -> None:
        """Take note that the clockwork runs, and of how to have a job called sooner."""
        self._call_in = call_in
        self.notifier.ready()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Until the end of the context, look at the folder also when the system says that it has changed."""
        if not self.checked.settings.folder.events:
            yield
            return
        with hints(self.checked.folder, self._hint):
            yield

    def _hint(self) -> None:
        self._hinted.set()
        self._call_in("scan", self._pause_s)

    def scan(self) -> None:
        """Give every settled file a verdict; have the next look made when it can find more."""
        self._hinted.clear()
        began = time.monotonic()
        report = self.work.ingest.run()
        self.health.scan_went_on()
        # However much goes on in the folder, looking at it takes at most a fifth of the time.
        self._pause_s = max(MIN_PAUSE_S, 4 * (time.monotonic() - began))
        settles_in_s = 0.0 if self._hinted.is_set() else self.inbox.settles_in_s()
        if settles_in_s is not None:
            self._call_in("scan", max(settles_in_s, self._pause_s))
        if report.messages:
            for endpoint_id in self.endpoint_ids:
                self._call_in(f"deliver {endpoint_id}", 0.0)

    def deliver(self, endpoint_id: str) -> None:
        """Send the due messages of one endpoint, digests among them."""
        self.work.digests.run(endpoint_id)
        self.work.deliver.run(endpoint_id)

    def prune(self) -> None:
        """Forget what was settled long ago."""
        self.work.prune.run()

    def follow_settings(self) -> None:
        """Read the settings again when somebody asked for it, when their files changed, or, refused, now and then."""
        is_asked = self.hangup.is_set()
        self.hangup.clear()
        is_again = self._refused is not None and time.monotonic() - self._refused_at > RETRY_REFUSED_S
        if self._changes.look() or is_asked or is_again:
            self.reload()

    def reload(self) -> bool:
        """
        Put the settings file as it is now into force, or leave everything as it is and say what is wrong.

        A file or message at hand is finished with the settings and the model it was begun with.
        """
        self.notifier.reloading()
        try:
            work, strays = self.health.watch(RELOAD, self._work_again)
        except (ConfigError, ModelError, LedgerError) as error:
            self._refuse(error)
        else:
            self.checkpoint("swapping")
            before, self.work = self.work, work
            before.retired.set()
            self._refused = None
            self._took_over()
            n_rules, n_endpoints = len(self.checked.rules.rules), len(self.endpoint_ids)
            _LOG.info(
                "settings in force: %s; %d rules, %d endpoints",
                self.model.reference,
                n_rules,
                n_endpoints,
                extra=event("settings_in_force", model=self.model.reference, rules=n_rules, endpoints=n_endpoints),
            )
            warn_strays(strays)
        self.monitor.reloaded(is_accepted=self._refused is None)
        self.notifier.ready()
        return self._refused is None

    def _work_again(self) -> tuple[Work, Mapping[str, int]]:
        """Return what the settings file, as it is now, comes to, and what waits for endpoints it does not name."""
        checked, model = self.check(self.checked.path)
        before = self.checked.settings
        problems = tuple(
            Problem(table, "cannot change while the daemon runs; restart it, or take the change back")
            for table in ("folder", "ledger", "monitor", "feedback")
            if getattr(checked.settings, table) != getattr(before, table)
        )
        if problems:
            raise ConfigError(str(checked.path), problems)
        model.warm_up()
        work = self.build(checked, model)
        return work, stray_messages(self.ledger, [receiver.id for receiver in checked.receivers])

    def _refuse(self, error: ConfigError | ModelError | LedgerError) -> None:
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
        come, gone = self._alarms.follow(self.health.reasons(), self.clock())
        for reason in sorted(come):
            _LOG.error("alarm: %s: %s", reason, MEANING[reason], extra=event("alarm_raised", reason=reason))
        for reason in sorted(gone):
            _LOG.info("over: %s", reason, extra=event("alarm_over", reason=reason))
        self.monitor.queue(self.ledger.queues(self.clock()), self.endpoint_ids)

    def tell(self) -> None:
        """Tell those who want to know how we are."""
        for message in self._alarms.due(self.checked.settings.delivery.ops_to, time.monotonic()):
            self._alarms.settle(message, time.monotonic(), is_delivered=self._post(message))

    def ping(self) -> None:
        """Tell the dead man's switch that all is well; say nothing when it is not."""
        endpoint_id = self.checked.settings.monitor.ping_to
        if endpoint_id is not None and not self.health.reasons():
            self._post(alive_message(endpoint_id, secrets.token_hex(8), self.model.reference, self.clock()))

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
        Answer /healthz, /metrics and feedback until the end of the context, where the settings name a port for it.

        Raises:
            ConfigError: a port cannot be listened on.
        """
        monitor, feedback = self.checked.settings.monitor, self.checked.settings.feedback
        desk = FeedbackDesk(
            ledger=self.ledger,
            keys=lambda: self.checked.feedback_keys,
            labels=lambda: self.model.labels,
            clock=self.clock,
        )
        with ExitStack() as held:
            for key, table, answer, max_body, what in (
                ("monitor.port", monitor, self.monitor.answer, 0, "/healthz and /metrics"),
                ("feedback.port", feedback, desk.answer, MAX_BODY, "/feedback"),
            ):
                if table.port is not None:
                    held.enter_context(listening(key, table.host, table.port, answer, max_body=max_body))
                    facts = event("serving", what=key, host=table.host, port=table.port)
                    _LOG.info("%s on port %d of %s", what, table.port, table.host, extra=facts)
            yield


def stray_messages(ledger: SqlLedger, endpoint_ids: Sequence[str]) -> dict[str, int]:
    """Return how many messages and alerts put aside are for none of *endpoint_ids*, by endpoint: nobody sends those."""
    waiting = {
        endpoint_id: states.get("pending", 0) + states.get("aside", 0)
        for endpoint_id, states in ledger.backlog().items()
    }
    return {name: count for name, count in waiting.items() if count and name not in endpoint_ids}


def warn_strays(strays: Mapping[str, int]) -> None:
    """Say which messages nobody delivers."""
    for endpoint_id, count in strays.items():
        _LOG.warning(
            "%d messages wait for endpoint %r, which is not in the settings: name it again to have them sent",
            count,
            endpoint_id,
            extra=event("strays", endpoint=endpoint_id, messages=count),
        )
