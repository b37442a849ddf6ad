"""
Feedback over HTTP: a signed POST becomes rows in the ledger.

    Asked --signature, rate--> JSON --Ledger.subjects, choose, judge--> Ledger.judge --> Reply

Keeps: who does not sign, or signed long ago, learns nothing and changes nothing. The same ``webhook-id`` is recorded
once, however often it comes. Nothing of a request gets into the ledger but an alert that is there, labels that are
known, and bounded words.
"""

import datetime as dt
import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from classifier.delivery import Rate, verify
from classifier.errors import FeedbackError, LedgerError, did_you_mean
from classifier.exchange import Asked, Reply, json_reply
from classifier.feedback import Judgement, Verdict, choose, judge
from classifier.logs import event
from classifier.ports import Clock, Ledger

_LOG = logging.getLogger("classifier")
PATH = "/feedback"
MAX_BODY = 16_384  # bytes
RATE = Rate(per_s=5.0, burst=20)  # of requests, signed or not
_SUBMISSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_REFERENCE = 255
_KEYS = {"alert": str, "verdict": str, "labels": list, "note": str, "by": str}
_STATUS = {"body": HTTPStatus.BAD_REQUEST, "unknown": HTTPStatus.NOT_FOUND, "ambiguous": HTTPStatus.CONFLICT}


@dataclass(slots=True, kw_only=True)
class FeedbackDesk:
    """
    Answers requests that bring feedback.

    Attributes:
        keys: gives the keys that a signature may be made with, as they are now.
        labels: gives the labels that can be spoken of, as they are now.
    """

    ledger: Ledger
    keys: Callable[[], Sequence[bytes]]
    labels: Callable[[], Sequence[str]]
    clock: Clock
    _used_until: dt.datetime | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked) -> Reply:
        """Record what a request says, if it may be."""
        return self._refusal(asked) or self._record(asked)

    def _refusal(self, asked: Asked) -> Reply | None:
        """Return why a request is not looked into; None when it is."""
        if asked.path != PATH:
            return _refuse(HTTPStatus.NOT_FOUND, f"feedback is taken at {PATH}")
        if asked.method != "POST":
            return json_reply(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "POST needed"}, allow="POST")
        if wait_s := self._wait_s():
            return json_reply(HTTPStatus.TOO_MANY_REQUESTS, {"error": "too many"}, retry_after=str(int(wait_s) + 1))
        now = self.clock()
        if not any(verify(key, asked.header, asked.body, now) for key in self.keys()):
            return _refuse(HTTPStatus.UNAUTHORIZED, "no recent signature of a known key")
        if not _SUBMISSION.fullmatch(asked.header("webhook-id") or ""):
            return _refuse(HTTPStatus.BAD_REQUEST, "webhook-id: 1 to 64 letters, digits, '_' and '-' needed")
        return None

    def _record(self, asked: Asked) -> Reply:
        number = asked.header("webhook-id") or ""
        try:
            said = self._read(asked.body)
            is_new = self.ledger.judge(number, said)
        except (_FaultError, FeedbackError) as error:
            reason = error.reason if isinstance(error, FeedbackError) else "body"
            return _refuse(_STATUS.get(reason, HTTPStatus.UNPROCESSABLE_ENTITY), str(error))
        except LedgerError:
            busy = {"error": "the ledger cannot be used now"}
            return json_reply(HTTPStatus.SERVICE_UNAVAILABLE, busy, retry_after="5")
        if not is_new:
            return json_reply(HTTPStatus.OK, {"status": "recorded before"})
        verdict = str(said[0].verdict)
        facts = event("feedback", submission=number, verdict=verdict, article=said[0].article_id)
        _LOG.info("feedback: %s, %d labels", verdict, len(said), extra=facts)
        recorded = [{"label": item.label, "verdict": str(item.verdict)} for item in said]
        return json_reply(HTTPStatus.OK, {"status": "recorded", "recorded": recorded})

    def _wait_s(self) -> float:
        """Return 0 and count a request, or the seconds until one more is let in."""
        with self._lock:
            now = self.clock()
            wait_s = RATE.wait_s(self._used_until, now)
            if not wait_s:
                self._used_until = RATE.count(self._used_until, now)
        return wait_s

    def _read(self, body: bytes) -> tuple[Judgement, ...]:
        given = _parse(body)
        if given["verdict"] not in list(Verdict):
            names = ", ".join(Verdict)
            raise _FaultError(f"verdict: one of {names} needed, got {given['verdict']!r:.60}")
        reference = given["alert"]
        is_name = 0 < len(reference) <= _MAX_REFERENCE and reference.isprintable()
        subject = choose(reference[:_MAX_REFERENCE], self.ledger.subjects(reference) if is_name else ())
        return judge(
            subject,
            Verdict(given["verdict"]),
            given["labels"],
            self.labels(),
            by=given["by"],
            via="callback",
            note=given["note"],
            now=self.clock(),
        )


class _FaultError(Exception):
    """What is wrong with a body."""


def _parse(body: bytes) -> dict[str, Any]:
    """Return every key of `_KEYS`, of the right kind."""
    try:
        record = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _FaultError("the body is no JSON") from error
    if not isinstance(record, dict):
        raise _FaultError("the body needs a JSON object")
    given: dict[str, Any] = {"labels": [], "note": "", "by": ""} | record
    for key, value in given.items():
        if key not in _KEYS:
            raise _FaultError(f"there is no key {key!r:.60}{did_you_mean(key, list(_KEYS))}")
        if not isinstance(value, _KEYS[key]):
            raise _FaultError(f"{key}: a {'list of labels' if key == 'labels' else 'text'} needed")
    for key in ("alert", "verdict"):
        if key not in given:
            raise _FaultError(f"{key}: needed, and not there")
    if not all(isinstance(label, str) for label in given["labels"]):
        raise _FaultError("labels: a list of labels needed")
    return given


def _refuse(status: HTTPStatus, why: str) -> Reply:
    return json_reply(status, {"error": why})
