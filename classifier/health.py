"""
Whether the daemon does its work, and if not, why: the reasons behind ``/healthz`` and the alarms.

Keeps: a reason stands from the moment something fails until the same thing succeeds; what merely hangs is noticed by
the time since its last step, on a clock that never jumps. Reasons are fixed words: nothing of a file, a setting or an
address can get into them. Whether somebody else's receiver answers is no matter of our health.
"""

import datetime as dt
import hashlib
import json
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from classifier.alerts import MessageId
from classifier.delivery import Message
from classifier.errors import ArticleError, ConfigError, LedgerError, ModelError, QueueFullError
from classifier.payloads import timestamp

T = TypeVar("T")
TELL_AGAIN_S = 30.0  # between two messages about our health to the same receiver


class Reason(StrEnum):
    """What keeps the daemon from its work."""

    SETTINGS_REFUSED = "settings_refused"
    MODEL_ERROR = "model_error"
    LEDGER_ERROR = "ledger_error"
    CLOCK_OFF = "clock_off"
    FOLDER_ERROR = "folder_error"
    QUEUE_FULL = "queue_full"
    JOB_FAILED = "job_failed"
    SCAN_OVERDUE = "scan_overdue"
    NO_NEW_FILES = "no_new_files"


MEANING = {
    Reason.SETTINGS_REFUSED: "the settings file has faults; those read before are in force",
    Reason.MODEL_ERROR: "the model cannot be loaded; the one loaded before is in use",
    Reason.LEDGER_ERROR: "the ledger cannot be used now",
    Reason.CLOCK_OFF: "this machine's clock is too far off the database's; set both by NTP",
    Reason.FOLDER_ERROR: "the watched folder cannot be read now",
    Reason.QUEUE_FULL: "so many messages wait that no new file is read",
    Reason.JOB_FAILED: "a job fails",
    Reason.SCAN_OVERDUE: "the folder was not looked at for too long",
    Reason.NO_NEW_FILES: "no new file came for longer than the settings allow",
}
_REASON_OF: tuple[tuple[type[BaseException], Reason], ...] = (
    (ConfigError, Reason.SETTINGS_REFUSED),
    (ModelError, Reason.MODEL_ERROR),
    (LedgerError, Reason.LEDGER_ERROR),
    (QueueFullError, Reason.QUEUE_FULL),
    (ArticleError, Reason.FOLDER_ERROR),  # that of one file never leaves the scan
    (BaseException, Reason.JOB_FAILED),
)


class Health:
    """
    What is wrong now.

    Args:
        monotonic: seconds of a clock that never jumps.
        scan_within_s: seconds without a step of a scan after which it is overdue.
        fresh_within_s: seconds without a new file after which that is a reason; None for never.
        idle_s: seconds since the last new file, before this object was made.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        scan_within_s: float,
        fresh_within_s: float | None = None,
        idle_s: float = 0.0,
    ) -> None:
        self._monotonic = monotonic
        self._scan_within_s = scan_within_s
        self._fresh_within_s = fresh_within_s
        self._lock = threading.Lock()
        self._faults: dict[str, Reason] = {}
        self._is_clock_off = False
        self._scanned_at = monotonic()
        self._file_at = monotonic() - max(0.0, idle_s)

    def watch(self, job: str, run: Callable[[], T]) -> T:
        """Call *run*; what it raises is the reason given for *job* until it is called again and raises nothing."""
        try:
            result = run()
        except BaseException as error:
            reason = next(reason for kind, reason in _REASON_OF if isinstance(error, kind))
            with self._lock:
                self._faults[job] = reason
            raise
        with self._lock:
            self._faults.pop(job, None)
        return result

    def keep(self, jobs: Collection[str]) -> None:
        """Forget what was wrong with all jobs but *jobs*: the others are gone."""
        with self._lock:
            self._faults = {job: reason for job, reason in self._faults.items() if job in jobs}

    def scan_went_on(self) -> None:
        """Take note of a step of a scan: a file done, or its end."""
        self._scanned_at = self._monotonic()

    def file_came(self) -> None:
        """Take note of a new file."""
        self._file_at = self._monotonic()

    def clock_compared(self, *, is_off: bool) -> bool:
        """Take note of whether the clock is that of the others; say whether that is news."""
        is_news = is_off is not self._is_clock_off
        self._is_clock_off = is_off
        return is_news

    @property
    def scan_age_s(self) -> float:
        """Seconds since the last step of a scan."""
        return self._monotonic() - self._scanned_at

    @property
    def file_age_s(self) -> float:
        """Seconds since the last new file."""
        return self._monotonic() - self._file_at

    def reasons(self) -> tuple[Reason, ...]:
        """Return what is wrong now, in the order of `Reason`; nothing when all is well."""
        with self._lock:
            found = set(self._faults.values())
        if self._is_clock_off:
            found.add(Reason.CLOCK_OFF)
        if self.scan_age_s > self._scan_within_s:
            found.add(Reason.SCAN_OVERDUE)
        if self._fresh_within_s is not None and self.file_age_s > self._fresh_within_s:
            found.add(Reason.NO_NEW_FILES)
        return tuple(reason for reason in Reason if reason in found)


class Alarms:
    """
    Who was told what of our health.

    Each receiver is told the state as it is, again until it has taken it: what changes and changes back in between is
    not told, and what is wrong is told once. Nothing is kept over a restart, for what is wrong then shows by itself.
    These messages do not go through the ledger, because a broken ledger is among what they tell.
    """

    def __init__(self) -> None:
        self._state: tuple[tuple[Reason, ...], dt.datetime | None] = ((), None)
        self._told: dict[str, tuple[Reason, ...]] = {}
        self._not_before: dict[str, float] = {}

    def follow(self, reasons: tuple[Reason, ...], now: dt.datetime) -> tuple[set[Reason], set[Reason]]:
        """Take note of what is wrong now; return what has come and what has gone since the last time."""
        before = self._state[0]
        if reasons != before:
            self._state = reasons, now
        return set(reasons) - set(before), set(before) - set(reasons)

    def due(self, endpoint_ids: Iterable[str], monotonic_s: float) -> list[Message]:
        """Return a message for each of *endpoint_ids* that was told something else, but has not just been told."""
        reasons, since = self._state
        return [
            _alarm(endpoint_id, reasons, since)
            for endpoint_id in endpoint_ids
            if since is not None
            and self._told.get(endpoint_id, ()) != reasons
            and monotonic_s >= self._not_before.get(endpoint_id, monotonic_s)
        ]

    def settle(self, message: Message, monotonic_s: float, *, is_delivered: bool) -> None:
        """Take note of what came of telling one of them."""
        self._not_before[message.endpoint_id] = monotonic_s + TELL_AGAIN_S
        if is_delivered:
            self._told[message.endpoint_id] = tuple(map(Reason, json.loads(message.body)["data"]["reasons"]))


def alive_message(endpoint_id: str, number: str, model: str, now: dt.datetime) -> Message:
    """Return what a dead man's switch gets; *number* makes it another message than the last one."""
    return _message(endpoint_id, f"alive {number}", "daemon.alive", now, {"model": model})


def _alarm(endpoint_id: str, reasons: tuple[Reason, ...], since: dt.datetime) -> Message:
    data = {
        "status": "failing" if reasons else "ok",
        "reasons": list(reasons),
        "text": "; ".join(MEANING[reason] for reason in reasons) or "all is well again",
    }
    return _message(endpoint_id, f"alarm {' '.join(reasons)} {since.isoformat()}", "daemon.health", since, data)


def _message(endpoint_id: str, key: str, kind: str, now: dt.datetime, data: Mapping[str, object]) -> Message:
    digest = hashlib.sha256(f"{endpoint_id}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()
    body = json.dumps({"type": kind, "timestamp": timestamp(now), "data": data}).encode()
    return Message(id=MessageId(f"msg_{digest[:32]}"), endpoint_id=endpoint_id, rule_id=None, body=body)
