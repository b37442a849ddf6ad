"""Feedback over HTTP: signed by the reference library, taken once, bounded, and silent towards everybody else."""

import datetime as dt
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeClock, FakeLedger, version_of
from messages import put, scored
from standardwebhooks import Webhook

from classifier import parse_secret
from classifier.adapters.ledger import SqlLedger
from classifier.adapters.listener import listening
from classifier.callback import MAX_BODY, RATE, FeedbackDesk
from classifier.delivery import SECRET_PREFIX, TOLERANCE_S
from classifier.errors import LedgerError
from classifier.exchange import Asked
from classifier.ports import Ledger

SECRET = SECRET_PREFIX + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="
LABELS = ("wind", "solar")


@dataclass
class Desk:
    """A desk behind a real server, with one article it can be told of."""

    ledger: Ledger
    clock: FakeClock
    port: int = 0
    alert: str = ""
    keys: list[bytes] = field(default_factory=lambda: [parse_secret(SECRET)])

    def post(
        self,
        record: object,
        *,
        number: str = "msg_feedback_1",
        at: dt.datetime | None = None,
        secret: str = SECRET,
        path: str = "/feedback",
        raw: bytes | None = None,
        **headers: str,
    ) -> tuple[int, Any]:
        """Sign and post as the reference library does; return status and JSON."""
        body = json.dumps(record).encode() if raw is None else raw
        # The library signs texts only; what is no text is signed as another one, and so refused.
        signature = Webhook(secret).sign(number, at or self.clock(), body.decode("utf-8", "replace"))
        sent = {
            "webhook-id": number,
            "webhook-timestamp": str(int((at or self.clock()).timestamp())),
            "webhook-signature": signature,
        }
        return self.send("POST", path, body, sent | {key.replace("_", "-"): value for key, value in headers.items()})

    def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        """Send anything."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())

    def said(self) -> list[tuple[str, str | None]]:
        """Return what the ledger holds."""
        return [(str(item.verdict), item.label) for judged in self.ledger.judged() for item in judged.judgements]


@pytest.fixture(params=["fake", "sqlite"])
def desk(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Desk]:
    """Serve one over each ledger."""
    ledger: Ledger = FakeLedger() if request.param == "fake" else SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    verdict = scored("one", "desk")
    put(ledger, version_of("a.txt", b"1"), verdict, clock())
    desk = Desk(ledger=ledger, clock=clock, alert=verdict.messages[0].id)
    served = FeedbackDesk(ledger=ledger, keys=lambda: desk.keys, labels=lambda: LABELS, clock=clock)
    with listening("feedback.port", "127.0.0.1", 0, served.answer, max_body=MAX_BODY) as port:
        desk.port = port
        yield desk
    if isinstance(ledger, SqlLedger):
        ledger.close()


def test_what_the_reference_library_signs_is_recorded(desk: Desk) -> None:
    """With who said it and how; the reply says what was understood."""
    right = desk.post({"alert": desk.alert, "verdict": "right", "by": "Liu", "note": "good\n\ud800"})
    missing = desk.post({"alert": "a.txt", "verdict": "missing", "labels": ["solar"]}, number="msg_feedback_2")
    first = desk.ledger.judged()[0].judgements[0]

    assert right == (200, {"status": "recorded", "recorded": [{"label": "wind", "verdict": "right"}]})
    assert missing[0] == 200
    assert desk.said() == [("right", "wind"), ("missing", "solar")]
    assert (first.alert_id, first.by, first.via, first.note) == (desk.alert, "Liu", "callback", "good \\ud800")
    assert first.at == desk.clock()


def test_a_replay_is_acknowledged_and_not_recorded(desk: Desk) -> None:
    """The same id again, with the same content or another."""
    desk.post({"alert": desk.alert, "verdict": "right"})

    assert desk.post({"alert": desk.alert, "verdict": "right"}) == (200, {"status": "recorded before"})
    assert desk.post({"alert": desk.alert, "verdict": "wrong"})[1] == {"status": "recorded before"}
    assert desk.said() == [("right", "wind")]


def test_who_does_not_sign_rightly_and_now_learns_nothing(desk: Desk) -> None:
    """Another key, another time, another body, no signature: one answer to all, and nothing is recorded."""
    record = {"alert": desk.alert, "verdict": "right"}
    other = SECRET_PREFIX + "AAAQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="
    ages = [desk.clock() + dt.timedelta(seconds=seconds) for seconds in (-TOLERANCE_S - 1, TOLERANCE_S + 1)]
    answers = [
        desk.post(record, secret=other),
        *(desk.post(record, at=at) for at in ages),
        desk.post(record, webhook_signature="v1,AAAA"),
        desk.post(record, webhook_id="msg_other"),
        desk.post(record, raw=b"\xff\xfe"),
        desk.send("POST", "/feedback", b"{}", {}),
    ]

    assert answers == [(401, {"error": "no recent signature of a known key"})] * 7
    assert desk.said() == []
    assert desk.post(record, at=desk.clock() - dt.timedelta(seconds=TOLERANCE_S))[0] == 200


def test_any_of_several_keys_may_sign(desk: Desk) -> None:
    """So that a secret can be changed; the list is looked at for every request."""
    desk.keys.insert(0, parse_secret(SECRET_PREFIX + "AAAQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="))
    assert desk.post({"alert": desk.alert, "verdict": "right"})[0] == 200
    desk.keys.pop()
    assert desk.post({"alert": desk.alert, "verdict": "right"}, number="msg_2")[0] == 401


@pytest.mark.parametrize(
    ("record", "status", "error"),
    [
        ({"verdict": "right"}, 400, "alert: needed, and not there"),
        ({"alert": "a.txt"}, 400, "verdict: needed, and not there"),
        ({"alert": "a.txt", "verdict": "rigth"}, 400, "verdict: one of right, wrong, missing needed, got 'rigth'"),
        ({"alert": "a.txt", "verdict": ["right"]}, 400, "verdict: a text needed"),
        ({"alert": 1, "verdict": "right"}, 400, "alert: a text needed"),
        ({"alert": "a.txt", "verdict": "right", "labels": "wind"}, 400, "labels: a list of labels needed"),
        ({"alert": "a.txt", "verdict": "right", "labels": [1]}, 400, "labels: a list of labels needed"),
        ({"alert": "a.txt", "verdict": "right", "label": []}, 400, "there is no key 'label'; did you mean 'labels'?"),
        ([], 400, "the body needs a JSON object"),
        ({"alert": "msg_00000000", "verdict": "right"}, 404, "no alert, article or file of this name"),
        ({"alert": "", "verdict": "right"}, 404, "no alert, article or file of this name"),
        ({"alert": "a.txt\0", "verdict": "right"}, 404, "no alert, article or file of this name"),
        ({"alert": "x" * 256, "verdict": "right"}, 404, "no alert, article or file of this name"),
        (
            {"alert": "a.txt", "verdict": "right", "labels": ["win"]},
            422,
            "there is no label 'win'; did you mean 'wind'",
        ),
        ({"alert": "a.txt", "verdict": "right", "labels": ["solar"]}, 422, "the model did not give 'solar'"),
        ({"alert": "a.txt", "verdict": "missing"}, 422, "which label is missing?"),
        ({"alert": "a.txt", "verdict": "right", "note": "x" * 1_001}, 422, "note has 1001 characters"),
    ],
)
def test_what_cannot_be_recorded_says_why(desk: Desk, record: object, status: int, error: str) -> None:
    """To who has signed it; the id is free for the next try."""
    found, reply = desk.post(record)

    assert (found, error in reply["error"]) == (status, True), reply
    assert desk.said() == []
    assert desk.post({"alert": desk.alert, "verdict": "right"})[0] == 200


@pytest.mark.parametrize("body", ["", "{", "[" * 8_000, "nul", '{"alert": NaN}'])
def test_a_body_that_is_no_json_is_refused(desk: Desk, body: str) -> None:
    """However deep."""
    status, reply = desk.post(None, raw=body.encode())

    assert status == 400
    assert set(reply) == {"error"}


def test_other_ids_paths_and_methods_are_refused(desk: Desk) -> None:
    """There is one thing to do here."""
    record = {"alert": desk.alert, "verdict": "right"}

    assert desk.post(record, number="a b")[0] == 400
    assert desk.post(record, number="x" * 65)[0] == 400
    assert desk.post(record, path="/feedback/")[0] == 404
    assert desk.send("GET", "/feedback", b"", {})[0] == 405
    assert desk.said() == []


def test_bodies_are_bounded_and_need_a_length(desk: Desk) -> None:
    """A larger one is not read; one that comes in chunks, or never ends, neither."""
    whole = desk.post({"alert": "a.txt", "verdict": "right", "note": "x" * (MAX_BODY - 100)})
    large = desk.post({"note": "x" * MAX_BODY})
    absurd = desk.send("POST", "/feedback", b"", {"content-length": "9" * 30})
    chunked = desk.send("POST", "/feedback", b"", {"content-length": "2", "transfer-encoding": "chunked"})
    strange = desk.send("POST", "/feedback", b"", {"content-length": "\u00b2"})

    assert whole[0] == 422
    assert (large, absurd) == ((413, {"error": f"at most {MAX_BODY} bytes are read"}),) * 2
    assert (chunked, strange) == ((411, {"error": "a content-length is needed"}),) * 2
    with socket.create_connection(("127.0.0.1", desk.port), timeout=10) as connection:
        connection.sendall(b"POST /feedback HTTP/1.0\r\ncontent-length: 5\r\n\r\n{}")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert desk.said() == []


def test_requests_are_rate_limited_signed_or_not(desk: Desk) -> None:
    """Before anything is looked at; a moment later there is room again."""
    answers = [desk.send("POST", "/feedback", b"{}", {})[0] for _ in range(RATE.burst)]
    assert answers == [401] * RATE.burst
    status, reply = desk.post({"alert": desk.alert, "verdict": "right"})
    assert (status, reply) == (429, {"error": "too many"})
    desk.clock.advance(1)

    assert desk.post({"alert": desk.alert, "verdict": "right"})[0] == 200


class _Broken(FakeLedger):
    """Cannot be used, or fails."""

    error: Exception = LedgerError("sqlite:////srv/secret.db", "disk I/O error")

    def subjects(self, reference: str) -> Any:
        """Raise."""
        raise self.error


def test_trouble_of_ours_is_no_traceback_for_others(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A ledger that cannot be used now is asked again later; a fault is logged here and nowhere else."""
    ledger = _Broken()
    desk = Desk(ledger=ledger, clock=clock)
    served = FeedbackDesk(ledger=ledger, keys=lambda: desk.keys, labels=lambda: LABELS, clock=clock)
    with listening("feedback.port", "127.0.0.1", 0, served.answer, max_body=MAX_BODY) as desk.port:
        busy = desk.post({"alert": "a.txt", "verdict": "right"})
        ledger.error = ZeroDivisionError("secret")
        failed = desk.post({"alert": "a.txt", "verdict": "right"})

    assert busy == (503, {"error": "the ledger cannot be used now"})
    assert failed == (500, {"error": "this program failed on it"})
    assert "ZeroDivisionError" in caplog.text


def test_the_desk_needs_no_server() -> None:
    """It is a function of a request."""
    clock = FakeClock(dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    desk = FeedbackDesk(ledger=FakeLedger(), keys=tuple, labels=tuple, clock=clock)

    assert desk.answer(Asked(method="POST", path="/feedback")).status == 401
