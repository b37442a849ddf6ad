"""What the commands share: how they are registered, how they print, and which exit code a fault has."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from classifier.errors import ArticleError, ClassifierError, ConfigError, CorpusError, LedgerError, ModelError

_EXIT_CODES: tuple[tuple[type[ClassifierError], int], ...] = ((ModelError, 3), (LedgerError, 4), (ClassifierError, 1))
MODEL_OPTION = click.option(
    "--model",
    "model_path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Model folder; the bundled model without it.",
)
CORPORA_ARGUMENT = click.argument(
    "corpora", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CORPUS..."
)
TAXONOMY_OPTION = click.option(
    "--taxonomy",
    "taxonomy_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Facets and labels, TOML.",
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line and nothing else.")
DASK_OPTION = click.option(
    "--dask",
    metavar="ADDRESS",
    help="Do the work on the Dask cluster of the scheduler there, e.g. tcp://10.0.0.1:8786.",
)
CONFIG_OPTION = click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=Path("classifier.toml"),
    show_default=True,
    help="Settings file.",
)


class Commands(click.Group):
    """Turns our errors into one line per problem and the right exit code, in one place."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click declares it
        """Run the command; a fault of ours ends it with its exit code."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(f"classifier: {error.source}: {problem}", err=True)
            ctx.exit(1)
        except ClassifierError as error:
            click.echo(f"classifier: {error}", err=True)
            ctx.exit(next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))


def command(group: click.Group, name: str, example: str) -> Callable[[Callable[..., None]], click.Command]:
    """Register a command whose help ends with an example."""
    return group.command(
        name, epilog=f"\b\nExample:\n  {example}", context_settings={"help_option_names": ["-h", "--help"]}
    )


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  classifier tag article.txt",
)
@click.version_option(package_name="policy-classifier", prog_name="classifier")
def main() -> None:
    """Tag policy news by sector and policy type, and post what matches your rules to webhooks."""


@contextmanager
def keeping_on() -> "Iterator[Callable[[], Any]]":
    """Give a context that reports a faulty input and goes on; at the end the exit code tells."""
    failed = False

    @contextmanager
    def attempt() -> Iterator[None]:
        nonlocal failed
        try:
            yield
        except (ArticleError, CorpusError) as error:
            failed = True
            click.echo(f"classifier: {error}", err=True)

    yield attempt
    if failed:
        click.get_current_context().exit(1)


@contextmanager
def progress_bar() -> "Iterator[Callable[[str, int, int], None]]":
    """Give a callback that moves a bar on standard error; a step whose size is 0 has none that is known."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn  # noqa: PLC0415

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def move(step: str, done: int, size: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=size or None)
            progress.update(tasks[step], completed=done, total=size or None)

        yield move


def workplace(dask: str | None) -> AbstractContextManager[None]:
    """Return where parallel work is done: on a cluster when there is an address, else on this machine."""
    if dask is None:
        return nullcontext()
    from classifier.adapters.cluster import dask_cluster  # noqa: PLC0415

    return dask_cluster(dask)


def describe_counts(counts: Mapping[str, int]) -> str:
    """Return counts in words, by name."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def one_line(text: str) -> str:
    """Return *text* on one line, without control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def print_json(record: dict[str, Any]) -> None:
    """Print one object on one line of standard output."""
    click.echo(json.dumps(record, ensure_ascii=True))


def fail(message: str) -> None:
    """Say what went wrong on standard error and exit with 1."""
    click.echo(f"classifier: {message}", err=True)
    click.get_current_context().exit(1)
