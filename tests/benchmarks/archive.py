"""
How many articles a second one core tags for `classifier score`, by the format they come in, and how fast it plans.

    python tests/benchmarks/archive.py [ARTICLES]

The articles are those of the seeds, again and again. Planning, reading, cleaning, scoring and writing the table are
measured in processor time of this process, so other work on the machine counts little.
"""

import csv
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from classifier import load_model
from classifier.adapters.sources import Columns, plan
from classifier.archive import PART_ROWS, _load_once, _maker, _score_part, _Task

SEEDS = Path(__file__).resolve().parents[2] / "seeds/articles.jsonl"


@contextmanager
def _timed(name: str, n_articles: int, n_bytes: int) -> Iterator[None]:
    start = time.process_time()
    yield
    taken = time.process_time() - start
    speed = f"{n_articles / taken:>12,.0f} articles/s {n_bytes / taken / 1e6:>8,.1f} MB/s"
    sys.stdout.write(f"{name:<24}{speed} of one core\n")


def _write(folder: Path, n_articles: int) -> list[Path]:
    lines = SEEDS.read_text(encoding="utf-8").splitlines()
    rows = [
        {"id": str(number), "title": row["title"], "text": row["text"]}
        for number in range(n_articles)
        for row in [json.loads(lines[number % len(lines)])]
    ]
    paths = [folder / name for name in ("pages", "articles.jsonl", "articles.csv", "articles.parquet")]
    paths[0].mkdir()
    for row in rows:
        (paths[0] / f"{row['id']:0>8}.txt").write_text(f"{row['title']}\n\n{row['text']}", encoding="utf-8")
    paths[1].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with paths[2].open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([rows[0].keys(), *(row.values() for row in rows)])
    pq.write_table(pa.Table.from_pylist(rows), paths[3], row_group_size=PART_ROWS)
    return paths


def main() -> None:
    """Measure every format, and print."""
    n_articles = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    task = _Task(model=None, maker=_maker(load_model()), columns=Columns(), base=Path.cwd())
    _load_once(None, task.maker)
    with tempfile.TemporaryDirectory() as folder:
        for path in _write(Path(folder), n_articles):
            n_bytes = sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
            with _timed(f"plan {path.name}", n_articles, n_bytes):
                parts = list(plan([str(path)], Columns(), part_rows=PART_ROWS))
            with _timed(f"score {path.name}", n_articles, n_bytes):
                done = [_score_part(task, str(number), part) for number, part in enumerate(parts)]
            size = sum(len(data) for _, data, _ in done)
            sys.stdout.write(f"{'':<24}{size / n_articles:>12,.0f} bytes per article in the table\n")


if __name__ == "__main__":
    main()
