"""Commands about labelled data: data import, data check."""

from pathlib import Path

import click

from classifier.cli.console import JSON_OPTION, command, main, print_json, progress_bar

_FORMATS = ("csv", "fasttext", "jsonl", "folder")


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
    "jsonl ({text, label or labels}); folder, one sub-folder of text files per label.",
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

    if split is not None and form not in {"csv", "jsonl"}:
        raise click.UsageError(f"--split needs a column or key 'split', which {form} does not have")
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
    if rare := [label for label, count in done.labels.items() if count < 2]:  # noqa: PLR2004 - what training asks for
        click.echo(f"too few to train, at least 2 articles needed: {', '.join(rare)}", err=True)
