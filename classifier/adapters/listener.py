"""
A small HTTP server for a few clients.

Hides: http.server and sockets.
Keeps: a client may open few connections and hold each for a few seconds only, whatever it does; a body is read up to a
bound and no further; a fault of ours is a 500 without a word about it.
"""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from classifier.errors import ConfigError, Problem
from classifier.exchange import Answer, Asked, Reply, json_reply
from classifier.logs import event

_LOG = logging.getLogger("classifier")
MAX_CONNECTIONS = 16
MAX_SECONDS = 5.0  # for one request, whatever the client does
_MAX_DIGITS = 9  # of a length
_Request = socket.socket | tuple[bytes, socket.socket]


@contextmanager
def listening(key: str, host: str, port: int, answer: Answer, *, max_body: int = 0) -> Iterator[int]:
    """
    Answer requests until the end of the context; gives the port, for 0 the one that was free.

    Args:
        key: of the setting that names the port.
        host: IP address to listen on.
        port: to listen on.
        answer: called in a thread of its own for every request.
        max_body: bytes; a larger body is refused unread.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    try:
        server = _Server((host, port), answer, max_body)
    except OSError as error:
        problem = Problem(key, f"cannot listen on port {port} of {host}: {error.strerror or error}")
        raise ConfigError("settings", (problem,)) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True, name=key)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    """Answers a few clients at a time, each within a few seconds."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], answer: Answer, max_body: int) -> None:
        self.answer = answer
        self.max_body = max_body
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: _Request, client_address: object) -> None:
        """Answer in a thread of its own, unless all are taken."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: _Request, client_address: object) -> None:
        """Answer, and cut off who takes too long, by reading or by writing."""
        clock = threading.Timer(MAX_SECONDS, _hang_up, (request,))
        clock.daemon = True
        clock.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            clock.cancel()
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that goes away, or that is cut off, is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = MAX_SECONDS
    server_version = "classifier"
    sys_version = ""

    def do_GET(self) -> None:
        self._reply(self._answer(b""))

    def do_HEAD(self) -> None:
        self._reply(self._answer(b""), is_whole=False)

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()) or self.headers.get("transfer-encoding"):
            self._reply(json_reply(HTTPStatus.LENGTH_REQUIRED, {"error": "a content-length is needed"}))
        elif len(length) > _MAX_DIGITS or int(length) > self.server.max_body:
            too_large = {"error": f"at most {self.server.max_body} bytes are read"}
            self._reply(json_reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large))
        elif len(body := self.rfile.read(int(length))) == int(length):
            self._reply(self._answer(body))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        pass

    def _answer(self, body: bytes) -> Reply:
        path = self.path.partition("?")[0]
        asked = Asked(method=self.command, path=path, header=self.headers.get, body=body)
        try:
            return self.server.answer(asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours and not the client's to read
            _LOG.exception("a request failed", extra=event("request_failed", error=type(error).__name__))
            return json_reply(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "this program failed on it"})

    def _reply(self, reply: Reply, *, is_whole: bool = True) -> None:
        self.send_response(reply.status)
        self.send_header("content-type", reply.content_type)
        self.send_header("content-length", str(len(reply.body)))
        self.send_header("cache-control", "no-store")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if is_whole:
            self.wfile.write(reply.body)


def _hang_up(request: _Request) -> None:
    connection = request if isinstance(request, socket.socket) else request[1]
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
