"""
Tag a whole archive: input of any size in, a folder of Parquet files out, over the cores of a machine or of many.

    paths --plan--> parts --joblib.Parallel, one task per part: read, parse, tag, encode--> bytes --write--> table

Keeps: every article of the input is one row of the table, whatever is wrong with it. The parts follow from the input
alone and a part's bytes from its articles and the model, in every worker the same, so the table is the same however
many work on it, and a run that was killed goes on after the parts it has.

Workers read the input themselves; what travels to them is where a part lies, and back comes its table, about a tenth
of the text. So they need to see the same paths, and the output lies with the caller.
"""

import hashlib
import pickle
import socket
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from classifier.adapters.artifacts import load_model
from classifier.adapters.sources import Columns, Part, Row, part_digest, plan, read_part
from classifier.adapters.tag_table import TableFolder, Tally, encode, open_table, partial_folder, table_schema
from classifier.alerts import tag_record
from classifier.article import Article, parse_article
from classifier.errors import ArchiveError, ArticleError, one_line
from classifier.tags import Tags

if TYPE_CHECKING:
    from classifier.model import Model

PART_ROWS = 10_000  # some seconds of work for one core: little is lost by a kill, and little is spent on each
_BATCH = 256  # articles tagged at once
_FORMAT = "1"  # of the table; another one makes other parts
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """
    What a worker needs to know beside the part.

    Not weakly referable, like a `Part`: joblib's Dask backend scatters what is, and what was scattered to a worker dies
    with it, instead of being sent to the next one.
    """

    model: str | None
    maker: str  # see `_maker`
    columns: Columns
    base: Path


def score_archive(
    paths: Sequence[Path | str],
    output: Path | str,
    *,
    model: Path | str | None = None,
    columns: Columns | None = None,
    part_rows: int = PART_ROWS,
    jobs: int = -1,
    is_forced: bool = False,
    on_progress: Progress | None = None,
) -> Tally:
    """
    Tag every article at *paths* and write a table, a folder of Parquet files as `table_schema` describes them.

    Work goes through `joblib.Parallel`, so ``joblib.parallel_config`` decides where it is done.

    Args:
        paths: files, folders, shell patterns and URLs, as `plan` takes them.
        output: the folder to write. Until all is done it is called ``<output>.partial``; the same call again goes on
            with what is there.
        model: the model folder, which workers read themselves; the bundled one by default.
        columns: what text, title and id are called in JSON lines, CSV and Parquet.
        part_rows: rows of one part, at most; at least 1.
        jobs: processes, as in joblib; -1 for all cores. Has no influence on the result.
        is_forced: replace *output*, at the very end, when it is there.
        on_progress: called with a step's name, how many parts of it are done, and how many there are; 0 when unknown.

    Returns:
        How many articles ended how, those of earlier runs included.

    Raises:
        ArchiveError: there is nothing to read, the output is there or cannot be written, input or workers fail.
        MissingExtraError: the extra ``archive`` is not installed.
        ModelError: the model cannot be loaded.
    """
    from joblib import Parallel, delayed  # noqa: PLC0415 - only archives and training need it

    loaded = load_model(model)
    facets = _facets(loaded)
    table_schema(facets)  # refuses what cannot be written before anything is read
    output, columns = Path.cwd() / output, columns or Columns()
    task = _Task(
        model=None if model is None else str(Path.cwd() / model),
        maker=_maker(loaded),
        columns=columns,
        base=Path.cwd(),
    )
    report = on_progress or (lambda _step, _done, _size: None)
    run = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="4*n_jobs")
    total = Tally()
    with open_table(output, is_forced=is_forced) as table:
        with table.scratch() as scratch:
            planned = _Plan(scratch)
            facts = (_FORMAT, task.maker, repr(columns))
            for part in plan([str(path) for path in paths], columns, part_rows=part_rows, skip=_own(output)):
                planned.add(part, part_digest(part, *facts))
                report("planning", len(planned.names), 0)
            if not planned.names:
                raise ArchiveError(", ".join(map(str, paths)), "there is nothing to read here")
            size = len(planned.names)
            report("planning", size, size)
            todo = planned.todo(table, total)
            report("scoring", size - len(todo), size)
            work = (delayed(_score_part)(task, *planned.part(number)) for number in todo)
            with _closing(run(work)) as results:
                for done, (name, data, tally) in enumerate(results, start=size - len(todo) + 1):
                    table.write(name, data)
                    total.add(tally)
                    report("scoring", done, size)
        table.finish(planned.names)
    return total


class _Plan:
    """
    All parts of a run, on disk: those of ten million pages would take gigabytes of memory.

    Attributes:
        names: of the parts, in order.
    """

    def __init__(self, scratch: BinaryIO) -> None:
        self._scratch = scratch
        self._offsets: list[int] = []
        self.names: list[str] = []

    def add(self, part: Part, digest: str) -> None:
        self.names.append(f"{len(self.names):06d}-{digest}")
        self._offsets.append(self._scratch.tell())
        pickle.dump(part, self._scratch)

    def part(self, number: int) -> tuple[str, Part]:
        self._scratch.seek(self._offsets[number])
        part: Part = pickle.load(self._scratch)  # noqa: S301 - written by this very process, into a file without a name
        return self.names[number], part

    def todo(self, table: TableFolder, total: Tally) -> list[int]:
        """Return which parts are not in *table*; those that are count in *total*."""
        missing = []
        for number, name in enumerate(self.names):
            finished = table.finished(name)
            if finished is None:
                missing.append(number)
            else:
                total.add(finished)
        return missing


def _own(output: Path) -> tuple[Path, Path]:
    """Return the folders that are output, lest a run over the folder they lie in reads them."""
    return output, partial_folder(output)


@contextmanager
def _closing(results: Generator[Any]) -> Iterator[Iterator[Any]]:
    """
    Give what the workers give, and let none of them go on when nobody wants it.

    Raises:
        ArchiveError: a worker of this machine died.
    """
    try:
        yield results
    except BrokenExecutor as error:
        detail = "a worker process was killed, perhaps for want of memory; the same command again goes on"
        where = "workers"
        raise ArchiveError(where, detail) from error
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib's count of the results that nobody takes
            results.close()


# -- in the worker ---------------------------------------------------------------------------------------------------


def _score_part(task: _Task, name: str, part: Part) -> tuple[str, bytes, Tally]:
    model = _load_once(task.model, task.maker)
    return name, *encode(_records(read_part(part, task.columns, task.base), model), _facets(model))


@cache
def _load_once(path: str | None, maker: str) -> "Model":
    """Load the model the first time a worker is asked for it, and make sure that it is the one that was meant."""
    model = load_model(path, share=True)
    if (found := _maker(model)) != maker:
        raise ArchiveError(socket.gethostname(), f"{maker} needed, this worker has {found}")
    return model


def _maker(model: "Model") -> str:
    """
    Return what scores, in words; another one may round the last digit of a score otherwise.

    The compiled text pass is fetched here, so that no worker reads its first texts by the plain one.
    """
    passes = "compiled" if model.warm_up() else "not compiled"
    return f"{model.reference} by version {version('policy-classifier')}, {passes}"


def _facets(model: "Model") -> tuple[str, ...]:
    return tuple(facet.plural for facet in model.taxonomy)


def _records(rows: Iterator[Row], model: "Model") -> Iterator[dict[str, object]]:
    while batch := list(islice(rows, _BATCH)):
        parsed = [_parse(row) for row in batch]
        tags = iter(model.tag_many([item for item in parsed if isinstance(item, Article)]))
        for row, item in zip(batch, parsed, strict=True):
            columns = _rejected(item) if isinstance(item, ArticleError) else _tagged(item, next(tags))
            yield _record(row, model, columns)


def _parse(row: Row) -> Article | ArticleError:
    if row.fault is not None:
        return ArticleError(row.path, row.fault.reason, row.fault.detail)
    try:
        return parse_article(row.raw or b"", row.path)
    except ArticleError as error:
        return error


def _record(row: Row, model: "Model", columns: dict[str, object]) -> dict[str, object]:
    return {
        "article_id": None if row.raw is None else hashlib.sha256(row.raw).hexdigest(),
        "path": row.path.encode("utf-8", "backslashreplace").decode(),
        "row": row.row,
        "id": row.id,
        "model": model.reference,
        **columns,
    }


def _tagged(article: Article, tags: Tags) -> dict[str, object]:
    by_facet = {facet: [tag_record(tag) for tag in found] for facet, found in tags.by_facet.items()}
    return {"title": article.title, "date": article.date, "abstained": tags.abstained, **by_facet}


def _rejected(error: ArticleError) -> dict[str, object]:
    return {"rejected": error.reason, "detail": one_line(error.detail)}
