"""The bundled model and a small one: scores, tags, explanations, and their equality with scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text, newsy_text

from classifier import Abstention, Model, ModelError, Training, parse_article

SENTENCE = "According to the notice, the city pays a subsidy for new charging piles and charging stations."
CHARGING = f"{SENTENCE} Operators receive 300 yuan."


def test_score_gives_a_row_per_text_and_a_column_per_label(small_training: Training) -> None:
    """Values are float32 in [0, 1]."""
    scores = small_training.model.score([CHARGING, "wind farm plan", ""])

    assert scores.values.shape == (3, 6)
    assert scores.values.dtype == np.float32
    assert scores.labels == small_training.model.labels
    assert ((scores.values >= 0) & (scores.values <= 1)).all()


def test_score_of_nothing_is_an_empty_table(small_training: Training) -> None:
    """No texts, no rows, all columns."""
    assert small_training.model.score([]).values.shape == (0, 6)


def test_tags_come_for_every_facet_of_the_taxonomy(small_training: Training) -> None:
    """A third facet needs no code: it was in the taxonomy, so it is in the tags."""
    tags = small_training.model.tag(
        "The mayor of the city said operators receive a subsidy for new charging piles beside the road."
    )

    assert [tag.label for tag in tags.sectors] == ["charging"]
    assert [tag.label for tag in tags.policy_types] == ["subsidy"]
    assert [tag.label for tag in tags.levels] == ["city"]


def test_tag_many_equals_tag_one_by_one(model: Model) -> None:
    """What an article is scored together with makes no difference."""
    texts = [CHARGING, "Solar panels on every roof, says the ministry of energy in its plan.", "zzz"]

    assert model.tag_many(texts) == [model.tag(text) for text in texts]
    assert model.tag_many(iter(texts)) == model.tag_many(texts)


@given(st.lists(st.one_of(any_text, newsy_text), max_size=4))
def test_pipeline_computes_what_the_model_computes(small_training: Training, texts: list[str]) -> None:
    """scikit-learn's own path and ours agree to 1e-4 on any text."""
    model = small_training.model
    ours = model.score(texts).values
    if texts:
        theirs = small_training.pipeline.predict_proba([model.prepare(text) for text in texts])
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


GERMAN = (
    "Die Stadt zahlt den Betreibern von Ladestationen einen Zuschuss, teilte das Rathaus am Montag mit. Der Antrag "
    "muss bis Ende Juni eingereicht werden, danach wird das Geld nach der Reihenfolge des Eingangs verteilt."
)
CHINESE = (
    "\u65b0\u80fd\u6e90 \u6c7d\u8f66 \u8865\u8d34 \u653f\u7b56 \u53d1\u5e03 "
    "\u5145\u7535\u6869 \u5efa\u8bbe \u57ce\u5e02 " * 4
)
TRIAL = (
    "The county court heard the case of a violinist charged with breaking into the home of his teacher. The judge "
    "read the letters of both families, and the lawyers asked for a battery of tests before the verdict on Friday. "
    "His mother wept when the sentence was read, and the choir sang in front of the building until the evening."
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Abstention.TOO_SHORT),
        ("Charging piles", Abstention.TOO_SHORT),
        ("2023 12 31 300 4500 99 10 2024", Abstention.TOO_SHORT),
        (GERMAN, Abstention.WRONG_LANGUAGE),
        (CHINESE, Abstention.WRONG_LANGUAGE),
        (TRIAL, Abstention.OFF_TOPIC),
        ("qwx zzkp blorf frumious slithy toves gyre gimble", Abstention.NO_KNOWN_WORDS),
        (
            "\u65b0\u80fd\u6e90 \u6c7d\u8f66 \u8865\u8d34 \u653f\u7b56 \u53d1\u5e03 \u5145\u7535\u6869 \u5efa\u8bbe",
            Abstention.NO_KNOWN_WORDS,
        ),
    ],
)
def test_model_abstains_where_it_knows_nothing(model: Model, text: str, reason: Abstention) -> None:
    """Without known words a score would only repeat how frequent a label was in training."""
    tags = model.tag(text)

    assert tags.abstained is reason
    assert list(tags) == []


def test_model_abstains_on_a_page_of_links(model: Model) -> None:
    """When hardly anything of a page is left after cleaning, what is left is no article."""
    menu = "Home | News | Policy | Data | Contact | About us | Archive\n" * 30
    article = parse_article(f"{menu}Charging station news of the city and the county\n{menu}".encode())

    assert model.tag(article).abstained is Abstention.MOSTLY_BOILERPLATE


def test_a_model_that_saw_no_off_topic_texts_calls_nothing_off_topic(small_training: Training) -> None:
    """It cannot know, so it does not say."""
    assert small_training.model.tag(TRIAL).abstained is not Abstention.OFF_TOPIC


def test_explain_adds_up_to_the_score(model: Model) -> None:
    """Terms for, terms against and intercept sum to the logit; the score is its logistic function."""
    found = model.explain(CHARGING, "charging_swapping")
    total = found.intercept + sum(term.weight for term in (*found.terms, *found.against))

    assert total == pytest.approx(found.logit, abs=1e-6)
    assert found.score == pytest.approx(1 / (1 + math.exp(-found.logit)), abs=1e-5)
    assert found.score == pytest.approx(model.score([CHARGING]).row(0)["charging_swapping"], abs=1e-4)
    assert [term.weight for term in found.terms] == sorted((term.weight for term in found.terms), reverse=True)
    assert [term.weight for term in found.against] == sorted(term.weight for term in found.against)


def test_explain_points_into_the_text(model: Model) -> None:
    """Offsets of a string are into that string; the strongest sentence is the one that says it."""
    found = model.explain(CHARGING, "charging_swapping")
    charging = next(term for term in found.terms if term.term == "charging")

    assert [CHARGING[a:b] for a, b in charging.spans] == ["charging", "charging"]
    assert found.sentences[0].text.startswith("According to the notice")
    assert CHARGING[found.sentences[0].start : found.sentences[0].end] == found.sentences[0].text


def test_explain_points_into_the_original_of_an_article(model: Model) -> None:
    """For an article offsets are into what was on the page, menus and all."""
    page = f"Home > News > Policy\nCity Pays\n\n{CHARGING}\n\nShare this: Twitter\n"
    article = parse_article(page.encode())
    found = model.explain(article, "charging_swapping")

    best = found.sentences[0]
    assert page[best.start : best.end] == SENTENCE


@given(st.one_of(any_text, newsy_text))
def test_explain_adds_up_on_any_text(small_training: Training, text: str) -> None:
    """Whatever the text, the parts are the whole."""
    found = small_training.model.explain(text, "charging")

    assert found.intercept + sum(t.weight for t in (*found.terms, *found.against)) == pytest.approx(
        found.logit, abs=1e-5
    )
    assert all(0 <= a < b <= len(text) for t in (*found.terms, *found.against) for a, b in t.spans)


def test_explain_refuses_a_label_the_model_does_not_have(model: Model) -> None:
    """The error lists the labels there are."""
    with pytest.raises(ModelError, match="no label 'windmills'; it has electric_vehicles"):
        model.explain(CHARGING, "windmills")


def test_reference_is_name_and_id(small_training: Training) -> None:
    """Records name the model by both."""
    assert small_training.model.reference == f"small@{small_training.model.id}"
