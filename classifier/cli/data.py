"""Commands about labelled data: data import, data export, data check."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifier.cli.console import (
    CORPORA_ARGUMENT,
    JSON_OPTION,
    TAXONOMY_OPTION,
    command,
    main,
    print_json,
    progress_bar,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from classifier.adapters.corpus import Corpus
    from classifier.corpus_check import CorpusReport, Overlap
    from classifier.examples import Example

_LABEL_STUDIO = "label-studio"
_FORMATS = ("csv", "fasttext", "jsonl", "folder", _LABEL_STUDIO)


@main.group("data", epilog="\b\nExample:\n  classifier data check seeds/articles.jsonl --taxonomy seeds/taxonomy.toml")
def data_group() -> None:
    """Bring in labelled data, and check it before training."""


@command(data_group, "import", "classifier data import train.csv --format csv --output corpus.jsonl")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INPUT...")
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(_FORMATS),
    help="How the data is written: csv with a header; fasttext (__label__a __label__b text); "
    "jsonl ({text, label or labels}); folder, one sub-folder of text files per label; label-studio, its JSON export "
    "of tasks made by `data export`, for a taxonomy that is there.",
)
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), metavar="CORPUS", help="Corpus to write, JSON lines."
)
@click.option(
    "--taxonomy",
    "taxonomy_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Facets and labels, TOML; inferred and written when it is not there.  [default: CORPUS.taxonomy.toml]",
)
@click.option("--facet", default="topic", show_default=True, help="The facet the labels belong to, singular.")
@click.option("--text-column", default="text", show_default=True, help="Column or key of the text.")
@click.option("--title-column", default="title", show_default=True, help="Column or key of the title, if any.")
@click.option("--label-column", default="labels", show_default=True, help="Column or key of the labels.")
@click.option("--id-column", default="id", show_default=True, help="Column or key of the id, if any.")
@click.option("--separator", default=";", show_default=True, help="Between labels in one CSV cell.")
@click.option("--split", metavar="NAME", help="Take only rows whose column or key 'split' says so.")
@click.option("--force", is_flag=True, help="Replace CORPUS when it is there; a taxonomy is never replaced.")
@JSON_OPTION
def import_command(
    inputs: tuple[Path, ...],
    form: str,
    output: Path,
    taxonomy_path: Path | None,
    facet: str,
    text_column: str,
    title_column: str,
    label_column: str,
    id_column: str,
    separator: str,
    split: str | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Turn labelled data of other formats into a corpus, and its labels into a taxonomy."""
    from classifier.adapters.corpus import load_taxonomy  # noqa: PLC0415
    from classifier.adapters.importers import Columns, Format, load_labelled, save_import  # noqa: PLC0415
    from classifier.training import TrainingSpec  # noqa: PLC0415

    if split is not None and form not in {"csv", "jsonl"}:
        raise click.UsageError(f"--split needs a column or key 'split', which {form} does not have")
    if form == _LABEL_STUDIO:
        _import_tasks(inputs, output, taxonomy_path, is_forced=force, as_json=as_json)
        return
    if not separator:
        raise click.UsageError("--separator needs at least one character")
    path = taxonomy_path or output.with_suffix(".taxonomy.toml")
    taxonomy = load_taxonomy(path) if path.exists() else None
    columns = Columns(text=text_column, labels=label_column, title=title_column, id=id_column, separator=separator)
    rows = load_labelled(inputs, Format(form), columns)
    with progress_bar() as on_progress:
        done = save_import(
            rows,
            output,
            path,
            taxonomy,
            facet_id=facet,
            split=split,
            is_forced=force,
            on_progress=on_progress,
        )
    if as_json:
        print_json(
            {
                "corpus": str(output),
                "taxonomy": str(path),
                "has_new_taxonomy": done.has_new_taxonomy,
                "articles": done.articles,
                "unlabelled": done.unlabelled,
                "labels": done.labels,
                "splits": done.splits,
            }
        )
        return
    click.echo(f"{done.articles} articles written to {output}, {done.unlabelled} of them without a label")
    click.echo(f"{len(done.labels)} labels, taxonomy {'written to' if done.has_new_taxonomy else 'read from'} {path}")
    if done.splits:
        taken = f"only {split!r} taken" if split else "all taken; --split NAME takes one"
        click.echo(f"splits: {', '.join(f'{count} {name}' for name, count in done.splits.items())} ({taken})")
    for label, count in done.labels.items():
        click.echo(f"{count:>8} {label}")
    if rare := [label for label, count in done.labels.items() if count < TrainingSpec().alert_min_positives]:
        click.echo(f"so few articles that training will give no alert band: {', '.join(rare)}", err=True)


def _import_tasks(
    inputs: tuple[Path, ...], output: Path, taxonomy_path: Path | None, *, is_forced: bool, as_json: bool
) -> None:
    from classifier.adapters.corpus import load_taxonomy  # noqa: PLC0415
    from classifier.adapters.importers import load_json, refuse_overwriting, save_rows  # noqa: PLC0415
    from classifier.label_studio import parse_tasks  # noqa: PLC0415

    if taxonomy_path is None:
        raise click.UsageError(f"--taxonomy FILE is needed with --format {_LABEL_STUDIO}")
    refuse_overwriting(output, is_forced=is_forced)
    taxonomy = load_taxonomy(taxonomy_path)
    parts = [parse_tasks(load_json(path), taxonomy, source=str(path)) for path in inputs]
    rows = [row for part in parts for row in part.rows]
    save_rows(output, rows, taxonomy, is_forced=is_forced)
    unanswered, skipped = sum(part.unanswered for part in parts), sum(part.skipped for part in parts)
    disputed = sum(part.disputed for part in parts)
    if as_json:
        counts = {"unanswered": unanswered, "skipped_annotations": skipped, "disputed_labels": disputed}
        print_json({"corpus": str(output), "articles": len(rows), **counts})
        return
    click.echo(f"{len(rows)} articles written to {output}")
    click.echo(
        f"{unanswered} tasks without an answer left out, {skipped} skipped annotations passed over;"
        f" {disputed} labels unknown because people disagree"
    )


@command(data_group, "export", "classifier data export corpus.jsonl --taxonomy taxonomy.toml --output tasks.json")
@CORPORA_ARGUMENT
@TAXONOMY_OPTION
@click.option(
    "--format", "form", type=click.Choice([_LABEL_STUDIO]), default=_LABEL_STUDIO, show_default=True, help="For whom."
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Tasks to write, JSON; the labelling configuration goes beside them, with the ending .xml.",
)
@click.option("--force", is_flag=True, help="Replace both files when they are there.")
@JSON_OPTION
def export_command(
    corpora: tuple[Path, ...],
    taxonomy_path: Path,
    form: str,  # noqa: ARG001 - there is one so far
    output: Path,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """
    Write articles as tasks of Label Studio, with what is known of them as annotations to correct.

    Rows need no labels. No guess of a model is sent along: who labels should not be led.
    """
    from classifier.adapters.corpus import load_rows, load_taxonomy  # noqa: PLC0415
    from classifier.adapters.importers import refuse_overwriting, write_files  # noqa: PLC0415
    from classifier.label_studio import make_tasks, render_config  # noqa: PLC0415

    config = output.with_suffix(".xml")
    if config == output:
        raise click.UsageError("--output needs another ending than .xml, which the configuration has")
    for path in (output, config):
        refuse_overwriting(path, is_forced=force)
    taxonomy = load_taxonomy(taxonomy_path)
    tasks = [task for path in corpora for task in make_tasks(load_rows(path, taxonomy), taxonomy)]
    write_files({output: json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", config: render_config(taxonomy)})
    labelled = sum("annotations" in task for task in tasks)
    if as_json:
        print_json({"tasks": str(output), "config": str(config), "articles": len(tasks), "labelled": labelled})
    else:
        click.echo(f"{len(tasks)} tasks written to {output}, {labelled} of them with labels to correct")
        click.echo(f"labelling configuration written to {config}")


@command(data_group, "check", "classifier data check seeds/articles.jsonl --taxonomy seeds/taxonomy.toml")
@CORPORA_ARGUMENT
@TAXONOMY_OPTION
@click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="CORPUS",
    help="A corpus that must share no article with these, such as the one kept for testing. May be repeated.",
)
@click.option("--seed", default=0, show_default=True, help="Decides the folds of the small fit.")
@JSON_OPTION
def check_command(
    corpora: tuple[Path, ...], taxonomy_path: Path, against: tuple[Path, ...], seed: int, *, as_json: bool
) -> None:
    """
    Look for what spoils training: near-duplicates, leaks, doubtful labels, names learnt by heart.

    Near-duplicates, leaks and labels without examples are faults: the exit code is 1. The rest is for you to judge.
    """
    from classifier.adapters.corpus import load_corpus, load_taxonomy  # noqa: PLC0415
    from classifier.corpus_check import check_corpus  # noqa: PLC0415

    taxonomy = load_taxonomy(taxonomy_path)
    own = [(path, load_corpus(path, taxonomy)) for path in corpora]
    others = {str(path): load_corpus(path, taxonomy).examples for path in against}
    with progress_bar() as on_progress:
        report = check_corpus(_gather(own), taxonomy, against=others, seed=seed, on_progress=on_progress)
    if as_json:
        print_json(report.to_record())
    else:
        _print_check(report)
    if report.faults:
        for fault in report.faults:
            click.echo(f"classifier: {fault}", err=True)
        click.get_current_context().exit(1)


def _gather(corpora: "Sequence[tuple[Path, Corpus]]") -> "list[Example]":
    """Return all examples; with several corpora their ids say which one they are from."""
    if len(corpora) == 1:
        return list(corpora[0][1].examples)
    return [replace(example, id=f"{path}:{example.id}") for path, corpus in corpora for example in corpus.examples]


_SHOWN = 20  # rows of a list; --json has them all


def _print_check(report: "CorpusReport") -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    console.print(f"{report.articles} articles, {report.unlabelled} of them without any label")
    quantiles = {0: "least", 50: "median", 100: "most"}
    console.print("words: " + ", ".join(f"{quantiles.get(q, f'{q} %')} {count}" for q, count in report.words.items()))
    for facet, counts in report.facets.items():
        marks = dict.fromkeys(report.missing, "FAULT: none") | dict.fromkeys(report.rare, "few")
        _print_table(
            console,
            f"{facet}: {counts.without} articles judged without, {counts.undecided} not judged",
            ("label", ">articles", ""),
            [(label, str(count), marks.get(label, "")) for label, count in counts.labels.items()],
        )
    _print_table(
        console, "most frequent pairs", ("", "", ">articles"), [(a, b, str(count)) for a, b, count in report.pairs]
    )
    if report.largest_overlap:
        pair = report.largest_overlap
        console.print(f"\nlargest overlap: {pair.jaccard:.3f} of the word 5-grams, {pair.first} and {pair.second}")
    _print_overlaps(console, "FAULT: near-duplicates", report.near_duplicates, report.n_near_duplicates)
    _print_overlaps(console, "FAULT: leaks", report.leaks, report.n_leaks)
    if not report.has_fit:
        console.print("\ntoo few articles to try labels and terms")
        return
    for title, doubts in (
        ("given, but a fit without the article doubts it", report.doubtful_given),
        ("not given, but a fit without the article would", report.doubtful_absent),
    ):
        rows = [(f"{doubt.score:.2f}", doubt.label, doubt.article) for doubt in doubts]
        _print_table(console, title, (">score", "label", "article"), rows)
    if not report.has_capitals:
        console.print("\nno capitals in these texts, so names among the terms cannot be told")
    terms: dict[str, list[str]] = {}
    for term in report.name_terms:
        terms.setdefault(term.label, []).append(f"{term.term} ({term.rank})")
    _print_table(
        console,
        "names and years among the 30 strongest terms (rank)",
        ("label", "terms"),
        [(label, ", ".join(found)) for label, found in terms.items()],
    )


def _print_overlaps(console: "Console", title: str, pairs: "tuple[Overlap, ...]", total: int) -> None:
    more = f", the worst {_SHOWN} of {total}" if total > _SHOWN else ""
    rows = [
        (f"{pair.jaccard:.3f}", pair.first, f"{pair.corpus}:{pair.second}" if pair.corpus else pair.second)
        for pair in pairs[:_SHOWN]
    ]
    _print_table(console, title + more, (">overlap", "article", "and"), rows)


def _print_table(console: "Console", title: str, columns: tuple[str, ...], rows: "Sequence[tuple[str, ...]]") -> None:
    """Print a table, if it has rows; a column whose name starts with ``>`` is set flush right."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if not rows:
        return
    console.print(f"\n{title}")
    table = Table(box=None, pad_edge=False, show_header=any(columns))
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
