"""
What the daemon says while it runs: one line per message, for people or for programs.

Hides: the logging module's handlers and formatters.
Keeps: a message is one line of printable characters whatever file names, headers or exceptions hold; nothing a
terminal obeys, nothing that looks like another message. Messages have a fixed event name and facts beside their text.
No text of an article, no address of an endpoint and no secret is given to a logger anywhere.
"""

import json
import logging
import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from classifier.errors import one_line

MAX_CHARS = 2_000  # of one text in a message; a file name has 255 bytes at most, a detail about 100


def event(name: str, **facts: object) -> dict[str, object]:
    """
    Return the ``extra`` of a log call: what kind of message it is, and its facts by name.

    >>> event("file_rejected", reason="binary")
    {'event': 'file_rejected', 'facts': {'reason': 'binary'}}
    """
    return {"event": name, "facts": facts}


@contextmanager
def to_stderr(level: int, *, as_json: bool) -> Iterator[None]:
    """
    Write our messages from *level* on, and warnings of others, to standard error, until the end of the context.

    Args:
        level: of the logging module, e.g. ``logging.INFO``.
        as_json: one JSON object per line; otherwise time, level and text.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else TextLines())
    root, own = logging.getLogger(), logging.getLogger("classifier")
    previous = own.level, threading.excepthook
    root.addHandler(handler)
    own.setLevel(level)
    threading.excepthook = _log_dead_thread
    try:
        yield
    finally:
        own.level, threading.excepthook = previous
        root.removeHandler(handler)


class TextLines(logging.Formatter):
    """For people: ``2026-01-02T03:04:05Z INFO scored 'a.txt': ...``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one printable line."""
        return f"{_instant(record)[:-5]}Z {record.levelname} {_text(record)}"


class JsonLines(logging.Formatter):
    """For programs: ``{"at", "level", "event", "message"}`` and the facts of the event, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one JSON object on one line."""
        facts = getattr(record, "facts", {})
        line = {str(name): _plain(value) for name, value in facts.items()} | {
            "at": _instant(record),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", None) or record.name,
            "message": _text(record),
        }
        return json.dumps(line, ensure_ascii=True, allow_nan=False, sort_keys=True)


def _instant(record: logging.LogRecord) -> str:
    seconds, milliseconds = divmod(int(record.created * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03}Z"


def _text(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        text += f": {type(error).__name__}: {error}"
    return _cut(text)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, dict):
        return {_cut(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return _cut(str(value))


def _cut(text: str) -> str:
    return one_line(text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "\u2026")


def _log_dead_thread(args: threading.ExceptHookArgs) -> None:
    """Say in one line that a thread died; Python's own way is a traceback of many."""
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread else "?"
        logging.getLogger("classifier").critical(
            "thread %s ended: %s: %s", name, type(args.exc_value).__name__, args.exc_value, extra=event("thread_ended")
        )
