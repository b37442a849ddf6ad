"""Log lines: one each, printable, whatever is in them."""

import json
import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.errors import ArticleError, ConfigError, LedgerError, ModelError, Problem, one_line
from classifier.logs import JsonLines, TextLines, event, to_stderr

HOSTILE = "evil\r\n2026-01-01 CRITICAL forged\x1b[31m\x9b\u202e\u2066\u200b\u2028\ud800\x00\x85.txt"
_ANY = st.text(st.characters(), max_size=200)


def _record(message: str, *args: object, facts: dict[str, object] | None = None) -> logging.LogRecord:
    record = logging.LogRecord("classifier", logging.INFO, __file__, 1, message, args, None)
    record.created = 1_767_323_045.678
    if facts is not None:
        record.__dict__.update(event("file_scored", **facts))
    return record


@given(_ANY, _ANY)
def test_f7_every_message_is_one_printable_line(text: str, fact: str) -> None:
    """For people and for programs."""
    record = _record("scored %s", text, facts={"file": fact, "score": float("nan"), fact: [fact, {fact: fact}]})
    line, json_line = TextLines().format(record), JsonLines().format(record)

    assert line.isprintable()
    assert json_line.isascii()
    assert json_line.isprintable()
    assert json.loads(json_line)["message"].isprintable()


def test_f7_a_hostile_name_forges_nothing() -> None:
    """Line ends, escape sequences, bidirectional overrides, invisible characters and lone surrogates are shown."""
    assert TextLines().format(_record("rejected %s", HOSTILE)) == (
        "2026-01-02T03:04:05Z INFO rejected evil\\r\\n2026-01-01 CRITICAL forged\\x1b[31m\\x9b\\u202e\\u2066\\u200b"
        "\\u2028\\ud800\\x00\\x85.txt"
    )


def test_json_lines_hold_event_and_facts() -> None:
    """The time in UTC with milliseconds; what is no number is text."""
    record = _record("x", facts={"file": "a.txt", "messages": 2, "model": None, "tags": {"wind": 0.5}, "at": "forged"})

    assert json.loads(JsonLines().format(record)) == {
        "at": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "event": "file_scored",
        "message": "x",
        "file": "a.txt",
        "messages": 2,
        "model": None,
        "tags": {"wind": 0.5},
    }


def test_a_message_has_a_bound() -> None:
    """However long what it says."""
    assert len(TextLines().format(_record("%s", "x" * 10**6))) < 2_100


@pytest.mark.parametrize(
    "error",
    [
        ConfigError(HOSTILE, (Problem(HOSTILE, HOSTILE),)),
        ArticleError(HOSTILE, "binary", HOSTILE),
        ModelError(HOSTILE, HOSTILE),
        LedgerError(HOSTILE, HOSTILE),
    ],
)
def test_f7_every_error_of_ours_is_one_printable_line(error: Exception) -> None:
    """Wherever it is printed."""
    assert str(error).isprintable()
    assert str(Problem(HOSTILE, HOSTILE)).isprintable()
    assert one_line(str(error)) == str(error)


def test_exceptions_and_dead_threads_are_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback of many lines; afterwards everything is as it was."""
    root, hook = logging.getLogger(), threading.excepthook
    handlers = list(root.handlers)

    def die() -> None:
        message = "bad\nluck"
        raise RuntimeError(message)

    with to_stderr(logging.INFO, as_json=False):
        thread = threading.Thread(target=die, name="worker")
        thread.start()
        thread.join()
        try:
            die()
        except RuntimeError:
            logging.getLogger("classifier").exception("job failed")
    lines = capsys.readouterr().err.splitlines()

    assert [line[21:] for line in lines] == [
        "CRITICAL thread worker ended: RuntimeError: bad\\nluck",
        "ERROR job failed: RuntimeError: bad\\nluck",
    ]
    assert (root.handlers, threading.excepthook) == (handlers, hook)
