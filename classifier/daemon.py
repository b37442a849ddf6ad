"""
What runs: the settings in force with everything built from them, and how others take their place.

Keeps: settings, model and the jobs built from them are one value, `Work`, exchanged as a whole or not at all, so that
no file and no message ever sees half of a change. Longer than most modules because every job reads that value, and
reloading has to know of every job.
"""

import datetime as dt
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
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
from classifier.delivery import EndpointHealth, Message, Result
from classifier.errors import ConfigError, LedgerError, ModelError, Problem
from classifier.health import MEANING, Alarms, Health, alive_message
from classifier.logs import event
from classifier.model import Model
from classifier.pipeline import LOOKS, Deliver, Digests, Ingest, Prune
from classifier.ports import Checkpoint, Clock, no_checkpoint
from classifier.routing import CATCH_UP
from classifier.service import CallIn, Job
from classifier.settings import CheckedSettings, Receiver
from classifier.status import MARK_EVERY, say_age

_LOG = logging.getLogger("classifier")
PRUNE_EVERY_S = 3_600.0
MIN_PAUSE_S = 0.1  # between two looks at the folder
RELOAD = "settings in force"  # what health calls reading the settings again
CHECK_UP_S = 5.0
HEAR_EVERY_S = 60.0  # to count what people said, every word of years is read
FOLLOW_S = 1.0  # between two looks at the settings file; a change counts at the second look that finds it
RETRY_REFUSED_S = 30.0  # what is missing may come by itself: a model folder or the file of a secret can, or the ledger
MAX_PROBLEMS_LOGGED = 50
LEAVE_S = 60.0  # longer than a file or message at hand takes
LONG_S = 5.0  # whoever calls a command waits so long without a word
TURN_S = 15.0  # an alarm waits so long for an endpoint that is posted to all the time
MAX_CLOCK_OFF_S = 30.0  # two machines then differ by no more than the ledger takes for a jump


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


@dataclass(frozen=True, slots=True)
class _Leaving:
    """
    An endpoint as it was when it was taken out of the settings; kept in memory alone, with its secret.

    Attributes:
        receiver: where what waits for it goes.
        until: monotonic; until then, also when nothing waits.
    """

    receiver: Receiver
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """
    What one round came to.

    Attributes:
        files: verdict to number of files.
        deliveries: result to number of tries.
        waiting: endpoint to number of messages that are still on their way.
    """

    files: Mapping[str, int]
    deliveries: Mapping[str, int]
    waiting: Mapping[str, int]


@dataclass(slots=True, kw_only=True)
class Daemon:
    """
    Everything that runs, wired up.

    Attributes:
        work: what the settings decide, as it is now.
        check: reads a settings file and the model it names.
        build: makes another `work` of them, and of endpoints that are no longer in them.
        changes: looks at the files that `work` was made of, since before they were read.
        hangup: set to have the settings read again at once.
    """

    work: Work
    check: Callable[[Path], tuple[CheckedSettings, Model]]
    build: Callable[[CheckedSettings, Model, Sequence[Receiver]], Work]
    clock: Clock
    inbox: FolderInbox
    ledger: SqlLedger
    health: Health
    monitor: Monitor
    notifier: Notifier
    stop: threading.Event
    changes: Changes
    checkpoint: Checkpoint = no_checkpoint
    hangup: threading.Event = field(default_factory=threading.Event)
    _call_in: CallIn = field(default=lambda _name, _seconds: None, init=False)
    _hinted: threading.Event = field(default_factory=threading.Event, init=False)
    _heard_at: float | None = field(default=None, init=False)
    _marked_at: dt.datetime | None = field(default=None, init=False)
    _pause_s: float = field(default=0.0, init=False)
    _refused: str | None = field(default=None, init=False)
    _refused_at: float = field(default=0.0, init=False)
    _alarms: Alarms = field(default_factory=Alarms, init=False)
    _leaving: Mapping[str, _Leaving] = field(default_factory=dict, init=False)
    _states: dict[str, EndpointHealth] = field(default_factory=dict, init=False)
    _untold: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._took_over(self.changes)

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

    def run_once(self, deliver_for: dt.timedelta | None = None) -> Round:
        """
        Record what settles within one settle time, and make one round of deliveries.

        Args:
            deliver_for: what the rates of the endpoints let out only later is left to the next round; None to wait.
        """
        self.inbox.settled()
        self.stop.wait(self.checked.settings.folder.settle_s)
        found = self.work.ingest.run()
        self._mark_scan()
        sent: Counter[str] = Counter()
        for endpoint_id in self.endpoint_ids:  # when it is called next is not known: what was found late goes out now
            self.work.digests.run(endpoint_id, CATCH_UP.every or dt.timedelta())
        self._tell_waits(deliver_for)
        deliver = partial(self.work.deliver.run, until=self.clock() + deliver_for if deliver_for is not None else None)
        if self.endpoint_ids:
            with ThreadPoolExecutor(len(self.endpoint_ids)) as pool:  # a slow endpoint delays no other
                try:
                    for report in pool.map(deliver, self.endpoint_ids):
                        sent.update(report.results)
                except KeyboardInterrupt:
                    self.stop.set()  # else the pool waits for all of them
                    raise
        waiting = {name: queue.pending for name, queue in self.ledger.queues(self.clock()).items() if queue.pending}
        return Round(files=dict(found.files), deliveries=dict(sent), waiting=waiting)

    def _tell_waits(self, deliver_for: dt.timedelta | None) -> None:
        """Say for which endpoints so much is due that their rates make it take long."""
        now = self.clock()
        for endpoint_id, queue in self.ledger.queues(now).items():
            rate = self.work.deliver.rates.get(endpoint_id)
            wait_s = self.ledger.due_in_s(endpoint_id, now, rate)
            if rate is None or wait_s is None or (takes_s := rate.spread_s(queue.due, wait_s)) < LONG_S:
                continue
            takes = say_age(dt.timedelta(seconds=takes_s))
            if deliver_for is None or takes_s <= deliver_for.total_seconds():
                how = f"sending them takes about {takes}; Ctrl-C loses nothing, the rest waits for the next run"
            else:
                how = f"all would take about {takes}; after {say_age(deliver_for)} the rest waits for the next run"
            _LOG.warning(
                "%d messages wait for endpoint %r, which takes %g a second: %s",
                queue.due,
                endpoint_id,
                rate.per_s,
                how,
                extra=event("takes_long", endpoint=endpoint_id, messages=queue.due, seconds=round(takes_s)),
            )

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
        for endpoint_id in (*self.endpoint_ids, *self._leaving):
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
        self._mark_scan()
        # However much goes on in the folder, looking at it takes at most a fifth of the time.
        self._pause_s = max(MIN_PAUSE_S, LOOKS * (time.monotonic() - began))
        settles_in_s = 0.0 if self._hinted.is_set() else self.inbox.settles_in_s()
        if settles_in_s is not None:
            self._call_in("scan", max(settles_in_s, self._pause_s))
        if report.messages:
            for endpoint_id in self.endpoint_ids:
                self._call_in(f"deliver {endpoint_id}", 0.0)

    def _mark_scan(self) -> None:
        """Write down that the folder was looked at, now and then, for `classifier status` to see."""
        now = self.clock()
        is_cut_short = self.stop.is_set() or self.work.retired.is_set()
        if not is_cut_short and (self._marked_at is None or abs(now - self._marked_at) >= MARK_EVERY):
            self.ledger.scan_ended(self.checked.settings.folder.name, now)
            self._marked_at = now

    def deliver(self, endpoint_id: str) -> None:
        """Send the due messages of one endpoint, digests among them; leave one that is no longer in the settings."""
        self.work.digests.run(endpoint_id)
        self.work.deliver.run(endpoint_id)
        leaving = self._leaving.get(endpoint_id)
        if leaving is None or time.monotonic() < leaving.until or endpoint_id in self.ledger.queues(self.clock()):
            return
        self._leaving = {name: item for name, item in self._leaving.items() if item is not leaving}
        self.health.keep([*self.jobs(), RELOAD])
        _LOG.info(
            "nothing waits any more for endpoint %r, which is not in the settings",
            endpoint_id,
            extra=event("endpoint_left", endpoint=endpoint_id),
        )

    def prune(self) -> None:
        """Forget what was settled long ago."""
        self.work.prune.run()

    def follow_settings(self) -> None:
        """Read the settings again when somebody asked for it, when their files changed, or, refused, now and then."""
        is_asked = self.hangup.is_set()
        self.hangup.clear()
        is_again = self._refused is not None and time.monotonic() - self._refused_at > RETRY_REFUSED_S
        if self.changes.look() or is_asked or is_again:
            self.reload()

    def reload(self) -> bool:
        """
        Put the settings file as it is now into force, or leave everything as it is and say what is wrong.

        A file or message at hand is finished with the settings and the model it was begun with.
        """
        self.notifier.reloading()
        try:
            work, leaving, changes = self.health.watch(RELOAD, self._work_again)
            strays = stray_messages(self.ledger, [receiver.id for receiver in work.checked.receivers])
        except (ConfigError, ModelError, LedgerError) as error:
            self._refuse(error)
        else:
            self.checkpoint("swapping")
            before, self.work = self.work, work
            self._leaving = leaving
            before.retired.set()
            self._refused = None
            self._took_over(changes)
            n_rules, n_endpoints = len(self.checked.rules.rules), len(self.endpoint_ids)
            _LOG.info(
                "settings in force: %s; %d rules, %d endpoints",
                self.model.reference,
                n_rules,
                n_endpoints,
                extra=event("settings_in_force", model=self.model.reference, rules=n_rules, endpoints=n_endpoints),
            )
            self._tell_strays(strays)
        self.monitor.reloaded(is_accepted=self._refused is None)
        self.notifier.ready()
        return self._refused is None

    def _tell_strays(self, strays: Mapping[str, int]) -> None:
        """Say what becomes of messages for endpoints that are not in the settings."""
        for endpoint_id in strays.keys() & self._leaving.keys():
            _LOG.warning(
                "%d messages wait for endpoint %r, which is no longer in the settings: they are still sent to where it"
                " was; `classifier endpoint disable %s` stops that",
                strays[endpoint_id],
                endpoint_id,
                endpoint_id,
                extra=event("endpoint_leaving", endpoint=endpoint_id, messages=strays[endpoint_id]),
            )
        warn_strays({name: count for name, count in strays.items() if name not in self._leaving})

    def _work_again(self) -> tuple[Work, Mapping[str, _Leaving], Changes]:
        """Return what the settings file, as it is now, comes to, the endpoints it leaves, and an eye on its files."""
        checked, model, changes = read_watched(self.checked.path, self.check, self.changes.paths)
        before = self.checked.settings
        problems = tuple(
            Problem(table, "cannot change while the daemon runs; restart it, or take the change back")
            for table in ("folder", "ledger", "monitor", "feedback")
            if getattr(checked.settings, table) != getattr(before, table)
        )
        if problems:
            raise ConfigError(str(checked.path), problems)
        model.warm_up()
        # What is at hand may still make messages for an endpoint that is taken out, so even one without any is kept.
        named = {receiver.id for receiver in checked.receivers}
        until = time.monotonic() + LEAVE_S
        left = {receiver.id: _Leaving(receiver, until) for receiver in self.checked.receivers}
        leaving = {name: item for name, item in {**self._leaving, **left}.items() if name not in named}
        return self.build(checked, model, [item.receiver for item in leaving.values()]), leaving, changes

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

    def _took_over(self, changes: Changes) -> None:
        self.changes = changes
        self.monitor.uses(self.model.name, self.model.id, self.endpoint_ids)
        self.health.keep([*self.jobs(), RELOAD])

    def check_up(self) -> None:
        """Tell systemd that we live, look for what is wrong, count what waits."""
        self.notifier.alive()
        come, gone = self._alarms.follow(self.health.reasons(), self.clock())
        for reason in sorted(come):
            _LOG.error("alarm: %s: %s", reason, MEANING[reason], extra=event("alarm_raised", reason=reason))
        for reason in sorted(gone):
            _LOG.info("over: %s", reason, extra=event("alarm_over", reason=reason))
        delivery, monitor = self.checked.settings.delivery, self.checked.settings.monitor
        for endpoint_id in (*delivery.ops_to, monitor.ping_to):
            if endpoint_id is not None:
                self._is_closed(endpoint_id)  # remembered for when the ledger cannot be asked
        self.monitor.queue(self.ledger.queues(self.clock()), self.endpoint_ids)
        self._compare_clocks()
        if self._heard_at is None or time.monotonic() - self._heard_at >= HEAR_EVERY_S:
            self.monitor.heard(self.ledger.opinions())
            self._heard_at = time.monotonic()

    def _compare_clocks(self) -> None:
        """See whether this machine's clock is still that of the others; until the ledger answers, nothing changes."""
        off_s = clock_off_s(self.ledger, self.clock, self.checked.settings.delivery.lease_s)
        if self.health.clock_compared(is_off=off_s is not None) and off_s is not None:
            facts = event("clock_off", seconds=round(off_s, 1))
            _LOG.error("this machine's clock is %+.0f s off the database's; set both by NTP", off_s, extra=facts)

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
        """
        Post what does not go through the outbox; not to an endpoint that is disabled, paused, or tried too often.

        A ledger that cannot be used is among what is told this way: then the last known state counts, and no rate.
        """
        if not self._may_post(message.endpoint_id):
            return False
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

    def _may_post(self, endpoint_id: str) -> bool:
        """Wait for an endpoint's turn; return whether it came, and say once when it does not."""
        why = "it is disabled, or asked for a pause" if self._is_closed(endpoint_id) else "it is tried too often"
        may = not self._is_closed(endpoint_id) and self._has_turn(endpoint_id)
        if may:
            self._untold.discard(endpoint_id)
        elif endpoint_id not in self._untold:
            self._untold.add(endpoint_id)
            facts = event("not_told", endpoint=endpoint_id, result="held", detail=why)
            _LOG.warning("%r is not told how we are: %s", endpoint_id, why, extra=facts)
        return may

    def _is_closed(self, endpoint_id: str) -> bool:
        with suppress(LedgerError):
            self._states[endpoint_id] = self.ledger.health(endpoint_id)
        return self._states.get(endpoint_id, EndpointHealth()).is_closed(self.clock())

    def _has_turn(self, endpoint_id: str) -> bool:
        rate = self.work.deliver.rates.get(endpoint_id)
        deadline = time.monotonic() + TURN_S
        while rate is not None and not self.stop.is_set():
            try:
                seconds = self.ledger.turn(endpoint_id, self.clock(), rate)
            except LedgerError:
                return True
            if not seconds:
                return True
            if time.monotonic() + seconds > deadline:
                return False
            self.stop.wait(seconds)
        return rate is None

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


def clock_off_s(ledger: SqlLedger, clock: Clock, lease_s: float) -> float | None:
    """
    Return by how many seconds a clock is ahead of the database's, or, below zero, behind it; None when it is neither.

    Leases, and what is due when, are told by the clocks of all. When none is off by more than a quarter of a lease, two
    differ by half of one: a try, which takes less than that, ends before the lease does by any of them.

    The least that it can be off is what counts: the answer may have taken long, and this process stood still meanwhile.
    """
    before, theirs, after = clock(), ledger.clock(), clock()
    if theirs is None:
        return None
    off_s = max(0.0, (before - theirs).total_seconds()) + min(0.0, (after - theirs).total_seconds())
    return off_s if abs(off_s) > min(MAX_CLOCK_OFF_S, lease_s / 4) else None


def read_watched(
    path: Path, check: Callable[[Path], tuple[CheckedSettings, Model]], expected: Iterable[Path] = ()
) -> tuple[CheckedSettings, Model, Changes]:
    """
    Read the settings and their model, with an eye on every file of theirs that was taken before the file was read.

    So a change that comes while they are read is told by the eye afterwards. Which files there are is known only when
    they have been read: when not all were *expected*, they are read a second time.

    Args:
        path: of the settings, absolute.
        check: reads a settings file and the model it names.
        expected: files that they are likely to be read from.

    Raises:
        ConfigError: from *check*.
        ModelError: from *check*.
    """
    changes = Changes({path, _manifest(None), *expected})
    checked, model = check(path)
    if not set(_files(checked)) <= set(changes.paths):
        # Should they name yet another file this time, they have changed since the first look, which this eye tells too.
        changes = changes.upon(_files(checked))
        checked, model = check(path)
    return checked, model, changes.upon(_files(checked))


def _files(checked: CheckedSettings) -> tuple[Path, ...]:
    """Return the files that settings and model were read from."""
    named = checked.settings.model.path
    return (*checked.files, _manifest(checked.path.parent / named if named else None))


def _manifest(folder: Path | None) -> Path:
    """Return the file of a model folder, or of the bundled one, that is written anew with every model put there."""
    return (folder or bundled("models", BUNDLED_MODEL)) / "manifest.json"


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
