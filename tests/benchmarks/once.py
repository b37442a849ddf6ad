"""
How fast `classifier once` takes files in, and what that costs when the ledger is full. Run: ``make bench-once``.

The files: pages of 3 kB, no two alike, as alike as real articles of that length are (see `pages`); 88 of 100 get tags,
10 of 100 are copies of an earlier page, and 10 of 100 meet a rule. They are read, decoded, cleaned, scored; where a
rule is met, explained, compared with the stories of the last month and put into words; and recorded durably. Deliveries
are left out. The lines say how long 20,000 new files take with nothing, 100,000 and 1,000,000 files recorded before,
the last 100,000 of them within the month; what all but the model and the stories allows; and how long a look at a
folder of 200,000 recorded files takes, the first one of a new process and the later ones.

What each step gave, in microseconds of one core per file (virtual machine of two cores, shared with other work;
Python 3.11, November 2026; before and after in one run or by turns):

| step                                                                    | before | after |
|-------------------------------------------------------------------------|--------|-------|
| record: 100 files per transaction, rows by executemany                  |    706 |    63 |
| known bytes are asked for per batch, not per file                       |    120 |     5 |
| parse: a line is flattened once, cheap tests stand before patterns      |    562 |   200 |
| explain two labels of one article: weights of its own terms only, words |  5,430 | 1,140 |
|   and places of the strongest, phrases looked for where one can begin   |        |       |
| sign: sentences on demand, words without match objects                  |  1,140 |   740 |
| tag: the texts of a batch in one go                                     |     80 |    22 |
| each candidate for the same story: hashed wording before sentences      |  1,680 |     9 |
| keys of a new telling, 0 filed before: 2,000 tellings at a time         |    414 |   196 |
| the same, 100,000 filed before                                          |    938 |   415 |
| look: one pattern for all ignored names, known files are not unpacked   |     11 |     4 |
| parse: one pattern for lines in lower case, not three for any           |    185 |   140 |
| phrases of an explained article, found amid other work: the text is cut |    757 |   386 |
|   once, and a flat set asked for two words before the tree of phrases   |        |       |
| a verdict from one process to another: tags go by their values          |     34 |    20 |

Signing, comparing and filing were left out for articles that meet no rule, of which nobody is told: 20,000 files went
from 538 a second to 1,391. The last three steps, workers that start in two thirds of the time and two statements per
batch for what has been told instead of two per alert brought 1,743; with 100,000 recorded before 1,523, with 1,000,000
1,411: more pages are touched, and neither four times SQLite's cache nor rarer checkpoints change that. It takes 185 MB
in the main process and 219 MB in the largest worker whatever the ledger holds. Of 1.1 ms of CPU per file 0.1 is the
start of the workers, most of it numba and its tables: a million files would not notice. Without scoring it is 0.47 ms:
looking, reading, parsing, moving between processes, logging and recording. Of the rest explaining is 0.29 (2.9 for each
of the tenth that meets a rule, everything that is said of it included), signing 0.07, tagging 0.02.

The first look of a process at 200,000 recorded files went from 2.5 s to 1.6 when they were sorted by one value after
the other, not by pairs, and asked for by the driver, without SQLAlchemy's thousand parameters.
"""

import argparse
import cProfile
import json
import logging
import os
import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from classifier import RuleSet, Tags, load_model, parse_article
from classifier.adapters.inbox import FolderInbox
from classifier.adapters.ledger import SqlLedger
from classifier.app import check_settings, open_app, utc_now
from classifier.article import sentence_spans
from classifier.pipeline import BATCH_FILES, Judge, Page
from classifier.ports import Headline, Scored, Verdict
from classifier.stories import Signature, bands_of
from classifier.telling import make_telling

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
PAGE_BYTES = 3_000
OF_SECTOR = 0.3  # of the sentences of a page
COPIES, CORRECTIONS = 0.1, 0.2
IN_WINDOW = 100_000  # tellings that new ones are compared with: a month of 3,300 a day
BATCH = 20_000  # rows put into the ledger at once
SETTINGS = """
[folder]
path = "inbox"
settle_s = 0.0

[[rule]]
id = "nev-money"
sectors = ["electric_vehicles", "charging_swapping"]
policy_types = ["subsidy_grant", "tax_incentive"]
to = ["desk"]

[[rule]]
id = "battery-clusters"
sectors = ["power_batteries", "critical_minerals"]
policy_types = ["target_plan", "public_investment", "trade_investment"]
bands = ["alert", "review"]
to = ["desk"]

[[endpoint]]
id = "desk"
url = "https://desk.example.org/alerts"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="
"""


def pages(count: int, seed: int) -> Iterator[bytes]:
    """
    Yield pages of about three kilobytes: a head, a headline, sentences of the corpus with other numbers, and a foot.

    Three sentences of ten are about the sector of the headline, the others about anything. So two of the pages are as
    alike as two real articles of that length on energy and transport (7 pairs of 10,000 share a band); sentences of the
    same sector alone would be more alike. One page of ten is a copy, shortened, with another head and foot, of one of
    the thousand before it, and one of five of these has another number in it.
    """
    chance = random.Random(seed)  # noqa: S311 - it deals out sentences
    rows = [json.loads(line) for line in (ROOT / "seeds/articles.jsonl").read_text(encoding="utf-8").splitlines()]
    by_sector: dict[str, list[str]] = {}
    titles: list[tuple[str, str]] = []
    for row in rows:
        sector = "".join(row["sectors"][:1])
        by_sector.setdefault(sector, []).extend(row["text"][start:end] for start, end in sentence_spans(row["text"]))
        titles.append((sector, row["title"]))
    everything = [sentence for sentences in by_sector.values() for sentence in sentences]

    def other_number(match: re.Match[str]) -> str:
        return str(chance.randrange(10 ** (len(match[0]) - 1), 10 ** len(match[0])))

    recent: deque[tuple[str, list[str]]] = deque(maxlen=1_000)
    for number in range(count):
        if recent and chance.random() < COPIES:
            title, body = chance.choice(recent)
            body = body[: chance.randrange(len(body) * 2 // 3, len(body))]
            if chance.random() < CORRECTIONS:
                body = [re.sub(r"\d+", other_number, sentence) for sentence in body]
        else:
            sector, title = chance.choice(titles)
            body, size = [], 0
            while size < PAGE_BYTES - 220:
                chosen = chance.choice(by_sector[sector] if chance.random() < OF_SECTOR else everything)
                body.append(re.sub(r"\d+", other_number, chosen))
                size += len(body[-1]) + 1
            recent.append((title, body))
        head = f"Home > News > Text\n\n{title}\n\nRelease time: 2023-06-14 09:12    Source: Daily {number}\n\n"
        foot = "\n\nShare this: Twitter Facebook\n\nPrevious: The weather\n\nCopyright 2023 All rights reserved\n"
        paragraphs = (" ".join(body[start : start + 3]) for start in range(0, len(body), 3))
        yield (head + "\n\n".join(paragraphs) + foot).encode()


def fill_folder(folder: Path, count: int, seed: int) -> None:
    """Write *count* pages."""
    folder.mkdir(parents=True)
    for number, page in enumerate(pages(count, seed)):
        (folder / f"{seed}-{number:07}.txt").write_bytes(page)


def fill_ledger(database: Path, versions: Iterator[tuple[str, int, int, int, str]]) -> None:
    """
    Record these file versions as scored, as a daemon would have; every tenth with a match and a settled message.

    The last `IN_WINDOW` of them are compared with new ones: their signatures are dealt out of real ones, band by band,
    so that new pages find among them as many candidates as among real ones.
    """
    SqlLedger(f"sqlite:///{database}").close()
    tags = json.dumps({"sectors": [{"label": "charging_swapping", "score": 0.91, "band": "alert"}], "policy_types": []})
    then, lately = 1_700_000_000_000_000, int((time.time() - 86_400) * 1e6)
    chance = random.Random(0)  # noqa: S311 - names of rows
    last: deque[str] = deque(maxlen=IN_WINDOW)
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        for some in batched(((f"{chance.getrandbits(256):064x}", version) for version in versions), BATCH):
            last += [key for key, _ in some]
            _insert(
                connection,
                "articles (id, title, publisher, tags, model, scored_at)",
                ((key, f"Title {key[:20]}", "Daily", tags, "nev-policy@0", then) for key, _ in some),
            )
            _insert(
                connection,
                "files (path, size, mtime_ns, ctime_ns, inode, state, article_id, recorded_at)",
                ((*version, "scored", key, then) for key, version in some),
            )
            matched = [key for key, _ in some[::10]]
            _insert(
                connection,
                "matches (article_id, rule_id, rule_version, n_messages, created_at)",
                ((key, "nev-money", "00000000", 1, then) for key in matched),
            )
            _insert(
                connection,
                "outbox (id, article_id, rule_id, endpoint_id, body, state, attempts, attempts_before_retry,"
                " scheduled_at, created_at, settled_at)",
                (
                    (f"msg_{key[:32]}", key, "nev-money", "desk", b"x" * 2_000, "delivered", 1, 0, then, then, then)
                    for key in matched
                ),
            )
        real = [make_telling(parse_article(page, "page")) for page in pages(2_000, seed=99)]
        table = np.array([np.frombuffer(telling.signature.data, "<u8") for telling in real])
        dealt = np.random.default_rng(0).integers(0, len(real), (len(last), table.shape[1]))
        signatures = [Signature(row.tobytes()) for row in table[dealt, np.arange(table.shape[1])]]
        _insert(
            connection,
            "tellings (id, article_id, story_id, source, signature, wording, packed, seen_at)",
            (
                (number, key, key, f"{key}.txt", signature.data, like.wording, like.packed, lately)
                for number, (key, signature, like) in enumerate(zip(last, signatures, cycle(real), strict=False), 1)
            ),
        )
        keys = np.array(bands_of(signatures)).ravel() if signatures else np.empty(0, np.int64)
        order = np.argsort(keys, kind="stable")
        _insert(
            connection, "bands (band, telling_id)", zip(keys[order].tolist(), (order // 64 + 1).tolist(), strict=True)
        )
    connection.close()
    os.sync()  # what is still to be written is not to slow the measure down


def _insert(connection: sqlite3.Connection, into: str, rows: Iterable[tuple[object, ...]]) -> None:
    marks = ", ".join("?" * (into.count(",") + 1))
    connection.executemany(f"INSERT INTO {into} VALUES ({marks})", rows)  # noqa: S608 - our own words


def batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield lists of so many items."""
    while some := list(islice(items, size)):
        yield some


def elsewhere(count: int) -> Iterator[tuple[str, int, int, int, str]]:
    """Yield versions of files that are no longer in the folder."""
    for number in range(count):
        yield f"old-{number:07}.txt", 3_000, 1_600_000_000 * 10**9 + number, 1_600_000_000 * 10**9 + number, str(number)


def in_folder(folder: Path) -> Iterator[tuple[str, int, int, int, str]]:
    """Yield the versions of the files that lie in the folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat()
            yield entry.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, str(found.st_ino)


@dataclass(frozen=True)
class WithoutScoring:
    """Judges like the real one but for the model: every page is parsed, none is tagged."""

    def __call__(self, pages: Sequence[Page]) -> list[Verdict]:
        """Return a verdict without tags for each page."""
        verdicts: list[Verdict] = []
        for page in pages:
            article = parse_article(page.raw, page.path)
            headline = Headline(id=article.id, title=article.title, date=article.date, publisher=article.publisher)
            verdicts.append(Scored(article=headline, tags=Tags({}), model="none", matches=(), messages=()))
        return verdicts


def child(config: Path, looks: int, profile: str | None, *, is_scoring: bool) -> None:
    """Do what `classifier once` does up to the deliveries; print what it cost."""
    logging.getLogger("classifier").addHandler(logging.StreamHandler())
    logging.getLogger("classifier").setLevel(logging.INFO)
    seconds = []
    counts: dict[str, int] = {}
    with open_app(config) as app:
        ingest = app.work.ingest if is_scoring else replace(app.work.ingest, judge=WithoutScoring())
        ingest.inbox.settled()
        for _ in range(looks):
            start = time.perf_counter()
            if profile:
                with cProfile.Profile() as profiler:
                    report = ingest.run()
                profiler.dump_stats(profile)
            else:
                report = ingest.run()
            seconds.append(time.perf_counter() - start)
            counts = counts or {**report.files, "messages": report.messages}
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    record = {
        "seconds": seconds,
        "cpu_s": own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime,
        "max_rss_mb": peak_mb(),
        "children_max_rss_mb": others.ru_maxrss / 1024,
        "counts": counts,
    }
    print(json.dumps(record))  # noqa: T201 - for the parent


def peak_mb() -> float:
    """Return the most memory this process has had; `getrusage` would count that of the process that started it, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def run(base: Path, *options: str, profile: str | None = None) -> dict[str, Any]:
    """Measure in a process of its own."""
    # Not as a script: worker processes would load all that this file imports, as those of the daemon do not.
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import once; once.main()"
    command = [sys.executable, "-c", start, "--child", str(base / "classifier.toml"), *options]
    command += ["--profile", profile] if profile else []
    with (base / "log").open("wb") as log:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False, cwd=ROOT)
    if result.returncode:
        sys.exit((base / "log").read_text())
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def measure(base: Path, count: int, recorded: int, *options: str, profile: str | None = None) -> None:
    """One line of the table: *count* new files, *recorded* old ones in the ledger."""
    place = base / "new"
    place.mkdir()
    (place / "classifier.toml").write_text(SETTINGS, encoding="utf-8")
    fill_folder(place / "inbox", count, seed=recorded + 1)
    if recorded:
        fill_ledger(place / "classifier.db", elsewhere(recorded))
    found = run(place, *options, profile=profile)
    seconds = found["seconds"][0]
    print(  # noqa: T201
        f"| {count:,} new files, {recorded:,} recorded {' '.join(options)} |"
        f" {count / seconds:,.0f} files/s | {seconds:.1f} s wall |"
        f" {found['cpu_s']:.1f} s CPU | {found['max_rss_mb']:.0f} + {found['children_max_rss_mb']:.0f} MB |"
        f" {found['counts']} |",
        flush=True,
    )
    shutil.rmtree(place)


def measure_idle(base: Path, count: int) -> None:
    """A folder whose files all are in the ledger: the first look of a new process, and the looks after it."""
    place = base / "idle"
    (place / "inbox").mkdir(parents=True)
    (place / "classifier.toml").write_text(SETTINGS, encoding="utf-8")
    for number in range(count):
        (place / "inbox" / f"{number:07}.txt").touch()
    fill_ledger(place / "classifier.db", in_folder(place / "inbox"))
    found = run(place, "--looks", "3")
    first, *rest = found["seconds"]
    print(  # noqa: T201
        f"| idle scan of {count:,} recorded files | first {first:.2f} s | then {min(rest):.2f} s |"
        f" {found['max_rss_mb']:.0f} MB | {found['counts']} |",
        flush=True,
    )


def stages(base: Path, count: int) -> None:
    """Where the time of one file goes, on one core: how much of it is scoring."""
    place = base / "stages"
    place.mkdir()
    (place / "classifier.toml").write_text(SETTINGS, encoding="utf-8")
    fill_folder(place / "inbox", count, seed=7)
    model, rules = load_model(), check_settings(place / "classifier.toml").rules
    model.warm_up()
    inbox = FolderInbox(place / "inbox", settle_s=0, max_bytes=2_000_000)
    inbox.settled()
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - start
        return result

    files = timed("look", inbox.settled)
    raws = timed("read", lambda: [inbox.read(file).raw for file in files])
    articles = timed("parse", lambda: [parse_article(raw, "page") for raw in raws])
    tags = timed("score", lambda: model.tag_many(articles))
    met = [any(rules.match(article, found, utc_now())) for article, found in zip(articles, tags, strict=True)]
    timed("sign", lambda: [make_telling(article) for article, is_met in zip(articles, met, strict=True) if is_met])
    pages = [Page(file.path, raw, utc_now()) for file, raw in zip(files, raws, strict=True)]
    timed("all without alerts", lambda: Judge(model, RuleSet(()))(pages))
    verdicts = timed("all with alerts", lambda: Judge(model, rules)(pages))
    batches = [
        list(zip(files, verdicts, strict=True))[start : start + BATCH_FILES] for start in range(0, count, BATCH_FILES)
    ]
    ledger = SqlLedger(f"sqlite:///{place / 'classifier.db'}")
    timed("record", lambda: [ledger.record(batch, utc_now()) for batch in batches])
    ledger.close()
    seconds["explain"] = seconds.pop("all with alerts") - seconds.pop("all without alerts") - seconds["sign"]
    print(f"| microseconds per file | {' | '.join(f'{name} {s / count * 1e6:.0f}' for name, s in seconds.items())} |")  # noqa: T201


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--recorded", type=int, nargs="*", default=[0, 100_000, 1_000_000])
    parser.add_argument("--idle", type=int, default=200_000)
    parser.add_argument("--profile", help="write a profile of the first measure to this file")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--looks", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--without-scoring", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        child(given.child, given.looks, given.profile, is_scoring=not given.without_scoring)
        return
    with tempfile.TemporaryDirectory(prefix="classifier-once-") as name:
        stages(Path(name), 1_000)
        for recorded in given.recorded:
            measure(Path(name), given.files, recorded, profile=given.profile)
        measure(Path(name), given.files, 0, "--without-scoring")
        if given.idle:
            measure_idle(Path(name), given.idle)


if __name__ == "__main__":
    main()
