"""
A month of a feed: articles of the corpus come as files, on a fake clock, through the real folder, model and ledger.

The table says what comes and exactly what is sent because of it. The articles were chosen so that nobody can doubt what
they are about; `data/month.json` names them.
"""

import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fakes import FakeClock, FakeSender

from classifier import Model, parse_rules
from classifier.adapters.inbox import FolderInbox
from classifier.adapters.ledger import SqlLedger
from classifier.delivery import RetryPolicy
from classifier.pace import parse_pace
from classifier.pipeline import Deliver, Digests, Ingest, Judge
from classifier.ports import FileVersion, Read
from classifier.silences import Silence

ROOT = Path(__file__).resolve().parents[2]
BERLIN = ZoneInfo("Europe/Berlin")
HOUR = dt.timedelta(hours=1)
RULES = [
    {"id": "hydrogen", "sectors": ["hydrogen"], "min_score": 0.9, "to": ["desk", "paper"]},
    {"id": "wind", "sectors": ["wind"], "min_score": 0.9, "to": ["paper"]},
]
ENDPOINTS = {
    "desk": {"quiet": "22:00-07:00", "at_most": "6/day", "timezone": "Europe/Berlin"},
    "paper": {"digest": "daily 08:00", "timezone": "Europe/Berlin"},
}

# Hours are those of Berlin. What comes: h articles on hydrogen, w on wind, n on neither; r a reprint and c a correction
# of the last one on hydrogen, d its bytes once more. What is sent: alerts one by one, and digests with their hour and
# how many alerts they tell, of these beyond the budget.
#   day        comes                       the desk gets                       the paper gets
MONTH = """
    Sun 01   | 10:n4                     |                                   |
    Mon 02   | 09:h2 11:n6 14:w1         | 2 alerts                          |
    Tue 03   | 10:h1 11:n6 15:r1         | 1 alerts                          | 08:00 of 3
    Wed 04   | 09:h1 11:n6 13:c1 23:h2   | 2 alerts                          | 08:00 of 1
    Thu 05   | 07:h1 11:n6               | 07:00 of 2, 1 alerts              | 08:00 of 5
    Fri 06   | 10:h9 11:n6               | 6 alerts                          |
    Sat 07   |                           | 07:00 of 3, 3 over                | 08:00 of 9
    Sun 08   |                           |                                   |
    Mon 09   | 03:h2 09:h1 11:n6         | 07:00 of 2, 1 alerts              | 08:00 of 2
    Tue 10   | 09:h3 12:h3 16:h2         | 6 alerts                          | 08:00 of 1
    Wed 11   | 02:h1 11:n6 23:w2         | 07:00 of 3, 2 over                | 08:00 of 9
    Thu 12   | 10:d1 11:n6               |                                   | 08:00 of 2
    Fri 13   | 11:r1 15:r1               | 1 alerts                          |
    Sat 14   |                           |                                   | 08:00 of 1
    Sun 15   |                           |                                   |
    Mon 16   | 09:h1 11:n6               | 1 alerts                          |
    Tue 17   | 09:h2 12:h4 20:w1         | 2 alerts                          | 08:00 of 1
    Wed 18   | 09:h1 15:h2               | 16:00 of 5, 2 alerts              | 16:00 of 2
    Thu 19   | 10:h1 11:n6               | 1 alerts                          | 08:00 of 8
    Fri 20   | 10:h2w2                   | 2 alerts                          | 08:00 of 1
    Sat 21   |                           |                                   | 08:00 of 4
    Sun 22   | 12:h1                     | 1 alerts                          |
    Mon 23   | 09:h3 11:n6               |                                   | 08:00 of 1
    Tue 24   | 09:h1 11:n6               | 1 alerts                          | 08:00 of 3
    Wed 25   | 10:h2 11:c1               | 3 alerts                          | 08:00 of 1
    Thu 26   | 11:n6 22:h1               |                                   | 08:00 of 3
    Fri 27   | 06:h1 11:n6               | 07:00 of 2                        | 08:00 of 2
    Sat 28   | 23:h2                     |                                   |
    Sun 29   | 03:h1                     | 07:00 of 3                        | 08:00 of 3
    Mon 30   | 09:h2 11:n6               | 2 alerts                          |
    Tue 31   | 11:n6 21:h1               | 1 alerts                          | 08:00 of 2
"""
# From Tuesday 17, 10:00, to Wednesday 18, 15:59, nothing runs: what has come long before is one digest then, and so is
# what was overdue. On Monday 23 somebody silences hydrogen for the desk. On Sunday 29 the clocks are put forward.
DOWN = (dt.datetime(2026, 3, 17, 10, tzinfo=BERLIN), dt.datetime(2026, 3, 18, 16, tzinfo=BERLIN))
SILENCED = (dt.datetime(2026, 3, 23, tzinfo=BERLIN), dt.datetime(2026, 3, 24, tzinfo=BERLIN))


def test_a_month_sends_exactly_what_the_table_says(
    tmp_path: Path, model: Model, corpus_rows: list[dict[str, object]]
) -> None:
    """Every alert and every digest, no more and no less; and the books add up."""
    feed = Feed(tmp_path / "inbox", corpus_rows)
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    desk = Newsroom(feed, ledger, model)
    days = [[cell.strip() for cell in line.split("|")] for line in MONTH.strip().splitlines()]
    for hour in _hours(dt.datetime(2026, 3, 1, tzinfo=BERLIN), dt.datetime(2026, 4, 1, tzinfo=BERLIN)):
        comes = days[hour.day - 1][1]
        if found := re.search(rf"\b{hour:%H}:(\w+)", comes):
            feed.bring(re.findall(r"([a-z])(\d+)", found[1]), hour)
        if hour == SILENCED[0]:
            silence = Silence(
                reason="known", until=SILENCED[1], rule_id="hydrogen", endpoint_id="desk", created_at=hour
            )
            ledger.add_silence(silence)
        if not DOWN[0] <= hour < DOWN[1]:
            desk.tick(hour)

    sent = [
        f"{day:9}| {desk.told('desk', i):34}| {desk.told('paper', i)}".rstrip() for i, (day, *_) in enumerate(days, 1)
    ]
    assert sent == [f"{day:9}| {desk_gets:34}| {paper_gets}".rstrip() for day, _, desk_gets, paper_gets in days]
    audit = ledger.audit()
    n_hydrogen, n_wind = feed.count("h"), feed.count("w")
    n_told_again = feed.count("r") + feed.count("c")
    assert audit.faults == ()
    assert audit.files == {"scored": n_hydrogen + n_wind + n_told_again + feed.count("n"), "duplicate": 1}
    # Each on hydrogen is for two, each on wind for one; the two reprints of the same day are held, for two each.
    assert audit.held == 3 + 2 * 2
    assert audit.aside == 1
    in_messages = sum(audit.messages.values()) - len(desk.digests_sent)
    assert in_messages + audit.held + audit.aside + audit.in_digests == 2 * (n_hydrogen + n_told_again) + n_wind
    assert audit.messages == {"delivered": len(desk.sender.sent)}
    assert [n for _, n in ledger.all_silences()] == [3]
    ledger.close()


def _hours(start: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
    """Yield every full hour from *start* to before *end*, by the wall clock of Berlin."""
    hour = start.astimezone(dt.UTC)
    while hour < end.astimezone(dt.UTC):
        yield hour.astimezone(BERLIN)
        hour += HOUR


class Feed:
    """Puts articles of the corpus into a folder; remembers when, for the files themselves go by the real clock."""

    def __init__(self, folder: Path, rows: Iterable[dict[str, Any]]) -> None:
        folder.mkdir()
        self.folder = folder
        self.arrived: dict[str, dt.datetime] = {}
        by_id = {row["id"]: row for row in rows}
        names = json.loads((ROOT / "tests/data/month.json").read_text(encoding="utf-8"))
        self._left = {kind[0]: [by_id[name] for name in ids] for kind, ids in names.items()}
        self._left["n"] = self._left.pop("o")
        self._brought: list[str] = []
        self._last: tuple[str, str, str] = ("", "", "")  # name, title and text of the last one on hydrogen

    def count(self, kind: str) -> int:
        """Return how many of a kind have come."""
        return self._brought.count(kind)

    def bring(self, what: Sequence[tuple[str, str]], hour: dt.datetime) -> None:
        """Write so many files of each kind."""
        for kind, number in what:
            for _ in range(int(number)):
                self._brought.append(kind)
                self._write(kind, hour)

    def _write(self, kind: str, hour: dt.datetime) -> None:
        name, (last, title, text) = f"{len(self._brought):04}.txt", self._last
        if kind == "r":
            title, text = f"Again, {len(self._brought)}: {title}", f"Agency report.\n\n{text}\n\nAll rights reserved."
        elif kind == "c":
            name, text = last, re.sub(r"\d+", lambda found: str(int(found[0]) + 1), text, count=1)
        elif kind != "d":
            row = self._left[kind].pop(0)
            title, text = row["title"], row["text"]
            if kind == "h":
                self._last = (name, title, text)
        self.arrived[name] = hour
        (self.folder / name).write_text(f"{title}\n\n{text}", encoding="utf-8")


@dataclass
class Dated:
    """The folder as it is, but for the times of its files, which are those of the feed."""

    folder: FolderInbox
    arrived: dict[str, dt.datetime]
    _real: dict[FileVersion, FileVersion] = field(default_factory=dict)

    def settled(self) -> Sequence[FileVersion]:
        """Return the files with the times at which they came."""
        found = []
        for file in self.folder.settled():
            dated = replace(file, ctime_ns=int(self.arrived[file.path].timestamp()) * 1_000_000_000)
            self._real[dated] = file
            found.append(dated)
        return found

    def read(self, file: FileVersion) -> Read:
        """Read the file."""
        return self.folder.read(self._real[file])

    def done(self, files: Iterable[FileVersion]) -> None:
        """Forget these versions."""
        self.folder.done(self._real.pop(file) for file in list(files))


class Newsroom:
    """The jobs of the daemon, called every hour."""

    def __init__(self, feed: Feed, ledger: SqlLedger, model: Model) -> None:
        self.clock = FakeClock(dt.datetime(2026, 3, 1, tzinfo=dt.UTC))
        self.sender = FakeSender()
        self.log: list[tuple[str, dt.datetime, str]] = []
        self.digests_sent: list[str] = []
        paces = {name: parse_pace(table, _no_fault) for name, table in ENDPOINTS.items()}
        self._ingest = Ingest(
            inbox=Dated(FolderInbox(feed.folder, settle_s=0, max_bytes=1_000_000), feed.arrived),
            ledger=ledger,
            judge=Judge(model, parse_rules(RULES, model.taxonomy, list(ENDPOINTS))),
            clock=self.clock,
            paces=paces,
            catch_up=HOUR,
        )
        self._digests = Digests(ledger=ledger, clock=self.clock)
        self._deliver = Deliver(
            ledger=ledger,
            sender=self.sender,
            policy=RetryPolicy(),
            lease=dt.timedelta(seconds=60),
            clock=self.clock,
            jitter=lambda: 0.0,
        )

    def tick(self, hour: dt.datetime) -> None:
        """Read what is there, make the digests that are due, send what is due."""
        self.clock.now = hour.astimezone(dt.UTC)
        self._ingest.run()
        for endpoint_id in ENDPOINTS:
            before = len(self.sender.sent)
            self._digests.run(endpoint_id)
            self._deliver.run(endpoint_id)
            for message, _ in self.sender.sent[before:]:
                body = json.loads(message.body)
                what = "alert"
                if body["type"] == "article.digest":
                    data = body["data"]
                    over = f", {data['over_budget']} over" if data["over_budget"] else ""
                    what = f"{hour:%H:%M} of {data['alerts'] + data['left_out']}{over}"
                    self.digests_sent.append(message.id)
                self.log.append((endpoint_id, hour, what))

    def told(self, endpoint_id: str, day: int) -> str:
        """Return what an endpoint got on a day of the month, as the table says it."""
        whats = [what for name, hour, what in self.log if name == endpoint_id and hour.day == day]
        digests = [what for what in whats if what != "alert"]
        n_alerts = whats.count("alert")
        return ", ".join(digests + ([f"{n_alerts} alerts"] if n_alerts else []))


def _no_fault(key: str, message: str) -> None:
    pytest.fail(f"{key}: {message}")
