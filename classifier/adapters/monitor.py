"""
``/healthz`` and ``/metrics`` over HTTP, for probes and Prometheus.

Hides: prometheus_client and http.server.
Keeps: what is served are counts, ages, names of states, ids of endpoints and of the model: no text of an article, no
file name, no address, no secret. A request touches neither folder nor ledger, so that asking is cheap and never hangs
with them. A client may open few connections and hold each for a few seconds only.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from classifier.errors import ConfigError, Problem
from classifier.health import MEANING, Health
from classifier.ports import Duplicate, Queue, Rejected, Scored, Verdict

MAX_CONNECTIONS = 16
MAX_SECONDS = 5.0  # for one request, whatever the client does
_Answer = Callable[[str], tuple[HTTPStatus, str, bytes]]
_Request = socket.socket | tuple[bytes, socket.socket]
_SCORE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Monitor:
    """
    Counts what happens and tells it to who asks.

    Args:
        health: what is wrong now.
    """

    def __init__(self, health: Health) -> None:
        # Else a second series per counter, which only says when we started.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._health = health
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, open files, processor time
        self._files = Counter("classifier_files", "Files by what became of them.", ["state"], registry=registry)
        self._rejections = Counter("classifier_rejections", "Rejected files by reason.", ["reason"], registry=registry)
        self._abstentions = Counter(
            "classifier_abstentions", "Articles without tags by reason.", ["reason"], registry=registry
        )
        self._scoring = Histogram(
            "classifier_score_seconds",
            "Seconds to parse, tag and explain one article.",
            buckets=_SCORE_BUCKETS,
            registry=registry,
        )
        self._deliveries = Counter(
            "classifier_deliveries", "Tries to deliver a message, by result.", ["endpoint", "result"], registry=registry
        )
        self._queued = Gauge("classifier_queue_messages", "Messages on their way.", ["endpoint"], registry=registry)
        self._due_age = Gauge(
            "classifier_queue_oldest_due_seconds",
            "How long the message due longest has been due.",
            ["endpoint"],
            registry=registry,
        )
        self._reloads = Counter(
            "classifier_settings_reloads", "Settings read again, by result.", ["result"], registry=registry
        )
        self._model = Info("classifier_model", "The model in use.", registry=registry)
        Gauge("classifier_scan_age_seconds", "Seconds since the last step of a scan.", registry=registry).set_function(
            lambda: health.scan_age_s
        )
        Gauge("classifier_file_age_seconds", "Seconds since the last new file.", registry=registry).set_function(
            lambda: health.file_age_s
        )
        Gauge("classifier_healthy", "1 when /healthz says 200.", registry=registry).set_function(
            lambda: not health.reasons()
        )

    def took(self, verdict: Verdict) -> None:
        """Count one file."""
        match verdict:
            case Scored():
                self._files.labels("scored").inc()
                self._scoring.observe(verdict.took_s)
                if verdict.tags.abstained:
                    self._abstentions.labels(str(verdict.tags.abstained)).inc()
            case Duplicate():
                self._files.labels("duplicate").inc()
            case Rejected():
                self._files.labels("rejected").inc()
                self._rejections.labels(verdict.reason).inc()

    def tried(self, endpoint_id: str, result: str) -> None:
        """Count one try to deliver."""
        self._deliveries.labels(endpoint_id, result).inc()

    def reloaded(self, *, is_accepted: bool) -> None:
        """Count one look at changed settings."""
        self._reloads.labels("accepted" if is_accepted else "refused").inc()

    def uses(self, name: str, model_id: str) -> None:
        """Take note of the model in use."""
        self._model.info({"name": name, "id": model_id})

    def queue(self, queues: Mapping[str, Queue], endpoint_ids: Iterable[str]) -> None:
        """Take note of what waits, by endpoint; those of *endpoint_ids* where nothing does show zero."""
        self._queued.clear()
        self._due_age.clear()
        for endpoint_id in dict.fromkeys((*endpoint_ids, *queues)):
            item = queues.get(endpoint_id, Queue())
            self._queued.labels(endpoint_id).set(item.pending)
            self._due_age.labels(endpoint_id).set(item.oldest_due_s)

    @contextmanager
    def serving(self, host: str, port: int) -> Iterator[int]:
        """
        Answer requests until the end of the context; gives the port, for 0 the one that was free.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        try:
            server = _Server((host, port), self._answer)
        except OSError as error:
            raise ConfigError(
                "settings",
                (Problem("monitor.port", f"cannot listen on port {port} of {host}: {error.strerror or error}"),),
            ) from error
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True, name="monitor")
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Return status, content type and body."""
        match path.partition("?")[0]:
            case "/healthz":
                reasons = self._health.reasons()
                body = {
                    "status": "failing" if reasons else "ok",
                    "reasons": [{"reason": str(reason), "meaning": MEANING[reason]} for reason in reasons],
                }
                status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
                return status, "application/json", json.dumps(body).encode() + b"\n"
            case "/metrics":
                return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)
            case _:
                return HTTPStatus.NOT_FOUND, "text/plain", b"/healthz and /metrics are here\n"


class _Server(ThreadingHTTPServer):
    """Answers GET and HEAD, to a few clients at a time, each within a few seconds."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], answer: _Answer) -> None:
        self.answer = answer
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
        self._reply(is_whole=True)

    def do_HEAD(self) -> None:
        self._reply(is_whole=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        pass

    def _reply(self, *, is_whole: bool) -> None:
        status, content_type, body = self.server.answer(self.path)
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.end_headers()
        if is_whole:
            self.wfile.write(body)


def _hang_up(request: _Request) -> None:
    connection = request if isinstance(request, socket.socket) else request[1]
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
