"""Model folders: written whole, read only when every file is what the manifest says, never unpickled."""

import hashlib
import io
import json
import mmap
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier import (
    Model,
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


def _replace(folder: Path, name: str, raw: bytes) -> None:
    """Put another file into the folder, with a digest that fits."""
    (folder / name).write_bytes(raw)
    _edit_manifest(folder, lambda manifest: manifest["sha256"].update({name: hashlib.sha256(raw).hexdigest()}))


def _scale_array(folder: Path, name: str, factor: float) -> None:
    with np.load(folder / "scorer.npz") as arrays:
        _replace_arrays(folder, **{name: arrays[name] * np.float32(factor)})


def _replace_arrays(folder: Path, **arrays: Any) -> None:
    """Put other arrays into the scorer, with a digest that fits."""
    with np.load(folder / "scorer.npz") as old:
        kept = {name: old[name] for name in old.files}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in (kept | arrays).items() if array is not None})
    _replace(folder, "scorer.npz", buffer.getvalue())


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


def test_a_model_saved_under_a_careless_umask_can_be_loaded(tmp_path: Path, small_training: Training) -> None:
    """Nobody else may write to it, whatever the umask says."""
    previous = os.umask(0)
    try:
        save_model(tmp_path / "open", small_training.model, small_training.pipeline, {}, "")
    finally:
        os.umask(previous)

    assert load_model(tmp_path / "open").id == small_training.model.id


def _make_first_format(folder: Path, model: Model) -> None:
    """Weights and relevance were arrays of their own, compressed, in any order of terms."""
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
    _replace(folder, "scorer.npz", buffer.getvalue())
    _edit_manifest(folder, lambda m: m.update(format_version=1))


def test_a_folder_of_the_first_format_is_still_read(folder: Path, small_training: Training) -> None:
    """Its scores are the same, to what sixteen bits can hold."""
    _make_first_format(folder, small_training.model)
    text = ["new wind farm"]
    loaded = [load_model(folder), load_model(folder, share=True)]

    for model in loaded:
        np.testing.assert_allclose(model.score(text).values, small_training.model.score(text).values, atol=1e-5)


def test_rows_can_be_shared_between_processes(folder: Path, small_training: Training) -> None:
    """They are a view of the file then, at the start of a cache line; numpy reads the file as the archive it is."""
    rows, copied = load_model(folder, share=True).rows.numbers, load_model(folder).rows.numbers
    owner: Any = rows
    while isinstance(owner, np.ndarray):
        owner = owner.base

    assert isinstance(owner.obj, mmap.mmap)
    assert rows.ctypes.data % 64 == 0
    np.testing.assert_array_equal(rows, copied)
    np.testing.assert_array_equal(rows, small_training.model.rows.numbers)
    assert not any(array.flags.writeable for array in (rows, copied))
    with np.load(folder / "scorer.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["rows"], rows)


def test_what_was_exchanged_meanwhile_is_not_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the rows are those whose digest was right."""
    from classifier.adapters import artifacts  # noqa: PLC0415

    expected = load_model(folder).rows.numbers
    original = (folder / "scorer.npz").read_bytes()
    read_labels = artifacts._read_labels

    def load_with(other: bytes) -> Any:
        def exchange(path: Path, manifest: dict[str, Any]) -> Any:
            (folder / "scorer.npz").write_bytes(other)
            return read_labels(path, manifest)

        (folder / "scorer.npz").write_bytes(original)
        monkeypatch.setattr(artifacts, "_read_labels", exchange)
        return load_model(folder, share=True).rows.numbers

    np.testing.assert_array_equal(load_with(original[:-1] + b"!"), expected)
    np.testing.assert_array_equal(load_with(original + b"!"), expected)


def test_saving_the_same_model_gives_the_same_bytes(folder: Path, tmp_path: Path, small_training: Training) -> None:
    """File by file."""
    other = tmp_path / "elsewhere" / "small"
    save_model(other, small_training.model, small_training.pipeline, {"training": {"seed": 1}}, "# card\n")

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


@pytest.mark.parametrize("kind", ["file", "pipe", "link", "dead link", "folder"])
def test_saving_replaces_nothing_but_a_model(folder: Path, tmp_path: Path, small_training: Training, kind: str) -> None:
    """A wrong `--output` must not cost anybody a device, a link or a folder full of other things."""
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("mine")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
        (place / "thesis.txt").write_text("mine")
    else:
        place.symlink_to(folder if kind == "link" else tmp_path / "nowhere")
    before = place.lstat()
    with pytest.raises(ModelError, match=r"place: (is no folder|holds 'thesis\.txt' and no manifest\.json), so it is "):
        save_model(place, small_training.model, small_training.pipeline, {}, "")

    assert place.lstat() == before
    load_model(folder)


def test_saving_into_an_empty_folder_is_fine(tmp_path: Path, small_training: Training) -> None:
    """There is nothing to lose."""
    (tmp_path / "small").mkdir()
    save_model(tmp_path / "small", small_training.model, small_training.pipeline, {}, "")

    assert load_model(tmp_path / "small").labels == small_training.model.labels


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


def _empty_the_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _put_a_pipe_in_place_of_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")


def _put_a_link_in_place_of_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").rename(folder / "real")
    (folder / "manifest.json").symlink_to("real")


def _put_a_link_in_place_of_the_folder(folder: Path) -> None:
    folder.rename(folder.with_name("real"))
    folder.symlink_to("real")


def _put_a_file_in_place_of_the_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


def _make_the_arrays_a_sparse_terabyte(folder: Path) -> None:
    os.truncate(folder / "scorer.npz", 2**40)


def _take_a_facet_away(manifest: dict[str, Any]) -> None:
    """As if the manifest of another model had been put beside these arrays."""
    for label in manifest["facets"].pop()["labels"]:
        manifest["labels"].remove(label["id"])
        del manifest["bands"][label["id"]]


def _put_a_link_in_place_of_the_arrays(folder: Path) -> None:
    (folder / "scorer.npz").rename(folder / "real")
    (folder / "scorer.npz").symlink_to("real")


_FAULTS: dict[str, tuple[Callable[[Path], object], type[ModelError], str]] = {
    "missing": (shutil.rmtree, ModelNotFoundError, "no model folder here, it needs a manifest.json"),
    "manifest-no-json": (lambda f: (f / "manifest.json").write_text("{"), ModelCorruptError, "it is no JSON"),
    "manifest-no-object": (lambda f: (f / "manifest.json").write_text("[]"), ModelCorruptError, "no JSON object"),
    "manifest-huge": (lambda f: (f / "manifest.json").write_text(" " * 10_000_001), ModelCorruptError, "too large"),
    "empty": (_empty_the_folder, ModelNotFoundError, "no model folder here"),
    "no-folder": (_put_a_file_in_place_of_the_folder, ModelError, "cannot be read: Not a directory"),
    "folder-a-link": (_put_a_link_in_place_of_the_folder, ModelError, "this is a link, which may lead elsewhere"),
    "folder-world-writable": (lambda f: f.chmod(0o777), ModelError, "everybody may write to it"),
    "file-world-writable": (lambda f: (f / "scorer.npz").chmod(0o666), ModelError, "everybody may write to it"),
    "manifest-world-writable": (lambda f: (f / "manifest.json").chmod(0o666), ModelError, "everybody may write to it"),
    "manifest-a-folder": (_put_a_folder_in_place_of_the_manifest, ModelCorruptError, "it is no regular file"),
    "manifest-a-pipe": (_put_a_pipe_in_place_of_the_manifest, ModelCorruptError, "it is no regular file"),
    "manifest-a-link": (_put_a_link_in_place_of_the_manifest, ModelCorruptError, "it is a link"),
    "manifest-too-deep": (
        lambda f: (f / "manifest.json").write_text('{"a":' * 100_000),
        ModelCorruptError,
        "it is no JSON",
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
        "it names a file outside its folder",
    ),
    "digest-too-long-a-name": (
        lambda f: _edit_manifest(f, lambda m: m["sha256"].update({"x" * 300: "0"})),
        ModelCorruptError,
        "cannot be read: File name too long",
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
        "facets, labels and bands do not agree",
    ),
    "labels-of-others": (
        lambda f: _edit_manifest(f, lambda m: m["facets"].pop()),
        ModelCorruptError,
        "facets, labels and bands do not agree",
    ),
    "labels-of-another-model": (
        lambda f: _edit_manifest(f, _take_a_facet_away),
        ModelCorruptError,
        "do not have the shapes",
    ),
    "labels-in-another-order": (
        lambda f: _edit_manifest(f, lambda m: m["labels"].reverse()),
        ModelCorruptError,
        "facets, labels and bands do not agree",
    ),
    "label-no-name": (
        lambda f: _edit_manifest(f, lambda m: m["facets"][0]["labels"][0].update(id="a\x1b[31m")),
        ModelCorruptError,
        "its facets are at fault",
    ),
    "band-no-number": (
        lambda f: _edit_manifest(f, lambda m: m["bands"]["wind"].update(review="low")),
        ModelCorruptError,
        "the limits of 'wind' are no numbers from 0 to 1",
    ),
    "band-nan": (
        lambda f: _edit_manifest(f, lambda m: m["bands"]["wind"].update(alert=float("nan"))),
        ModelCorruptError,
        "the limits of 'wind' are no numbers from 0 to 1",
    ),
    "name-of-two-lines": (
        lambda f: _edit_manifest(f, lambda m: m.update(name="a\nb")),
        ModelCorruptError,
        "missing or malformed: 'name'",
    ),
    "id-missing": (
        lambda f: _edit_manifest(f, lambda m: m.pop("model_id")),
        ModelCorruptError,
        "missing or malformed: 'model_id'",
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
        "it is a link",
    ),
    "scorer-huge": (_make_the_arrays_a_sparse_terabyte, ModelCorruptError, "it is too large"),
    "lexicon-no-json": (lambda f: _replace(f, "lexicon.json", b"["), ModelCorruptError, "it is no lexicon"),
    "lexicon-too-deep": (lambda f: _replace(f, "lexicon.json", b"[" * 10**5), ModelCorruptError, "it is no lexicon"),
    "nan": (
        lambda f: _replace_arrays(f, intercepts=np.full(6, np.nan, np.float32)),
        ModelCorruptError,
        "finite float32",
    ),
    "other-type": (lambda f: _replace_arrays(f, intercepts=np.zeros(6)), ModelCorruptError, "finite float32"),
    "other-shape": (lambda f: _replace_arrays(f, intercepts=np.zeros(5, np.float32)), ModelCorruptError, "shapes"),
    "all-zero": (
        lambda f: _scale_array(f, "scales", 0),
        ModelCorruptError,
        "all weights are zero, so every text would get the same scores",
    ),
    "overflow": (lambda f: _scale_array(f, "scales", 1e30), ModelCorruptError, "a weight is beyond 1e\\+06"),
    "no-weights": (
        lambda f: _replace_arrays(f, rows=np.zeros_like(np.load(f / "scorer.npz")["rows"])),
        ModelCorruptError,
        "all weights are zero, so every text would get the same scores",
    ),
    "rows-of-another-shape": (
        lambda f: _replace_arrays(f, rows=np.zeros((3, 16), np.int16)),
        ModelCorruptError,
        "shapes",
    ),
    "rows-of-another-type": (
        lambda f: _replace_arrays(f, rows=np.load(f / "scorer.npz")["rows"].astype(np.float32)),
        ModelCorruptError,
        "finite float32 or int16",
    ),
    "idf-negative": (lambda f: _scale_array(f, "idf", -1), ModelCorruptError, "document frequency is not positive"),
    "no-vocabulary": (
        lambda f: _replace_arrays(f, terms=np.zeros(0, np.uint8)),
        ModelCorruptError,
        "its vocabulary is empty",
    ),
    "vocabulary-no-text": (
        lambda f: _replace_arrays(f, terms=np.array([255], np.uint8)),
        ModelCorruptError,
        "its vocabulary is no text",
    ),
    "vocabulary-repeats": (
        lambda f: _replace_arrays(f, terms=np.frombuffer(b"a\na", np.uint8)),
        ModelCorruptError,
        "or one twice",
    ),
    "array-missing": (lambda f: _replace_arrays(f, idf=None), ModelCorruptError, "no archive of the arrays"),
    "pickle-inside": (
        lambda f: _replace_arrays(f, idf=np.array([{"a": 1}], dtype=object)),
        ModelCorruptError,
        "no archive of the arrays",
    ),
}


@pytest.mark.parametrize("name", _FAULTS)
def test_l1_a_faulty_folder_is_refused_with_a_clear_line(folder: Path, name: str) -> None:
    """What is wrong, where, and nothing half-loaded."""
    damage, kind, message = _FAULTS[name]
    damage(folder)

    with pytest.raises(kind, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_l1_a_bomb_of_zeros_is_not_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is read from the archive's own table before anything is unpacked."""
    packed = io.BytesIO()
    np.savez_compressed(packed, idf=np.zeros(10**7, np.float32))
    _replace(folder, "scorer.npz", packed.getvalue())
    monkeypatch.setattr("classifier.adapters.artifacts.MAX_ARRAY_BYTES", 10**6)
    with pytest.raises(ModelCorruptError, match="it unpacks to more than 1000000 bytes"):
        load_model(folder)


def test_l1_what_was_checked_is_what_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file exchanged after its digest was right is not read again."""
    from classifier.adapters import artifacts  # noqa: PLC0415

    read_labels = artifacts._read_labels

    def exchange(path: Path, manifest: dict[str, Any]) -> Any:
        _replace_arrays(folder, intercepts=np.full(6, 9, np.float32))
        return read_labels(path, manifest)

    expected = load_model(folder).intercepts
    monkeypatch.setattr(artifacts, "_read_labels", exchange)

    np.testing.assert_array_equal(load_model(folder).intercepts, expected)


def test_l3_no_text_gets_a_score_that_is_no_number(folder: Path) -> None:
    """The largest weights that are let through, for and against, sum up to 0 or 1."""
    with np.load(folder / "scorer.npz") as arrays:
        rows = np.where(arrays["rows"] > 0, np.int16(32767), np.int16(-32767))
        scales = np.full_like(arrays["scales"], 1e6 / 32767)
        _replace_arrays(folder, rows=rows, scales=scales, idf=np.full_like(arrays["idf"], 1e6))
    model = load_model(folder)
    scores = model.score([" ".join(model.vectorizer.terms) * 50, "wind", ""]).values

    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


class _Payload:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (exec, ("import pathlib; pathlib.Path(PLANTED).touch()".replace("PLANTED", repr(str(_Payload.path))),))

    path = Path()


def test_l1_no_code_runs_from_a_model_folder(folder: Path, tmp_path: Path) -> None:
    """A payload in the pipeline and in the arrays, with digests that fit, is loaded around or refused, never run."""
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
