"""Every command as a user types it: output, exit code, and what stands on standard error."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from click.testing import CliRunner, Result
from receiver import Receiver

from classifier import Bands, Taxonomy, load_model, save_model
from classifier.cli import main

ROOT = Path(__file__).resolve().parents[2]
INBOX = ROOT / "seeds/inbox"
CHARGING = str(INBOX / "2023-06-14_yancheng-charging-notice.txt")


def run(*arguments: object, **options: Any) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


def records(result: Result) -> list[dict[str, Any]]:
    """Return the JSON objects on standard output; there must be nothing else."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_tag_prints_one_object_per_file() -> None:
    """In the order given, with the keys the README names."""
    result = run("tag", "--json", *sorted(INBOX.glob("*.txt")))
    rows = records(result)

    assert (result.exit_code, len(rows)) == (0, 8)
    assert [row["source"] for row in rows] == [str(path) for path in sorted(INBOX.glob("*.txt"))]
    for row in rows:
        assert list(row) == ["source", "article_id", "title", "date", "sectors", "policy_types", "abstained", "model"]
        assert all(set(tag) == {"label", "score", "band"} for tag in row["sectors"] + row["policy_types"])
        assert row["model"] == load_model().reference


def test_tag_reads_standard_input() -> None:
    """A dash is standard input."""
    [row] = records(run("tag", "--json", "-", input=Path(CHARGING).read_text(encoding="utf-8")))

    assert row["source"] == "-"
    assert "charging_swapping" in [tag["label"] for tag in row["sectors"]]


def test_tag_shows_titles_and_labels_to_people() -> None:
    """Title, file, a line per facet; a question mark for the review band."""
    result = run("tag", CHARGING)

    assert "Yancheng money for charging stations" in result.stdout
    assert "  sectors: charging_swapping " in result.stdout


def test_tag_goes_on_after_a_faulty_input(tmp_path: Path) -> None:
    """The others are tagged, the fault is told on standard error, the exit code is 1."""
    (tmp_path / "image.txt").write_bytes(b"\x89PNG")
    result = run("tag", "--json", tmp_path / "image.txt", tmp_path / "none.txt", CHARGING)

    assert (result.exit_code, len(records(result))) == (1, 1)
    assert "image.txt': this is a PNG image, not text" in result.stderr
    assert "none.txt': cannot be read: No such file or directory" in result.stderr


def test_explain_shows_terms_and_sentences() -> None:
    """For people a sum that can be checked, for programs everything."""
    result = run("explain", CHARGING, "charging_swapping")
    [record] = records(run("explain", "--json", CHARGING, "charging_swapping"))

    assert result.exit_code == 0
    assert "for:" in result.stdout
    assert "sentences:" in result.stdout
    assert record["intercept"] + sum(term["weight"] for term in record["terms"]) == pytest.approx(
        record["logit"], abs=1e-5
    )
    assert max(len(line) for line in result.stdout.splitlines()) <= 100


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tag"], 2, "Missing argument 'PATH...'"),
        (["explain", CHARGING, "windmills"], 3, "nev-policy: no label 'windmills'"),
        (["tag", "--model", "/nowhere", CHARGING], 3, "/nowhere: no model folder here"),
        (
            ["config", "check", "-c", "/nowhere.toml"],
            1,
            "/nowhere.toml: no such file; `classifier config init` writes one",
        ),
        (
            ["train", "/nowhere.jsonl", "--taxonomy", str(ROOT / "seeds/taxonomy.toml"), "--output", "x"],
            1,
            "cannot be read",
        ),
        (["outbox", "retry"], 2, "name messages, or say --all"),
        (["nonsense"], 2, "No such command 'nonsense'"),
    ],
)
def test_faults_have_their_exit_code_and_one_line(arguments: list[str], code: int, message: str) -> None:
    """1 the user's input, 2 usage, 3 model, 4 ledger; never a traceback."""
    result = run(*arguments)

    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_train_writes_a_model_that_agrees_with_its_pipeline(tmp_path: Path, corpus_rows: list[dict[str, Any]]) -> None:
    """From labelled rows to a folder: manifest, arrays, pipeline, card; both ways of scoring agree."""
    corpus = tmp_path / "corpus.jsonl"
    rows = [{key: row[key] for key in ("id", "title", "text", "sectors")} for row in corpus_rows[:300]]
    for row in rows:
        row["sectors"] = [label for label in row["sectors"] if label in {"electric_vehicles", "charging_swapping"}]
        row["colours"] = ["green"] if "green" in row["text"] else []
    corpus.write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "taxonomy.toml").write_text(
        '[[facet]]\nid = "sector"\n'
        '[[facet.label]]\nid = "electric_vehicles"\n[[facet.label]]\nid = "charging_swapping"\n'
        '[[facet]]\nid = "colour"\n[[facet.label]]\nid = "green"\n'
    )
    folder = tmp_path / "models" / "mine"
    command = ["train", corpus, "--taxonomy", tmp_path / "taxonomy.toml", "--output", folder, "--json"]
    first, second = run(*command), run(*command)

    assert (first.exit_code, second.exit_code) == (0, 0), first.stderr
    assert records(first) == records(second)
    model = load_model(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "MODEL_CARD.md",
        "lexicon.json",
        "manifest.json",
        "pipeline.joblib",
        "scorer.npz",
    ]
    assert model.labels == ("electric_vehicles", "charging_swapping", "green")
    assert model.tag("The city builds charging stations and charging piles for green cars").by_facet.keys() == {
        "sectors",
        "colours",
    }
    texts = [row["text"] for row in rows[:20]]
    pipeline = joblib.load(folder / "pipeline.joblib")
    np.testing.assert_allclose(
        pipeline.predict_proba([model.prepare(text) for text in texts]), model.score(texts).values, atol=1e-4
    )
    [record] = records(run("evaluate", corpus, "--model", folder, "--json"))
    assert set(record["facets"]) == {"sector", "colour"}
    assert record["facets"]["sector"]["labels"]["charging_swapping"]["f1"] > 0.5


def test_train_does_not_replace_a_better_model(tmp_path: Path, corpus_rows: list[dict[str, Any]]) -> None:
    """A corpus with its labels shuffled makes a worse model: refused with both figures, taken with --force."""
    taxonomy, corpus, folder = tmp_path / "taxonomy.toml", tmp_path / "corpus.jsonl", tmp_path / "mine"
    labels_toml = "".join(f'[[facet.label]]\nid = "{label}"\n' for label in ("hydrogen", "solar"))
    taxonomy.write_text(f'[[facet]]\nid = "sector"\n{labels_toml}')
    rows = [{key: row[key] for key in ("id", "title", "text", "sectors")} for row in corpus_rows[::4]]
    for row in rows:
        row["sectors"] = [label for label in row["sectors"] if label in {"hydrogen", "solar"}]
    corpus.write_text("\n".join(json.dumps(row) for row in rows))
    command = ["train", corpus, "--taxonomy", taxonomy, "--output", folder]
    assert run(*command).exit_code == 0
    before = (folder / "manifest.json").read_bytes()
    labels = [row["sectors"] for row in rows]
    for row, other in zip(rows, labels[7:] + labels[:7], strict=True):
        row["sectors"] = other
    corpus.write_text("\n".join(json.dumps(row) for row in rows))
    refused = run(*command)

    assert refused.exit_code == 3
    assert "out-of-fold macro F1 of sector is" in refused.stderr
    assert (folder / "manifest.json").read_bytes() == before
    assert run(*command, "--force").exit_code == 0
    assert (folder / "manifest.json").read_bytes() != before


def test_evaluate_says_when_the_model_learnt_from_the_articles(
    tmp_path: Path, corpus_rows: list[dict[str, Any]]
) -> None:
    """Even a part of the corpus under another name is noticed: such figures are about the memory of the model."""
    corpus, page = tmp_path / "renamed.jsonl", tmp_path / "report.html"
    fresh = {
        "id": "new",
        "title": "",
        "text": "A wind farm opens beside a road nobody has written about.",
        "sectors": [],
    }
    corpus.write_text("\n".join(json.dumps(row) for row in [*corpus_rows[:30], fresh]))
    result = run("evaluate", corpus, "--json", "--report", page)

    assert records(result)[0]["n_learnt"] == 30
    assert "learnt from 30 of these 31 articles" in result.stderr
    assert "The model learnt from 30 of these 31 articles." in page.read_text(encoding="utf-8")
    corpus.write_text(json.dumps(fresh))
    unseen = run("evaluate", corpus, "--report", page)
    assert "learnt from" not in unseen.stderr
    assert "learnt from" not in page.read_text(encoding="utf-8")


def test_evaluate_prints_a_table_for_people(tmp_path: Path, corpus_rows: list[dict[str, Any]]) -> None:
    """Labels with support, precision, recall, F1; averages that say what they are over."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps(row) for row in corpus_rows[:40]))
    result = run("evaluate", corpus)

    assert result.exit_code == 0
    assert "electric_vehicles" in result.stdout
    assert "(mean over labels with support)" in result.stdout
    assert "tags at or above a score" in result.stdout
    assert "slices" in result.stdout


def test_evaluate_takes_judged_pages(tmp_path: Path) -> None:
    """Pages beside a file that says what they must and may carry; whatever it prints holds its intervals."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_bytes(Path(CHARGING).read_bytes() + name.encode())
    judged = {"core": ["charging_swapping"], "must": ["charging_swapping"], "may": []}
    rows = [{"file": name, "sectors": judged} for name in ("a.txt", "b.txt")]
    (tmp_path / "gold.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    [record] = records(run("evaluate", tmp_path / "gold.jsonl", "--json"))
    label = record["facets"]["sector"]["labels"]["charging_swapping"]

    assert (record["n_examples"], label["support"], label["recall"]) == (2, 2, 1.0)
    assert label["intervals"]["recall"] == [1.0, 1.0]
    assert record["facets"]["policy_type"]["macro_f1"] is None
    assert {error["kind"] for error in record["errors"]} <= {"false_positive", "false_negative"}


def test_evaluate_writes_a_page(tmp_path: Path, corpus_rows: list[dict[str, Any]]) -> None:
    """Beside what it prints; a place that cannot be written is one line and exit code 1."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps(row) for row in corpus_rows[:40]))
    result = run("evaluate", corpus, "--json", "--report", tmp_path / "report.html")
    failed = run("evaluate", corpus, "--report", tmp_path / "no" / "report.html")

    assert (result.exit_code, len(records(result))) == (0, 1)
    assert "corpus.jsonl" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert failed.exit_code == 1
    assert "report.html: the report cannot be written: No such file or directory" in failed.stderr


def test_compare_shows_what_changes(tmp_path: Path, corpus_rows: list[dict[str, Any]]) -> None:
    """Tags lost and gained with both scores; models of other labels are a model fault."""
    corpus, mine, other = tmp_path / "corpus.jsonl", tmp_path / "mine", tmp_path / "other"
    corpus.write_text("\n".join(json.dumps(row) for row in corpus_rows[:60]))
    model = load_model()
    bands = {label: Bands(None, 0.999) for label in model.labels}
    save_model(mine, dataclasses.replace(model, name="mine", bands=bands), None, {}, "")
    facets = tuple(dataclasses.replace(facet, needs=None) for facet in model.taxonomy.facets[::-1])
    save_model(other, dataclasses.replace(model, name="other", taxonomy=Taxonomy(facets)), None, {}, "")
    [record] = records(run("compare", ROOT / "models/nev-policy", mine, corpus, "--json"))
    shown, refused = run("compare", mine, ROOT / "models/nev-policy", corpus), run("compare", mine, other, corpus)

    assert {row["change"] for row in record["changes"]} == {"lost"}
    assert all(row["before"] == row["after"] < 0.9995 for row in record["changes"])
    assert [row["metric"] for row in record["metrics"]] == ["macro_f1", "micro_f1", "alert_precision"] * 2
    assert shown.exit_code == 0
    assert f"tags: {len(record['changes'])} gained" in shown.stdout
    assert "(the label is right)" in shown.stdout
    assert refused.exit_code == 3
    assert "or in another order" in refused.stderr


def test_model_show_and_verify() -> None:
    """What the bundled model is, and that its files are whole."""
    shown, verified = run("model", "show"), run("model", "verify")
    [manifest] = records(run("model", "show", "--json"))

    assert (shown.exit_code, verified.exit_code) == (0, 0)
    assert manifest["format_version"] == 2
    assert f"nev-policy@{manifest['model_id']}" in shown.stdout
    assert "all files are as the manifest says" in verified.stdout


def test_config_init_writes_once(tmp_path: Path) -> None:
    """A file that is there is never overwritten."""
    path = tmp_path / "classifier.toml"
    first, second = run("config", "init", "-c", path), run("config", "init", "-c", path)

    assert (first.exit_code, second.exit_code) == (0, 1)
    assert "is there already; nothing was written" in second.stderr
    assert path.read_text(encoding="utf-8") == (ROOT / "seeds/classifier.toml").read_text(encoding="utf-8")


def test_config_schema_is_json() -> None:
    """Editors can use it as it is."""
    assert json.loads(run("config", "schema").stdout)["title"] == "Settings"


def test_config_check_lists_every_problem(tmp_path: Path) -> None:
    """One line each, on standard error."""
    path = tmp_path / "classifier.toml"
    path.write_text('[folder]\npth = "x"\n[[rule]]\nid = "r"\nsectors = ["winds"]\nto = ["desk"]\n')
    result = run("config", "check", "-c", path)

    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"classifier: {path}: folder.pth: no such key; did you mean 'path'?",
        f"classifier: {path}: rule[0].sectors[0]: there is no 'winds'; did you mean 'wind'?",
        f"classifier: {path}: rule[0].to[0]: there is no 'desk'",
    ]


def test_config_check_looks_at_folder_and_ledger(receiver: Receiver, write_settings: Callable[..., Path]) -> None:
    """Both faults at once; nothing is made by looking."""
    path = write_settings(receiver)
    assert run("config", "check", "-c", path).exit_code == 0
    (path.parent / "inbox").rmdir()
    path.write_text('[ledger]\nurl = "sqlite:///:memory:"\n' + path.read_text())
    result = run("config", "check", "-c", path)

    assert result.exit_code == 1
    folder, url = result.stderr.splitlines()
    assert folder.startswith(f"classifier: {path}: folder.path: there is no folder {str(path.parent / 'inbox')!r}; ")
    assert url.startswith(f"classifier: {path}: ledger.url: a ledger needs a file, e.g. sqlite:///classifier.db")
    assert not (path.parent / "classifier.db").exists()


def test_a_settings_folder_may_have_any_name(receiver: Receiver, write_settings: Callable[..., Path]) -> None:
    """A question mark or a percent sign in it is part of the path, not of the ledger's URL."""
    path = write_settings(receiver)
    odd = path.parent / "what? 100%41 #1"
    (odd / "inbox").mkdir(parents=True)
    path = path.rename(odd / path.name)
    result = run("once", "-c", path)

    assert result.exit_code == 0, result.stderr
    assert sorted(item.name for item in odd.iterdir() if "-" not in item.name) == [
        "classifier.db", "classifier.db.lock", "classifier.toml", "inbox",
    ]  # fmt: skip
    assert run("audit", "-c", path).exit_code == 0


def test_once_outbox_and_audit_tell_one_story(receiver: Receiver, write_settings: Callable[..., Path]) -> None:
    """What once delivered, outbox lists and audit counts."""
    config = write_settings(receiver)
    assert run("config", "check", "-c", config).exit_code == 0
    assert run("audit", "-c", config).exit_code == 4  # no ledger yet
    (config.parent / "inbox/a.txt").write_bytes(Path(CHARGING).read_bytes())
    (config.parent / "inbox/b.txt").write_bytes(Path(CHARGING).read_bytes())
    (config.parent / "inbox/c.txt").write_bytes(b"\x89PNG")
    receiver.answers = [(500, {}, b"not now")]

    [once] = records(run("once", "-c", config, "--json"))
    assert once == {
        "files": {"scored": 1, "duplicate": 1, "rejected": 1},
        "deliveries": {"refused": 1},
        "waiting": {"desk": 1},
    }
    [row] = records(run("outbox", "list", "-c", config, "--json"))
    assert (row["state"], row["attempts"], row["last_detail"]) == ("pending", 1, "HTTP 500")
    assert row["id"] == receiver.ids()[0]
    assert "refused: HTTP 500" in run("outbox", "list", "-c", config).stdout
    [audit] = records(run("audit", "-c", config, "--json"))
    assert audit["files"] == {"total": 3, "scored": 1, "duplicate": 1, "rejected": 1}
    assert (audit["matches"], audit["messages"], audit["faults"]) == (1, {"total": 1, "pending": 1}, [])
    shown = run("audit", "-c", config)
    assert "3 files: 1 duplicate, 1 rejected, 1 scored (1 binary)" in shown.stdout
    assert "the counts add up" in shown.stdout


def test_messages_of_an_endpoint_taken_out_of_the_settings_are_told(
    receiver: Receiver, write_settings: Callable[..., Path]
) -> None:
    """They are kept, and audit says that nobody will send them."""
    config = write_settings(receiver)
    (config.parent / "inbox/a.txt").write_bytes(Path(CHARGING).read_bytes())
    receiver.answers = [(500, {}, b"")]
    run("once", "-c", config)
    config.write_text(config.read_text(encoding="utf-8").replace('"desk"', '"wire"'), encoding="utf-8")

    assert "1 messages wait for endpoint 'desk', which is not in the settings" in run("audit", "-c", config).stdout
    [audit] = records(run("audit", "-c", config, "--json"))
    assert audit["strays"] == {"desk": 1}


def test_outbox_retry_sends_a_dead_message_again(receiver: Receiver, write_settings: Callable[..., Path]) -> None:
    """After the last failed try it is dead and listed; after a retry it is delivered under its old id."""
    config = write_settings(receiver, delivery="retry_s = []")
    (config.parent / "inbox/a.txt").write_bytes(Path(CHARGING).read_bytes())
    receiver.answers = [(500, {}, b"")]
    run("once", "-c", config)

    [row] = records(run("outbox", "list", "-c", config, "--state", "dead", "--json"))
    assert run("outbox", "retry", "-c", config, "msg_unknown").exit_code == 1
    assert run("outbox", "retry", "-c", config, row["id"]).stdout == "1 messages are due again\n"
    run("once", "-c", config)
    assert receiver.ids() == [row["id"]] * 2
    assert run("outbox", "list", "-c", config).stdout == "no pending or dead messages\n"


def test_once_says_when_the_folder_is_missing(receiver: Receiver, write_settings: Callable[..., Path]) -> None:
    """Nothing is started, nothing is made."""
    config = write_settings(receiver)
    (config.parent / "inbox").rmdir()
    result = run("once", "-c", config)

    assert result.exit_code == 1
    assert "folder.path: there is no folder" in result.stderr
    assert not (config.parent / "classifier.db").exists()


@pytest.mark.long
def test_demo_runs_the_main_job() -> None:
    """The real thing as a process: alerts arrive, every signature is right, the books add up."""
    result = subprocess.run(
        [sys.executable, "-m", "classifier", "demo", "--json"], capture_output=True, text=True, check=False, timeout=120
    )
    alerts = [json.loads(line) for line in result.stdout.splitlines()]

    assert result.returncode == 0, result.stderr
    assert len(alerts) >= 3
    assert all(alert["signature_verified"] for alert in alerts)
    assert "the counts add up" in result.stderr
