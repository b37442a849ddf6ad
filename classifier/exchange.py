"""One request over HTTP and its reply, as values: what is answered needs no server, and a server nothing of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    A request.

    Attributes:
        method: ``GET``, ``HEAD`` or ``POST``.
        path: without the query.
        header: looks a header up by its lower-case name.
        body: empty when there is none.
    """

    method: str
    path: str
    header: Callable[[str], str | None] = lambda _name: None
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is answered."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Asked], Reply]


def json_reply(status: HTTPStatus, record: Mapping[str, object], **headers: str) -> Reply:
    """Return *record* as the reply; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(
        status=status, content_type="application/json", body=json.dumps(record).encode() + b"\n", headers=named
    )
