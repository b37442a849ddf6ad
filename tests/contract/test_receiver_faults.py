"""
Receivers under every fault: each ends as an `Outcome`, within the deadline, with flat memory.

The names begin with the row of the fault matrix they prove.
"""

import datetime as dt
import ipaddress
import json
import os
import socket
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import faults
import pytest
import trustme
from faults import CHUNK, CHUNKED, GZIPPED, Behaviour, FaultReceiver, answering, drip, endless, head
from receiver import Receiver
from standardwebhooks import Webhook

from classifier import parse_secret
from classifier.adapters.webhook import Endpoint, HttpSender
from classifier.addresses import AllowedRange
from classifier.alerts import MessageId
from classifier.delivery import Message, Outcome, Result

KEY = bytes(range(32))
LOOPBACK = ipaddress.ip_network("127.0.0.1/32")
MESSAGE = Message(id=MessageId("msg_1"), endpoint_id="desk", rule_id="r", body=b'{"type":"article.matched"}')
BIG = Message(id=MessageId("msg_2"), endpoint_id="desk", rule_id="r", body=b'"' + b"x" * 8_000_000 + b'"')
DEADLINE_S = 1.0
LATE_S = 10.0  # a loaded machine may be late; without a deadline these receivers hold a sender for 30 s


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)  # noqa: TID251 - the verifying library reads the real one


def _sender(
    url: str, port: int, *, total_s: float = DEADLINE_S, ca_file: Path | None = None, key: bytes = KEY
) -> HttpSender:
    endpoint = Endpoint(id="desk", url=url, keys=(key,), allow=(AllowedRange(LOOPBACK, port),), ca_file=ca_file)
    return HttpSender(
        [endpoint],
        clock=_now,
        total_timeout_s=total_s,
        connect_timeout_s=total_s,
        resolve=lambda _host, _port: ["127.0.0.1"],
    )


def _try(behave: Behaviour, message: Message = MESSAGE, *, total_s: float = DEADLINE_S) -> tuple[Outcome, float]:
    with FaultReceiver(behave) as receiver:
        sender = _sender(receiver.url, receiver.port, total_s=total_s)
        started = time.monotonic()
        outcome = sender.send(message, 1)
        return outcome, time.monotonic() - started


# -- W1 to W5: answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_w1_every_2xx_is_delivered(receiver: Receiver, status: int) -> None:
    """No other answer is."""
    receiver.answers = [(status, {}, b"")]
    outcome = _sender(receiver.url, receiver.port).send(MESSAGE, 1)

    assert (outcome.result, outcome.status) == (Result.DELIVERED, status)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_w2_redirects_are_a_failure_and_not_followed(receiver: Receiver, status: int) -> None:
    """They could lead anywhere, with the alert and its signature in hand."""
    with Receiver() as elsewhere:
        receiver.answers = [(status, {"location": elsewhere.url}, b"")]
        outcome = _sender(receiver.url, receiver.port).send(MESSAGE, 1)

    assert (outcome.result, outcome.status, outcome.is_likely_config) == (Result.REDIRECTED, status, True)
    assert (len(receiver.requests), len(elsewhere.requests)) == (1, 0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422])
def test_w3_refusals_that_settings_cause_are_flagged(receiver: Receiver, status: int) -> None:
    """Trying again will not help before somebody changes something; it is a value, and one line says so."""
    receiver.answers = [(status, {}, b"no")]
    outcome = _sender(receiver.url, receiver.port).send(MESSAGE, 1)

    assert (outcome.result, outcome.status, outcome.is_likely_config) == (Result.REFUSED, status, True)


@pytest.mark.parametrize("status", [408, 410, 429, 500, 502, 503, 504, 599])
def test_w3_other_refusals_are_not_flagged(receiver: Receiver, status: int) -> None:
    """These pass, or say something else."""
    receiver.answers = [(status, {}, b"no")]
    outcome = _sender(receiver.url, receiver.port).send(MESSAGE, 1)

    assert (outcome.result, outcome.status, outcome.is_likely_config) == (Result.REFUSED, status, False)


@pytest.mark.parametrize(
    ("values", "wait_s"),
    [
        pytest.param(["120"], 120, id="seconds"),
        pytest.param([" 7 "], 7, id="blanks"),
        pytest.param(["Fri, 02 Jan 2015 03:05:05 GMT"], 0, id="past-date"),
        pytest.param(["Fri, 02 Jan 2915 03:05:05 GMT"], 10**7, id="far-date"),
        pytest.param(["-1"], None, id="negative"),
        pytest.param(["1e9"], None, id="exponent"),
        pytest.param(["9" * 30], 10**7, id="huge"),
        pytest.param(["soon"], None, id="nonsense"),
        pytest.param([""], None, id="empty"),
        pytest.param(["1.5"], None, id="fraction"),
        pytest.param(["0x10"], None, id="hexadecimal"),
        pytest.param(["\xb2"], None, id="not-ascii"),
        pytest.param(["5", "120"], 120, id="two-headers"),
        pytest.param(["soon", "120", "-1"], 120, id="one-good-among-many"),
        pytest.param(["120"] * 90, 120, id="ninety-headers"),
        pytest.param(["5, 120"], None, id="a-list"),
    ],
)
@pytest.mark.parametrize("status", ["429 Slow Down", "503 Busy"])
def test_w5_every_form_of_retry_after(status: str, values: list[str], wait_s: float | None) -> None:
    """The longest of the readable ones counts; the others are as if they were not there."""
    lines = [*(f"retry-after: {value}" for value in values), "content-length: 0"]
    reply = "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")
    outcome, _ = _try(answering(reply), total_s=5)

    assert (outcome.result, outcome.status) == (Result.REFUSED, int(status[:3]))
    assert outcome.retry_after == (None if wait_s is None else dt.timedelta(seconds=wait_s))


def test_w5_retry_after_as_a_date_to_come() -> None:
    """Counted from our clock."""
    date = (_now() + dt.timedelta(hours=2)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    outcome, _ = _try(answering(head("429 Slow Down", f"retry-after: {date}", "content-length: 0")), total_s=5)

    assert outcome.retry_after is not None
    assert dt.timedelta(minutes=119) < outcome.retry_after <= dt.timedelta(hours=2)


def test_w5_retry_after_counts_although_the_reply_breaks_off() -> None:
    """The head has said what there is to know."""
    outcome, _ = _try(answering(head("429 Slow", "retry-after: 3600", "content-length: 1000") + b"abc"))

    assert (outcome.status, outcome.retry_after) == (429, dt.timedelta(hours=1))


# -- W6 to W8: faults ------------------------------------------------------------------------------------------------

_BROKEN = {Result.BROKEN_REPLY}
_FAULTS: dict[str, tuple[Behaviour, set[Result]]] = {
    "reset-before-reading": (faults.reset_before_reading, _BROKEN | {Result.UNREACHABLE}),  # or while connecting
    "reset-after-the-body": (faults.reset_after_the_body, _BROKEN),
    "reset-within-the-head": (faults.reset_within_the_head, _BROKEN),
    "closes-before-reading": (faults.close_before_reading, _BROKEN),
    "empty-reply": (answering(), _BROKEN),
    "http-0.9": (answering(b"<html>hello</html>\n"), _BROKEN),
    "other-protocol": (answering(b"220 mail.example ESMTP\r\n"), _BROKEN),
    "control-characters": (answering(b"HTTP/1.1 200 OK\r\n\x00\x1b[31m: x\r\n\r\n"), _BROKEN),
    "half-a-head": (answering(b"HTTP/1.1 204 No Content\r\nx: y"), _BROKEN),
    "two-lengths": (answering(head("500 No", "content-length: 1", "content-length: 2")), _BROKEN | {Result.REFUSED}),
    "one-long-header": (endless(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 65_536), _BROKEN),
    "two-megabytes-of-headers": (
        endless(b"HTTP/1.1 200 OK\r\n", b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 2_048),
        _BROKEN,
    ),
    "endless-status-line": (endless(b"HTTP/1.1 200 ", b"O" * 65_536), _BROKEN),
    "never-answers": (faults.never_answer, {Result.TIMEOUT}),
    "drips-the-head": (drip(b"HTTP/1.1 204 No Content\r\n\r\n"), {Result.TIMEOUT}),
    "drips-headers": (drip(b"x: y\r\n" * 5, first=b"HTTP/1.1 500 No\r\n"), {Result.TIMEOUT}),
    "endless-100-continue": (endless(b"", head("100 Continue") * 64), {Result.TIMEOUT} | _BROKEN),
    # The status is known, and nothing more is waited for or read:
    "drips-the-body": (drip(b"z" * 30, first=head("500 No", "content-length: 1000")), {Result.REFUSED}),
    "endless-chunks": (endless(head("500 No", *CHUNKED), CHUNK), {Result.REFUSED}),
    "endless-chunks-after-success": (endless(head("200 OK", *CHUNKED), CHUNK), {Result.DELIVERED}),
    "endless-body-of-no-length": (endless(head("500 No"), CHUNK), {Result.REFUSED}),
    "gzip-bomb": (answering(head("500 No", *GZIPPED), faults.BOMB), {Result.REFUSED}),
    "gzip-bomb-after-success": (answering(head("200 OK", *GZIPPED), faults.BOMB), {Result.DELIVERED}),
    "gzip-that-is-none": (
        answering(head("200 OK", "content-encoding: gzip", "content-length: 4"), b"nope"),
        {Result.DELIVERED},
    ),
}


_SLOW = [name for name in _FAULTS if "drips" in name or "never" in name or "100-continue" in name or "chunks" in name]
_BOMBS = [name for name in _FAULTS if "gzip" in name]


def _assert_is_outcome_in_time(name: str) -> None:
    behave, results = _FAULTS[name]
    outcome, took_s = _try(behave)

    assert outcome.result in results
    assert took_s < LATE_S


@pytest.mark.parametrize("name", [name for name in _FAULTS if name not in {*_SLOW, *_BOMBS}])
def test_w6_connections_that_break_and_replies_that_are_none_are_outcomes(name: str) -> None:
    """Nothing raises."""
    _assert_is_outcome_in_time(name)


@pytest.mark.parametrize("name", _SLOW)
def test_w7_no_receiver_holds_a_try_beyond_its_deadline(name: str) -> None:
    """However it keeps the connection alive."""
    _assert_is_outcome_in_time(name)


@pytest.mark.parametrize("name", _BOMBS)
def test_w8_the_body_of_a_reply_is_not_unpacked(name: str) -> None:
    """It is not even read."""
    _assert_is_outcome_in_time(name)


@pytest.mark.parametrize("behave", [faults.never_read, faults.read_slowly], ids=["never-reads", "reads-slowly"])
def test_w7_a_receiver_that_does_not_take_the_request_is_cut_off(behave: Behaviour) -> None:
    """Writing is under the deadline too, also when a little of it goes through all the time."""
    outcome, took_s = _try(behave, BIG)

    assert outcome.result is Result.TIMEOUT
    assert took_s < LATE_S


def test_w7_a_connection_that_is_never_accepted_is_cut_off() -> None:
    """As behind a firewall that drops packets: here a listener whose queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(20):  # until the queue is full
            client = socket.socket()
            client.settimeout(0)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        started = time.monotonic()
        outcome = _sender(f"http://127.0.0.1:{port}/", port).send(MESSAGE, 1)
        took_s = time.monotonic() - started
        for client in waiting:
            client.close()

    assert outcome.result is Result.TIMEOUT
    assert took_s < LATE_S


def test_w8_memory_stays_flat_whatever_comes() -> None:
    """All faults one after the other, headers and bombs included, never take more than a little memory."""
    floods = [name for name in _FAULTS if any(word in name for word in ("bomb", "endless", "header", "reset"))]
    _try(answering(head("204 No Content")))  # what is imported and cached at first use
    tracemalloc.start()
    try:
        for name in floods:
            _try(_FAULTS[name][0], total_s=0.5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(floods) >= 10
    assert peak < 8 * 2**20  # one bomb alone is 64 MiB; the server's own buffers are in this too


def test_w6_a_name_that_does_not_resolve_is_unresolved() -> None:
    """NXDOMAIN and SERVFAIL come as errors of the resolver, or as no answer."""

    def failing(number: int) -> Callable[[str, int], list[str]]:
        def resolve(host: str, port: int) -> list[str]:
            raise socket.gaierror(number, os.strerror(1))

        return resolve

    resolvers: list[Callable[[str, int], list[str]]] = [
        failing(socket.EAI_NONAME),
        failing(socket.EAI_AGAIN),
        lambda _host, _port: [],
    ]
    for resolve in resolvers:
        endpoint = Endpoint(id="desk", url="https://nowhere.example/", keys=(KEY,))
        sender = HttpSender([endpoint], clock=_now, total_timeout_s=1, connect_timeout_s=1, resolve=resolve)
        assert sender.send(MESSAGE, 1).result is Result.UNRESOLVED


def test_w6_nobody_listening_is_unreachable() -> None:
    """The port is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert _sender(f"http://127.0.0.1:{port}/", port).send(MESSAGE, 1).result is Result.UNREACHABLE


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return an authority nobody but these tests knows."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """Return its certificate in a file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def test_w6_tls_with_a_certificate_of_the_named_authority_is_delivered(authority: trustme.CA, ca_file: Path) -> None:
    """The name checked, and sent ahead of the handshake, is that of the URL, not the address connected to."""
    asked: list[str | None] = []
    with faults.tls_receiver(authority, "hook.example") as receiver:
        assert receiver._tls is not None
        receiver._tls.sni_callback = lambda _socket, name, _context: asked.append(name)
        url = f"https://hook.example:{receiver.port}/"
        outcome = _sender(url, receiver.port, ca_file=ca_file, total_s=5).send(MESSAGE, 1)

        assert outcome.result is Result.DELIVERED
        assert asked == ["hook.example"]
        assert f"Host: hook.example:{receiver.port}".lower().encode() in receiver.requests[0].lower()


@pytest.mark.parametrize("fault", ["unknown-authority", "expired", "wrong-host", "old-protocol"])
def test_w6_tls_that_cannot_be_trusted_sends_nothing(authority: trustme.CA, ca_file: Path, fault: str) -> None:
    """And it is never given up for a try without it."""
    names = ("other.example",) if fault == "wrong-host" else ("hook.example",)
    version = faults.OLD_TLS if fault == "old-protocol" else None
    with faults.tls_receiver(authority, *names, expired=fault == "expired", version=version) as receiver:
        url = f"https://hook.example:{receiver.port}/"
        trusted = None if fault == "unknown-authority" else ca_file
        outcome = _sender(url, receiver.port, ca_file=trusted, total_s=5).send(MESSAGE, 1)

        assert (outcome.result, outcome.is_likely_config) == (Result.TLS_FAILED, True)
        assert (receiver.requests, receiver.connections) == ([], 1)


def test_w6_plain_http_on_an_https_address_sends_nothing(receiver: Receiver) -> None:
    """TLS is never given up for a try without it."""
    outcome = _sender(f"https://127.0.0.1:{receiver.port}/", receiver.port).send(MESSAGE, 1)

    assert outcome.result is Result.TLS_FAILED
    assert receiver.requests == []


def test_w7_a_tls_handshake_that_drips_is_cut_off() -> None:
    """The handshake is under the deadline as everything else."""
    with FaultReceiver(faults.drip_before_reading) as receiver:
        started = time.monotonic()
        outcome = _sender(f"https://127.0.0.1:{receiver.port}/", receiver.port).send(MESSAGE, 1)
        took_s = time.monotonic() - started

    assert outcome.result is Result.TIMEOUT
    assert took_s < LATE_S


# -- W9, W14: what is sent -------------------------------------------------------------------------------------------


def test_w9_a_retry_has_the_same_id_and_body_and_a_signature_of_its_own() -> None:
    """The receiver took the first try and never said so; the second is recognised and verifies."""
    secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    calls = []

    def behave(receiver: FaultReceiver, connection: socket.socket) -> None:
        receiver.read_request(connection)
        calls.append(connection)
        if len(calls) == 1:
            receiver.stop.wait(faults.MAX_S)
        else:
            connection.sendall(head("204 No Content"))

    with FaultReceiver(behave) as receiver:
        times = iter([_now() - dt.timedelta(seconds=60), _now()])
        endpoint = Endpoint(id="desk", url=receiver.url, keys=(KEY,), allow=(AllowedRange(LOOPBACK, receiver.port),))
        sender = HttpSender([endpoint], clock=lambda: next(times), total_timeout_s=1, connect_timeout_s=1)
        results = [sender.send(MESSAGE, attempt).result for attempt in (1, 2)]
        first, second = (_parse(request) for request in receiver.requests)

    assert results == [Result.TIMEOUT, Result.DELIVERED]
    assert first[1] == second[1] == MESSAGE.body
    assert first[0]["webhook-id"] == second[0]["webhook-id"] == "msg_1"
    assert (first[0]["webhook-attempt"], second[0]["webhook-attempt"]) == ("1", "2")
    assert first[0]["webhook-timestamp"] != second[0]["webhook-timestamp"]
    assert first[0]["webhook-signature"] != second[0]["webhook-signature"]
    for headers, body in (first, second):
        assert Webhook(secret).verify(body, headers) == {"type": "article.matched"}


def _parse(request: bytes) -> tuple[dict[str, str], bytes]:
    top, _, body = request.partition(b"\r\n\r\n")
    pairs = (line.decode().split(": ", 1) for line in top.split(b"\r\n")[1:])
    return {name.lower(): value for name, value in pairs}, body


def test_w14_the_bytes_signed_are_the_bytes_sent(receiver: Receiver) -> None:
    """Also when they are not ASCII, hold a line separator, or are long."""
    text = "caf\u00e9 \u65b0\u80fd\u6e90 \U0001f50b \u2028 " * 2_000
    body = json.dumps({"text": text}, ensure_ascii=False).encode()
    message = Message(id=MessageId("msg_3"), endpoint_id="desk", rule_id="r", body=body)
    sender = _sender(receiver.url, receiver.port, total_s=10, key=parse_secret(receiver.secret))

    assert sender.send(message, 1).result is Result.DELIVERED
    assert receiver.requests[0].body == body
    assert receiver.verified() == [{"text": text}]


def test_nothing_of_a_refusal_is_kept_but_its_status(receiver: Receiver) -> None:
    """Many servers repeat the address in their error pages, and the address is a secret."""
    receiver.answers = [(404, {"x": "/hook/s3cret"}, b"Cannot POST /hook/s3cret\x1b[31m" + b"x" * 5000)]
    outcome = _sender(receiver.url + "/s3cret", receiver.port).send(MESSAGE, 1)

    assert (outcome.result, outcome.status, outcome.detail) == (Result.REFUSED, 404, "HTTP 404")
