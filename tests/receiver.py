"""A real webhook receiver on loopback that keeps what it got and answers as told."""

import base64
import secrets
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    headers: dict[str, str]
    body: bytes


class Receiver:
    """
    Answers 204, or with the next of `answers`: (status, headers, body).

    Use as a context manager; `verified` gives the envelopes, checked by the reference library.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.gate = threading.Event()  # cleared, no request is answered until it is set again
        self.gate.set()
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with receiver._lock:
                    receiver.requests.append(Request({k.lower(): v for k, v in self.headers.items()}, body))
                    status, headers, reply = receiver.answers.pop(0) if receiver.answers else (204, {}, b"")
                receiver.gate.wait(30)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def verified(self, first: int = 0) -> list[dict[str, Any]]:
        """Return every envelope received, from the *first* on; raises when a signature is wrong or five minutes old."""
        webhook = Webhook(self.secret)
        return [webhook.verify(request.body, request.headers) for request in self.requests[first:]]

    def ids(self) -> list[str]:
        """Return the webhook-id of every request, in order."""
        return [request.headers["webhook-id"] for request in list(self.requests)]
