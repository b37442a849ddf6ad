"""A receiver that misbehaves on purpose: raw sockets on loopback, one thread per connection, always bounded."""

import contextlib
import datetime as dt
import gzip
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Self

import trustme

MAX_S = 30  # no behaviour lasts longer, whatever the sender does
BOMB = gzip.compress(bytes(64 * 2**20))  # 64 MiB of zeros in about 64 KiB
_FILLER = b"x" * 16_384

Connection = socket.socket
Behaviour = Callable[["FaultReceiver", Connection], None]


class FaultReceiver:
    """
    Hands each connection to *behave*, in a thread of its own. Use as a context manager.

    Args:
        behave: what to do with a connection; it is closed afterwards, and an OSError ends it quietly.
        tls: makes every connection a TLS one first; a failed handshake is counted in `failed_handshakes`.
    """

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self._behave = behave
        self._tls = tls
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[Connection] = set()
        self.port: int = self._server.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/hook"
        self.connections = 0
        self.failed_handshakes = 0
        self.requests: list[bytes] = []
        self.stop = threading.Event()

    def __enter__(self) -> Self:
        self._server.settimeout(0.05)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(MAX_S)
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._server.accept()
                self.connections += 1
                connection.settimeout(MAX_S)
                self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        plain = connection
        try:
            if self._tls is not None:
                try:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                except OSError:
                    self.failed_handshakes += 1
                    raise
            with connection:
                self._behave(self, connection)
        except OSError:
            pass
        finally:
            self._open.discard(plain)
            plain.close()

    def read_request(self, connection: Connection) -> bytes:
        """Read one request with its body, keep it in `requests`."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += _some(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(
            next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")).split()[1]
        )
        while len(body) < length:
            body += _some(connection)
        self.requests.append(head + b"\r\n\r\n" + body)
        return body

    def repeat(self, connection: Connection, data: bytes, every_s: float = 0.0) -> None:
        """Send *data* again and again until the other side or the test has had enough."""
        ends = time.monotonic() + MAX_S
        while time.monotonic() < ends and not self.stop.wait(every_s):
            connection.sendall(data)


def _some(connection: Connection) -> bytes:
    data = connection.recv(65_536)
    if not data:
        raise ConnectionError
    return data


def reset(connection: Connection) -> None:
    """Close with a TCP reset instead of a goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def answering(*replies: bytes) -> Behaviour:
    """Return a behaviour that reads the request and sends the replies one after the other."""

    def behave(receiver: FaultReceiver, connection: Connection) -> None:
        receiver.read_request(connection)
        for reply in replies:
            connection.sendall(reply)

    return behave


def head(status: str, *lines: str) -> bytes:
    """Return a status line with headers."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def reset_before_reading(_receiver: FaultReceiver, connection: Connection) -> None:
    """Accept and break off."""
    reset(connection)


def reset_after_the_body(receiver: FaultReceiver, connection: Connection) -> None:
    """Take everything, then break off."""
    receiver.read_request(connection)
    reset(connection)


def reset_within_the_head(receiver: FaultReceiver, connection: Connection) -> None:
    """Begin an answer and break off."""
    receiver.read_request(connection)
    connection.sendall(b"HTTP/1.1 2")
    reset(connection)


def close_before_reading(_receiver: FaultReceiver, _connection: Connection) -> None:
    """Accept and say goodbye."""


def never_answer(receiver: FaultReceiver, connection: Connection) -> None:
    """Take everything, say nothing."""
    receiver.read_request(connection)
    receiver.stop.wait(MAX_S)


def never_read(receiver: FaultReceiver, _connection: Connection) -> None:
    """Accept, and that was it."""
    receiver.stop.wait(MAX_S)


def read_slowly(receiver: FaultReceiver, connection: Connection) -> None:
    """Take a little at a time, for ever."""
    while not receiver.stop.wait(0.02):
        connection.recv(2_048)


def drip(data: bytes, *, first: bytes = b"") -> Behaviour:
    """Return a behaviour that sends *first*, then *data* at about one byte a second."""

    def behave(receiver: FaultReceiver, connection: Connection) -> None:
        receiver.read_request(connection)
        connection.sendall(first)
        for byte in data[:MAX_S]:
            connection.sendall(bytes([byte]))
            if receiver.stop.wait(0.9):
                return

    return behave


def drip_before_reading(receiver: FaultReceiver, connection: Connection) -> None:
    """Send the beginning of a TLS record at one byte a second: a handshake that never ends."""
    for byte in b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(MAX_S):
        connection.sendall(bytes([byte]))
        if receiver.stop.wait(0.9):
            return


def tunnel(port: int) -> Behaviour:
    """Return a proxy that connects whoever asks to *port* on loopback, whatever the name; keeps what was asked for."""

    def behave(receiver: FaultReceiver, connection: Connection) -> None:
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            asked += _some(connection)
        receiver.requests.append(asked)
        with socket.create_connection(("127.0.0.1", port), MAX_S) as onward:
            connection.sendall(head("200 Connection established"))
            back = threading.Thread(target=_pipe, args=(onward, connection), daemon=True)
            back.start()
            _pipe(connection, onward)
            back.join(MAX_S)

    return behave


def _pipe(source: Connection, target: Connection) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def answering_at_once(reply: bytes) -> Behaviour:
    """Return a behaviour that sends *reply* after the first bytes, as a proxy that refuses does."""

    def behave(receiver: FaultReceiver, connection: Connection) -> None:
        receiver.requests.append(_some(connection))
        connection.sendall(reply)

    return behave


def talking_no_tls(reply: bytes) -> Behaviour:
    """Return a behaviour that sends *reply* after the first bytes, and what is no TLS after the next."""

    def behave(receiver: FaultReceiver, connection: Connection) -> None:
        receiver.requests.append(_some(connection))
        connection.sendall(reply)
        _some(connection)
        connection.sendall(b"this is no TLS\r\n")

    return behave


def endless(first: bytes, data: bytes) -> Behaviour:
    """Return a behaviour that sends *first*, then *data* as fast as it goes."""

    def behave(receiver: FaultReceiver, connection: Connection) -> None:
        receiver.read_request(connection)
        connection.sendall(first)
        receiver.repeat(connection, data)

    return behave


@contextlib.contextmanager
def tls_receiver(
    authority: trustme.CA, *names: str, expired: bool = False, version: ssl.TLSVersion | None = None
) -> Iterator[FaultReceiver]:
    """Serve 204 with a certificate of *authority* for *names*."""
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)  # noqa: TID251 - certificates are judged by the real clock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if version is not None:
        warnings.simplefilter("ignore", DeprecationWarning)  # of the old version: that is the point
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
    authority.issue_cert(*names, not_before=now - 30 * day, not_after=now + (-day if expired else day)).configure_cert(
        context
    )
    with FaultReceiver(answering(head("204 No Content")), context) as receiver:
        yield receiver


OLD_TLS = ssl.TLSVersion.TLSv1_1
CHUNK = b"4000\r\n" + _FILLER + b"\r\n"
CHUNKED = ("transfer-encoding: chunked",)
GZIPPED = ("content-encoding: gzip", f"content-length: {len(BOMB)}")
