"""Stories: signatures that last, copies that are known again, towns that are kept apart, sentences that are new."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import any_text, newsy_text

from classifier import Article, parse_article
from classifier.stories import (
    MAX_SENTENCES,
    N_BANDS,
    Candidate,
    Change,
    Signature,
    SignatureTable,
    bands_of,
    compare,
    find_story,
    may_tell_same,
    sign,
    sign_and_list,
)

ROOT = Path(__file__).resolve().parents[2]
TITLE = "Yancheng pays for charging stations"
LEAD = "Operators in Yancheng receive 240 yuan per kilowatt for 8,930 public charging piles, the city said on Tuesday."
LIMIT = "The total for one station does not exceed 1.2 million yuan, and old quarters get 20 percent more."
QUOTE = '"Zombie piles will not get a penny," said Gu Yuhan, who heads the energy division of the commission.'
WINDOW = "Materials are accepted until July 15 at window 34 of the Citizen Service Center."
STORY = f"{TITLE}\n\n{LEAD}\n\n{LIMIT}\n\n{QUOTE}\n\n{WINDOW}"


def _sign(text: str) -> Signature:
    return sign(parse_article(text.encode()))


def _edit(*changes: tuple[str, str], text: str = STORY) -> str:
    for old, new in changes:
        assert text.count(old) > 0, old
        text = text.replace(old, new)
    return text


def _pieces(text: str, spans: tuple[tuple[int, int], ...]) -> list[str]:
    return [text[start:end] for start, end in spans]


# -- signatures ------------------------------------------------------------------------------------------------------


def test_signature_is_the_same_for_ever() -> None:
    """Stored signatures must stay comparable: whoever changes this raises FORMAT_VERSION and the digest."""
    signature = _sign(STORY)

    assert (
        hashlib.sha256(signature.data).hexdigest() == "b2dc9b6279e30bd916ef47bababd64d5d3cc03c47613034fbbad1d7c0f42aed0"
    )
    assert signature.bands[:2] == (6384177494616507435, 2523285163406135505)


@pytest.mark.parametrize("seed", ["0", "1"])
def test_signature_does_not_depend_on_the_process(seed: str) -> None:
    """Sets of strings are ordered differently in every process."""
    code = "import sys; from classifier import parse_article; from classifier.stories import sign\n"
    code += "print(sign(parse_article(sys.stdin.buffer.read())).bands)"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    result = subprocess.run(
        [sys.executable, "-c", code], input=STORY.encode(), capture_output=True, check=True, cwd=ROOT, env=environment
    )

    assert result.stdout.decode().strip() == str(_sign(STORY).bands)


def test_headline_and_dateline_leave_the_signature_alone() -> None:
    """They change first."""
    reprint = _edit((TITLE, "Money for piles"), (LEAD, f"YANCHENG, June 14 (Newswire) -- {LEAD}"))

    assert _sign(reprint) == _sign(STORY)


@pytest.mark.parametrize("text", ["", "Yes.", "Pilot zone\n\nThe city pays for piles."])
def test_a_text_without_wording_has_no_bands(text: str) -> None:
    """It is nobody's copy."""
    signature = _sign(text) if text else Signature(b"")

    assert signature.bands == ()
    assert signature.similarity(_sign(STORY)) == 0.0


def test_signature_of_another_length_is_refused() -> None:
    """A cut or foreign value from a database is found at once."""
    with pytest.raises(ValueError, match="signature: 0 or 512 bytes needed, got 3; sign the article again"):
        Signature(b"abc")


def test_similarity_estimates_the_share_that_is_common() -> None:
    """All, most, none."""
    unrelated = """Orchid in court

        A retired drummer climbed over the wall of his neighbour Dong to take back a hundred-year-old orchid.

        The battery of his torch went flat, he stepped on a jar of bean curd and woke up the lane in Yuecheng."""

    assert _sign(STORY).similarity(_sign(STORY)) == 1.0
    assert 0.5 < _sign(STORY).similarity(_sign(_edit((QUOTE, "")))) < 0.95
    assert _sign(STORY).similarity(_sign(unrelated)) < 0.05


@given(newsy_text, newsy_text)
def test_signatures_are_bounded_and_symmetric(one: str, other: str) -> None:
    """Any text has 64 keys for a database's signed integers, or none; likeness goes both ways."""
    assume(one.strip() and other.strip())
    first, second = _sign(f"Title\n\n{one} city."), _sign(f"Title\n\n{other} city.")

    assert len(first.bands) in (0, N_BANDS)
    assert all(0 <= key < 2**63 for key in first.bands)
    assert first.similarity(second) == second.similarity(first)
    assert Signature(first.data) == first


def _pairs() -> list[tuple[Article, Article]]:
    """Return the pairs of texts by which stories were measured."""
    rows = map(json.loads, (ROOT / "tests/data/stories.jsonl").read_text(encoding="utf-8").splitlines())
    return [(parse_article(row["earlier"].encode()), parse_article(row["later"].encode())) for row in rows]


def test_the_quick_look_never_misses_a_story() -> None:
    """Where two texts are compared and tell one story, their lists of wording say that they may; mostly only there."""
    articles = [article for pair in _pairs() for article in pair]
    wordings = [sign_and_list(article)[1] for article in articles]
    told, refused = 0, 0
    for i, later in enumerate(articles):
        others = [i, i ^ 1, (i * 7 + 3) % len(articles)]
        for j, may in zip(others, may_tell_same(wordings[i], [wordings[j] for j in others]), strict=True):
            is_told = compare(articles[j].full_text, later.full_text, is_same_source=True).relation != "different"
            told += is_told
            refused += not may
            assert may or not is_told

    assert told > len(articles)
    assert refused > len(articles) // 2
    assert may_tell_same(wordings[0], [b""]) == [True]


def test_signatures_are_compared_many_at_once() -> None:
    """A table says which share bands and how many, as the bands themselves do."""
    signatures = [signature for pair in _pairs()[:40] for article in pair if (signature := sign(article)).data]
    table = SignatureTable(signatures)
    for signature in signatures:
        shared = [len({*signature.bands} & {*other.bands}) for other in signatures]

        assert table.sharing(signature) == [(i, count) for i, count in enumerate(shared) if count]
    assert bands_of(signatures) == [list(signature.bands) for signature in signatures]


# -- the same story or another ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(STORY, id="identical"),
        pytest.param(_edit((TITLE, "Money for piles: who can declare")), id="headline"),
        pytest.param(_edit((QUOTE + "\n\n", "")), id="dropped-paragraph"),
        pytest.param(f"{TITLE}\n\n{LEAD} {LIMIT[:60]} ...", id="truncated"),
        pytest.param(f"{TITLE}\n\n{WINDOW}\n\n{QUOTE}\n\n{LIMIT}\n\n{LEAD}", id="reordered"),
        pytest.param(f"{TITLE}\n\n{LEAD} {LIMIT} {QUOTE} {WINDOW}", id="merged"),
        pytest.param(_edit(("1.2 million yuan", "1,200,000 yuan"), ("20 percent", "twenty percent")), id="spelling"),
        pytest.param(_edit((LEAD, f"Yancheng: {LEAD}")), id="place-with-colon"),
        pytest.param(_edit((WINDOW, f"{WINDOW}\n\nEditor: S. Lin\nHot search: Plums")), id="boilerplate"),
    ],
)
def test_a_copy_is_the_same_story(later: str) -> None:
    """Whatever a newsroom or a scraper did to it."""
    assert compare(STORY, later).relation == "same"


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(_edit(("240 yuan", "200 yuan")), id="number"),
        pytest.param(_edit(("1.2 million", "$1.4m")), id="number-in-another-spelling"),
        pytest.param(_edit(("8,930", "forty-four")), id="number-in-words"),
        pytest.param(_edit(("Gu Yuhan", "Bao Mei")), id="name"),
        pytest.param(_edit((TITLE, f"CORRECTED - {TITLE}")), id="marked-in-the-headline"),
        pytest.param(f"{STORY}\n\nAn earlier version of this article named another window.", id="marked-below"),
    ],
)
def test_other_facts_or_a_note_make_a_correction(later: str) -> None:
    """In sentences that are otherwise the same."""
    assert compare(STORY, later).relation == "correction"


def test_names_that_change_places_make_a_correction() -> None:
    """Though no name is new."""
    old = "Deccan Vayu won 300 MW at the auction in Gadag and must build in two years. Malabar Green took the rest."
    new = "Malabar Green won 300 MW at the auction in Gadag and must build in two years. Deccan Vayu took the rest."

    assert compare(old, new).relation == "correction"


def test_a_corrected_notice_that_is_copied_is_no_second_correction() -> None:
    """The note was there before."""
    noted = f"{STORY}\n\nThis article was amended on Friday."

    assert compare(noted, _edit((TITLE, "Money for piles"), text=noted)).relation == "same"


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(_edit(("Yancheng", "Luohe"), ("Gu Yuhan", "Bao Mei")), id="town-and-official"),
        pytest.param(_edit(("Yancheng", "Luohe")), id="town-alone-all-numbers-equal"),
        pytest.param(
            _edit(("240", "300"), ("8,930", "11,204"), ("1.2", "1.5"), ("20 percent", "25 percent"), ("15", "31")),
            id="next-year",
        ),
        pytest.param("Yes.", id="nothing-in-it"),
        pytest.param("", id="empty"),
    ],
)
def test_official_phrases_do_not_merge_two_stories(later: str) -> None:
    """Another town with the same plan, the same town with the next one."""
    found = compare(STORY, later)

    assert found.relation == "different"
    assert found.changes == ()


def test_facts_alone_do_not_merge_two_stories() -> None:
    """Without common wording, the same numbers are chance."""
    other = (
        "In Yancheng 240 drummers with 34 orchids and 20 jars of curd met on July 15; Gu Yuhan and 8,930 others came."
    )

    assert compare(STORY, other).relation == "different"


def test_same_source_asks_for_less_and_calls_any_change_a_correction() -> None:
    """A file that was written again; its town may have been the error."""
    reworded = _edit(("will not get a penny", "get nothing"))

    assert compare(STORY, reworded).relation == "same"
    assert compare(STORY, reworded, is_same_source=True).relation == "correction"
    assert compare(STORY, _edit(("Yancheng", "Luohe")), is_same_source=True).relation == "correction"
    assert compare(STORY, STORY, is_same_source=True).relation == "same"
    assert compare(STORY, "An orchid was stolen in Yuecheng; the owner, surnamed Dong, wept.", is_same_source=True) == (
        compare(STORY, "An orchid was stolen in Yuecheng; the owner, surnamed Dong, wept.")
    )


def test_chinese_text_is_compared_by_characters() -> None:
    """There are no blanks to cut at and no capitals to tell names by; wording and numbers remain."""
    text = "盐城市发展和改革委员会发布通知,直流充电桩每千瓦补贴240元,交流充电桩每千瓦补贴90元。申报截止到7月15日。"
    other = "绍兴市越城区人民法院昨天开庭审理一起盗窃案,被告人寿某翻墙进入邻居家取走一盆百年兰花。"

    assert compare(text, text.replace("通知", "公告")).relation == "same"
    assert compare(text, text.replace("240", "200")).relation == "correction"
    assert compare(text, other).relation == "different"


# -- what changed ----------------------------------------------------------------------------------------------------


def test_new_sentences_are_found_with_their_places() -> None:
    """And nothing else is called new: not the headline, not a merged or a trimmed sentence."""
    local = "In Dafeng, where the wiring is oldest, residents hope for a station beside the bus depot."
    later = f"Money for piles\n\n{LEAD} {LIMIT}\n\n{local}\n\nMaterials are accepted until July 15 at window 34."
    found = compare(STORY, later)

    assert found.relation == "same"
    assert _pieces(later, found.new_sentences) == [local]


def test_new_sentences_lead_back_to_the_page() -> None:
    """Through the offsets of the article."""
    page = _edit((WINDOW, f"{WINDOW}\n\nThe first money arrives in\nautumn&nbsp;at the latest.\n\nShare this: QQ"))
    article = parse_article(page.encode())
    [span] = compare(STORY, article.full_text).new_sentences
    start, end = article.offsets.to_original(*span)

    assert page[start:end] == "The first money arrives in\nautumn&nbsp;at the latest."


def test_changes_pair_old_and_new_sentences() -> None:
    """Changed ones and new ones in the order of the later text, then those that are gone."""
    lead = LEAD.replace("240", "200")
    added = "A hotline answers questions from eight in the morning."
    later = f"{TITLE}\n\n{lead}\n\n{added}\n\n{LIMIT}\n\n{WINDOW}"
    found = compare(STORY, later)

    def change(old: str, new: str, *, is_factual: bool = False) -> Change:
        spans = [(text.index(s), text.index(s) + len(s)) if s else None for text, s in ((STORY, old), (later, new))]
        return Change(spans[0], spans[1], is_factual)

    assert found.changes == (change(LEAD, lead, is_factual=True), change("", added), change(QUOTE, ""))


def test_a_sentence_told_in_other_words_is_not_new() -> None:
    """When its names and numbers stand together in one sentence before."""
    later = _edit((WINDOW, "Until July 15, window 34 takes the papers."))

    assert compare(STORY, later).new_sentences == ()


@given(st.one_of(any_text, newsy_text), st.booleans())
def test_a_text_is_its_own_copy(text: str, is_same_source: bool) -> None:  # noqa: FBT001
    """Without any change."""
    found = compare(text, text, is_same_source=is_same_source)

    assert (found.relation, found.changes) == ("same", ())


@given(st.one_of(any_text, newsy_text), st.one_of(any_text, newsy_text))
def test_comparing_gives_spans_inside_the_texts(one: str, other: str) -> None:
    """On any two texts, and on two that share a story."""
    for earlier, later in ((one, other), (f"{STORY}\n\n{one}", f"{STORY}\n\n{other}")):
        found = compare(earlier, later)

        assert 0 <= found.agreement <= 1
        assert 0 <= found.overlap <= 1
        assert all(0 <= c.earlier[0] < c.earlier[1] <= len(earlier) for c in found.changes if c.earlier)
        assert all(0 <= c.later[0] < c.later[1] <= len(later) for c in found.changes if c.later)
        assert list(found.new_sentences) == sorted(found.new_sentences)
        assert found == compare(earlier, later)


def test_a_dump_is_compared_up_to_a_limit() -> None:
    """Beyond so many sentences nothing is called new: the time stays bounded."""
    long = "\n\n".join((STORY, *(f"Item {n} of the list concerns village number {n} again." for n in range(1000))))
    found = compare(STORY, long)

    assert found.relation == "same"
    assert 0 < len(found.new_sentences) < MAX_SENTENCES
    assert len(_sign(long).bands) == N_BANDS


# -- the best candidate ----------------------------------------------------------------------------------------------


def test_find_story_takes_the_candidate_most_alike() -> None:
    """And none when all tell something else."""
    near = Candidate("near", _edit((TITLE, "Money for piles")))
    far = Candidate("far", _edit(("8,930", "8,950"), (QUOTE, "")))
    town = Candidate("town", _edit(("Yancheng", "Luohe")))
    rewritten = Candidate("file", _edit(("Yancheng", "Luohe")), is_same_source=True)
    found = find_story(STORY, [town, far, near])

    assert found is not None
    assert (found[0], found[1].relation) == (near, "same")
    assert find_story(STORY, [town]) is None
    assert [pair and pair[1].relation for pair in [find_story(STORY, [rewritten])]] == ["correction"]
