"""A ledger moved from SQLite to PostgreSQL and back by the command, and what must not be taken for one."""

import datetime as dt
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from fakes import version_of
from messages import put, scored
from postgres import Postgres

from classifier import LedgerError, parse_article
from classifier.adapters.ledger import SqlLedger, check_url, copy_ledger
from classifier.adapters.ledger.schema import metadata
from classifier.adapters.places import alone_with
from classifier.cli import main
from classifier.delivery import Delivered, Outcome, RetryAt
from classifier.delivery import Result as Answer
from classifier.ports import Duplicate, Held, Rejected
from classifier.telling import make_telling

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)
LEASE = dt.timedelta(seconds=60)
SENTENCES = "The mayor of Rizhao said operators of taxis receive a subsidy of 300 yuan for new charging piles."
FILLED = ("articles", "attempts", "endpoint_keys", "endpoints", "files", "fresh", "held", "matches", "outbox", "told")
N_FILES = 1_200  # more than are read at once


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[str]:
    """Return the URL of a database with nothing in it."""
    name = f"t{secrets.token_hex(8)}"
    yield postgres.make(name, template="template0")
    postgres.drop(name)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite ledger with rows of every kind."""
    path = tmp_path_factory.mktemp("source") / "ledger.db"
    ledger = SqlLedger(f"sqlite:///{path}")
    verdicts: list[Any] = []
    for number in range(N_FILES):
        verdict = scored(f"text {number}", "desk", "wire")
        if number % 3 == 0:
            verdict = scored(f"text {number}", "desk", "wire", "ops")
            telling = make_telling(parse_article(f"{number} {SENTENCES}".encode(), f"{number}.txt"))
            telling = replace(telling, article_id=verdict.article.id)
            verdict = scored(f"text {number}", "desk", "wire", "ops")
            verdict = replace(
                verdict,
                messages=verdict.messages[:2],
                telling=telling,
                story_id=verdict.article.id,
                told={("r", "desk"): frozenset({"wind"})},
                held=(Held(rule_id="r", endpoint_id="ops", reason="told"),),
            )
        verdicts.append((version_of(f"{number}.txt", b"x" * number), verdict))
    ledger.record(verdicts, NOW)
    put(ledger, version_of("copy", b"c"), Duplicate(sha256=verdicts[0][1].article.id), NOW)
    put(ledger, version_of("nul", b"n"), Rejected(reason="binary", detail="a \0 in it"), NOW)
    for step in (Delivered(), RetryAt(NOW), Delivered()):
        claim = ledger.claim("desk", NOW, LEASE)
        assert claim is not None
        ledger.settle(claim, Outcome(result=Answer.DELIVERED, status=204), step, NOW, lambda health: (health, ()))
    ledger.retired_keys("desk", ["new", "old"], NOW)
    ledger.close()
    return path


def content(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables."""
    engine = sa.create_engine(check_url(url))
    with engine.connect() as connection:
        found = {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return found


def tables(url: str) -> list[str]:
    """Return the names of all tables."""
    engine = sa.create_engine(check_url(url))
    with engine.connect() as connection:
        found: list[str] = sa.inspect(connection).get_table_names()
    engine.dispose()
    return found


def copy(source: str, target: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["ledger", "copy", source, target])


def test_a_copy_has_every_row_and_works_on(source: Path, empty: str, tmp_path: Path) -> None:
    """To PostgreSQL and back to SQLite; new rows get numbers of their own, messages go on from where they were."""
    before = content(f"sqlite:///{source}")
    result = copy(f"sqlite:///{source}", empty)
    assert result.exit_code == 0, result.output
    assert f"copied: {N_FILES + 2} files: 1 duplicate, 1 rejected, {N_FILES} scored" in result.output
    assert content(empty) == before
    assert [name for name in FILLED if not before[name]] == []

    ledger = SqlLedger(empty, migrate=False)
    assert put(ledger, version_of("new", b"new"), scored("new", "desk"), NOW) == "scored"
    claim = ledger.claim("desk", NOW, LEASE)
    assert claim is not None
    assert ledger.settle(claim, Outcome(result=Answer.DELIVERED), Delivered(), NOW)
    assert ledger.audit().files["scored"] == N_FILES + 1
    assert ledger.audit().faults == ()
    ledger.close()
    result = copy(empty, f"sqlite:///{tmp_path / 'back.db'}")
    assert result.exit_code == 0, result.output
    assert content(f"sqlite:///{tmp_path / 'back.db'}") == content(empty)


def test_a_target_with_something_in_it_is_refused_and_left_alone(source: Path, postgres_url: str) -> None:
    """An empty ledger is fine; one with a single row is not, nor is the source itself."""
    ledger = SqlLedger(postgres_url)
    put(ledger, version_of("a"), Rejected(reason="binary", detail="x"), NOW)
    result = copy(f"sqlite:///{source}", postgres_url)

    assert result.exit_code == 4
    assert "there is a ledger with something in it; name an empty database" in result.output
    assert ledger.audit().files == {"rejected": 1}
    ledger.close()
    result = copy(f"sqlite:///{source}", f"sqlite:///{source}")
    assert "source and target are the same database" in result.output


def test_a_source_that_a_daemon_has_is_refused(source: Path, empty: str, postgres_url: str) -> None:
    """The lock beside a file tells, and of a server its sessions."""
    with alone_with(source):
        result = copy(f"sqlite:///{source}", empty)
    assert result.exit_code == 1
    assert "another classifier has this ledger" in result.output

    daemon = SqlLedger(postgres_url)
    daemon.audit()
    result = copy(postgres_url, empty)
    assert result.exit_code == 4
    assert "1 sessions of a classifier have it open; stop the daemons first" in result.output
    daemon.close()
    assert tables(empty) == []
    assert copy(postgres_url, empty).exit_code == 0


def test_what_is_no_ledger_is_not_copied(tmp_path: Path, empty: str) -> None:
    """A misspelt name makes nothing, on neither side; books that do not add up are not carried on."""
    result = copy(f"sqlite:///{tmp_path / 'nowhere.db'}", empty)
    assert "no ledger here yet" in result.output
    assert not (tmp_path / "nowhere.db").exists()
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    put(ledger, version_of("a"), scored("one", "desk"), NOW)
    with ledger._database._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM outbox")
    ledger.close()
    with pytest.raises(LedgerError, match="the matches asked for 1 messages but 0 are stored; nothing was kept"):
        copy_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", empty)
    assert tables(empty) == []


def test_a_copy_that_is_killed_leaves_nothing_that_looks_like_a_ledger(
    source: Path, empty: str, tmp_path: Path
) -> None:
    """In a server and in a file alike; the next copy succeeds."""
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\n"
        "from classifier.adapters.ledger import copy_ledger\n"
        "def stop(table, done, size):\n"
        "    if table == 'outbox':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "copy_ledger(sys.argv[1], sys.argv[2], stop)\n"
    )
    in_file = f"sqlite:///{tmp_path / 'copy.db'}"
    for target in (empty, in_file):
        killed = subprocess.run(
            [sys.executable, str(script), f"sqlite:///{source}", target], env=os.environ, check=False
        )
        assert killed.returncode == -9
        assert tables(target) == []
        assert copy(f"sqlite:///{source}", target).exit_code == 0
    assert content(empty) == content(in_file)
