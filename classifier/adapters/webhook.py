"""
Posting messages with httpx, to addresses we mean to reach, within a deadline.

Hides: httpx, httpcore, name resolution, TLS and every way in which an HTTP exchange can fail.
Keeps: `HttpSender.send` never raises for anything the other side does; what happened is an `Outcome`.

Two things httpx does not do by itself live in the network backend below it (httpcore's public extension point):
the name is resolved once per try, all answers are vetted, and the connection goes to a vetted address, so nothing can
change in between, while the Host header and the name checked in the certificate stay those of the URL; and every
single read and write gets no more than what is left of one wall-clock deadline, so a receiver that drips bytes cannot
hold us. Address rules, deadline and outcomes are in one module because each is there for the others.
"""

import datetime as dt
import email.utils
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import httpcore
import httpx

from classifier.delivery import Message, Outcome, Result, sign
from classifier.ports import Clock

USER_AGENT = "policy-classifier"
MAX_RETRY_AFTER_S = 10**7  # larger numbers are nonsense and would overflow a date
_FIRST_SUCCESS, _FIRST_REDIRECT, _FIRST_CLIENT_ERROR = 200, 300, 400

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Sequence[str]]

# Special-use blocks (IANA registries, RFC 6890 and later). `is_global` alone lets NAT64, 6to4, site-local and
# multicast pass.
_DENIED_V4 = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24
192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4
240.0.0.0/4 168.63.129.16/32
"""
_DENIED_V6 = """
::/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7
fe80::/10 fec0::/10 ff00::/8
"""
_DENIED: Mapping[int, tuple[IPNetwork, ...]] = {
    4: tuple(map(ipaddress.IPv4Network, _DENIED_V4.split())),
    6: tuple(map(ipaddress.IPv6Network, _DENIED_V6.split())),
}


def is_public(address: IPAddress) -> bool:
    """
    Say whether *address* is one that anybody on the internet may be asked to post to.

    >>> is_public(ipaddress.ip_address("64:ff9b::7f00:1"))  # 127.0.0.1 behind NAT64
    False
    """
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_global and not any(address in block for block in _DENIED[address.version])


@dataclass(frozen=True, slots=True)
class AllowedRange:
    """An address range and port an endpoint may use although it is not public."""

    network: IPNetwork
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    Where messages of one endpoint go.

    Attributes:
        id: the name in settings and records.
        url: http or https; a secret, never logged.
        keys: signing keys; without one messages are not signed.
        allow: non-public ranges it may use.
    """

    id: str
    url: str
    keys: tuple[bytes, ...]
    allow: tuple[AllowedRange, ...] = ()


class _BlockedAddressError(Exception):
    """The name leads to an address we do not post to."""


class _UnresolvedError(Exception):
    """The name leads nowhere."""


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
        self._ssl_context = httpx.create_ssl_context(trust_env=False)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs whole addresses, which are secrets

    def send(self, message: Message, attempt: int) -> Outcome:
        """Post *message* once and say what came of it."""
        endpoint = self._endpoints.get(message.endpoint_id)
        if endpoint is None:
            return Outcome(result=Result.UNRESOLVED, detail="no endpoint of this name in the settings")
        now = self._clock()
        headers = sign(endpoint.keys, message.id, now, message.body) | {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "accept-encoding": "identity",
            "webhook-attempt": str(attempt),
        }
        deadline = _Deadline(self._total_timeout_s)
        backend = _GuardedBackend(endpoint, deadline, self._resolve)
        try:
            with httpx.Client(transport=_Transport(backend, self._ssl_context), trust_env=False) as client:
                request = client.build_request(
                    "POST",
                    endpoint.url,
                    content=message.body,
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
        """Connect to the first vetted address of *host* that answers."""
        trouble: Exception | None = None
        for address in self._vetted(host, port):
            try:
                stream = self._backend.connect_tcp(
                    str(address), port, self._deadline.limit(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
            else:
                return _DeadlineStream(stream, self._deadline)
        raise trouble or _UnresolvedError

    def _vetted(self, host: str, port: int) -> list[IPAddress]:
        """Resolve once; refuse all when any answer is one we do not post to."""
        answers = _within(self._deadline.limit(None), lambda: self._resolve(host, port))
        addresses = list(dict.fromkeys(ipaddress.ip_address(answer.partition("%")[0]) for answer in answers))
        is_clear = self._endpoint.url.lower().startswith("http:")  # in the clear only where it was allowed by name
        for address in addresses:
            is_allowed = any(item.port == port and address in item.network for item in self._endpoint.allow)
            if not is_allowed and (is_clear or not is_public(address)):
                raise _BlockedAddressError(str(address))
        if not addresses:
            raise _UnresolvedError
        return addresses


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose every operation is cut to what is left of the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.limit(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.limit(timeout))

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
        return Outcome(
            result=Result.BLOCKED_ADDRESS,
            detail=f"the host leads to {error}, which may not be posted to; see `allow` in the settings",
        )
    if isinstance(error, httpcore.ConnectError) and isinstance(error.__context__, ssl.SSLError):
        return Outcome(result=Result.TLS_FAILED, detail="no trusted TLS connection: see the receiver's certificate")
    for kind, (result, detail) in _KINDS.items():
        if isinstance(error, kind):
            return Outcome(result=result, detail=detail)
    return Outcome(result=Result.BROKEN_REPLY, detail=f"the exchange failed: {type(error).__name__}")
