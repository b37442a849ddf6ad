"""The commands for labelled data as a user types them."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from classifier import load_model
from classifier.cli import main


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
    rows = [{"text": f"Text {split}.", "label": "a", "split": split} for split in ("train", "train", "test")]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    base = ["data", "import", tmp_path / "data.jsonl", "--format", "jsonl", "--taxonomy", tmp_path / "t.toml"]
    taken = run(*base, "--output", tmp_path / "a.jsonl", "--split", "train")
    everything = run(*base, "--output", tmp_path / "b.jsonl", "--json")
    again = run(*base, "--output", tmp_path / "b.jsonl")

    assert "splits: 2 train, 1 test (only 'train' taken)" in taken.stdout
    record: dict[str, Any] = json.loads(everything.stdout)
    assert (record["articles"], record["splits"]) == (3, {"train": 2, "test": 1})
    assert (record["has_new_taxonomy"], record["labels"]) == (False, {"a": 3})
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
