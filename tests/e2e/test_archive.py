"""An archive as a user tags it: formats side by side, killed and gone on with, over processes and over a cluster."""

import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from cluster import Cluster

from classifier import ArchiveError, ArticleError, Model, load_model, parse_article, score_archive
from classifier.archive import _load_once
from classifier.cli import main

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120


def run(*arguments: object) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "classifier", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def _wait(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 600 articles as JSON lines."""
    path = tmp_path_factory.mktemp("archive") / "articles.jsonl"
    lines = (ROOT / "seeds/articles.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:600]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def expected(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return what one process writes, in parts of 10."""
    output = tmp_path_factory.mktemp("expected") / "tags"
    score_archive([archive], output, part_rows=10, jobs=1)
    return _content(output)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Return a cluster of two worker processes."""
    with Cluster() as running:
        yield running


def test_every_format_gives_the_tags_that_tag_gives(tmp_path: Path, model: Model) -> None:
    """The table holds one row per article, those that are none included."""
    page = (ROOT / "seeds/inbox/2023-06-14_yancheng-charging-notice.txt").read_bytes()
    title, text = "City pays for charging piles", "Operators receive a one-time reward of 300 yuan per kilowatt."
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "page.txt").write_bytes(page)
    (folder / "image.png").write_bytes(b"\x89PNG\r\n")
    row = {"key": "k1", "head": title, "body": text}
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode() + b"\n{}\n"))
    with (folder / "rows.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([row.keys(), row.values()])
    pq.write_table(pa.table({name: [value] for name, value in row.items()}), folder / "rows.parquet")
    columns = ["--text-column", "body", "--title-column", "head", "--id-column", "key"]
    shown = run("score", folder, "--output", tmp_path / "tags.parquet", "--jobs", 1, *columns)
    told = run("score", folder, "--output", tmp_path / "tags.parquet", "--jobs", 1, *columns, "--force", "--json")

    assert (shown.exit_code, told.exit_code) == (0, 0), shown.stderr + told.stderr
    assert shown.stdout.splitlines() == [
        f"6 articles written to {tmp_path}/tags.parquet: 4 with tags, 0 without",
        "rejected: 1 bad_row, 1 binary",
    ]
    assert json.loads(told.stdout) == {
        "output": f"{tmp_path}/tags.parquet",
        "articles": 6,
        "tagged": 4,
        "untagged": 0,
        "abstained": {},
        "rejected": {"bad_row": 1, "binary": 1},
    }
    rows = {(Path(row["path"]).name, row["row"]): row for row in _rows(tmp_path / "tags.parquet")}
    article = parse_article(page, "page.txt")
    tags = model.tag(article)
    assert rows["page.txt", None] == {
        "article_id": article.id,
        "path": f"{folder}/page.txt",
        "row": None,
        "id": None,
        "title": article.title,
        "date": article.date,
        "sectors": [{"label": t.label, "score": round(t.score, 4), "band": str(t.band)} for t in tags.sectors],
        "policy_types": [
            {"label": t.label, "score": round(t.score, 4), "band": str(t.band)} for t in tags.policy_types
        ],
        "abstained": None,
        "model": model.reference,
        "rejected": None,
        "detail": None,
    }
    assert "charging_swapping" in [tag["label"] for tag in rows["page.txt", None]["sectors"]]
    same = [rows[name, 1] | {"path": ""} for name in ("rows.jsonl.gz", "rows.csv", "rows.parquet")]
    assert same == [same[0]] * 3
    assert (same[0]["id"], same[0]["title"], same[0]["article_id"]) == (
        "k1",
        title,
        parse_article(f"{title}\n\n{text}".encode()).id,
    )
    assert (rows["rows.jsonl.gz", 2]["rejected"], rows["rows.jsonl.gz", 2]["sectors"]) == ("bad_row", None)
    assert "PNG" in rows["image.png", None]["detail"]


def test_several_processes_write_what_one_writes(archive: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    """Byte for byte."""
    score_archive([archive], tmp_path / "tags", part_rows=10, jobs=2)

    assert _content(tmp_path / "tags") == expected


def test_a_killed_run_goes_on_after_the_parts_it_has(archive: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    """Finished parts are not touched again, and the whole is as if nothing had happened."""
    output, partial = tmp_path / "tags", tmp_path / "tags.partial"
    arguments = ["score", archive, "--output", output, "--part-rows", 10, "--jobs", 1]
    with _start(*arguments) as process:
        _wait(lambda: len(list(partial.glob("*.parquet"))) >= 3)
        process.kill()
    finished = {path.name: path.stat().st_ino for path in partial.glob("*.parquet")}
    is_there = output.exists()
    result = run(*arguments, "--json")

    assert not is_there
    assert 3 <= len(finished) < len(expected)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["articles"] == 600
    assert {name: (output / name).stat().st_ino for name in finished} == finished
    assert _content(output) == expected
    assert not partial.exists()


def test_other_input_or_options_are_never_mixed_with_an_unfinished_run(archive: Path, tmp_path: Path) -> None:
    """Its parts are made again where they must, and swept out where they have no use."""
    output, partial = tmp_path / "tags", tmp_path / "tags.partial"
    score_archive([archive], output, part_rows=300, jobs=1)
    output.rename(partial)
    small = tmp_path / "small.jsonl"
    small.write_text('{"text": "Nothing of the kind."}\n')
    tally = score_archive([small], output, jobs=1)

    assert (tally.articles, tally.to_record()["abstained"]) == (1, {"too_short": 1})
    assert len(_rows(output)) == 1


@pytest.mark.long
def test_a_worker_of_the_cluster_may_die(
    archive: Path, expected: dict[str, bytes], cluster: Cluster, tmp_path: Path
) -> None:
    """Its work is done by the other, and the table is the same as ever."""
    output, partial = tmp_path / "tags", tmp_path / "tags.partial"
    with _start("score", archive, "--output", output, "--part-rows", 10, "--dask", cluster.address) as process:
        _wait(lambda: len(list(partial.glob("*.parquet"))) >= 2)
        os.kill(cluster.pids[0], signal.SIGKILL)
        n_finished = len(list(partial.glob("*.parquet")))
        _, errors = process.communicate(timeout=DEADLINE_S)

    assert n_finished < len(expected)
    assert process.returncode == 0, errors
    assert _content(output) == expected


def test_training_on_the_cluster_gives_the_same_model(cluster: Cluster, tmp_path: Path) -> None:
    """Where the folds are fitted has no influence."""
    lines = [
        json.dumps({"text": f"On day {word} {text}.", "topics": [label]})
        for word in "one two three four five six seven eight".split()
        for label, text in (("wind", "the wind farm feeds the cable"), ("solar", "the roof gets solar panels"))
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    labels = '[[facet.label]]\nid = "wind"\n[[facet.label]]\nid = "solar"\n'
    (tmp_path / "t.toml").write_text(f'[[facet]]\nid = "topic"\n{labels}')
    base = ["train", tmp_path / "corpus.jsonl", "--taxonomy", tmp_path / "t.toml", "--output"]
    here, there = run(*base, tmp_path / "a/m"), run(*base, tmp_path / "b/m", "--dask", cluster.address)

    assert (here.exit_code, there.exit_code) == (0, 0), here.stderr + there.stderr
    assert load_model(tmp_path / "a/m").id == load_model(tmp_path / "b/m").id


def test_a_worker_process_that_is_killed_ends_the_run_with_a_line(archive: Path, tmp_path: Path) -> None:
    """Not with a traceback; what is finished stays."""
    output, partial = tmp_path / "tags", tmp_path / "tags.partial"
    with _start("score", archive, "--output", output, "--part-rows", 10, "--jobs", 2) as process:
        _wait(lambda: len(list(partial.glob("*.parquet"))) >= 1)
        for pid in _workers_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 1
    assert "a worker process was killed, perhaps for want of memory; the same command again goes on" in errors
    assert "Traceback" not in errors
    assert list(partial.glob("*.parquet"))


def _workers_of(pid: int) -> list[int]:
    """Return the worker processes of a process, as the kernel lists its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_worker_with_another_model_refuses(archive: Path, model: Model, tmp_path: Path) -> None:
    """Or with another version of this package, or without the compiled text pass: the table would be a mixture."""
    found = rf"{model.reference} by version {version('policy-classifier')}, (not )?compiled"
    with pytest.raises(ArchiveError, match=rf"small@0 by version 0, compiled needed, this worker has {found}$"):
        _load_once(None, "small@0 by version 0, compiled")


def test_where_work_is_done_is_for_joblib_to_say(
    archive: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any backend will do; paths are relative to the caller's folder, and the output may lie in the input."""
    shutil.copy(archive, tmp_path)
    monkeypatch.chdir(tmp_path)
    steps: list[tuple[str, int, int]] = []
    with joblib.parallel_config(backend="threading"):
        tally = score_archive(["."], "tags", part_rows=100, jobs=2, on_progress=lambda *step: steps.append(step))
    again = score_archive(["."], "tags", part_rows=100, jobs=1, is_forced=True)

    assert tally == again
    assert {row["path"] for row in _rows(tmp_path / "tags")} == {"./articles.jsonl"}
    assert steps == [
        *(("planning", number, 0) for number in range(1, 7)),
        ("planning", 6, 6),
        *(("scoring", number, 6) for number in range(7)),
    ]


def test_mistakes_are_told_before_anything_is_read(tmp_path: Path) -> None:
    """Each with its exit code."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.jsonl").write_text("[]\n")
    base = ["score", "--output", tmp_path / "tags", "--jobs", 1]
    both = run(*base, tmp_path, "--dask", "tcp://127.0.0.1:1")
    missing, empty, none = (run(*base, tmp_path / name) for name in ("missing", "empty", "none.jsonl"))
    again = run(*base, tmp_path / "none.jsonl")

    assert [result.exit_code for result in (both, missing, empty, none, again)] == [2, 1, 1, 1, 1]
    assert "has no meaning beside --dask" in both.stderr
    assert "missing: there is no such file or folder" in missing.stderr
    assert "empty: there is nothing to read here" in empty.stderr
    assert "nothing in the input is an article; the column 'detail' says why" in none.stderr
    assert "tags: is there already" in again.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "none.jsonl", "tags"]


def test_without_pyarrow_the_extra_is_named(tmp_path: Path) -> None:
    """In a process that cannot import it; the rest of the program does not miss it."""
    (tmp_path / "a.txt").write_text("text")
    code = "import sys; sys.modules['pyarrow'] = None; from classifier.__main__ import main; main()"
    score = [sys.executable, "-c", code, "score", "a.txt", "--output", "tags"]
    tag = [sys.executable, "-c", code, "tag", "a.txt"]
    refused, done = (
        subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path) for command in (score, tag)
    )

    assert (refused.returncode, done.returncode) == (1, 0)
    assert refused.stderr.endswith(
        "classifier: pyarrow is needed and not installed; pip install 'policy-classifier[archive]'\n"
    )


def test_errors_come_back_whole_from_other_processes() -> None:
    """With their facts, as whoever catches them needs them."""
    (error,) = joblib.Parallel(n_jobs=2)(
        joblib.delayed(_as_is)(error) for error in [ArticleError("a.txt", "empty", "the input has no text")]
    )

    assert type(error) is ArticleError
    assert (str(error), error.source, error.reason) == ("'a.txt': the input has no text", "a.txt", "empty")


def _as_is(error: ArticleError) -> ArticleError:
    return error
