"""
The real daemon in a folder of its own, and what can be asked about it from outside; with a small model, as a `Rig`.

Keeps: the ledger and the log lie beside the settings file.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from receiver import Receiver

from classifier import Training, save_model

WAIT_S = 120.0
PNG = b"\x89PNG\r\n\x1a\n"
PHRASES = (
    "new charging piles and charging stations for cars stand beside the road; operators receive a subsidy",
    "turbines of the wind farm turn above the sea; the action plan sets goals and a roadmap for the coming years",
)
RULES = """
[[rule]]
id = "any"
sectors = ["charging", "wind"]
bands = ["alert", "review"]
to = ["desk"]
"""
DIGESTS = """
[[rule]]
id = "together"
sectors = ["charging", "wind"]
bands = ["alert", "review"]
digest = "every 1s"
to = ["desk"]
"""


def page(number: int) -> bytes:
    """Return an article that meets the rule, another one for every number."""
    words = " ".join("abcdefghij"[int(digit)] * 3 for digit in str(number))
    return f"Headline {words}\n\nNews {words}: {PHRASES[number % 2]}.\n".encode()


def poll(condition: Callable[[], object], what: str = "it", *, config: Path | None = None) -> None:
    """Wait until the condition holds; fail when it does not in time, with what the daemon of *config* said."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        log = f"; the daemon said:\n{said(config)}" if config and time.monotonic() >= deadline else ""
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:g} s{log}"
        time.sleep(0.02)


@contextmanager
def daemon(config: Path, command: str = "watch", **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon; killed at the end if it is still there."""
    with (config.parent / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "classifier", command, "-c", str(config)],
            stdout=log,
            stderr=log,
            env=os.environ | environment,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def stop(process: "subprocess.Popen[bytes]") -> int:
    """End the daemon as a service manager does; return its exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(WAIT_S)


def said(config: Path) -> str:
    """Return the log."""
    path = config.parent / "daemon.log"
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def rows(config: Path, query: str) -> list[tuple[Any, ...]]:
    """Look into the ledger; nothing while there is none."""
    try:
        with closing(
            sqlite3.connect(f"file:{config.parent / 'classifier.db'}?mode=ro", uri=True, timeout=10)
        ) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def count(config: Path, table: str, where: str = "1") -> int:
    """Count rows of the ledger; none while there is none."""
    found = rows(config, f"SELECT count(*) FROM {table} WHERE {where}")  # noqa: S608 - of this test's own making
    return int(found[0][0]) if found else 0


def audit(config: Path) -> dict[str, Any]:
    """Return what `classifier audit` says; it must find no fault."""
    result = subprocess.run(
        [sys.executable, "-m", "classifier", "audit", "-c", str(config), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    books: dict[str, Any] = json.loads(result.stdout)
    return books


class Rig:
    """A folder with settings, a model, an inbox and, later, a ledger and a log."""

    def __init__(self, base: Path, receiver: Receiver, training: Training) -> None:
        self.base = base
        self.receiver = receiver
        self.inbox = base / "inbox"
        self.config = base / "classifier.toml"
        self.database = base / "classifier.db"
        self.log = base / "daemon.log"
        self.inbox.mkdir(exist_ok=True)
        save_model(base / "model", training.model, training.pipeline, {}, "")
        self.configure()

    def configure(
        self,
        *,
        folder: str = "settle_s = 0\nscan_every_s = 0.1",
        delivery: str = "",
        extra: str = "",
        rules: str = RULES,
        check_every_s: float = 0.05,
    ) -> None:
        """Write the settings, whole at once."""
        draft = self.config.with_name(".draft")
        draft.write_text(
            f'{extra}\n[folder]\npath = "inbox"\n{folder}\n[model]\npath = "model"\n'
            f"[stories]\ncooldown_s = 0\n[delivery]\ncheck_every_s = {check_every_s}\n{delivery}\n{rules}\n"
            f'[[endpoint]]\nid = "desk"\nurl = "{self.receiver.url}"\nsecret = "{self.receiver.secret}"\n'
            f'allow = ["127.0.0.1/32:{self.receiver.port}"]\nrate_per_s = 1000\nburst = 1000\n',
            encoding="utf-8",
        )
        draft.rename(self.config)

    def drop(self, name: str, content: bytes) -> Path:
        """Put a file into the inbox as a careful program does."""
        draft = self.inbox / f".{name}"
        draft.write_bytes(content)
        return draft.rename(self.inbox / name)

    def daemon(self, command: str = "watch", **environment: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Run the daemon; killed at the end if it is still there."""
        return daemon(self.config, command, **environment)

    def stop(self, process: "subprocess.Popen[bytes]") -> int:
        """End the daemon as a service manager does; return its exit code."""
        return stop(process)

    def said(self) -> str:
        """Return the log."""
        return said(self.config)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Look into the ledger; nothing while there is none."""
        return rows(self.config, query)

    def states(self) -> dict[str, str]:
        """Return file name to state."""
        return dict(self.rows("SELECT path, state FROM files"))

    def count(self, table: str, where: str = "1") -> int:
        """Count rows."""
        return count(self.config, table, where)

    def audit(self) -> dict[str, Any]:
        """Return what `classifier audit` says; it must find no fault."""
        return audit(self.config)
