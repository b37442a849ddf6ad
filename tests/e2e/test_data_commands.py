"""The commands for labelled data as a user types them."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from classifier import load_model
from classifier.cli import main

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_import_then_train(tmp_path: Path) -> None:
    """From somebody's table to a model, with nothing but our commands."""
    lines = [
        f'"On day {word} {text}",{label}'
        for word in "one two three four five six seven eight".split()
        for label, text in (("Wind power", "the wind farm feeds the cable"), ("Solar", "the roof gets solar panels"))
    ]
    (tmp_path / "data.csv").write_text("\n".join(["text,labels", *lines]))
    corpus = tmp_path / "out/corpus.jsonl"
    imported = run("data", "import", tmp_path / "data.csv", "--format", "csv", "--output", corpus)
    taxonomy = tmp_path / "out/corpus.taxonomy.toml"
    trained = run("train", corpus, "--taxonomy", taxonomy, "--output", tmp_path / "model")

    assert (imported.exit_code, trained.exit_code) == (0, 0), imported.stderr + trained.stderr
    assert imported.stdout.splitlines() == [
        f"16 articles written to {corpus}, 0 of them without a label",
        f"2 labels, taxonomy written to {taxonomy}",
        "       8 wind_power",
        "       8 solar",
    ]
    assert load_model(tmp_path / "model").labels == ("solar", "wind_power")


def test_import_takes_one_split_and_says_so(tmp_path: Path) -> None:
    """For people and for programs."""
    rows = [{"text": f"Text {split}.", "label": "a", "split": split} for split in ["train"] * 10 + ["test"]]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    base = ["data", "import", tmp_path / "data.jsonl", "--format", "jsonl", "--taxonomy", tmp_path / "t.toml"]
    taken = run(*base, "--output", tmp_path / "a.jsonl", "--split", "train")
    single = run(*base, "--output", tmp_path / "c.jsonl", "--split", "test")
    everything = run(*base, "--output", tmp_path / "b.jsonl", "--json")
    again = run(*base, "--output", tmp_path / "b.jsonl")

    assert "splits: 10 train, 1 test (only 'train' taken)" in taken.stdout
    assert "so few articles" not in taken.stderr
    assert "so few articles that training will give no alert band: a" in single.stderr
    record: dict[str, Any] = json.loads(everything.stdout)
    assert (record["articles"], record["splits"]) == (11, {"train": 10, "test": 1})
    assert (record["has_new_taxonomy"], record["labels"]) == (False, {"a": 11})
    assert again.exit_code == 1
    assert "b.jsonl: is there already; nothing was written; --force replaces it" in again.stderr


def test_import_options_that_cannot_be_meant_are_usage_errors(tmp_path: Path) -> None:
    """Before any file is read."""
    base = ["data", "import", tmp_path, "--output", tmp_path / "a.jsonl"]
    split, separator = (
        run(*base, "--format", "folder", "--split", "x"),
        run(*base, "--format", "csv", "--separator", ""),
    )

    assert (split.exit_code, separator.exit_code) == (2, 2)
    assert "--split needs a column or key 'split', which folder does not have" in split.stderr
    assert "--separator needs at least one character" in separator.stderr


def test_check_of_the_seeds_finds_no_fault(tmp_path: Path) -> None:
    """The tables fit 80 columns; standard output holds nothing else. A third of the corpus has all there is to show."""
    lines = (ROOT / "seeds/articles.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "third.jsonl").write_text("".join(lines[::3]), encoding="utf-8")
    result = run("data", "check", tmp_path / "third.jsonl", "--taxonomy", ROOT / "seeds/taxonomy.toml")

    assert result.exit_code == 0, result.stderr
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    for part in (
        "articles, ",
        "words: least ",
        "sector: ",
        "most frequent pairs",
        "largest overlap: 0.0",
        "given, but a fit without the article doubts it",
        "not given, but a fit without the article would",
        "names and years among the 30 strongest terms (rank)",
    ):
        assert part in result.stdout
    assert "FAULT" not in result.stdout


def test_check_tells_every_fault_and_fails(tmp_path: Path) -> None:
    """Near-duplicates inside, leaks across, labels nobody gave: each by id, for people and for programs."""
    (tmp_path / "t.toml").write_text(
        '[[facet]]\nid = "topic"\n[[facet.label]]\nid = "a"\n[[facet.label]]\nid = "b"\n', encoding="utf-8"
    )
    text = "the city pays for new charging piles"
    for name in ("one", "two", "other"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": "x", "text": text, "topics": ["a"]}))
    one, two, other = (tmp_path / f"{name}.jsonl" for name in ("one", "two", "other"))
    base = ["data", "check", one, two, "--taxonomy", tmp_path / "t.toml", "--against", other]
    shown, told = run(*base), run(*base, "--json")

    assert (shown.exit_code, told.exit_code) == (1, 1)
    for part in ("FAULT: none", "few", "FAULT: near-duplicates", "FAULT: leaks", "too few articles to try labels"):
        assert part in shown.stdout
    assert shown.stderr.splitlines()[-3:] == [
        "classifier: 1 pairs of articles are near-duplicates",
        "classifier: 2 pairs of articles leak between corpora",
        "classifier: 1 labels have no example: b",
    ]
    record: dict[str, Any] = json.loads(told.stdout)
    assert [(pair["first"], pair["second"]) for pair in record["near_duplicates"]] == [(f"{one}:x", f"{two}:x")]
    assert {pair["corpus"] for pair in record["leaks"]} == {str(other)}
    assert (record["missing"], record["rare"], len(record["faults"])) == (["b"], ["a"], 3)


def test_check_says_when_names_cannot_be_told(tmp_path: Path) -> None:
    """A corpus in lower case; a list longer than a screen says how long it is."""
    (tmp_path / "t.toml").write_text('[[facet]]\nid = "topic"\n[[facet.label]]\nid = "a"\n', encoding="utf-8")
    rows = [
        {"id": str(n), "text": f"word and thing{n}" if n % 2 else "piles for the city", "topics": ["a"] * (n % 2)}
        for n in range(20)
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = run("data", "check", tmp_path / "c.jsonl", "--taxonomy", tmp_path / "t.toml")

    assert "no capitals in these texts, so names among the terms cannot be told" in result.stdout
    assert "FAULT: near-duplicates, the worst 20 of 45" in result.stdout


def test_articles_go_to_label_studio_and_back(tmp_path: Path) -> None:
    """Rows with and without labels; what nobody answered is left out, and said."""
    taxonomy, corpus, tasks = ROOT / "seeds/taxonomy.toml", tmp_path / "corpus.jsonl", tmp_path / "out/tasks.json"
    rows = [
        {"id": "a", "title": "T", "text": "Wind.", "sectors": ["wind"], "sectors_unknown": ["solar"], "source": "s"},
        {"id": "b", "title": "", "text": "To be labelled.", "source": ""},
    ]
    corpus.write_text("\n".join(map(json.dumps, rows)))
    exported = run("data", "export", corpus, "--taxonomy", taxonomy, "--output", tasks)
    back = tmp_path / "back.jsonl"
    base = ["data", "import", tasks, "--format", "label-studio", "--output", back]
    imported = run(*base, "--taxonomy", taxonomy)
    record = json.loads(run(*base, "--taxonomy", taxonomy, "--force", "--json").stdout)

    assert exported.stdout.splitlines() == [
        f"2 tasks written to {tasks}, 1 of them with labels to correct",
        f"labelling configuration written to {tmp_path / 'out/tasks.xml'}",
    ]
    assert imported.stdout == (
        f"1 articles written to {back}\n"
        "1 tasks without an answer left out, 0 skipped annotations passed over;"
        " 0 labels unknown because people disagree\n"
    )
    assert [json.loads(line) for line in back.read_text().splitlines()] == rows[:1]
    assert (record["articles"], record["unanswered"]) == (1, 1)
    again = run("data", "export", corpus, "--taxonomy", taxonomy, "--output", tasks, "--json")
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)
    forced = run("data", "export", corpus, "--taxonomy", taxonomy, "--output", tasks, "--json", "--force")
    assert json.loads(forced.stdout)["labelled"] == 1


def test_label_studio_needs_a_taxonomy_and_an_export(tmp_path: Path) -> None:
    """Each fault with its remedy."""
    taxonomy, tasks = ROOT / "seeds/taxonomy.toml", tmp_path / "tasks.json"
    base = ["data", "import", tasks, "--format", "label-studio", "--output", tmp_path / "back.jsonl"]
    tasks.write_text("{")
    broken = run(*base, "--taxonomy", taxonomy)
    tasks.write_bytes(b"\xff")
    no_text = run(*base, "--taxonomy", taxonomy)
    ending = run("data", "export", tasks, "--taxonomy", taxonomy, "--output", tmp_path / "a.xml")

    assert (broken.exit_code, "tasks.json: this is no JSON: " in broken.stderr) == (1, True)
    assert (no_text.exit_code, "tasks.json:1: this is no UTF-8" in no_text.stderr) == (1, True)
    assert (run(*base).exit_code, "--taxonomy FILE is needed" in run(*base).stderr) == (2, True)
    assert (ending.exit_code, "another ending than .xml" in ending.stderr) == (2, True)
    assert run(*base, "--taxonomy", taxonomy, "--split", "a").exit_code == 2
