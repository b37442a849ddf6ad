"""The command about archives: score."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifier.cli.console import (
    DASK_OPTION,
    JSON_OPTION,
    MODEL_OPTION,
    command,
    describe_counts,
    fail,
    main,
    print_json,
    progress_bar,
    workplace,
)

if TYPE_CHECKING:
    from classifier.adapters.tag_table import Tally


@command(
    main,
    "score",
    "classifier score seeds/inbox --output tags.parquet\n"
    "  classifier score 'archive/**/*.jsonl.gz' s3://bucket/news.parquet --output tags.parquet --jobs 8",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of Parquet files to write."
)
@MODEL_OPTION
@click.option("--jobs", type=int, metavar="N", help="Processes; -1 is one per core.  [default: -1]")
@DASK_OPTION
@click.option("--text-column", default="text", show_default=True, help="Column or key of the text.")
@click.option("--title-column", default="title", show_default=True, help="Column or key of the title, if any.")
@click.option("--id-column", default="id", show_default=True, help="Column or key of the id, if any.")
@click.option(
    "--part-rows",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Articles per file of the output: what is done in one go, and lost when a run is killed.",
)
@click.option("--force", is_flag=True, help="Replace DIR, at the very end, when it is there.")
@JSON_OPTION
def score_command(
    paths: tuple[str, ...],
    output: Path,
    model_path: Path | None,
    jobs: int | None,
    dask: str | None,
    text_column: str,
    title_column: str,
    id_column: str,
    part_rows: int,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """
    Tag an archive: files, folders, shell patterns or URLs of pages, JSON lines, CSV and Parquet.

    What cannot be read is a row with the reason. Killed, it goes on when the same command is given again.
    """
    if jobs == 0 or (jobs is not None and dask is not None):
        raise click.UsageError("--jobs needs a number other than 0, and has no meaning beside --dask")
    from classifier.adapters.sources import Columns  # noqa: PLC0415
    from classifier.archive import score_archive  # noqa: PLC0415

    with progress_bar() as on_progress, workplace(dask):
        tally = score_archive(
            paths,
            output,
            model=model_path,
            columns=Columns(text=text_column, title=title_column, id=id_column),
            part_rows=part_rows,
            jobs=-1 if jobs is None else jobs,
            is_forced=force,
            on_progress=on_progress,
        )
    if as_json:
        print_json({"output": str(output), **tally.to_record()})
    else:
        _print_tally(output, tally)
    if tally.rejected.total() == tally.articles:
        fail(f"{output}: nothing in the input is an article; the column 'detail' says why")


def _print_tally(output: Path, tally: "Tally") -> None:
    click.echo(f"{tally.articles} articles written to {output}: {tally.tagged} with tags, {tally.untagged} without")
    for word, counts in (("abstained", tally.abstained), ("rejected", tally.rejected)):
        if counts:
            click.echo(f"{word}: {describe_counts(counts)}")
