"""
Other people's labelled data: read as it comes, written as a corpus and a taxonomy of ours.

Hides: CSV, fastText, JSON lines and folders of texts; temporary files.
Keeps: a fault names file and line; what was written can be loaded, because every row went through `parse_example`
first; nothing is half written, and nothing that is there already is replaced unasked.
Longer than most modules because four formats with their faults stand side by side.
"""

import csv
import io
import json
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from classifier.article import MAX_BYTES, parse_article
from classifier.errors import ArticleError, CorpusError
from classifier.examples import parse_example
from classifier.taxonomy import Facet, Taxonomy, infer_facet, make_label_id

_FASTTEXT_LABEL = "__label__"
_USUAL_LABELS = "labels"
Progress = Callable[[str, int, int], None]


class Format(StrEnum):
    """How the data to import is written."""

    CSV = "csv"
    FASTTEXT = "fasttext"
    JSONL = "jsonl"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """
    What the columns of a CSV file, or the keys of a JSON line, are called.

    Attributes:
        text: must be there.
        labels: must be there. In JSON a text is one label and a list holds several; when it has its usual name,
            ``label`` does as well.
        title: may be missing.
        id: may be missing; rows are then called after file and line.
        separator: between labels in one CSV cell.
    """

    text: str = "text"
    labels: str = _USUAL_LABELS
    title: str = "title"
    id: str = "id"
    separator: str = ";"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledText:
    """
    One text with the labels somebody gave it, as written there.

    Attributes:
        id: unique in what is imported.
        labels: names, each once, in the order given; none means that it carries no label.
        origin: what the data itself calls its source; may be empty.
        split: ``train``, ``test`` or whatever the data says; may be empty.
        path: the file it stands in.
        line: where in it, from 1; None when the file is the text.
    """

    id: str
    title: str
    text: str
    labels: tuple[str, ...]
    origin: str = ""
    split: str = ""
    path: str
    line: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """
    What was written.

    Attributes:
        articles: how many.
        unlabelled: how many of them carry no label.
        labels: articles per label id, most frequent first.
        splits: rows per split in the data, those left out included; empty when the data has none.
        has_new_taxonomy: the taxonomy was inferred and written, not read.
    """

    articles: int
    unlabelled: int
    labels: dict[str, int]
    splits: dict[str, int]
    has_new_taxonomy: bool


def load_labelled(paths: Sequence[Path], form: Format, columns: Columns | None = None) -> list[LabelledText]:
    """
    Read labelled data.

    Args:
        paths: files; for `Format.FOLDER` folders with one folder per label in each.
        form: how they are written.
        columns: names of columns or keys; only for CSV and JSON lines.

    Returns:
        All texts in the order of *paths* and of the lines in each; the files of a folder by name.

    Raises:
        CorpusError: a file cannot be read, a row is at fault, two rows have the same id, or there is no row.
    """
    columns = columns or Columns()
    stems = Counter(path.resolve().stem for path in paths)
    rows: dict[str, LabelledText] = {}
    for number, path in enumerate(paths, start=1):
        stem = path.resolve().stem
        prefix = stem if stems[stem] == 1 else f"{number}-{stem}"
        for row in _READERS[form](path, prefix, columns):
            if row.id in rows:
                raise CorpusError(row.path, f"id {row.id!r} stands twice; every row needs its own", line=row.line)
            rows[row.id] = row
    if not rows:
        raise CorpusError(str(paths[0]), "there is nothing to import")
    return list(rows.values())


def save_import(
    rows: Sequence[LabelledText],
    output: Path,
    taxonomy_path: Path,
    taxonomy: Taxonomy | None,
    *,
    facet_id: str = "topic",
    split: str | None = None,
    is_forced: bool = False,
    on_progress: Progress | None = None,
) -> Import:
    """
    Write texts as a corpus and, when there is no taxonomy yet, the taxonomy their labels make.

    Args:
        rows: what `load_labelled` gave.
        output: the corpus to write, JSON lines.
        taxonomy_path: where an inferred taxonomy goes.
        taxonomy: the one to use; None infers it from the labels of *rows*.
        facet_id: which facet the labels belong to.
        split: take only the rows of this split.
        is_forced: replace *output* when it is there.
        on_progress: called with a step's name, how much of it is done, and its size.

    Raises:
        CorpusError: *output* is there, is no regular file or is one of the inputs, a label is not in the taxonomy, two
            labels would share an id, a row has no text, or a file cannot be written.
    """
    _refuse_overwriting(rows, output, taxonomy_path, is_forced=is_forced)
    if taxonomy is None:
        refuse_overwriting(taxonomy_path, is_forced=True)
    splits = Counter(row.split for row in rows if row.split)
    taken = list(rows) if split is None else _take_split(rows, split, splits)
    used = taxonomy or Taxonomy((_infer(taken, facet_id),))
    facet = _facet(used, facet_id, str(taxonomy_path))
    lines, counts, unlabelled = [], Counter[str](), 0
    for done, row in enumerate(taken, start=1):
        labels = _label_ids(row, facet, str(taxonomy_path))
        record = {"id": row.id, "title": row.title, "text": row.text, facet.plural: labels, "source": row.origin}
        parse_example(record, used, source=row.path, line=row.line)
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
        counts.update(labels)
        unlabelled += not labels
        if on_progress and (done % 200 == 0 or done == len(taken)):
            on_progress("reading", done, len(taken))
    files = {output: "".join(lines)}
    if taxonomy is None:
        files[taxonomy_path] = render_taxonomy(used)
    write_files(files)
    return Import(
        articles=len(taken),
        unlabelled=unlabelled,
        labels=dict(counts.most_common()),
        splits=dict(splits.most_common()),
        has_new_taxonomy=taxonomy is None,
    )


def save_rows(
    output: Path, rows: Iterable[Mapping[str, object]], taxonomy: Taxonomy, *, is_forced: bool = False
) -> None:
    """
    Write rows of our own making as a corpus.

    Raises:
        CorpusError: *output* is there, or cannot be written, or a row is at fault.
    """
    refuse_overwriting(output, is_forced=is_forced)
    lines = []
    for number, row in enumerate(rows, start=1):
        parse_example(row, taxonomy, source=str(output), line=number)
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_files({output: "".join(lines)})


def load_json(path: Path) -> object:
    """
    Read a JSON file.

    Raises:
        CorpusError: it cannot be read, or is no JSON in UTF-8.
    """
    text = _decode(_read(path), path, 1)
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(str(path), f"this is no JSON: {error}") from error
    return value


def refuse_overwriting(output: Path, *, is_forced: bool) -> None:
    """
    Refuse to write where something is already.

    Raises:
        CorpusError: *output* is no regular file, or there and *is_forced* is not set.
    """
    if output.is_dir():
        raise CorpusError(str(output), "cannot be written: this is a folder")
    if os.path.lexists(output) and not stat.S_ISREG(output.lstat().st_mode):
        what = f"a link to {os.readlink(output)!r}" if output.is_symlink() else "a pipe, a socket or a device"  # noqa: PTH115
        raise CorpusError(str(output), f"is {what}, which is not replaced; nothing was written; name a file")
    if output.exists() and not is_forced:
        raise CorpusError(str(output), "is there already; nothing was written; --force replaces it")


def render_taxonomy(taxonomy: Taxonomy) -> str:
    """Return *taxonomy* as the text of a ``taxonomy.toml``."""
    parts = []
    for facet in taxonomy:
        parts.append(f"[[facet]]\nid = {_quote(facet.id)}\nplural = {_quote(facet.plural)}\n")
        for label in facet.labels:
            cues = f"cues = [{', '.join(map(_quote, label.cues))}]\n" if label.cues else ""
            parts.append(f"[[facet.label]]\nid = {_quote(label.id)}\ndefinition = {_quote(label.definition)}\n{cues}")
    return "\n".join(parts)


def _quote(text: str) -> str:
    """Write a basic TOML string: as JSON does, but DEL escaped and nothing beyond the first plane cut in two."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")


# -- readers ---------------------------------------------------------------------------------------------------------


def _read_jsonl(path: Path, prefix: str, columns: Columns) -> Iterator[LabelledText]:
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorpusError(str(path), f"this is no JSON: {error}", line=number) from error
        if not isinstance(row, dict):
            raise CorpusError(str(path), f"a JSON object needed, got {type(row).__name__}", line=number)
        yield _from_record(row, path, number, prefix, columns)


def _from_record(row: Mapping[str, object], path: Path, line: int, prefix: str, columns: Columns) -> LabelledText:
    def text(key: str) -> str:
        value = row.get(key)
        if value is not None and not isinstance(value, str):
            raise CorpusError(str(path), f"{key!r} needs a text, got {value!r:.60}", line=line)
        return value or ""

    if columns.text not in row:
        raise CorpusError(str(path), f"no key {columns.text!r}; the keys are {', '.join(row)}", line=line)
    usual = columns.labels == _USUAL_LABELS
    given = [key for key in (columns.labels, *(["label"] if usual else [])) if key in row]
    if not given:
        wanted = "'labels' or 'label'" if usual else repr(columns.labels)
        raise CorpusError(str(path), f"no key {wanted}; the keys are {', '.join(row)}", line=line)
    value = row[given[0]]
    names = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(name, str | int) and not isinstance(name, bool) for name in names):
        raise CorpusError(str(path), f"{given[0]!r} needs a label or a list of labels, got {value!r:.60}", line=line)
    number = row.get(columns.id)
    return LabelledText(
        id=str(number) if number not in (None, "") else f"{prefix}-{line}",
        title=text(columns.title),
        text=text(columns.text),
        labels=_names(map(str, names)),
        origin=text("source"),
        split=text("split"),
        path=str(path),
        line=line,
    )


def _read_csv(path: Path, prefix: str, columns: Columns) -> Iterator[LabelledText]:
    text = _decode(_read(path), path, 1)
    # The limit is one for the whole process, so what others set is put back.
    limit = csv.field_size_limit(MAX_BYTES)
    line = 1
    try:
        reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
        rows = []
        for cells in reader:
            rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(str(path), f"this is no CSV: {error}", line=line) from error
    finally:
        csv.field_size_limit(limit)
    header = rows[0][1] if rows else []
    for name, option in ((columns.text, "--text-column"), (columns.labels, "--label-column")):
        if header.count(name) != 1:
            found = ", ".join(header) or "none"
            raise CorpusError(
                str(path), f"one column {name!r} needed, the columns are: {found}; name it with {option}", line=1
            )
    for line, cells in rows[1:]:
        if not cells:
            continue
        if len(cells) != len(header):
            raise CorpusError(str(path), f"{len(header)} cells needed as in the header, got {len(cells)}", line=line)
        row: dict[str, object] = dict(zip(header, cells, strict=True))
        row[columns.labels] = str(row[columns.labels]).split(columns.separator)
        yield _from_record(row, path, line, prefix, columns)


def _read_fasttext(path: Path, prefix: str, _columns: Columns) -> Iterator[LabelledText]:
    for number, line in _lines(path):
        words = line.split()
        names = _names(word.removeprefix(_FASTTEXT_LABEL) for word in words if word.startswith(_FASTTEXT_LABEL))
        if not names:
            raise CorpusError(str(path), f"no label; a line is '{_FASTTEXT_LABEL}name text'", line=number)
        text = " ".join(word for word in words if not word.startswith(_FASTTEXT_LABEL))
        yield LabelledText(id=f"{prefix}-{number}", title="", text=text, labels=names, path=str(path), line=number)


def _read_folder(path: Path, prefix: str, _columns: Columns) -> Iterator[LabelledText]:
    for folder in _entries(path):
        if not folder.is_dir():
            raise CorpusError(str(folder), "a folder per label needed, this is a file; move it away or into one")
        for file in _entries(folder):
            if not file.is_file():
                raise CorpusError(str(file), "a text file needed in the folder of a label, this is none")
            try:
                text = parse_article(_read(file), str(file)).original
            except ArticleError as error:
                raise CorpusError(str(file), error.detail) from error
            name = f"{prefix}/{folder.name}/{file.name}"
            yield LabelledText(id=name, title="", text=text, labels=(folder.name,), path=str(file), line=None)


_READERS: Mapping[Format, Callable[[Path, str, Columns], Iterator[LabelledText]]] = {
    Format.CSV: _read_csv,
    Format.FASTTEXT: _read_fasttext,
    Format.JSONL: _read_jsonl,
    Format.FOLDER: _read_folder,
}


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise CorpusError(str(folder), f"cannot be read: {error.strerror or error}") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_read(path).removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if line.strip():
            yield number, _decode(line, path, number)


def _decode(raw: bytes, path: Path, line: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        raise CorpusError(str(path), "this is no UTF-8; convert the file first", line=line) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorpusError(str(path), f"cannot be read: {error.strerror or error}") from error


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(stripped for name in names if (stripped := name.strip())))


# -- labels ----------------------------------------------------------------------------------------------------------


def _take_split(rows: Sequence[LabelledText], split: str, splits: Mapping[str, int]) -> list[LabelledText]:
    taken = [row for row in rows if row.split == split]
    if not taken:
        found = ", ".join(sorted(splits)) or "none"
        raise CorpusError(rows[0].path, f"no row is of split {split!r}; the splits are: {found}")
    return taken


def _infer(rows: Sequence[LabelledText], facet_id: str) -> Facet:
    names = {name for row in rows for name in row.labels}
    if not names:
        raise CorpusError(rows[0].path, "no row has a label, so there is no taxonomy to infer")
    return infer_facet(facet_id, names, source=rows[0].path)


def _facet(taxonomy: Taxonomy, facet_id: str, source: str) -> Facet:
    for facet in taxonomy:
        if facet_id in (facet.id, facet.plural):
            return facet
    known = ", ".join(facet.id for facet in taxonomy)
    raise CorpusError(source, f"no facet {facet_id!r}; the facets are: {known}; name one with --facet")


def _label_ids(row: LabelledText, facet: Facet, taxonomy: str) -> list[str]:
    names: dict[str, str] = {}
    for name in row.labels:
        label = make_label_id(name)
        if label not in facet.label_ids:
            raise CorpusError(row.path, f"label {name!r} ({label}) is not in {taxonomy}", line=row.line)
        if label in names:
            raise CorpusError(row.path, f"labels {names[label]!r} and {name!r} are both {label!r}", line=row.line)
        names[label] = name
    return list(names)


# -- writing ---------------------------------------------------------------------------------------------------------


def _refuse_overwriting(rows: Sequence[LabelledText], output: Path, taxonomy: Path, *, is_forced: bool) -> None:
    target = output.resolve()
    if target in {Path(name).resolve() for name in {row.path for row in rows}}:
        raise CorpusError(str(output), "this is one of the inputs; write to another file")
    if target == taxonomy.resolve():
        raise CorpusError(str(output), "corpus and taxonomy would be the same file")
    refuse_overwriting(output, is_forced=is_forced)


def write_files(files: Mapping[Path, str]) -> None:
    """
    Write every file beside its place first, then put all in place.

    Raises:
        CorpusError: one of them cannot be written.
    """
    for path in files:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CorpusError(str(path), f"cannot be written: {error.strerror or error}") from error
    path, *rest = files
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            draft = Path(scratch) / path.name
            with draft.open("w", encoding="utf-8", errors="replace", newline="\n") as stream:
                stream.write(files[path])
                stream.flush()
                os.fsync(stream.fileno())
            if rest:
                write_files({other: files[other] for other in rest})
            draft.replace(path)
    except OSError as error:
        raise CorpusError(str(path), f"cannot be written: {error.strerror or error}") from error
