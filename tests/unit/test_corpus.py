"""Corpora on disk, and the seeds' own corpus."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from classifier import CorpusError, Taxonomy, load_corpus, load_taxonomy, parse_example

ROW = {"id": "a", "title": "T", "text": "A wind farm opens.", "sectors": ["wind"], "policy_types": [], "source": "x"}


def _write(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_load_corpus_reads_rows_and_skips_empty_lines(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Labels, unknown labels and cleaned text with its title twice, as it is scored."""
    row = ROW | {"id": "b", "sectors_unknown": ["solar"], "text": "A wind farm opens.\n\nShare this: Twitter"}
    corpus = load_corpus(_write(tmp_path, ROW, "", row), taxonomy)

    assert [(e.id, set(e.labels), set(e.unknown), e.text) for e in corpus.examples] == [
        ("a", {"wind"}, set(), "T\n\nT\n\nA wind farm opens."),
        ("b", {"wind"}, {"solar"}, "T\n\nT\n\nA wind farm opens."),
    ]
    assert len(corpus.sha256) == 64


def test_a_facet_that_a_row_does_not_have_is_unknown(taxonomy: Taxonomy) -> None:
    """A corpus labelled for one facet can train it without speaking about the other."""
    example = parse_example({"id": "a", "text": "A wind farm opens.", "sectors": ["wind"]}, taxonomy)

    assert example.labels == {"wind"}
    assert example.unknown == set(taxonomy.facets[1].label_ids)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], r"corpus\.jsonl:1: this is no JSON"),
        ([ROW, "[1]"], r"corpus\.jsonl:2: a JSON object needed, got list"),
        ([ROW, ROW], r"corpus\.jsonl:2: id 'a' stands twice"),
        ([ROW | {"sectors": ["winds"]}], r"corpus\.jsonl:1: 'sectors' holds 'winds', which the taxonomy does not have"),
        ([ROW | {"sectors": "wind"}], "'sectors' needs a list of labels, got 'wind'"),
        ([ROW | {"sectors_unknown": ["wind"]}], "'wind' is both given and unknown"),
        ([ROW | {"text": 5}], "'text' needs a text, got 5"),
        ([ROW | {"text": " ", "title": ""}], "the input has no text"),
        ([""], "there is no row in this corpus"),
    ],
)
def test_load_corpus_names_the_line_at_fault(
    tmp_path: Path, taxonomy: Taxonomy, lines: list[Any], message: str
) -> None:
    """File, line, and what is wrong."""
    with pytest.raises(CorpusError, match=message):
        load_corpus(_write(tmp_path, *lines), taxonomy)


def test_load_corpus_reads_judged_pages(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """What a page must carry is positive, what it may carry is unknown; the text is the file beside the corpus."""
    (tmp_path / "page.txt").write_bytes(b"A wind farm opens.\n\nShare this: Twitter")
    judged = {"core": ["wind"], "must": ["wind", "solar"], "may": ["nuclear"]}
    row = {"file": "page.txt", "sectors": judged}
    [example] = load_corpus(_write(tmp_path, row), taxonomy).examples

    assert (example.id, example.text, example.source) == ("page.txt", "A wind farm opens.", "")
    assert example.labels == {"wind", "solar"}
    assert example.unknown == {"nuclear", *taxonomy.facets[1].label_ids}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"file": "../page.txt"}, "'file' needs the name of a file beside the corpus", id="elsewhere"),
        pytest.param({"file": 5}, "'file' needs the name of a file beside the corpus, got 5", id="number"),
        pytest.param({"file": "no.txt"}, r"corpus\.jsonl:1: 'no.txt' beside the corpus cannot be read", id="missing"),
        pytest.param({"file": "image.txt"}, "'image.txt': this is a PNG image", id="binary"),
        pytest.param({"sectors": ["wind"]}, "'sectors' of a row with a 'file' needs core, must and may", id="list"),
        pytest.param({"sectors": {"most": []}}, "'sectors' of a row with a 'file' needs core, must", id="other-key"),
        pytest.param({"sectors": {"must": "wind"}}, "'sectors' needs a list of labels, got 'wind'", id="no-list"),
        pytest.param({"sectors": {"must": ["winds"]}}, "'sectors' holds 'winds'", id="strange-label"),
        pytest.param({"sectors": {"must": ["wind"], "may": ["wind"]}}, "both given and unknown", id="both"),
    ],
)
def test_load_corpus_names_what_is_wrong_with_a_judged_page(
    tmp_path: Path, taxonomy: Taxonomy, change: dict[str, Any], message: str
) -> None:
    """Nothing outside the corpus's own folder is read."""
    (tmp_path / "page.txt").write_text("A wind farm opens.")
    (tmp_path / "image.txt").write_bytes(b"\x89PNG")
    with pytest.raises(CorpusError, match=message):
        load_corpus(_write(tmp_path, {"file": "page.txt", "sectors": {"must": ["wind"]}} | change), taxonomy)


def test_missing_files_are_corpus_errors(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Corpus and taxonomy alike."""
    with pytest.raises(CorpusError, match=r"nowhere\.jsonl: cannot be read: No such file"):
        load_corpus(tmp_path / "nowhere.jsonl", taxonomy)
    (tmp_path / "t.toml").write_text("facet = ")
    with pytest.raises(CorpusError, match="this is no TOML file"):
        load_taxonomy(tmp_path / "t.toml")


def test_seed_corpus_covers_every_label(corpus_rows: list[dict[str, Any]], taxonomy: Taxonomy) -> None:
    """At least 120 articles, every label at least 5 times, at least 15 without any."""
    counts = Counter(label for row in corpus_rows for facet in taxonomy for label in row[facet.plural])

    assert len(corpus_rows) >= 120
    assert [label for label in taxonomy.label_ids if counts[label] < 5] == []
    assert sum(not row["sectors"] and not row["policy_types"] for row in corpus_rows) >= 15


def test_seed_corpus_articles_are_not_made_from_each_other(corpus_rows: list[dict[str, Any]]) -> None:
    """Two articles share less than a twentieth of their five-word sequences."""
    grams = []
    where: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(corpus_rows):
        words = f"{row['title']} {row['text']}".lower().split()
        grams.append({tuple(words[i : i + 5]) for i in range(len(words) - 4)})
        for gram in grams[-1]:
            where.setdefault(gram, []).append(number)
    shared = Counter((a, b) for numbers in where.values() for a in numbers for b in numbers if a < b)
    worst = max(
        (count / len(grams[a] | grams[b]), corpus_rows[a]["id"], corpus_rows[b]["id"])
        for (a, b), count in shared.items()
    )

    assert worst[0] < 0.05, worst


def test_seed_corpus_can_be_read(taxonomy: Taxonomy) -> None:
    """Every row passes the checks a user's rows must pass."""
    root = Path(__file__).resolve().parents[2]
    corpus = load_corpus(root / "seeds/articles.jsonl", taxonomy)

    assert all(len(example.text.split()) >= 60 for example in corpus.examples)
