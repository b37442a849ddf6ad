"""Posting over real sockets when nothing is wrong but the request; every kind of trouble is in the other two files."""

import base64
import datetime as dt
import ipaddress
import logging
import ssl
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receiver import Receiver

from classifier import parse_secret
from classifier.adapters.webhook import Endpoint, HttpSender, parse_retry_after
from classifier.addresses import AllowedRange
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
) -> HttpSender:
    return HttpSender(
        [Endpoint(id="desk", url=url, keys=(key,), allow=(AllowedRange(LOOPBACK, port),))],
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


def test_older_keys_sign_until_their_time_and_the_current_one_always(receiver: Receiver) -> None:
    """The choice is made anew with every try."""
    old, older = bytes(32), bytes([1]) * 32
    hour = dt.timedelta(hours=1)
    endpoint = Endpoint(
        id="desk",
        url=receiver.url,
        keys=(KEY,),
        retiring=((old, NOW + hour), (older, NOW - hour)),
        allow=(AllowedRange(LOOPBACK, receiver.port),),
    )
    times = iter([NOW, NOW + 2 * hour])
    sender = HttpSender([endpoint], clock=lambda: next(times), total_timeout_s=5, connect_timeout_s=5)
    for attempt in (1, 2):
        assert sender.send(MESSAGE, attempt).result is Result.DELIVERED

    assert [len(request.headers["webhook-signature"].split()) for request in receiver.requests] == [2, 1]
    assert endpoint.keys_at(NOW) == (KEY, old)
    assert repr(endpoint) == "Endpoint(id='desk', url=<secret>, keys=<secret>)"


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


def test_a_resolver_that_hangs_is_a_timeout() -> None:
    """It is left behind at the deadline."""
    hang = threading.Event()
    outcome = _sender("https://slow.example/", 443, total_s=0.2, resolve=lambda *_: [str(hang.wait(5))]).send(
        MESSAGE, 1
    )
    hang.set()

    assert outcome.result is Result.TIMEOUT


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
    """Nobody turned verification off, or old versions on."""
    endpoint = Endpoint(id="desk", url="https://x.example/", keys=(KEY,))
    context = HttpSender([endpoint], clock=lambda: NOW, total_timeout_s=1, connect_timeout_s=1)._contexts[None]

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) > 50
