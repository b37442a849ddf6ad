"""
Articles of the past on disk: a folder of text files, or one JSON object per line.

Keeps: nothing is changed, links are not followed, and an article that cannot be read is told and passed over, as the
daemon does it.
"""

import datetime as dt
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from classifier.article import MAX_BYTES, Article, parse_article
from classifier.errors import ArticleError, CorpusError

OnProgress = Callable[[str, int, int], None]
_STEP = "articles"


@dataclass(frozen=True, slots=True)
class Archived:
    """
    An article with the instant it belongs to.

    Attributes:
        at: aware, UTC: midnight of the article's own date when it has one, otherwise when its file was last changed.
        is_dated: whether the article has a date of its own.
    """

    article: Article
    at: dt.datetime
    is_dated: bool


def read_archive(
    path: Path, *, pattern: str = "*.txt", on_progress: OnProgress = lambda _step, _done, _size: None
) -> Iterator[Archived | ArticleError]:
    """
    Read the articles of an archive, one by one.

    Args:
        path: a folder, with the folders below it; or a file with ``{"text", "title"?, "date"?, "source"?}`` per line.
        pattern: shell pattern of the names of files in a folder.
        on_progress: told "articles", how many are done and how many there are.

    Yields:
        An article, or what is wrong with one.

    Raises:
        CorpusError: there is nothing at *path*, it cannot be read, or a line is no article.
    """
    if path.is_dir():
        yield from _read_folder(path, pattern, on_progress)
    else:
        yield from _read_lines(path, on_progress)


def _read_folder(folder: Path, pattern: str, on_progress: OnProgress) -> Iterator[Archived | ArticleError]:
    def refuse(error: OSError) -> None:
        raise CorpusError(str(error.filename or folder), f"cannot be read: {error.strerror or error}") from error

    paths = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if fnmatchcase(name, pattern) and not name.startswith(".")
    ]
    for done, path in enumerate(sorted(paths), start=1):
        if path.is_file() and not path.is_symlink():
            yield _read_file(path, str(path.relative_to(folder)))
        on_progress(_STEP, done, len(paths))


def _read_file(path: Path, name: str) -> Archived | ArticleError:
    try:
        with path.open("rb") as stream:
            changed = dt.datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime, dt.UTC)
            return _dated(parse_article(stream.read(MAX_BYTES + 1), name), changed)
    except ArticleError as error:
        return error
    except OSError as error:
        return ArticleError(name, "unreadable", f"cannot be read: {error.strerror}")


def _read_lines(path: Path, on_progress: OnProgress) -> Iterator[Archived | ArticleError]:
    try:
        with path.open("rb") as stream:
            changed = dt.datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime, dt.UTC)
            count = sum(1 for _ in stream)
            stream.seek(0)
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _read_line(line, number, path, changed)
                on_progress(_STEP, number, count)
    except OSError as error:
        raise CorpusError(str(path), f"cannot be read: {error.strerror or error}") from error


def _read_line(line: bytes, number: int, path: Path, changed: dt.datetime) -> Archived | ArticleError:
    try:
        row = json.loads(line)
    except ValueError as error:  # also what json raises on bytes that are no UTF-8
        raise CorpusError(str(path), f"this is no JSON: {error}", line=number) from error
    if not isinstance(row, dict):
        raise CorpusError(str(path), f"a JSON object needed, got {type(row).__name__}", line=number)
    for key in ("text", "title", "date"):
        if not isinstance(row.get(key) or "", str):
            raise CorpusError(str(path), f"{key!r} needs a text, got {row[key]!r}", line=number)
    if not row.get("text") and not row.get("title"):
        raise CorpusError(str(path), "a row needs a 'text'", line=number)
    at = _instant(row.get("date") or "", path, number)
    page = "\n\n".join(part for part in (row.get("title"), row.get("text")) if part)
    try:
        article = parse_article(page.encode("utf-8", "replace"), f"{path.name}:{number}")
    except ArticleError as error:
        return error
    return _dated(article, changed) if at is None else Archived(article, at, is_dated=True)


def _instant(date: str, path: Path, number: int) -> dt.datetime | None:
    if not date:
        return None
    try:
        at = dt.datetime.fromisoformat(date)
        return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise CorpusError(str(path), f"'date' needs a day such as 2026-03-31, got {date!r}", line=number) from error


def _dated(article: Article, changed: dt.datetime) -> Archived:
    if article.date is None:
        return Archived(article, changed, is_dated=False)
    return Archived(article, dt.datetime.combine(article.date, dt.time(), dt.UTC), is_dated=True)
