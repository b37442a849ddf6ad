"""
Four daemons as processes, one folder, one PostgreSQL: one is killed in the middle of a delivery, one stands still for
longer than its lease, one loses its sessions, one the network to the database. Nothing is lost, and nothing is told
twice but what was on its way at those moments, with the same id.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from postgres import Postgres
from proxy import Proxy
from receiver import Receiver
from rig import PNG, WAIT_S, Rig, page, poll

from classifier import Training
from classifier.adapters.ledger import check_url

DELIVERY = "total_timeout_s = 4\nlease_s = 8.5\njitter = 0.0\nretry_s = [" + ", ".join(["0.1"] * 40) + "]"
FOLDER = "settle_s = 0.2\nscan_every_s = 0.5"


class Fleet:
    """Daemons that share a folder and a ledger, each with a log of its own, and what can be seen of their ledger."""

    def __init__(self, rig: Rig, url: str) -> None:
        self.rig = rig
        self.url = url
        self.engine = sa.create_engine(check_url(url), isolation_level="AUTOCOMMIT")
        self.dropped: dict[str, bytes] = {}

    def rows(self, query: str) -> list[Any]:
        """Look into the ledger."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def count(self, table: str, where: str = "true") -> int:
        """Count rows."""
        return int(self.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])  # noqa: S608 - of the tests' own

    def drop(self, count: int) -> None:
        """Put so many files into the folder: articles, a copy now and then, and what is no text."""
        for _ in range(count):
            number = len(self.dropped)
            copy = number % 10 == 9
            content = self.dropped[f"{number - 5:04}.txt"] if copy else PNG + b"1" if number % 25 == 7 else page(number)
            self.dropped[f"{number:04}.txt"] = content
            self.rig.drop(f"{number:04}.txt", content)

    def log(self, name: str) -> str:
        """Return what a daemon has said."""
        return (self.rig.base / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    @contextmanager
    def daemon(self, name: str, url: str | None = None, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a daemon, ready to work; killed at the end if it is still there."""
        named = sa.make_url(url or self.url).update_query_dict({"application_name": f"classifier {name}"})
        environment["LEDGER_URL"] = named.render_as_string(hide_password=False)
        with (self.rig.base / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "classifier", "watch", "-c", str(self.rig.config)],
                stdout=log,
                stderr=log,
                env=os.environ | environment,
            )
        try:
            poll(lambda: "watching" in self.log(name) or process.poll() is not None, name)
            assert process.poll() is None, self.log(name)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def is_quiet(self) -> bool:
        """Say whether nothing is left to do."""
        return self.count("files") == len(self.dropped) and not self.count("outbox", "state = 'pending'")


@pytest.fixture
def fleet(tmp_path: Path, receiver: Receiver, small_training: Training, postgres_url: str) -> Iterator[Fleet]:
    """Return a fleet of nobody yet."""
    rig = Rig(tmp_path, receiver, small_training)
    ledger = '[ledger]\nurl_env = "LEDGER_URL"'
    rig.configure(folder=FOLDER, delivery=DELIVERY, extra=ledger, check_every_s=0.5)  # four would take all of two cores
    fleet = Fleet(rig, postgres_url)
    yield fleet
    fleet.engine.dispose()


def through(proxy: Proxy, url: str) -> str:
    """Return the URL that goes through a proxy."""
    parsed = sa.make_url(url)
    query = {name: value for name, value in parsed.query.items() if name != "host"}
    return parsed.set(host="127.0.0.1", port=proxy.port, query=query).render_as_string(hide_password=False)


def behind(postgres: Postgres) -> str | tuple[str, int]:
    """Return where the server listens."""
    if folder := postgres.url.query.get("host"):
        return f"{folder}/.s.PGSQL.{postgres.url.port or 5432}"
    return postgres.url.host or "127.0.0.1", postgres.url.port or 5432


@pytest.mark.long
def test_four_daemons_lose_nothing_whatever_happens_to_them(
    fleet: Fleet, postgres: Postgres, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One killed, one frozen, one whose sessions are ended, one whose network is cut; then the books."""
    with ExitStack() as held:
        proxy = held.enter_context(Proxy(behind(postgres)))
        killed = held.enter_context(fleet.daemon("killed", CLASSIFIER_CRASH_AT="sent:15"))
        frozen = held.enter_context(fleet.daemon("frozen"))
        ended = held.enter_context(fleet.daemon("ended"))
        cut = held.enter_context(fleet.daemon("cut", through(proxy, fleet.url)))
        fleet.drop(120)
        poll(lambda: fleet.count("outbox", "state = 'delivered'") > 20, "the first deliveries")

        receiver.gate.clear()  # whoever sends now waits for an answer
        fleet.drop(60)
        poll(lambda: fleet.count("outbox", "token IS NOT NULL") >= 3 + (killed.poll() is None), "a message for each")
        frozen.send_signal(signal.SIGSTOP)
        under_way = [token for (token,) in fleet.rows("SELECT token FROM outbox WHERE token IS NOT NULL")]
        receiver.gate.set()
        fleet.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'classifier ended'")
        poll(proxy.cut, "connections to cut")
        fleet.drop(60)
        poll(lambda: "failed: LedgerError" in fleet.log("cut"), "the cut to be noticed")
        proxy.mend()
        poll(lambda: killed.poll() is not None, "the kill")
        tokens = ", ".join(f"'{token}'" for token in under_way)
        poll(lambda: not fleet.count("outbox", f"token IN ({tokens})"), "others to take over from the frozen one")
        frozen.send_signal(signal.SIGCONT)
        fleet.drop(60)
        poll(fleet.is_quiet, "the end")
        poll(lambda: "works again" in fleet.log("cut"), "the cut to be mended")
        for _ in range(20):  # who gets which file is a matter of luck
            if all(" scored " in fleet.log(name) for name in ("frozen", "ended", "cut")):
                break
            fleet.drop(60)
            poll(fleet.is_quiet, "one more end")
        assert killed.returncode == -signal.SIGKILL
        for process in (frozen, ended, cut):
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0

    monkeypatch.setenv("LEDGER_URL", fleet.url)
    books = fleet.rig.audit()
    articles = {content for content in fleet.dropped.values() if not content.startswith(PNG)}
    assert books["files"]["total"] == len(fleet.dropped) >= 300
    assert books["files"]["scored"] == len(articles)
    assert books["messages"] == {"total": len(articles), "delivered": len(articles)}
    assert fleet.count("file_claims") == 0
    for name in ("frozen", "ended", "cut"):
        assert " scored " in fleet.log(name), name

    receiver.verified()
    requests = Counter(receiver.ids())
    tries = dict(fleet.rows("SELECT message_id, count(*) FROM attempts GROUP BY 1"))
    assert {row[0] for row in fleet.rows("SELECT id FROM outbox")} == set(requests)
    assert len({(request.headers["webhook-id"], request.body) for request in receiver.requests}) == len(requests)
    assert fleet.rows("SELECT message_id FROM attempts WHERE result = 'delivered' GROUP BY 1 HAVING count(*) > 1") == []
    unknown = {name: number - tries[name] for name, number in requests.items() if number > tries[name]}
    assert sum(unknown.values()) <= 4, unknown  # each of the four had one message under way
