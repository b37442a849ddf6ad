"""Other people's labelled data: every format gives the same rows, a fault names its line, nothing is half written."""

import csv
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text

from classifier import CorpusError, Taxonomy, load_corpus, load_taxonomy, parse_taxonomy
from classifier.adapters.importers import Columns, Format, LabelledText, load_labelled, render_taxonomy, save_import
from classifier.taxonomy import Facet, Label, infer_facet, make_label_id

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT.parent / "shared/bench"
TEXTS = {"Wind power": "A wind farm opens off the coast.", "Solar": "The roof gets new solar panels."}


def _write_csv(folder: Path) -> Path:
    lines = ["text,labels", *(f"{text},{name}" for name, text in TEXTS.items())]
    (folder / "data.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "data.csv"


def _write_fasttext(folder: Path) -> Path:
    lines = [f"__label__{name.replace(' ', '-')} {text}" for name, text in TEXTS.items()]
    (folder / "data.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder / "data.txt"


def _write_jsonl(folder: Path) -> Path:
    lines = [json.dumps({"text": text, "label": name}) for name, text in TEXTS.items()]
    (folder / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "data.jsonl"


def _write_folder(folder: Path) -> Path:
    for name, text in TEXTS.items():
        (folder / "data" / name).mkdir(parents=True)
        (folder / "data" / name / "1.txt").write_text(text, encoding="utf-8")
        (folder / "data" / name / ".hidden").write_text("not a text of anybody's")
    return folder / "data"


_WRITERS = {
    Format.CSV: _write_csv,
    Format.FASTTEXT: _write_fasttext,
    Format.JSONL: _write_jsonl,
    Format.FOLDER: _write_folder,
}


def _save(rows: list[LabelledText], folder: Path, **options: Any) -> Taxonomy:
    save_import(rows, folder / "corpus.jsonl", folder / "taxonomy.toml", None, **options)
    return load_taxonomy(folder / "taxonomy.toml")


@pytest.mark.parametrize("form", Format)
def test_every_format_becomes_a_corpus_that_loads(tmp_path: Path, form: Format) -> None:
    """The same texts with the same labels, and a taxonomy that keeps the names."""
    rows = load_labelled([_WRITERS[form](tmp_path)], form)
    taxonomy = _save(rows, tmp_path)
    corpus = load_corpus(tmp_path / "corpus.jsonl", taxonomy)

    assert {(e.text, *e.labels) for e in corpus.examples} == {
        (TEXTS["Wind power"], "wind_power"),
        (TEXTS["Solar"], "solar"),
    }
    assert [(facet.id, facet.plural, facet.label_ids) for facet in taxonomy] == [
        ("topic", "topics", ("solar", "wind_power"))
    ]
    assert taxonomy.facets[0].labels[0].definition == "Solar"


def test_csv_cells_hold_several_labels_and_lines(tmp_path: Path) -> None:
    """Columns by name, quoted line ends, a byte order mark, cells larger than the csv module reads by default."""
    path = tmp_path / "data.csv"
    long_text = "A very long text. " * 10_000
    limit = csv.field_size_limit()
    path.write_text(
        '\ufeffnr,head,body,tags,source,split\r\n7,City pays,"One.\r\n\r\nTwo.",a | b |,desk,train\r\n'
        f'8,,"{long_text}",,,test\r\n9,,one\u2028two,a,,\r\n\r\n',
        encoding="utf-8",
        newline="",
    )
    columns = Columns(text="body", title="head", labels="tags", id="nr", separator="|")
    first, second, third = load_labelled([path], Format.CSV, columns)

    assert first == LabelledText(
        id="7",
        title="City pays",
        text="One.\r\n\r\nTwo.",
        labels=("a", "b"),
        origin="desk",
        split="train",
        path=str(path),
        line=2,
    )
    assert (second.text, second.labels, second.line) == (long_text, (), 5)
    assert (third.text, third.labels, third.line) == ("one\u2028two", ("a",), 6)
    assert csv.field_size_limit() == limit


def test_jsonl_takes_label_and_labels(tmp_path: Path) -> None:
    """One name, a number, a list, nothing; a missing id is made of file and line."""
    path = tmp_path / "data.jsonl"
    values: list[dict[str, object]] = [
        {"label": "a"},
        {"labels": ["a", "b", "a"]},
        {"label": 3},
        {"labels": None},
        {"labels": []},
    ]
    path.write_text("\n".join(json.dumps({"text": "x", **value}) for value in values) + "\n\n")
    rows = load_labelled([path], Format.JSONL)

    assert [row.labels for row in rows] == [("a",), ("a", "b"), ("3",), (), ()]
    assert [row.id for row in rows] == [f"data-{line}" for line in range(1, 6)]


def test_inputs_of_one_name_do_not_clash(tmp_path: Path) -> None:
    """``train/data.jsonl`` and ``test/data.jsonl`` get ids of their own."""
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    rows = load_labelled([_write_jsonl(tmp_path / "train"), _write_jsonl(tmp_path / "test")], Format.JSONL)

    assert [row.id for row in rows] == ["1-data-1", "1-data-2", "2-data-1", "2-data-2"]


def test_fasttext_labels_may_stand_anywhere(tmp_path: Path) -> None:
    """As fastText reads them."""
    (tmp_path / "data.txt").write_text("__label__a __label__b some text\n\nmore __label__a text\n")
    rows = load_labelled([tmp_path / "data.txt"], Format.FASTTEXT)

    assert [(row.text, row.labels, row.line) for row in rows] == [
        ("some text", ("a", "b"), 1),
        ("more text", ("a",), 3),
    ]


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        (Format.CSV, "", r"data:1: one column 'text' needed, the columns are: none"),
        (Format.CSV, "body,labels\n", "the columns are: body, labels; name it with --text-column"),
        (Format.CSV, "text,labels,labels\n", "one column 'labels' needed"),
        (Format.CSV, "text,labels\n", "there is nothing to import"),
        (Format.CSV, 'text,labels\n"a\nb",c\nd\n', r"data:4: 2 cells needed as in the header, got 1"),
        (Format.CSV, 'text,labels\na,b\n"c', r"data:3: this is no CSV: unexpected end of data"),
        (Format.CSV, b"text,labels\na,b\n\xff,c\n", r"data:3: this is no UTF-8"),
        (Format.CSV, "id,text,labels\n1,a,b\n1,c,d\n", r"data:3: id '1' stands twice"),
        (Format.FASTTEXT, "__label__a b\nno label\n", r"data:2: no label; a line is '__label__name text'"),
        (Format.FASTTEXT, b"__label__a b\n\n__label__a \xff\n", r"data:3: this is no UTF-8"),
        (Format.JSONL, '{"text": "a", "label": "b"}\n{', r"data:2: this is no JSON"),
        (Format.JSONL, "[]", r"data:1: a JSON object needed, got list"),
        (Format.JSONL, '{"body": "a", "label": "b"}', r"data:1: no key 'text'; the keys are body, label"),
        (Format.JSONL, '{"text": "a"}', r"data:1: no key 'labels' or 'label'; the keys are text"),
        (Format.JSONL, '{"text": 5, "label": "b"}', r"data:1: 'text' needs a text, got 5"),
        (Format.JSONL, '{"text": "a", "labels": {}}', r"data:1: 'labels' needs a label or a list of labels, got {}"),
        (Format.JSONL, '{"text": "a", "label": true}', r"'label' needs a label or a list of labels, got True"),
        (Format.FOLDER, "", r"data: cannot be read: Not a directory"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, form: Format, content: str | bytes, message: str) -> None:
    """One line that says where and what."""
    path = tmp_path / "data"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(CorpusError, match=message) as caught:
        load_labelled([path], form)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", Format)
def test_a_missing_file_is_a_corpus_error(tmp_path: Path, form: Format) -> None:
    """In every format."""
    with pytest.raises(CorpusError, match=r"nowhere: cannot be read: No such file"):
        load_labelled([tmp_path / "nowhere"], form)


def test_a_key_named_by_the_user_is_taken_at_the_word(tmp_path: Path) -> None:
    """No falling back to ``label`` when another key was asked for."""
    with pytest.raises(CorpusError, match=r"data\.jsonl:1: no key 'tags'; the keys are text, label"):
        load_labelled([_write_jsonl(tmp_path)], Format.JSONL, Columns(labels="tags"))


def test_folders_hold_label_folders_with_texts(tmp_path: Path) -> None:
    """Whatever else lies there is refused, so no text is passed over in silence."""
    folder = _write_folder(tmp_path)
    (folder / "Solar/more").mkdir()
    with pytest.raises(CorpusError, match=r"more: a text file needed in the folder of a label"):
        load_labelled([folder], Format.FOLDER)
    (folder / "Solar/more").rename(folder / "more")
    (folder / "README").write_text("about this data")
    with pytest.raises(CorpusError, match=r"README: a folder per label needed, this is a file"):
        load_labelled([folder], Format.FOLDER)
    (folder / "README").rename(folder / "more/a.png")
    (folder / "more/a.png").write_bytes(b"\x89PNG")
    with pytest.raises(CorpusError, match=r"more/a\.png: this is a PNG image, not text"):
        load_labelled([folder], Format.FOLDER)


def _row(text: str = "A wind farm opens.", *labels: str, line: int = 1, split: str = "") -> LabelledText:
    return LabelledText(id=str(line), title="", text=text, labels=labels, split=split, path="x.csv", line=line)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([_row("a b", "C++"), _row("c d", "C#", line=2)], {}, r"x\.csv: labels 'C#' and 'C\+\+' would both be 'c'"),
        ([_row("a b", "A"), _row(" ", "A", line=2)], {}, r"x\.csv:2: 'title' and 'text' together: the input has no"),
        ([_row()], {}, r"x\.csv: no row has a label, so there is no taxonomy to infer"),
        ([_row("a b", "A", split="train")], {"split": "tain"}, r"no row is of split 'tain'; the splits are: train"),
        ([_row("a b", "A")], {"facet_id": "source"}, r"facet\[0\]\.id: 'source' already means something else"),
    ],
)
def test_a_fault_leaves_nothing_behind(
    tmp_path: Path, rows: list[LabelledText], options: dict[str, Any], message: str
) -> None:
    """Neither corpus nor taxonomy nor a temporary file."""
    with pytest.raises(CorpusError, match=message):
        _save(rows, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_taxonomy_that_is_there_decides(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Its facets, its labels; rows say nothing about its other facets."""
    target, file = tmp_path / "corpus.jsonl", tmp_path / "taxonomy.toml"
    done = save_import([_row("a b", "Wind")], target, file, taxonomy, facet_id="sector")

    assert (done.has_new_taxonomy, file.exists(), done.labels) == (False, False, {"wind": 1})
    [example] = load_corpus(target, taxonomy).examples
    assert example.labels == {"wind"}
    assert example.unknown == set(taxonomy.facets[1].label_ids)
    with pytest.raises(CorpusError, match=r"x\.csv:1: label 'Winds' \(winds\) is not in .*taxonomy\.toml"):
        save_import([_row("a b", "Winds")], tmp_path / "other", file, taxonomy, facet_id="sectors")
    with pytest.raises(CorpusError, match=r"labels 'Wind' and 'wind' are both 'wind'"):
        save_import([_row("a b", "Wind", "wind")], tmp_path / "other", file, taxonomy, facet_id="sector")
    with pytest.raises(CorpusError, match=r"no facet 'topic'; the facets are: sector, policy_type"):
        save_import([_row("a b", "Wind")], tmp_path / "other", file, taxonomy)


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    """A corpus only by force, an input not even so."""
    path = _write_jsonl(tmp_path)
    rows = load_labelled([path], Format.JSONL)
    before = path.read_bytes()
    _save(rows, tmp_path)
    with pytest.raises(CorpusError, match=r"corpus\.jsonl: is there already; nothing was written"):
        _save(rows, tmp_path)
    _save(rows[:1], tmp_path, is_forced=True)
    assert len((tmp_path / "corpus.jsonl").read_text().splitlines()) == 1
    with pytest.raises(CorpusError, match="this is one of the inputs"):
        save_import(rows, path, tmp_path / "t.toml", None, is_forced=True)
    with pytest.raises(CorpusError, match="corpus and taxonomy would be the same file"):
        save_import(rows, tmp_path / "t.toml", tmp_path / "t.toml", None)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_a_corpus_error(tmp_path: Path) -> None:
    """Of the corpus or of the taxonomy; the other one is not written either."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match=r"c: cannot be written: "):
        save_import([_row("a b", "A")], tmp_path / "file/c", tmp_path / "t.toml", None)
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorpusError, match=r"folder: cannot be written: this is a folder"):
        save_import([_row("a b", "A")], tmp_path / "c", tmp_path / "folder", None)
    with pytest.raises(CorpusError, match=r"folder: cannot be written: this is a folder"):
        save_import([_row("a b", "A")], tmp_path / "folder", tmp_path / "t.toml", None, is_forced=True)
    with pytest.raises(CorpusError, match=r"aaa: cannot be written: File name too long"):
        save_import([_row("a b", "A")], tmp_path / ("a" * 250), tmp_path / "t.toml", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("kind", ["pipe", "link", "dead link"])
@pytest.mark.parametrize("name", ["c.jsonl", "t.toml"])
def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, name: str, kind: str) -> None:
    """Not even by force, for `--output /dev/null` must not take the device away; neither file is written."""
    (tmp_path / "elsewhere").write_text("mine")
    place = tmp_path / name
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    before = place.lstat()
    with pytest.raises(CorpusError, match=rf"{name}: is a .*, which is not replaced; nothing was written; name a file"):
        save_import([_row("a b", "A")], tmp_path / "c.jsonl", tmp_path / "t.toml", None, is_forced=True)

    assert place.lstat() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["elsewhere", name])
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_a_taxonomy_that_is_only_read_may_be_a_link(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """It is not written."""
    (tmp_path / "t.toml").symlink_to(tmp_path / "elsewhere")
    save_import([_row("a b", "Wind")], tmp_path / "c.jsonl", tmp_path / "t.toml", taxonomy, facet_id="sector")

    assert (tmp_path / "c.jsonl").is_file()


@given(any_text)
def test_any_label_gets_an_id_that_a_taxonomy_accepts(name: str) -> None:
    """Whatever others call their labels; an id that is right already stays."""
    label = make_label_id(name)
    facet = infer_facet("topic", [name])

    assert [(item.id, item.definition) for item in facet.labels] == [(label, name)]
    assert make_label_id(label) == label


@given(st.lists(any_text, min_size=1, max_size=5), any_text.filter(bool))
def test_taxonomies_survive_the_file(definitions: list[str], cue: str) -> None:
    """Quotes, control characters and line ends in definitions and cues."""
    labels = tuple(Label(id=f"l{i}", definition=text, cues=(cue,)) for i, text in enumerate(definitions))
    taxonomy = Taxonomy(
        (
            Facet(id="topic", plural="topics", labels=labels),
            Facet(id="x", plural="x", labels=(Label(id="y", definition=""),)),
        )
    )

    assert parse_taxonomy(tomllib.loads(render_taxonomy(taxonomy))) == taxonomy


@pytest.mark.skipif(not (BENCH / "r52.jsonl").exists(), reason="the Reuters R52 set is not beside this checkout")
def test_reuters_becomes_a_corpus(tmp_path: Path) -> None:
    """A well-known set of 52 labels, its training part alone."""
    rows = load_labelled([BENCH / "r52.jsonl"], Format.JSONL)
    taxonomy = _save(rows, tmp_path, split="train")
    corpus = load_corpus(tmp_path / "corpus.jsonl", taxonomy)

    assert len(corpus.examples) == 6532
    assert len(taxonomy.label_ids) == 52
    assert {len(example.labels) for example in corpus.examples} == {1}
    assert next(label.definition for label in taxonomy.facets[0].labels if label.id == "money_fx") == "money-fx"
