"""
Models as folders: ``manifest.json``, ``scorer.npz``, ``lexicon.json``, ``pipeline.joblib``, ``MODEL_CARD.md``.

Hides: the file format, digests, atomic writing, where the bundled model is.
Keeps: nothing is unpickled, ever; `load_model` reads the manifest first, checks every digest, and only then reads
arrays with ``allow_pickle=False``. What is checked is what is used: the folder and every file are opened once, no link
is followed, and the bytes whose digest was right are the bytes that are read. A folder that everybody may write to is
refused, for its digests lie beside what they vouch for. A folder is complete or absent: it is written beside its place
and renamed.

When the format changes: raise `FORMAT_VERSION`, keep reading the old one or let `ModelIncompatibleError` say how to go
on, add the change to CHANGELOG under "Model", and put a folder of the old format into the tests.

Longer than most modules because writing a format and checking it when it is read change together.
"""

import errno
import hashlib
import io
import json
import mmap
import os
import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.disk import sync
from classifier.errors import CorpusError, ModelCorruptError, ModelError, ModelIncompatibleError, ModelNotFoundError
from classifier.features import WORDS, WORDS_AND_PAIRS, TermVectorizer
from classifier.lexicon import Lexicon, parse_lexicon
from classifier.model import Model
from classifier.rows import Rows, row_width
from classifier.tags import Bands
from classifier.taxonomy import Taxonomy, parse_taxonomy

if TYPE_CHECKING:
    from numpy.typing import NDArray

# 1: first format, weights and relevance as compressed arrays of their own.
# 2: `Rows`, not compressed, each array at a multiple of 64 bytes; ngram_range in the manifest.
FORMAT_VERSION = 2
_READABLE = (1, 2)
BUNDLED_MODEL = "nev-policy"
MAX_ARRAY_BYTES = 1_000_000_000  # unpacked; a zip of zeros can be a million times larger than its file
_MANIFEST, _SCORER, _LEXICON = "manifest.json", "scorer.npz", "lexicon.json"
_PIPELINE, _CARD = "pipeline.joblib", "MODEL_CARD.md"
_ARRAYS = {
    1: ("terms", "idf", "weights", "intercepts", "relevance", "relevance_intercept"),
    2: ("terms", "idf", "rows", "scales", "intercepts", "relevance_intercept"),
}
_MAPPED = "rows"
_ALIGNMENT = 64
_PADDING_FIELD = 0xD935  # the kind of extra field that zipalign uses for the same purpose
_ZIP_HEADER_BYTES = 30  # of an entry, before its name; the last four of them: the sizes of name and extra fields
_EXTRA_HEADER_BYTES = 4
_MAX_MANIFEST_BYTES = 10_000_000
_MAX_LEXICON_BYTES = 50_000_000
_MAX_FILES, _MAX_NAME = 100, 100
_MAX_WEIGHT = 1e6  # real ones are below 100; with these no sum over a text overflows, so no score is ever NaN


def bundled(*parts: str) -> Path:
    """
    Return the path of something that comes with the library: ``bundled("models", "nev-policy")``, ``bundled("seeds",
    "inbox")``.

    In an installed package it lies inside the package, in a checkout beside it.
    """
    package = Path(__file__).resolve().parent.parent
    inside = package.joinpath("bundled", *parts)
    return inside if inside.exists() else package.parent.joinpath(*parts)


def load_model(path: Path | str | None = None, *, share: bool = False) -> Model:
    """
    Load a model folder, the bundled one by default.

    Args:
        path: the folder.
        share: map the rows of weights, which are most of a model, into memory instead of copying them, so that all
            processes that do so share them. The folder must then only be replaced by renaming, as `save_model` does:
            whoever writes into a mapped file changes what is scored, and whoever cuts it short kills the process.

    Raises:
        ModelNotFoundError: there is no manifest.
        ModelIncompatibleError: its format version is another.
        ModelCorruptError: a digest, a shape or a value is wrong.
    """
    folder = _folder(path)
    with _opened(folder) as files:
        manifest = files.manifest()
        files.check_digests(manifest)
        taxonomy, bands = _read_labels(folder / _MANIFEST, manifest)
        lexicon = _read_lexicon(folder / _LEXICON, files.raw[_LEXICON])
        arrays = _read_arrays(
            folder / _SCORER,
            files.raw[_SCORER],
            _ARRAYS[manifest["format_version"]],
            files.mapped(_SCORER) if share else None,
        )
    terms = _read_terms(folder / _SCORER, arrays["terms"])
    _check_arrays(folder / _SCORER, arrays, len(terms), len(taxonomy.label_ids))
    is_old = "weights" in arrays
    return Model(
        name=_printable(folder / _MANIFEST, manifest, "name"),
        id=_printable(folder / _MANIFEST, manifest, "model_id"),
        taxonomy=taxonomy,
        bands=bands,
        lexicon=lexicon,
        vectorizer=TermVectorizer(terms, arrays["idf"], _read_ngram_range(folder / _MANIFEST, manifest)),
        rows=Rows.of(arrays["weights"], arrays["relevance"]) if is_old else Rows(arrays["rows"], arrays["scales"]),
        intercepts=arrays["intercepts"],
        relevance_intercept=float(arrays["relevance_intercept"]),
    )


def _folder(path: Path | str | None) -> Path:
    return Path(path) if path is not None else bundled("models", BUNDLED_MODEL)


def read_manifest(path: Path | str | None = None) -> dict[str, Any]:
    """
    Return the manifest of a model folder, the bundled one by default: what it is, how it was trained, how well it did.

    Raises:
        ModelError: as `load_model`, for the manifest alone.
    """
    with _opened(_folder(path)) as files:
        return files.manifest()


@contextmanager
def _opened(folder: Path) -> "Iterator[_Files]":
    """Open the folder itself, once: another one renamed into its place meanwhile is not mixed with it."""
    try:
        if folder.is_symlink():
            raise ModelError(folder, "this is a link, which may lead elsewhere tomorrow; name the folder it leads to")
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ModelNotFoundError(folder) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "this is no path"
        raise ModelError(folder, f"cannot be read: {reason}") from error
    try:
        _refuse_writable(folder, os.fstat(descriptor))
        yield _Files(folder, descriptor)
    finally:
        os.close(descriptor)


def _refuse_writable(path: Path, found: os.stat_result) -> None:
    if found.st_mode & stat.S_IWOTH:
        raise ModelError(
            path, "everybody may write to it, so anybody could change what it says; chmod -R o-w the folder"
        )


class _Files:
    """
    The files of one open model folder.

    Attributes:
        raw: name to content, of those whose digest was checked and which `load_model` needs.
    """

    def __init__(self, folder: Path, descriptor: int) -> None:
        self._folder = folder
        self._descriptor = descriptor
        self.raw: dict[str, bytes] = {}

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, known to be of our format."""
        path = self._folder / _MANIFEST
        try:
            raw = self._read(_MANIFEST, _MAX_MANIFEST_BYTES)
        except FileNotFoundError as error:
            raise ModelNotFoundError(self._folder) from error
        try:
            manifest = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ModelCorruptError(path, "it is no JSON") from error
        if not isinstance(manifest, dict):
            raise ModelCorruptError(path, "it is no JSON object")
        if manifest.get("format_version") not in _READABLE:
            raise ModelIncompatibleError(self._folder, found=manifest.get("format_version"), expected=FORMAT_VERSION)
        return manifest

    def check_digests(self, manifest: Mapping[str, Any]) -> None:
        """Check every file that the manifest names, and keep what is needed of them."""
        digests = manifest.get("sha256")
        if not isinstance(digests, dict) or not {_SCORER, _LEXICON} <= set(digests) or len(digests) > _MAX_FILES:
            raise ModelCorruptError(self._folder / _MANIFEST, "it has no digests")
        limits = {_SCORER: MAX_ARRAY_BYTES, _LEXICON: _MAX_LEXICON_BYTES}
        for name, expected in digests.items():
            path = self._folder / name
            if Path(name).name != name:
                raise ModelCorruptError(self._folder / _MANIFEST, "it names a file outside its folder")
            try:
                if name in limits:
                    self.raw[name] = self._read(name, limits[name])
                    found = hashlib.sha256(self.raw[name]).hexdigest()
                else:
                    with self._open(name) as stream:
                        found = hashlib.file_digest(stream, "sha256").hexdigest()
            except FileNotFoundError as error:
                raise ModelCorruptError(path, "a file that the manifest names is missing") from error
            if found != expected:
                raise ModelCorruptError(path, "its SHA-256 is not the one in the manifest")

    @contextmanager
    def _open(self, name: str) -> Iterator[io.BufferedReader]:
        path = self._folder / name
        try:  # a pipe would block an open without O_NONBLOCK for ever
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._descriptor
            )
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise ModelCorruptError(path, "it is no regular file")
                _refuse_writable(path, found)
                with os.fdopen(descriptor, "rb", closefd=False) as stream:
                    yield stream
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "this is no path"
            is_link = getattr(error, "errno", None) == errno.ELOOP
            raise ModelCorruptError(path, "it is a link" if is_link else f"cannot be read: {reason}") from error

    def mapped(self, name: str) -> mmap.mmap | None:
        """Return a file of `raw` mapped into memory; None when it is another one by now."""
        with self._open(name) as stream:
            if os.fstat(stream.fileno()).st_size != len(self.raw[name]):
                return None
            mapping = mmap.mmap(stream.fileno(), len(self.raw[name]), access=mmap.ACCESS_READ)
        return mapping if mapping[:] == self.raw[name] else None

    def _read(self, name: str, limit: int) -> bytes:
        with self._open(name) as stream:
            raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise ModelCorruptError(self._folder / name, f"it is too large, at most {limit} bytes are read")
        return raw


def save_model(folder: Path, model: Model, pipeline: object, facts: Mapping[str, Any], card: str) -> None:
    """
    Write a model folder, whole or not at all; one that is there is replaced.

    Args:
        folder: where; its last part should be the model's name.
        model: what scores.
        pipeline: fitted scikit-learn objects that compute the same, of standard classes only.
        facts: what else the manifest tells: training data, metrics, seed.
        card: the model card, Markdown.

    Raises:
        ModelError: the folder cannot be written, or holds something else than a model.
    """
    import joblib  # noqa: PLC0415 - only writing a model needs it

    refuse_foreign(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            draft = Path(scratch) / folder.name
            draft.mkdir()
            (draft / _SCORER).write_bytes(_pack_arrays(model))
            (draft / _LEXICON).write_text(_pack_lexicon(model.lexicon), encoding="utf-8")
            joblib.dump(pipeline, draft / _PIPELINE, compress=("zlib", 9))
            (draft / _CARD).write_text(card, encoding="utf-8")
            manifest = make_manifest(model, facts) | {
                "sha256": {name: _digest(draft / name) for name in (_SCORER, _LEXICON, _PIPELINE, _CARD)}
            }
            (draft / _MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            for path in (draft, *draft.iterdir()):
                path.chmod(path.stat().st_mode & ~stat.S_IWOTH)  # else a careless umask makes what nobody may load
                sync(path)
            if folder.exists():
                folder.rename(Path(scratch) / "old")
            draft.rename(folder)
            sync(folder.parent)
    except OSError as error:
        raise ModelError(folder, f"cannot be written: {error.strerror}") from error


def refuse_foreign(folder: Path) -> None:
    """
    Refuse a place that `save_model` would have to clear of something else than a model.

    Raises:
        ModelError: a file, a link, a device, or a folder with other things is there.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise ModelError(folder, "is no folder, so it is not replaced; name another place for the model")
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise ModelError(folder, f"cannot be read: {error.strerror}") from error
    if names and _MANIFEST not in names:
        message = f"holds {min(names)!r} and no {_MANIFEST}, so it is no model and is not replaced; name another folder"
        raise ModelError(folder, message)


def make_manifest(model: Model, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the manifest of *model* says, but for the digests of its files: *facts* as in `save_model`."""
    return {
        "format_version": FORMAT_VERSION,
        "name": model.name,
        "model_id": model.id,
        "facets": [
            {
                "id": facet.id,
                "plural": facet.plural,
                "needs": facet.needs,
                "labels": [{"id": label.id, "definition": label.definition} for label in facet.labels],
            }
            for facet in model.taxonomy
        ],
        "labels": list(model.labels),
        "bands": {label: {"alert": bands.alert, "review": bands.review} for label, bands in model.bands.items()},
        "n_terms": len(model.vectorizer.terms),
        "ngram_range": list(model.vectorizer.ngram_range),
        "versions": {name: _version(name) for name in ("policy-classifier", "scikit-learn", "numpy", "joblib")},
        **facts,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _read_labels(path: Path, manifest: Mapping[str, Any]) -> tuple[Taxonomy, dict[str, Bands]]:
    """Return facets and limits; both are checked as if a stranger had written them."""
    try:
        facets = [
            {
                "id": facet["id"],
                "plural": facet["plural"],
                **({"needs": facet["needs"]} if facet.get("needs") is not None else {}),
                "label": [{"id": label["id"], "definition": label["definition"]} for label in facet["labels"]],
            }
            for facet in manifest["facets"]
        ]
        taxonomy = parse_taxonomy({"facet": facets}, source=str(path))
        bands = {label: Bands(item["alert"], item["review"]) for label, item in manifest["bands"].items()}
        labels = tuple(manifest["labels"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelCorruptError(path, f"a needed entry is missing or malformed: {error}") from error
    except CorpusError as error:
        raise ModelCorruptError(path, f"its facets are at fault: {error}") from error
    if labels != taxonomy.label_ids or set(bands) != set(labels):
        raise ModelCorruptError(path, "facets, labels and bands do not agree")
    for label, item in bands.items():
        if not _is_limit(item.review) or not (item.alert is None or _is_limit(item.alert)):
            raise ModelCorruptError(path, f"the limits of {label!r} are no numbers from 0 to 1")
    return taxonomy, bands


def _read_ngram_range(path: Path, manifest: Mapping[str, Any]) -> tuple[int, int]:
    value = manifest.get("ngram_range", list(WORDS))
    for known in (WORDS, WORDS_AND_PAIRS):
        if value == list(known):
            return known
    raise ModelCorruptError(path, f"an ngram_range of [1, 1] or [1, 2] needed, got {str(value)[:_MAX_NAME]}")


def _is_limit(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _printable(path: Path, manifest: Mapping[str, Any], key: str) -> str:
    """Return what records and logs call the model."""
    value = manifest.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or not value.isprintable():
        raise ModelCorruptError(path, f"a needed entry is missing or malformed: {key!r}")
    return value


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pack_lexicon(lexicon: Lexicon) -> str:
    entries = {
        label: {"phrases": entry.phrases, "misleading": entry.misleading} for label, entry in lexicon.entries.items()
    }
    return json.dumps(entries, indent=0, ensure_ascii=False) + "\n"


def _read_lexicon(path: Path, raw: bytes) -> Lexicon:
    try:
        return parse_lexicon(json.loads(raw), source=str(path))
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelCorruptError(path, "it is no lexicon") from error


def _pack_arrays(model: Model) -> bytes:
    arrays: dict[str, NDArray[Any]] = {
        "terms": np.frombuffer("\n".join(model.vectorizer.terms).encode("utf-8"), np.uint8),
        "idf": model.vectorizer.idf,
        "rows": model.rows.numbers,
        "scales": model.rows.scales,
        "intercepts": model.intercepts,
        "relevance_intercept": np.array(model.relevance_intercept, np.float32),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980: the same model gives the same bytes
            start = buffer.tell() + _ZIP_HEADER_BYTES + len(entry.filename) + _EXTRA_HEADER_BYTES
            padding = -start % _ALIGNMENT
            entry.extra = struct.pack("<HH", _PADDING_FIELD, padding) + bytes(padding)
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def _read_arrays(path: Path, raw: bytes, names: Sequence[str], mapping: mmap.mmap | None) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            if sum(entry.file_size for entry in entries.values()) <= MAX_ARRAY_BYTES:
                return {
                    name: _read_array(archive, entries[name], mapping if name == _MAPPED else None) for name in names
                }
    except (
        Exception
    ) as error:  # zip, zlib and numpy raise some twenty kinds of exceptions on bytes made to mislead them
        raise ModelCorruptError(path, f"it is no archive of the arrays of a scorer ({type(error).__name__})") from error
    raise ModelCorruptError(path, f"it unpacks to more than {MAX_ARRAY_BYTES} bytes")


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, mapping: mmap.mmap | None) -> "NDArray[Any]":
    """Return one array, read only: a copy, or what *mapping*, the archive in memory, has in its place."""
    with archive.open(entry) as content:
        array: NDArray[Any] = np.asarray(np.lib.format.read_array(content, allow_pickle=False), order="C")
    array.flags.writeable = False
    if mapping is None or entry.compress_type != zipfile.ZIP_STORED:
        return array
    name_and_extra = struct.unpack_from("<HH", mapping, entry.header_offset + _ZIP_HEADER_BYTES - 4)
    end = entry.header_offset + _ZIP_HEADER_BYTES + sum(name_and_extra) + entry.file_size
    offset = end - array.nbytes
    same = np.frombuffer(mapping, array.dtype, array.size, offset).reshape(array.shape)
    return same if offset % _ALIGNMENT == 0 and np.array_equal(same, array) else array


def _read_terms(path: Path, array: Any) -> list[str]:  # noqa: ANN401 - whatever the archive held
    try:
        terms = array.tobytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ModelCorruptError(path, "its vocabulary is no text") from error
    if not all(terms) or len(set(terms)) != len(terms):
        raise ModelCorruptError(path, "its vocabulary is empty, or has an empty term or one twice")
    return list(terms)


def _check_arrays(path: Path, arrays: Mapping[str, Any], n_terms: int, n_labels: int) -> None:
    """Refuse arrays from which a score could come out that is no number, or the same for every text."""
    shapes = {
        "idf": (n_terms,),
        "rows": (n_terms, row_width(n_labels)),
        "scales": (n_terms,),
        "weights": (n_terms, n_labels),
        "intercepts": (n_labels,),
        "relevance": (n_terms,),
        "relevance_intercept": (),
    }
    checked = {name: arrays[name] for name in shapes if name in arrays}
    if any(array.shape != shapes[name] for name, array in checked.items()):
        raise ModelCorruptError(path, "the arrays do not have the shapes that manifest and vocabulary ask for")
    numbers = {name: array for name, array in checked.items() if name != "rows"}
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in numbers.values()) or (
        "rows" in checked and checked["rows"].dtype != np.int16
    ):
        raise ModelCorruptError(path, "an array holds something else than finite float32 or int16 numbers")
    limits = {"scales": _MAX_WEIGHT / np.iinfo(np.int16).max}
    if any(np.abs(array).max() > limits.get(name, _MAX_WEIGHT) for name, array in numbers.items()):
        raise ModelCorruptError(path, f"a weight is beyond {_MAX_WEIGHT:g}")
    if arrays["idf"].min() <= 0:
        raise ModelCorruptError(path, "an inverse document frequency is not positive")
    weights = checked["rows"][:, :n_labels] if "rows" in checked else checked["weights"]
    if not weights.any() or not checked.get("scales", weights).any():
        raise ModelCorruptError(path, "all weights are zero, so every text would get the same scores")
