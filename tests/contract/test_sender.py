"""Posting over real sockets: what each answer, and each kind of silence, comes to."""

import base64
import contextlib
import datetime as dt
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receiver import Receiver

from classifier import parse_secret
from classifier.adapters.webhook import AllowedRange, Endpoint, HttpSender, is_public, parse_retry_after
from classifier.alerts import MessageId
from classifier.delivery import Message, Result

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
KEY = bytes(range(32))
LOOPBACK = ipaddress.ip_network("127.0.0.1/32")
BODY = b'{"type":"article.matched"}'
MESSAGE = Message(id=MessageId("msg_1"), endpoint_id="desk", rule_id="r", body=BODY)


def _sender(
    url: str,
    port: int,
    *,
    key: bytes = KEY,
    total_s: float = 5,
    resolve: Callable[[str, int], Sequence[str]] | None = None,
    allow: tuple[AllowedRange, ...] | None = None,
) -> HttpSender:
    allowed = (AllowedRange(LOOPBACK, port),) if allow is None else allow
    return HttpSender(
        [Endpoint(id="desk", url=url, keys=(key,), allow=allowed)],
        clock=lambda: dt.datetime.now(dt.UTC),  # noqa: TID251 - the verifying library reads the real one
        total_timeout_s=total_s,
        connect_timeout_s=2,
        resolve=resolve,
    )


def test_a_message_arrives_signed_and_unchanged(receiver: Receiver) -> None:
    """The reference library accepts it; id, body and count of tries are in the request."""
    outcome = _sender(receiver.url, receiver.port, key=parse_secret(receiver.secret)).send(MESSAGE, 3)

    assert (outcome.result, outcome.status) == (Result.DELIVERED, 204)
    assert receiver.verified() == [{"type": "article.matched"}]
    [request] = receiver.requests
    assert (request.body, request.headers["webhook-id"], request.headers["webhook-attempt"]) == (BODY, "msg_1", "3")
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


def test_without_a_key_there_is_no_signature(receiver: Receiver) -> None:
    """Chats have none; the id is still there."""
    endpoint = Endpoint(id="desk", url=receiver.url, keys=(), allow=(AllowedRange(LOOPBACK, receiver.port),))
    sender = HttpSender([endpoint], clock=lambda: NOW, total_timeout_s=5, connect_timeout_s=2)

    assert sender.send(MESSAGE, 1).result is Result.DELIVERED
    [request] = receiver.requests
    assert "webhook-signature" not in request.headers
    assert request.headers["webhook-id"] == "msg_1"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_2xx_is_delivered(receiver: Receiver, status: int) -> None:
    """No other answer is."""
    receiver.answers = [(status, {}, b"")]

    assert _sender(receiver.url, receiver.port).send(MESSAGE, 1).result is Result.DELIVERED


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    """They could lead anywhere, with the alert in hand."""
    receiver.answers = [(status, {"location": receiver.url + "/elsewhere"}, b"")]

    assert _sender(receiver.url, receiver.port).send(MESSAGE, 1).result is Result.REDIRECTED
    assert len(receiver.requests) == 1


def test_nothing_of_a_refusal_is_kept_but_its_status(receiver: Receiver) -> None:
    """Many servers repeat the address in their error pages, and the address is a secret."""
    receiver.answers = [(404, {}, b"Cannot POST /hook/s3cret\x1b[31m" + b"x" * 5000)]
    outcome = _sender(receiver.url + "/s3cret", receiver.port).send(MESSAGE, 1)

    assert (outcome.result, outcome.status, outcome.detail) == (Result.REFUSED, 404, "HTTP 404")


def test_retry_after_counts_although_the_reply_breaks_off() -> None:
    """The status line has said what there is to know."""
    head = b"HTTP/1.1 429 Slow\r\nretry-after: 3600\r\ncontent-length: 1000\r\n\r\nabc"
    with _raw_server(_answer(head)) as port:
        outcome = _sender(f"http://127.0.0.1:{port}/", port).send(MESSAGE, 1)

    assert (outcome.result, outcome.status, outcome.retry_after) == (Result.REFUSED, 429, dt.timedelta(hours=1))


def test_http_in_the_clear_goes_only_where_it_is_allowed(receiver: Receiver) -> None:
    """An exception for one range does not open all others, public ones included."""
    sender = _sender(f"http://hook.example:{receiver.port}/", receiver.port, resolve=lambda *_: ["93.184.216.34"])

    assert sender.send(MESSAGE, 1).result is Result.BLOCKED_ADDRESS


def test_retry_after_is_read(receiver: Receiver) -> None:
    """Seconds, as a receiver under load sends them."""
    receiver.answers = [(429, {"retry-after": "120"}, b"")]

    assert _sender(receiver.url, receiver.port).send(MESSAGE, 1).retry_after == dt.timedelta(seconds=120)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60),
        ("Fri, 02 Jan 2015 03:05:05 GMT", 0),
        ("-1", None),
        ("1e9", None),
        ("soon", None),
        ("", None),
        ("9" * 30, 10**7),
        ("\u0661\u0662", None),
    ],
)
def test_parse_retry_after_reads_seconds_and_dates(value: str, seconds: float | None) -> None:
    """Everything else is as if it were not there."""
    assert parse_retry_after(value, NOW) == (None if seconds is None else dt.timedelta(seconds=seconds))


@given(st.text(max_size=40))
def test_parse_retry_after_never_raises(value: str) -> None:
    """Whatever a receiver sends, the answer is a wait within bounds or None."""
    wait = parse_retry_after(value, NOW)

    assert wait is None or dt.timedelta(0) <= wait <= dt.timedelta(seconds=10**7)


@contextlib.contextmanager
def _raw_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept one connection on loopback and hand it over; closed at the end whatever happens."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield server.getsockname()[1]
    thread.join(10)


def _drip(connection: socket.socket, data: bytes, *, head: bytes = b"") -> None:
    connection.recv(65536)
    connection.sendall(head)
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def _answer(data: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    return serve


_SERVERS: dict[str, tuple[Callable[[socket.socket], None], Result]] = {
    "closes-at-once": (lambda _connection: None, Result.BROKEN_REPLY),
    "no-http": (_answer(b"hello\r\n\r\n"), Result.BROKEN_REPLY),
    "huge-headers": (_answer(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2_000_000), Result.BROKEN_REPLY),
    "silence": (lambda _connection: time.sleep(1.5), Result.TIMEOUT),
    "dripping-headers": (lambda c: _drip(c, b"HTTP/1.1 500 No\r\n" + b"x: y\r\n" * 100), Result.TIMEOUT),
    "dripping-body": (
        lambda c: _drip(c, b"z" * 100, head=b"HTTP/1.1 500 No\r\ncontent-length: 1000\r\n\r\n"),
        Result.REFUSED,  # the status is known, the rest is not waited for
    ),
}


@pytest.mark.parametrize("name", _SERVERS)
def test_trouble_is_an_outcome_within_the_deadline(name: str) -> None:
    """Nothing raises, and no receiver can hold a try beyond its total time."""
    serve, result = _SERVERS[name]
    with _raw_server(serve) as port:
        started = time.monotonic()
        outcome = _sender(f"http://127.0.0.1:{port}/", port, total_s=1).send(MESSAGE, 1)
        took = time.monotonic() - started

    assert outcome.result is result
    assert took < 10  # the deadline is 1 s; a loaded machine may be late, a missing deadline would take 30 s and more


def test_nobody_listening_is_unreachable() -> None:
    """The port is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert _sender(f"http://127.0.0.1:{port}/", port).send(MESSAGE, 1).result is Result.UNREACHABLE


def test_a_name_that_does_not_resolve_is_unresolved() -> None:
    """Whatever the resolver raises."""

    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert _sender("https://nowhere.invalid/", 443, resolve=resolve).send(MESSAGE, 1).result is Result.UNRESOLVED
    assert _sender("https://nowhere.invalid/", 443, resolve=lambda *_: []).send(MESSAGE, 1).result is Result.UNRESOLVED


def test_a_resolver_that_hangs_is_a_timeout() -> None:
    """It is left behind at the deadline."""
    hang = threading.Event()
    outcome = _sender("https://slow.example/", 443, total_s=0.2, resolve=lambda *_: [str(hang.wait(5))]).send(
        MESSAGE, 1
    )
    hang.set()

    assert outcome.result is Result.TIMEOUT


def test_plain_http_on_an_https_address_is_a_tls_failure(receiver: Receiver) -> None:
    """TLS is never given up for a try without it."""
    outcome = _sender(f"https://127.0.0.1:{receiver.port}/", receiver.port).send(MESSAGE, 1)

    assert outcome.result is Result.TLS_FAILED
    assert receiver.requests == []


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], ["10.0.0.1"], ["93.184.216.34", "169.254.169.254"], ["::1"], ["fe80::1%eth0"], ["64:ff9b::7f00:1"]],
    ids=str,
)
def test_addresses_that_are_not_public_are_refused_after_resolution(receiver: Receiver, answers: list[str]) -> None:
    """One such answer among others is enough; nothing is sent."""
    sender = _sender(f"http://hook.example:{receiver.port}/", receiver.port, resolve=lambda *_: answers, allow=())
    outcome = sender.send(MESSAGE, 1)

    assert outcome.result is Result.BLOCKED_ADDRESS
    assert receiver.requests == []


def test_an_exception_holds_for_its_range_and_port_only(receiver: Receiver) -> None:
    """Allowed is what is named, not its neighbours."""
    url = f"http://hook.example:{receiver.port}/"

    def send(network: str, port: int) -> Result:
        allow = (AllowedRange(ipaddress.ip_network(network), port),)
        return _sender(url, receiver.port, resolve=lambda *_: ["127.0.0.1"], allow=allow).send(MESSAGE, 1).result

    assert send("127.0.0.1/32", receiver.port) is Result.DELIVERED
    assert send("127.0.0.1/32", receiver.port + 1) is Result.BLOCKED_ADDRESS
    assert send("10.0.0.0/8", receiver.port) is Result.BLOCKED_ADDRESS


def test_a_name_is_resolved_once_per_try_and_again_for_the_next(receiver: Receiver) -> None:
    """A resolver that answers differently the second time gains nothing: the vetted address is the one connected to."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.9.9.9"]

    sender = _sender(f"http://hook.example:{receiver.port}/", receiver.port, resolve=resolve)

    assert sender.send(MESSAGE, 1).result is Result.DELIVERED
    assert asked == ["hook.example"]
    assert sender.send(MESSAGE, 2).result is Result.BLOCKED_ADDRESS
    assert receiver.requests[0].headers["host"] == f"hook.example:{receiver.port}"


PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1", "1.1.1.1", "::ffff:8.8.8.8"]
NOT_PUBLIC = """
0.0.0.0 10.1.2.3 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.8 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.1.1 192.175.48.1 198.18.0.1
198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255 168.63.129.16 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1
::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1::
3fff::1 5f00::1 fc00::1 fd12::1 fe80::1 fec0::1 ff02::1 ff0e::1
""".split()


@pytest.mark.parametrize("address", PUBLIC)
def test_is_public_lets_the_internet_through(address: str) -> None:
    """Ordinary addresses of both families."""
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_is_public_refuses_every_special_block(address: str) -> None:
    """Private, loopback, link-local, metadata, documentation, and IPv6 forms that hide an IPv4 address."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "localhost"])
def test_odd_spellings_of_loopback_are_refused_after_resolution(receiver: Receiver, host: str) -> None:
    """The real resolver turns these into loopback or nothing, or they are no URL; none gets through."""
    outcome = _sender(f"http://{host}:{receiver.port}/", receiver.port, allow=()).send(MESSAGE, 1)

    assert outcome.result in {Result.BLOCKED_ADDRESS, Result.UNRESOLVED, Result.BROKEN_REPLY}
    assert receiver.requests == []


def test_proxies_of_the_environment_are_ignored(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address in HTTP_PROXY gets nothing."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    assert _sender(receiver.url, receiver.port).send(MESSAGE, 1).result is Result.DELIVERED


def test_addresses_and_secrets_are_not_logged(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """Neither on success nor on failure, at any level we set."""
    caplog.set_level(logging.INFO)
    secret_url = receiver.url + "/T0P/s3cret-token"
    receiver.answers = [(204, {}, b""), (500, {}, b"")]
    outcomes = [_sender(secret_url, receiver.port).send(MESSAGE, i) for i in (1, 2)]
    closed = _sender(secret_url, receiver.port + 1).send(MESSAGE, 3)

    told = caplog.text + "".join(outcome.detail for outcome in [*outcomes, closed])
    assert "s3cret" not in told
    assert base64.b64encode(KEY).decode() not in told


def test_an_endpoint_that_is_gone_from_the_settings_is_no_crash() -> None:
    """The message stays pending and says why."""
    message = Message(id=MessageId("m"), endpoint_id="other", rule_id="r", body=b"{}")

    assert "no endpoint of this name" in _sender("https://x.example/", 443).send(message, 1).detail


def test_the_default_tls_settings_verify_certificates() -> None:
    """Nobody turned verification off."""
    context = HttpSender([], clock=lambda: NOW, total_timeout_s=1, connect_timeout_s=1)._ssl_context

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
