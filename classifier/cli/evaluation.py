"""Commands that measure: evaluate, compare; and how a report looks in a terminal, for train and model show too."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifier.adapters.artifacts import load_model, read_manifest
from classifier.cli.console import (
    CORPORA_ARGUMENT,
    JSON_OPTION,
    MODEL_OPTION,
    command,
    describe_counts,
    fail,
    main,
    one_line,
    print_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from classifier.examples import Example


@command(main, "evaluate", "classifier evaluate seeds/articles.jsonl --model models/mine")
@CORPORA_ARGUMENT
@MODEL_OPTION
@JSON_OPTION
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Write the same and more as one HTML page: curves, confusions, the worst errors with their texts.",
)
def evaluate_command(corpora: tuple[Path, ...], model_path: Path | None, page: Path | None, *, as_json: bool) -> None:
    """
    Compare a model's tags (both bands) with labelled articles; labels unknown in a row are masked.

    Intervals are 95 % bootstrap intervals over articles.
    """
    from classifier.adapters.corpus import load_corpus  # noqa: PLC0415
    from classifier.evaluation import evaluate, explain_errors  # noqa: PLC0415
    from classifier.report import render_report  # noqa: PLC0415

    model = load_model(model_path)
    examples = [example for path in corpora for example in load_corpus(path, model.taxonomy).examples]
    found = evaluate(model, examples)
    n_learnt = _count_learnt(model_path, examples)
    record = {"n_learnt": n_learnt} | found.to_record()
    if page is not None:
        passages = explain_errors(model, examples, found.errors)
        names = [path.name for path in corpora]
        _write_page(page, render_report(found, passages, model=model.reference, corpora=names, n_learnt=n_learnt))
    _warn_learnt(model.reference, n_learnt, len(examples))
    if as_json:
        errors = [
            {"kind": str(error.kind), "id": error.id, "label": error.label, "score": round(error.score, 4)}
            for error in found.errors
        ]
        print_json({"model": model.reference, **record, "errors": errors})
        return
    click.echo(f"{model.reference} on {len(examples)} examples")
    print_report(record)


@command(main, "compare", "classifier compare models/nev-policy models/mine seeds/articles.jsonl")
@click.argument("before", type=click.Path(path_type=Path), metavar="MODEL_A")
@click.argument("after", type=click.Path(path_type=Path), metavar="MODEL_B")
@click.argument("corpus", type=click.Path(path_type=Path), metavar="CORPUS")
@JSON_OPTION
def compare_command(before: Path, after: Path, corpus: Path, *, as_json: bool) -> None:
    """
    Show which tags MODEL_B gives that MODEL_A does not, and the other way round, and how the figures differ.

    Both need the same labels. Intervals are paired 95 % bootstrap intervals over articles.
    """
    from classifier.adapters.corpus import load_corpus  # noqa: PLC0415
    from classifier.comparison import compare  # noqa: PLC0415

    models = load_model(before), load_model(after)
    examples = load_corpus(corpus, models[0].taxonomy).examples
    record = compare(*models, examples).to_record()
    references = [model.reference for model in models]
    for folder, reference in zip((before, after), references, strict=True):
        _warn_learnt(reference, _count_learnt(folder, examples), len(examples))
    if as_json:
        print_json({"before": references[0], "after": references[1], **record})
        return
    click.echo(f"from {references[0]} to {references[1]} on {len(examples)} examples")
    _print_comparison(record)


def _count_learnt(folder: Path | None, examples: "Sequence[Example]") -> int:
    """Return how many of the texts the model learnt from."""
    manifest = read_manifest(folder)
    learnt = set(manifest.get("training", {}).get("digests", ()))
    return sum(example.digest in learnt for example in examples)


def _warn_learnt(reference: str, n_learnt: int, n_examples: int) -> None:
    if n_learnt:
        click.echo(
            f"classifier: {reference} learnt from {n_learnt} of these {n_examples} articles: "
            "the figures say how well it remembers, not how well it does on news",
            err=True,
        )


def _print_comparison(record: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415

    table = _table("figures", "facet", "metric", "before", "after", "change", "95 %")
    for row in record["metrics"]:
        change = "" if row["difference"] is None else f"{row['difference']:+.3f}"
        limits = row["interval"]
        between = f"[{limits[0]:+.3f}, {limits[1]:+.3f}]" if limits else ""
        table.add_row(row["facet"], row["metric"], _cell(row["before"]), _cell(row["after"]), change, between)
    Console(highlight=False, markup=False).print(table, "")
    words = {True: "right", False: "wrong", None: "undecided"}
    last = None
    for row in record["changes"]:
        if row["id"] != last:
            click.echo(f"{one_line(row['id'])}  {one_line(row['title'])}")
            last = row["id"]
        sign = "+" if row["change"] == "gained" else "-"
        verdict = words[row["is_label"]]
        click.echo(f"  {sign} {row['label']} {row['before']:.2f} -> {row['after']:.2f} (the label is {verdict})")
    counts = Counter(row["change"] for row in record["changes"])
    click.echo(f"tags: {describe_counts(counts)}")


def _write_page(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        fail(f"{path}: the report cannot be written: {error.strerror or error}")


def print_report(record: dict[str, Any]) -> None:
    """Print the record of a report for people; one written before there were intervals has fewer columns filled."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    for facet, metrics in record["facets"].items():
        console.print(_label_table(facet, metrics))
        limits = metrics.get("intervals", {})
        console.print(
            f"macro F1 {_cell(metrics['macro_f1'])}{_between(limits.get('macro_f1'))} (mean over labels with support), "
            f"micro F1 {_cell(metrics['micro_f1'])}{_between(limits.get('micro_f1'))}\n"
            f"alert band: precision {_cell(metrics['alert_precision'])}{_between(limits.get('alert_precision'))}, "
            f"recall {_cell(metrics['alert_recall'])}{_between(limits.get('alert_recall'))}",
            soft_wrap=True,
        )
        if "calibration_error" in metrics:
            console.print(f"expected calibration error {metrics['calibration_error'] or 0:.3f}")
        console.print()
    _print_whole(record, console)
    between = _between(record.get("off_topic_interval"))
    console.print(
        f"{record['off_topic_tagged']} of {record['off_topic']} examples without any label got a tag{between}",
        soft_wrap=True,
    )


def _print_whole(record: dict[str, Any], console: Any) -> None:  # noqa: ANN401 - rich is imported when it is needed
    from rich.text import Text  # noqa: PLC0415

    if record.get("coverage"):
        table = _table("tags at or above a score", "cut", "tags", "kept", "P", "R")
        for row in record["coverage"]:
            shares = [_cell(row[key]) for key in ("kept", "precision", "recall")]
            table.add_row(f"{row['cut']:.2f}", str(row["tagged"]), *shares)
        console.print(table, "")
    if record.get("slices"):
        table = _table("slices", "slice", "examples", "labels", "macro F1", "micro F1")
        for row in record["slices"]:
            counts = [str(row["n_examples"]), str(row["support"])]
            table.add_row(
                Text(one_line(row["name"])),
                *counts,
                _cell(row["macro_f1"]),
                _cell(row["micro_f1"]),
            )
        console.print(table, "")


def _label_table(facet: str, metrics: dict[str, Any]) -> Any:  # noqa: ANN401 - rich is imported when it is needed
    table = _table(facet, "label", "support", "tags", "P", "R", "F1", "95 %", "AP", "alert\nP", "alert\nR")
    for label, row in metrics["labels"].items():
        limits = row.get("intervals", {}).get("f1")
        table.add_row(
            label,
            str(row["support"]),
            str(row["tagged"]),
            *(_cell(row[key]) for key in ("precision", "recall", "f1")),
            "-".join(_cell(limit).removeprefix("0") for limit in limits) if limits else "",
            _cell(row.get("average_precision")),
            *(_cell(row[key]) for key in ("alert_precision", "alert_recall")),
        )
    return table


def _table(title: str, first: str, *others: str) -> Any:  # noqa: ANN401 - rich is imported when it is needed
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _between(limits: list[float] | None) -> str:
    return f" [{limits[0]:.2f}, {limits[1]:.2f}]" if limits else ""
