"""Labelled examples and taxonomies on disk: one JSON object per line, one TOML file."""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from classifier.article import MAX_BYTES, parse_article
from classifier.errors import ArticleError, CorpusError
from classifier.examples import Example, parse_example
from classifier.lexicon import Lexicon, parse_lexicon
from classifier.taxonomy import Taxonomy, parse_taxonomy


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """
    The examples of one file.

    Attributes:
        name: the file's name.
        sha256: of the file's bytes, hex.
        examples: in the order of the file.
    """

    name: str
    sha256: str
    examples: tuple[Example, ...]


def load_taxonomy(path: Path | str) -> Taxonomy:
    """
    Read a ``taxonomy.toml``.

    Raises:
        CorpusError: the file cannot be read, is no TOML, or an entry is at fault.
    """
    return parse_taxonomy(_read_toml(Path(path)), source=str(path))


def load_lexicon(path: Path | str) -> Lexicon:
    """
    Read a ``lexicon.toml``.

    Raises:
        CorpusError: the file cannot be read, is no TOML, or an entry is at fault.
    """
    return parse_lexicon(_read_toml(Path(path)), source=str(path))


def load_corpus(path: Path | str, taxonomy: Taxonomy) -> Corpus:
    """
    Read a JSON-lines corpus; empty lines are skipped.

    A row is what `parse_example` takes, or a judged page: ``{"file", <facet plural>: {"core", "must", "may"}}``. Its
    text is the file of that name beside the corpus and its id is the name; what it must carry (core labels are the
    ones nobody would argue about) is positive, what it may carry is unknown, everything else negative.

    Raises:
        CorpusError: the file cannot be read, a row is at fault, two rows have the same id, or there is no row at all.
    """
    path = Path(path)
    raw = _read(path)
    examples = tuple(example for _, example in _checked(raw, path, taxonomy))
    return Corpus(name=path.name, sha256=hashlib.sha256(raw).hexdigest(), examples=examples)


def load_rows(path: Path | str, taxonomy: Taxonomy) -> list[Mapping[str, object]]:
    """
    Read a corpus as it is written, every row as `parse_example` takes it, with its id.

    Raises:
        CorpusError: as for `load_corpus`.
    """
    path = Path(path)
    return [{**row, "id": example.id} for row, example in _checked(_read(path), path, taxonomy)]


def _checked(raw: bytes, path: Path, taxonomy: Taxonomy) -> list[tuple[Mapping[str, object], Example]]:
    found: dict[str, tuple[Mapping[str, object], Example]] = {}
    for line, row in _rows(raw, str(path)):
        plain = _plain_row(row, path, taxonomy, line) if "file" in row else row
        example = parse_example(plain, taxonomy, source=str(path), line=line)
        if example.id in found:
            raise CorpusError(str(path), f"id {example.id!r} stands twice; every row needs its own", line=line)
        found[example.id] = plain, example
    if not found:
        raise CorpusError(str(path), "there is no row in this corpus")
    return list(found.values())


def _plain_row(row: Mapping[str, object], corpus: Path, taxonomy: Taxonomy, line: int) -> dict[str, object]:
    """Return a judged page as the row `parse_example` takes, its text read from the file beside the corpus."""
    name = row["file"]
    if not isinstance(name, str) or name in {"", ".", ".."} or Path(name).name != name or "\0" in name:
        raise CorpusError(str(corpus), f"'file' needs the name of a file beside the corpus, got {name!r}", line=line)
    try:
        with (corpus.parent / name).open("rb") as stream:
            text = parse_article(stream.read(MAX_BYTES + 1), name).original
    except OSError as error:
        detail = f"{name!r} beside the corpus cannot be read: {error.strerror or error}"
        raise CorpusError(str(corpus), detail, line=line) from error
    except ArticleError as error:
        raise CorpusError(str(corpus), f"{name!r}: {error.detail}", line=line) from error
    plain: dict[str, object] = {"id": name, "text": text, "source": row.get("source", "")}
    for facet in taxonomy:
        judged = row.get(facet.plural, {})
        if not isinstance(judged, dict) or (set(judged) - {"core", "must", "may"}):
            detail = f"{facet.plural!r} of a row with a 'file' needs core, must and may, got {judged!r}"
            raise CorpusError(str(corpus), detail, line=line)
        lists = [judged.get(kind, []) for kind in ("core", "must")]
        strange = next((value for value in lists if not isinstance(value, list)), None)
        if facet.plural in row:  # without the key the whole facet is unknown, as in any row
            plain[facet.plural] = strange if strange is not None else [label for value in lists for label in value]
            plain[f"{facet.plural}_unknown"] = judged.get("may", [])
    return plain


def _rows(raw: bytes, source: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(raw.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:  # also what json raises on bytes that are no UTF-8
            raise CorpusError(source, f"this is no JSON: {error}", line=number) from error
        if not isinstance(row, dict):
            raise CorpusError(source, f"a JSON object needed, got {type(row).__name__}", line=number)
        yield number, row


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(_read(path).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CorpusError(str(path), f"this is no TOML file: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorpusError(str(path), f"cannot be read: {error.strerror or error}") from error
