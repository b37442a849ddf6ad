"""Model folders: written whole, read only when every file is what the manifest says, never unpickled."""

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier import (
    ModelCorruptError,
    ModelError,
    ModelIncompatibleError,
    ModelNotFoundError,
    Training,
    load_model,
    save_model,
)
from classifier.adapters.artifacts import bundled


@pytest.fixture
def folder(tmp_path: Path, small_training: Training) -> Path:
    """Return a folder with the small model."""
    path = tmp_path / "models" / "small"
    save_model(path, small_training.model, small_training.pipeline, {"training": {"seed": 1}}, "# card\n")
    return path


def _edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def _replace_arrays(folder: Path, **arrays: Any) -> None:
    """Put other arrays into the scorer, with a digest that fits."""
    import hashlib  # noqa: PLC0415

    with np.load(folder / "scorer.npz") as old:
        kept = {name: old[name] for name in old.files}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in (kept | arrays).items() if array is not None})
    (folder / "scorer.npz").write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    _edit_manifest(folder, lambda manifest: manifest["sha256"].update({"scorer.npz": digest}))


def test_a_saved_model_is_the_same_when_loaded(folder: Path, small_training: Training) -> None:
    """Scores, bands, labels and id."""
    loaded, model = load_model(folder), small_training.model
    texts = ["New charging piles beside the road", "the wind farm plan of the province"]

    assert (loaded.name, loaded.id, loaded.labels, dict(loaded.bands)) == (
        "small",
        model.id,
        model.labels,
        dict(model.bands),
    )
    np.testing.assert_allclose(loaded.score(texts).values, model.score(texts).values, atol=1e-6)


def test_saving_again_replaces_the_folder_and_leaves_nothing_beside_it(folder: Path, small_training: Training) -> None:
    """The old one is there until the new one is whole."""
    (folder / "stray.txt").write_text("x")
    save_model(folder, small_training.model, small_training.pipeline, {}, "# other card\n")

    assert sorted(path.name for path in folder.iterdir()) == [
        "MODEL_CARD.md",
        "lexicon.json",
        "manifest.json",
        "pipeline.joblib",
        "scorer.npz",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


def test_a_folder_of_the_first_format_is_still_read(folder: Path, small_training: Training) -> None:
    """Weights and relevance were arrays of their own, compressed, in any order of terms."""
    import hashlib  # noqa: PLC0415

    model = small_training.model
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        terms=np.frombuffer("\n".join(model.vectorizer.terms).encode(), np.uint8),
        idf=model.vectorizer.idf,
        weights=model.weights,
        intercepts=model.intercepts,
        relevance=model.rows.column(len(model.labels)),
        relevance_intercept=np.float32(model.relevance_intercept),
    )
    (folder / "scorer.npz").write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    _edit_manifest(folder, lambda m: m["sha256"].update({"scorer.npz": digest}))
    _edit_manifest(folder, lambda m: m.update(format_version=1))

    np.testing.assert_allclose(
        load_model(folder).score(["new wind farm"]).values, model.score(["new wind farm"]).values, atol=1e-6
    )


def test_rows_are_mapped_and_not_copied(folder: Path) -> None:
    """Processes share them; nobody can write to them; and numpy reads the file as the plain archive it is."""
    rows = load_model(folder).rows.numbers

    assert isinstance(rows.base, np.memmap)
    assert not rows.flags.writeable
    assert rows.ctypes.data % 64 == 0
    with np.load(folder / "scorer.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["rows"], rows)


def test_saving_the_same_model_gives_the_same_bytes(folder: Path, tmp_path: Path, small_training: Training) -> None:
    """File by file."""
    other = tmp_path / "elsewhere" / "small"
    save_model(other, small_training.model, small_training.pipeline, {"training": {"seed": 1}}, "# card\n")

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def test_saving_where_nobody_may_write_is_a_model_error(small_training: Training) -> None:
    """With the path and the reason."""
    with pytest.raises(ModelError, match="/proc/models/small: cannot be written"):
        save_model(Path("/proc/models/small"), small_training.model, small_training.pipeline, {}, "")


def test_the_pipeline_holds_standard_classes_only(folder: Path) -> None:
    """Whoever has scikit-learn can load it; nothing of ours is needed."""
    import pickletools  # noqa: PLC0415

    import joblib  # noqa: PLC0415

    raw = io.BytesIO()
    pickle.dump(joblib.load(folder / "pipeline.joblib"), raw)
    modules = {
        str(arg).split(" ")[0]
        for op, arg, _ in pickletools.genops(raw.getvalue())
        if op.name in {"SHORT_BINUNICODE", "GLOBAL"}
    }

    assert any(name.startswith("sklearn.") for name in modules)
    assert not any(name.startswith("classifier") for name in modules)


def _put_a_folder_in_place_of_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()


def _put_a_link_in_place_of_the_arrays(folder: Path) -> None:
    (folder / "scorer.npz").rename(folder / "real")
    (folder / "scorer.npz").symlink_to("real")


_FAULTS: dict[str, tuple[Callable[[Path], object], type[ModelError], str]] = {
    "missing": (shutil.rmtree, ModelNotFoundError, "no model folder here, it needs a manifest.json"),
    "manifest-no-json": (lambda f: (f / "manifest.json").write_text("{"), ModelCorruptError, "it is no JSON"),
    "manifest-no-object": (lambda f: (f / "manifest.json").write_text("[]"), ModelCorruptError, "no JSON object"),
    "manifest-huge": (lambda f: (f / "manifest.json").write_text(" " * 10_000_001), ModelCorruptError, "too large"),
    "manifest-a-folder": (
        _put_a_folder_in_place_of_the_manifest,
        ModelError,
        "cannot be read: Is a directory",
    ),
    "other-format": (
        lambda f: _edit_manifest(f, lambda m: m.update(format_version=99)),
        ModelIncompatibleError,
        "format version 2 needed, got 99; train the model again",
    ),
    "no-digests": (lambda f: _edit_manifest(f, lambda m: m.pop("sha256")), ModelCorruptError, "it has no digests"),
    "digest-outside": (
        lambda f: _edit_manifest(f, lambda m: m["sha256"].update({"../x": "0"})),
        ModelCorruptError,
        "a file that the manifest names is missing",
    ),
    "no-bands": (
        lambda f: _edit_manifest(f, lambda m: m.pop("bands")),
        ModelCorruptError,
        "missing or malformed: 'bands'",
    ),
    "other-terms": (
        lambda f: _edit_manifest(f, lambda m: m.update(ngram_range=[[1], 3])),
        ModelCorruptError,
        "an ngram_range of",
    ),
    "bands-of-others": (
        lambda f: _edit_manifest(f, lambda m: m["bands"].pop("wind")),
        ModelCorruptError,
        "bands and labels do not agree",
    ),
    "labels-of-others": (
        lambda f: _edit_manifest(f, lambda m: m["facets"].pop()),
        ModelCorruptError,
        "do not have the shapes",
    ),
    "flipped-bit": (
        lambda f: (f / "scorer.npz").write_bytes(
            bytes([(f / "scorer.npz").read_bytes()[0] ^ 1]) + (f / "scorer.npz").read_bytes()[1:]
        ),
        ModelCorruptError,
        "its SHA-256 is not the one in the manifest",
    ),
    "truncated": (
        lambda f: (f / "pipeline.joblib").write_bytes((f / "pipeline.joblib").read_bytes()[:-1]),
        ModelCorruptError,
        "pipeline.joblib: its SHA-256",
    ),
    "file-gone": (
        lambda f: (f / "scorer.npz").unlink(),
        ModelCorruptError,
        "a file that the manifest names is missing",
    ),
    "link": (
        _put_a_link_in_place_of_the_arrays,
        ModelCorruptError,
        "a file that the manifest names is missing",
    ),
    "nan": (
        lambda f: _replace_arrays(f, intercepts=np.full(6, np.nan, np.float32)),
        ModelCorruptError,
        "finite float32",
    ),
    "other-type": (lambda f: _replace_arrays(f, intercepts=np.zeros(6)), ModelCorruptError, "finite float32"),
    "other-shape": (lambda f: _replace_arrays(f, intercepts=np.zeros(5, np.float32)), ModelCorruptError, "shapes"),
    "rows-cut-off": (
        lambda f: _replace_arrays(f, rows=np.zeros((3, 16), np.int16)),
        ModelCorruptError,
        "shapes",
    ),
    "rows-by-columns": (
        lambda f: _replace_arrays(f, rows=np.zeros((3, 16), np.int16, order="F")),
        ModelCorruptError,
        "no archive of the arrays",
    ),
    "array-missing": (lambda f: _replace_arrays(f, idf=None), ModelCorruptError, "no archive of the arrays"),
    "pickle-inside": (
        lambda f: _replace_arrays(f, idf=np.array([{"a": 1}], dtype=object)),
        ModelCorruptError,
        "no archive of the arrays",
    ),
}


@pytest.mark.parametrize("name", _FAULTS)
def test_a_faulty_folder_is_refused_with_a_clear_line(folder: Path, name: str) -> None:
    """What is wrong, where, and nothing half-loaded."""
    damage, kind, message = _FAULTS[name]
    damage(folder)

    with pytest.raises(kind, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_a_bomb_of_zeros_is_not_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is read from the archive's own table before anything is unpacked."""
    monkeypatch.setattr("classifier.adapters.artifacts.MAX_ARRAY_BYTES", 100)
    with pytest.raises(ModelCorruptError, match="it unpacks to more than 100 bytes"):
        load_model(folder)


class _Payload:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (exec, ("import pathlib; pathlib.Path(PLANTED).touch()".replace("PLANTED", repr(str(_Payload.path))),))

    path = Path()


def test_no_code_runs_from_a_model_folder(folder: Path, tmp_path: Path) -> None:
    """A payload in the pipeline and in the arrays, with digests that fit, is loaded around or refused, never run."""
    import hashlib  # noqa: PLC0415

    _Payload.path = tmp_path / "planted"
    payload = pickle.dumps(_Payload())
    (folder / "pipeline.joblib").write_bytes(payload)
    _edit_manifest(folder, lambda m: m["sha256"].update({"pipeline.joblib": hashlib.sha256(payload).hexdigest()}))
    load_model(folder)
    _replace_arrays(folder, idf=np.array([_Payload()], dtype=object))
    with pytest.raises(ModelCorruptError):
        load_model(folder)

    assert not _Payload.path.exists()
    exec(f"import pickle; pickle.loads({payload!r})")  # noqa: S102 - the payload does work: this test can fail
    assert _Payload.path.exists()


def test_bundled_files_are_there() -> None:
    """Model, demo articles, settings and taxonomy, in a checkout and in a wheel."""
    assert bundled("models", "nev-policy", "manifest.json").is_file()
    assert len(list(bundled("seeds", "inbox").glob("*.txt"))) == 8
    assert bundled("seeds", "classifier.toml").is_file()
    assert bundled("seeds", "taxonomy.toml").is_file()
