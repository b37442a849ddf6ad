"""
Posting messages with httpx, to addresses we mean to reach, within a deadline.

Hides: httpx, httpcore, name resolution, TLS and every way in which an HTTP exchange can fail.
Keeps: `HttpSender.send` never raises for anything the other side does; what happened is an `Outcome`.

Two things httpx does not do by itself live in the network backend below it (httpcore's public extension point):
the name is resolved once per try, all answers are vetted, and the connection goes to a vetted address, so nothing can
change in between, while the Host header and the name checked in the certificate stay those of the URL; and every
single read and write gets no more than what is left of one wall-clock deadline, so a receiver that drips bytes cannot
hold us. Deadline and outcomes are in one module, longer than most, because each is there for the other; nothing of a
reply's body is read.
"""

import contextlib
import datetime as dt
import email.utils
import functools
import ipaddress
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import certifi
import httpcore
import httpx

from classifier.addresses import AllowedRange, address_fault, url_fault
from classifier.alerts import kind_of
from classifier.delivery import Message, Outcome, Result, sign
from classifier.payloads import STANDARD, Format
from classifier.ports import Clock

USER_AGENT = "policy-classifier"
MAX_RETRY_AFTER_S = 10**7  # larger numbers are nonsense and would overflow a date
_WRITE_BYTES = 16_384
_FIRST_SUCCESS, _FIRST_REDIRECT, _FIRST_CLIENT_ERROR = 200, 300, 400

_MAX_PROXY_REPLY = 16_384  # bytes
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")

Resolve = Callable[[str, int], Sequence[str]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    Where messages of one endpoint go.

    Attributes:
        id: the name in settings and records.
        url: http or https; a secret, never logged.
        keys: signing keys; every request carries a signature of each, and none without one.
        retiring: older keys, and until when (aware, UTC) each of them signs as well.
        allow: ranges it may use although they are not public, or in the clear.
        ca_file: PEM file of the only authorities whose certificates it may have; None for the usual ones.
        proxy: host and port of an HTTP proxy to go through; None to connect directly. The proxy then resolves the name
            and decides where connections may go.
        format: what it understands. Alerts come in it already; what else is told is put into it when it is sent.
    """

    id: str
    url: str
    keys: tuple[bytes, ...]
    retiring: tuple[tuple[bytes, dt.datetime], ...] = ()
    allow: tuple[AllowedRange, ...] = ()
    ca_file: Path | None = None
    proxy: tuple[str, int] | None = None
    format: Format = STANDARD

    def keys_at(self, now: dt.datetime) -> tuple[bytes, ...]:
        """Return the keys that sign at *now*, the current ones first."""
        return (*self.keys, *(key for key, until in self.retiring if now < until))

    def __repr__(self) -> str:
        return f"Endpoint(id={self.id!r}, url=<secret>, keys=<secret>)"


class _BlockedAddressError(Exception):
    """The name leads to an address we do not post to."""


class _UnresolvedError(Exception):
    """The name leads nowhere."""


class _ProxyError(Exception):
    """The proxy does not connect us."""


class _DeadlineError(httpcore.TimeoutException):
    """The time for the whole try is over."""


class HttpSender:
    """
    A `Sender` over HTTP.

    Args:
        endpoints: where to send; a message for any other endpoint is undeliverable now.
        clock: for the signature's timestamp and Retry-After dates.
        total_timeout_s: wall-clock seconds for one try, from resolving the name to the end of the reply.
        connect_timeout_s: seconds of these for connection and TLS each.
        resolve: name and port to addresses; raises OSError. For tests.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        *,
        clock: Clock,
        total_timeout_s: float,
        connect_timeout_s: float,
        resolve: Resolve | None = None,
    ) -> None:
        self._endpoints = {endpoint.id: endpoint for endpoint in endpoints}
        self._clock = clock
        self._total_timeout_s = total_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._resolve = resolve or _resolve
        ca_files = {item.ca_file for item in self._endpoints.values()}
        self._contexts = {path: _usual_tls() if path is None else _tls(path) for path in ca_files}
        logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs whole addresses, which are secrets

    def send(self, message: Message, attempt: int) -> Outcome:
        """Post *message* once and say what came of it."""
        endpoint = self._endpoints.get(message.endpoint_id)
        if endpoint is None:
            return Outcome(result=Result.UNRESOLVED, detail="no endpoint of this name in the settings")
        if (fault := url_fault(endpoint.url, endpoint.allow)) is not None:
            return Outcome(result=Result.BLOCKED_ADDRESS, detail=fault)
        now = self._clock()
        is_note = message.rule_id is None and kind_of(message.id) == "notice"  # alerts and digests were put into words
        body = endpoint.format.render_note(message.body) if is_note else message.body
        headers = sign(endpoint.keys_at(now), message.id, now, body) | {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "accept-encoding": "identity",
            "webhook-attempt": str(attempt),
        }
        deadline = _Deadline(self._total_timeout_s)
        backend = _GuardedBackend(endpoint, deadline, self._resolve)
        try:
            with httpx.Client(
                transport=_Transport(backend, self._contexts[endpoint.ca_file]), trust_env=False
            ) as client:
                request = client.build_request(
                    "POST",
                    endpoint.url,
                    content=body,
                    headers=headers,
                    timeout=httpx.Timeout(self._total_timeout_s, connect=self._connect_timeout_s),
                )
                response = client.send(request, stream=True, follow_redirects=False)
                try:
                    return self._read_reply(response, now)
                finally:
                    response.close()
        except Exception as error:  # noqa: BLE001 - whatever the other side made happen is an outcome
            return _outcome_of(error, deadline)

    def _read_reply(self, response: httpx.Response, now: dt.datetime) -> Outcome:
        status = response.status_code
        if _FIRST_SUCCESS <= status < _FIRST_REDIRECT:
            return Outcome(result=Result.DELIVERED, status=status, detail=f"HTTP {status}")
        if _FIRST_REDIRECT <= status < _FIRST_CLIENT_ERROR:
            return Outcome(
                result=Result.REDIRECTED,
                status=status,
                detail=f"HTTP {status}: redirects are not followed; put the final address into the settings",
            )
        # Nothing of the reply's text is kept: many servers repeat the address in it, and the address is a secret.
        waits = [parse_retry_after(value, now) for value in response.headers.get_list("retry-after")]
        wait = max((item for item in waits if item is not None), default=None)
        return Outcome(result=Result.REFUSED, status=status, retry_after=wait, detail=f"HTTP {status}")


def parse_retry_after(value: str, now: dt.datetime) -> dt.timedelta | None:
    """
    Return how long a Retry-After header asks to wait: seconds or an HTTP date (RFC 9110, 10.2.3); None when it is
    neither.

    A date in the past is no wait at all.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        digits = value.lstrip("0")[:12]  # a number of any length, even where Python would not read one so long
        return dt.timedelta(seconds=min(int(digits or 0), MAX_RETRY_AFTER_S))
    try:
        moment = email.utils.parsedate_to_datetime(value)
        wait = (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)) - now
    except (ValueError, OverflowError):
        return None
    return min(max(wait, dt.timedelta(0)), dt.timedelta(seconds=MAX_RETRY_AFTER_S))


class _Deadline:
    """One wall-clock limit for everything a try does."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends

    def limit(self, timeout: float | None) -> float:
        """Return the smaller of *timeout* and what is left; raise when nothing is."""
        left = self._ends - time.monotonic()
        if left <= 0:
            message = "the time for this try is over"
            raise _DeadlineError(message)
        return left if timeout is None else min(timeout, left)


class _GuardedBackend(httpcore.NetworkBackend):
    """Connects to vetted addresses only, under the deadline."""

    def __init__(self, endpoint: Endpoint, deadline: _Deadline, resolve: Resolve) -> None:
        self._endpoint = endpoint
        self._deadline = deadline
        self._resolve = resolve
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first vetted address of *host* that answers, or let the proxy connect."""

        def connect(addresses: Iterable[_Address], port: int) -> httpcore.NetworkStream:
            trouble: Exception | None = None
            for address in addresses:
                limit = self._deadline.limit(timeout)
                try:
                    stream = self._backend.connect_tcp(str(address), port, limit, local_address, socket_options)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    trouble = error
                else:
                    return _DeadlineStream(stream, self._deadline)
            raise trouble or _UnresolvedError

        if self._endpoint.proxy is None:
            return connect(self._vetted(host, port), port)
        self._vet_unresolved(host, port)
        proxy_host, proxy_port = self._endpoint.proxy
        stream = connect(self._resolved(proxy_host, proxy_port), proxy_port)
        try:
            _open_tunnel(stream, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except Exception:
            stream.close()
            raise
        return stream

    def _vetted(self, host: str, port: int) -> list[_Address]:
        """Resolve once; refuse all when any answer is one we do not post to."""
        addresses = self._resolved(host, port)
        for address in addresses:
            self._vet(address, port)
        if not addresses:
            raise _UnresolvedError
        return addresses

    def _resolved(self, host: str, port: int) -> list[_Address]:
        answers = _within(self._deadline.limit(None), lambda: self._resolve(host, port))
        return list(dict.fromkeys(ipaddress.ip_address(answer.partition("%")[0]) for answer in answers))

    def _vet_unresolved(self, host: str, port: int) -> None:
        """Judge what can be judged of a name that the proxy will resolve: whether it is an address."""
        if self._is_clear:
            message = "plain http does not go through a proxy"
            raise _BlockedAddressError(message)
        with contextlib.suppress(ValueError):
            self._vet(ipaddress.ip_address(host), port)

    def _vet(self, address: _Address, port: int) -> None:
        fault = address_fault(address, port, is_clear=self._is_clear, allow=self._endpoint.allow)
        if fault is not None:
            raise _BlockedAddressError(fault)

    @property
    def _is_clear(self) -> bool:
        return self._endpoint.url.lower().startswith("http:")


def _open_tunnel(stream: httpcore.NetworkStream, target: str) -> None:
    """Ask the proxy at the other end of *stream* to connect to *target* (RFC 9110, 9.3.6)."""
    no_answer = "the proxy gives no answer that makes sense"
    reply = b""
    try:
        stream.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii"))
        while not reply.endswith(b"\r\n\r\n"):
            data = stream.read(_MAX_PROXY_REPLY)
            reply += data
            if not data or len(reply) > _MAX_PROXY_REPLY:
                raise _ProxyError(no_answer)
    except httpcore.NetworkError as error:  # whether a proxy that hangs up ends or breaks the connection is chance
        raise _ProxyError(no_answer) from error
    status = _STATUS_LINE.match(reply)
    if status is None or not status[1].startswith(b"2"):
        message = f"the proxy does not connect: HTTP {status[1].decode()}" if status else "the proxy speaks no HTTP"
        raise _ProxyError(message)


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose every operation is cut to what is left of the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.limit(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In pieces: below, every partial send would start the timeout anew, and a slow reader could draw it out.
        for start in range(0, len(buffer), _WRITE_BYTES):
            self._stream.write(buffer[start : start + _WRITE_BYTES], self._deadline.limit(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(
            self._stream.start_tls(ssl_context, server_hostname, self._deadline.limit(timeout)), self._deadline
        )

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class _Transport(httpx.BaseTransport):
    """One connection for one request, made by our backend; errors stay httpcore's and are told apart in one place."""

    def __init__(self, backend: httpcore.NetworkBackend, ssl_context: ssl.SSLContext) -> None:
        self._pool = httpcore.ConnectionPool(ssl_context=ssl_context, max_connections=1, network_backend=backend)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.content,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            reply.status, headers=reply.headers, stream=_ReplyStream(reply), extensions=reply.extensions
        )

    def close(self) -> None:
        self._pool.close()


class _ReplyStream(httpx.SyncByteStream):
    def __init__(self, reply: httpcore.Response) -> None:
        self._reply = reply

    def __iter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204 - httpx declares it, httpcore types its stream loosely
        yield from self._reply.iter_stream()

    def close(self) -> None:
        self._reply.close()


@functools.cache  # reading the usual authorities takes 20 ms; those of a file are read again when the settings are
def _usual_tls() -> ssl.SSLContext:
    return _tls(Path(certifi.where()))


def _tls(ca_file: Path) -> ssl.SSLContext:
    """
    Return a context that checks certificate and host name, TLS 1.2 or newer.

    Not `ssl.create_default_context`: that one writes the session keys to where the environment says.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_file)
    return context


def _resolve(host: str, port: int) -> list[str]:
    return [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _within(seconds: float, resolve: Callable[[], Sequence[str]]) -> Sequence[str]:
    """Run *resolve*, which cannot be interrupted, in a thread that is left behind when it takes too long."""
    answers: list[Sequence[str]] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(resolve())
        except Exception as error:  # noqa: BLE001 - handed to the caller below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="resolve")
    thread.start()
    thread.join(seconds)
    if answers:
        return answers[0]
    if errors:
        raise _UnresolvedError from errors[0]
    message = "resolving the name took too long"
    raise _DeadlineError(message)


_KINDS: Mapping[type[Exception], tuple[Result, str]] = {
    _UnresolvedError: (Result.UNRESOLVED, "the host name cannot be resolved"),
    httpcore.TimeoutException: (Result.TIMEOUT, "no answer in time"),
    httpcore.ConnectError: (Result.UNREACHABLE, "no connection"),
    httpcore.NetworkError: (Result.BROKEN_REPLY, "the connection broke off"),
    httpcore.ProtocolError: (Result.BROKEN_REPLY, "the reply is no HTTP"),
}


def _outcome_of(error: Exception, deadline: _Deadline) -> Outcome:
    if deadline.is_over:
        return Outcome(result=Result.TIMEOUT, detail="no complete answer within the total timeout")
    if isinstance(error, _BlockedAddressError):
        return Outcome(result=Result.BLOCKED_ADDRESS, detail=str(error))
    if isinstance(error, _ProxyError):
        return Outcome(result=Result.UNREACHABLE, detail=str(error))
    if isinstance(error, httpcore.ConnectError) and isinstance(error.__context__, ssl.SSLError):
        return Outcome(result=Result.TLS_FAILED, detail="no trusted TLS connection: see the receiver's certificate")
    for kind, (result, detail) in _KINDS.items():
        if isinstance(error, kind):
            return Outcome(result=result, detail=detail)
    return Outcome(result=Result.BROKEN_REPLY, detail=f"the exchange failed: {type(error).__name__}")
