"""
The daemon killed at every named point, again and again: nothing is lost, nothing is told twice but with the same id.

`make test` makes 24 rounds, `make soak` 200, or as many as ten minutes allow: SOAK_ROUNDS and SOAK_S say so. They are
dealt to four folders, so that they can be played side by side.
"""

import hashlib
import json
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from receiver import Receiver
from rig import DIGESTS, PNG, RULES, WAIT_S, Rig, page, poll

from classifier import LedgerError, Training
from classifier.adapters.ledger import SqlLedger
from classifier.alerts import DIGEST_PREFIX
from classifier.ports import CHECKPOINTS

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "24"))
SECONDS = float(os.environ.get("SOAK_S", "600"))
PARTS = 4
LONG_AGO_US = 1_000 * 86_400 * 1_000_000
_HAS_OPEN = (
    "SELECT 1 FROM outbox o WHERE o.article_id = matches.article_id AND o.rule_id = matches.rule_id"
    " AND o.state <> 'delivered'"
)
MAKE_OLD = (
    "UPDATE outbox SET settled_at = settled_at - ? WHERE state = 'delivered'",
    "UPDATE attempts SET tried_at = tried_at - ?",
    f"UPDATE matches SET created_at = created_at - ? WHERE NOT EXISTS ({_HAS_OPEN})",  # noqa: S608 - our own text
)


class Crashes:
    """Rounds of: some files, a daemon that is killed, a look at the books it left behind."""

    def __init__(self, rig: Rig, chance: random.Random) -> None:
        self.rig = rig
        self.chance = chance
        self.dropped: dict[str, bytes] = {}
        self.kills = 0
        self.n_verified = 0
        self.answers: list[tuple[int, dict[str, str], bytes]] = [
            (500, {}, b"") if chance.random() < 0.1 else (204, {}, b"") for _ in range(10_000)
        ]
        rig.receiver.answers = list(self.answers)
        self.pruned: set[str] = set()

    def drop_files(self) -> None:
        """Put new articles, a repeated one and something that is no text into the folder."""
        for _ in range(self.chance.randint(1, 5)):
            number = len(self.dropped)
            kind = self.chance.random()
            old = self.chance.choice(list(self.dropped.values())) if self.dropped else page(0)
            content = page(number) if kind < 0.7 else old if kind < 0.85 else PNG + str(number).encode()
            self.dropped[f"{number:04}.txt"] = content
            self.rig.drop(f"{number:04}.txt", content)

    def make_old(self) -> None:
        """Let what is settled seem to have been settled long ago, so that there is something to forget."""
        if not self.rig.rows("SELECT 1 FROM sqlite_master WHERE name = 'outbox'"):
            return  # the last one was killed while it made the tables
        with sqlite3.connect(self.rig.database, timeout=10) as connection:
            ids = [row[0] for row in connection.execute("SELECT id FROM outbox WHERE state = 'delivered'")]
            for statement in MAKE_OLD:
                connection.execute(statement, (LONG_AGO_US,))
        connection.close()
        self.pruned.update(ids)

    def is_quiet(self) -> bool:
        """Say whether nothing is left to do."""
        rig = self.rig
        is_told = not rig.count("outbox", "state = 'pending'") and not rig.count("aside", "message_id IS NULL")
        return rig.count("files") == len(self.dropped) and is_told

    def play(self, point: str, time_no: int) -> None:
        """Run the daemon until it dies at *point*, or kill it when it has nothing to do any more."""
        self.drop_files()
        if point in {"pruning", "pruned"}:
            self.make_old()
        starts = self.rig.said().count("watching")
        with self.rig.daemon(CLASSIFIER_CRASH_AT=f"{point}:{time_no}") as process:
            if point == "swapping":
                poll(lambda: self.rig.said().count("watching") > starts)
                self.rig.configure(delivery=DELIVERY, extra=f"# {len(self.dropped)}", rules=RULES + DIGESTS)
            deadline = time.monotonic() + WAIT_S
            while process.poll() is None and not (point != "swapping" and self.is_quiet()):
                assert time.monotonic() < deadline, f"round at {point}:{time_no} hangs\n{self.rig.said()[-3_000:]}"
                time.sleep(0.02)
        self.kills += 1
        self.verify()
        assert process.returncode == -signal.SIGKILL, self.rig.said()[-3_000:]

    def verify(self) -> None:
        """Check the signatures of what has come since the last time, for they are good for five minutes only."""
        n_now = len(self.rig.receiver.requests)
        self.rig.receiver.verified(self.n_verified)
        self.n_verified = n_now

    def check(self, point: str) -> None:
        """Whatever the moment of the kill, the books add up."""
        try:
            ledger = SqlLedger(f"sqlite:///{self.rig.database}", migrate=False)
        except LedgerError:
            assert point == "migrating"  # there is no schema yet
            return
        audit = ledger.audit()
        ledger.close()
        assert audit.faults == (), point
        assert sum(audit.files.values()) <= len(self.dropped)

    def finish(self) -> None:
        """Let the daemon do what is left, and check that nothing was lost on the way."""
        rig = self.rig
        self.drop_files()
        with rig.daemon() as process:
            poll(self.is_quiet, "the end")
            assert rig.stop(process) == 0
        books = rig.audit()
        articles = {content for content in self.dropped.values() if not content.startswith(PNG)}
        ids = rig.receiver.ids()
        assert books["files"]["total"] == len(self.dropped)
        assert books["files"]["scored"] == len(articles)
        assert books["rejections"].get("binary", 0) == sum(c.startswith(PNG) for c in self.dropped.values())
        assert set(books["rejections"]) <= {"binary"}
        assert {row[0] for row in rig.rows("SELECT id FROM outbox")} | self.pruned == set(ids)
        digests = {number for number in ids if number.startswith(DIGEST_PREFIX)}
        assert len(set(ids) - digests) == len(articles)
        # Every article is in exactly one digest, of those that were delivered.
        bodies = {
            request.headers["webhook-id"]: json.loads(request.body)["data"]
            for request in rig.receiver.requests
            if request.headers["webhook-id"].startswith(DIGEST_PREFIX)
        }
        told = [
            alert["article"]["id"]
            for data in bodies.values()
            for section in data["sections"]
            for story in section["stories"]
            for alert in story["alerts"]
        ]
        assert all(data["left_out"] == 0 for data in bodies.values())
        assert sorted(told) == sorted(hashlib.sha256(content).hexdigest() for content in articles)
        messages = {(request.headers["webhook-id"], request.body) for request in rig.receiver.requests}
        assert len(messages) == len(set(ids)), "one id, two bodies"
        taken = [number for number, (status, _, _) in zip(ids, self.answers, strict=False) if status == 204]
        assert len(taken) - len(set(taken)) <= self.kills  # one try may be on its way when the daemon is killed
        self.verify()


DELIVERY = "total_timeout_s = 1.5\nlease_s = 3.5\njitter = 0.0\nretry_s = [" + ", ".join(["0.1"] * 40) + "]"


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_d1_kills_at_every_point_lose_nothing(
    tmp_path: Path, receiver: Receiver, small_training: Training, part: int
) -> None:
    """Each point at least once over all parts, in any order, some of them not at the first time they are reached."""
    seed = random.randrange(1 << 32)  # noqa: S311 - which rounds are played
    chance = random.Random(seed)  # noqa: S311
    rig = Rig(tmp_path, receiver, small_training)
    rig.configure(delivery=DELIVERY, rules=RULES + DIGESTS)
    crashes = Crashes(rig, chance)
    began = time.monotonic()
    try:
        for number, point in dealt(part, chance):
            if time.monotonic() - began > SECONDS:
                break
            crashes.play(point, 1 if number < len(CHECKPOINTS) or point == "swapping" else chance.randint(1, 3))
            crashes.check(point)
        crashes.finish()
    except AssertionError as error:
        error.add_note(f"seed {seed}, {crashes.kills} kills")
        raise


def dealt(part: int, chance: random.Random) -> list[tuple[int, str]]:
    """Return the rounds of one part, each with its number among all of them; a schema is made in the first one only."""
    once = ["migrating", "migrated"]
    rest = [point for point in CHECKPOINTS if point not in once]
    numbers = range(part, ROUNDS, PARTS)
    mine = (once + rest)[part::PARTS][: len(numbers)]
    first = mine[:1] if part < len(once) else []
    others = mine[len(first) :]
    chance.shuffle(others)
    drawn = chance.choices(rest, k=len(numbers) - len(mine))
    return list(zip(numbers, first + others + drawn, strict=True))
