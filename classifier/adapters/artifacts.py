"""
Models as folders: ``manifest.json``, ``scorer.npz``, ``lexicon.json``, ``pipeline.joblib``, ``MODEL_CARD.md``.

Hides: the file format, digests, atomic writing, where the bundled model is.
Keeps: nothing is unpickled, ever; `load_model` reads the manifest first, checks every digest, and only then maps the
arrays into memory, so that processes that use one model share them. A folder is complete or absent: it is written
beside its place and renamed, and the files of a folder that is replaced stay what they were for who has them open.

When the format changes: raise `FORMAT_VERSION`, keep reading the old one or let `ModelIncompatibleError` say how to go
on, add the change to CHANGELOG under "Model", and put a folder of the old format into the tests.
"""

import hashlib
import io
import json
import math
import os
import struct
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.errors import ModelCorruptError, ModelError, ModelIncompatibleError, ModelNotFoundError
from classifier.features import WORDS, WORDS_AND_PAIRS, TermVectorizer
from classifier.lexicon import Lexicon, parse_lexicon
from classifier.model import Model
from classifier.rows import Rows, row_width
from classifier.tags import Bands
from classifier.taxonomy import Facet, Label, Taxonomy

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
_ARRAYS = ("terms", "idf", "rows", "scales", "intercepts", "relevance_intercept")
_ARRAYS_1 = ("terms", "idf", "weights", "intercepts", "relevance", "relevance_intercept")
_ALIGNMENT = 64
_PADDING_FIELD = 0xD935  # the kind of extra field that zipalign uses for the same purpose
_MAX_MANIFEST_BYTES = 10_000_000
_ZIP_HEADER_BYTES = 30  # of an entry, before its name; the last four of them: the sizes of name and extra fields
_EXTRA_HEADER_BYTES = 4


def bundled(*parts: str) -> Path:
    """
    Return the path of something that comes with the library: ``bundled("models", "nev-policy")``, ``bundled("seeds",
    "inbox")``.

    In an installed package it lies inside the package, in a checkout beside it.
    """
    package = Path(__file__).resolve().parent.parent
    inside = package.joinpath("bundled", *parts)
    return inside if inside.exists() else package.parent.joinpath(*parts)


def load_model(path: Path | str | None = None) -> Model:
    """
    Load a model folder, the bundled one by default.

    Raises:
        ModelNotFoundError: there is no manifest.
        ModelIncompatibleError: its format version is another.
        ModelCorruptError: a digest, a shape or a value is wrong.
    """
    folder = _folder(path)
    manifest = read_manifest(folder)
    _check_digests(folder, manifest)
    try:
        taxonomy = _read_taxonomy(manifest)
        bands = {label: Bands(item["alert"], item["review"]) for label, item in manifest["bands"].items()}
        name, model_id = str(manifest["name"]), str(manifest["model_id"])
        ngram_range = tuple(manifest.get("ngram_range", WORDS))
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelCorruptError(folder / _MANIFEST, f"a needed entry is missing or malformed: {error}") from error
    lexicon = _read_lexicon(folder / _LEXICON)
    arrays = _read_arrays(folder / _SCORER, _ARRAYS if manifest["format_version"] > 1 else _ARRAYS_1)
    terms = arrays["terms"].tobytes().decode("utf-8").split("\n")
    labels = taxonomy.label_ids
    shapes = {
        "idf": (len(terms),),
        "rows": (len(terms), row_width(len(labels))),
        "scales": (len(terms),),
        "weights": (len(terms), len(labels)),
        "intercepts": (len(labels),),
        "relevance": (len(terms),),
        "relevance_intercept": (),
    }
    shapes = {array: shapes[array] for array in arrays if array != "terms"}
    if any(arrays[array].shape != shape for array, shape in shapes.items()):
        raise ModelCorruptError(
            folder / _SCORER, "the arrays do not have the shapes that manifest and vocabulary ask for"
        )
    if ngram_range not in (WORDS, WORDS_AND_PAIRS):
        raise ModelCorruptError(folder / _MANIFEST, f"an ngram_range of [1, 1] or [1, 2] needed, got {ngram_range}")
    if set(bands) != set(labels):
        raise ModelCorruptError(folder / _MANIFEST, "bands and labels do not agree")
    if not all(
        arrays[array].dtype == (np.int16 if array == "rows" else np.float32) and np.isfinite(arrays[array]).all()
        for array in shapes
    ):
        raise ModelCorruptError(folder / _SCORER, "an array holds something else than finite float32 or int16 numbers")
    return Model(
        name=name,
        id=model_id,
        taxonomy=taxonomy,
        bands=bands,
        lexicon=lexicon,
        vectorizer=TermVectorizer(terms, arrays["idf"], ngram_range),
        rows=Rows(arrays["rows"], arrays["scales"])
        if "rows" in arrays
        else Rows.of(arrays["weights"], arrays["relevance"]),
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
    folder = _folder(path)
    path = folder / _MANIFEST
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelNotFoundError(folder) from error
    except (OSError, ValueError) as error:
        raise ModelError(path, f"cannot be read: {getattr(error, 'strerror', None) or 'this is no path'}") from error
    if len(raw) > _MAX_MANIFEST_BYTES:
        raise ModelCorruptError(path, "it is too large for a manifest")
    try:
        manifest = json.loads(raw)
    except ValueError as error:
        raise ModelCorruptError(path, "it is no JSON") from error
    if not isinstance(manifest, dict):
        raise ModelCorruptError(path, "it is no JSON object")
    if manifest.get("format_version") not in _READABLE:
        raise ModelIncompatibleError(folder, found=manifest.get("format_version"), expected=FORMAT_VERSION)
    return manifest


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
        ModelError: the folder cannot be written.
    """
    import joblib  # noqa: PLC0415 - only writing a model needs it

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
            for path in draft.iterdir():
                _sync(path)
            if folder.exists():
                folder.rename(Path(scratch) / "old")
            draft.rename(folder)
            _sync(folder.parent)
    except OSError as error:
        raise ModelError(folder, f"cannot be written: {error.strerror}") from error


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


def _read_taxonomy(manifest: Mapping[str, Any]) -> Taxonomy:
    return Taxonomy(
        tuple(
            Facet(
                id=facet["id"],
                plural=facet["plural"],
                needs=facet.get("needs"),
                labels=tuple(Label(id=label["id"], definition=label["definition"]) for label in facet["labels"]),
            )
            for facet in manifest["facets"]
        )
    )


def _check_digests(folder: Path, manifest: Mapping[str, Any]) -> None:
    digests = manifest.get("sha256")
    if not isinstance(digests, dict) or not {_SCORER, _LEXICON} <= set(digests):
        raise ModelCorruptError(folder / _MANIFEST, "it has no digests")
    for name, expected in digests.items():
        path = folder / name
        if Path(name).name != name or path.is_symlink() or not path.is_file():
            raise ModelCorruptError(path, "a file that the manifest names is missing")
        if _digest(path) != expected:
            raise ModelCorruptError(path, "its SHA-256 is not the one in the manifest")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pack_lexicon(lexicon: Lexicon) -> str:
    entries = {
        label: {"phrases": entry.phrases, "misleading": entry.misleading} for label, entry in lexicon.entries.items()
    }
    return json.dumps(entries, indent=0, ensure_ascii=False) + "\n"


def _read_lexicon(path: Path) -> Lexicon:
    try:
        return parse_lexicon(json.loads(path.read_bytes()), source=str(path))
    except (ValueError, AttributeError) as error:
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
            data_start = buffer.tell() + _ZIP_HEADER_BYTES + len(entry.filename) + _EXTRA_HEADER_BYTES
            padding = -data_start % _ALIGNMENT
            entry.extra = struct.pack("<HH", _PADDING_FIELD, padding) + bytes(padding)
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def _read_arrays(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return the arrays of these names, read only: mapped where they are not compressed, else unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            if sum(entry.file_size for entry in entries.values()) > MAX_ARRAY_BYTES:
                raise ModelCorruptError(path, f"it unpacks to more than {MAX_ARRAY_BYTES} bytes")
            return {name: _read_array(path, archive, entries[f"{name}.npy"]) for name in names}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ModelCorruptError(path, f"it is no archive of the arrays of a scorer ({type(error).__name__})") from error


def _read_array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> "NDArray[Any]":
    if entry.compress_type != zipfile.ZIP_STORED:
        with archive.open(entry) as content:
            return _frozen(np.lib.format.read_array(content, allow_pickle=False))
    with path.open("rb") as stream:
        stream.seek(entry.header_offset + _ZIP_HEADER_BYTES - 4)
        stream.seek(sum(struct.unpack("<HH", stream.read(4))), os.SEEK_CUR)  # the name and the extra fields
        start = stream.tell()
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(entry.filename)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        offset = stream.tell()
    if dtype.hasobject or is_fortran or offset - start + math.prod(shape) * dtype.itemsize != entry.file_size:
        raise ValueError(entry.filename)
    if offset % _ALIGNMENT or not math.prod(shape):  # written by somebody else; and nothing cannot be mapped
        return _frozen(np.fromfile(path, dtype, math.prod(shape), offset=offset).reshape(shape))
    return np.asarray(np.memmap(path, dtype, "r", offset, shape))


def _frozen(array: "NDArray[Any]") -> "NDArray[Any]":
    array.flags.writeable = False
    return array


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
