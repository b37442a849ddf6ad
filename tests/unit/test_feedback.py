"""What people say of alerts: what is taken, what is refused, and what becomes known of an article because of it."""

import datetime as dt
from dataclasses import replace

import pytest

from classifier import Tag, Tags, Taxonomy, parse_article, parse_example
from classifier.errors import FeedbackError
from classifier.feedback import (
    MAX_BY,
    MAX_NOTE,
    Judged,
    Judgement,
    Subject,
    Verdict,
    choose,
    corpus_row,
    judge,
    settle,
)
from classifier.tags import Band

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
TAGS = Tags(
    {
        "sectors": (Tag("charging_swapping", 0.9, Band.ALERT), Tag("wind", 0.5, Band.REVIEW)),
        "policy_types": (Tag("subsidy_grant", 0.8, Band.ALERT),),
    }
)
ALERT = Subject(
    article_id="a" * 64,
    title="City Pays",
    paths=("a.txt",),
    tags=TAGS,
    model="m@1",
    alert_id="msg_1",
    rule_id="r",
    matched=("charging_swapping", "subsidy_grant"),
)
ARTICLE = replace(ALERT, alert_id=None, rule_id=None, matched=())


def say(subject: Subject, verdict: str, *labels: str, known: Taxonomy, **more: str) -> tuple[Judgement, ...]:
    """Judge as a person does."""
    words = {"by": "Ms. Liu", "note": ""} | more
    return judge(subject, Verdict(verdict), labels, known.label_ids, via="command", now=NOW, **words)


def labels_of(judgements: tuple[Judgement, ...]) -> list[str | None]:
    """Return what was judged."""
    return [item.label for item in judgements]


def test_right_without_labels_means_those_the_alert_was_sent_for(taxonomy: Taxonomy) -> None:
    """Not every tag of the article; who, when and which model stand beside each."""
    said = say(ALERT, "right", known=taxonomy, note="yes")

    assert labels_of(said) == ["charging_swapping", "subsidy_grant"]
    assert said[0] == Judgement(
        article_id=ALERT.article_id,
        alert_id="msg_1",
        rule_id="r",
        verdict=Verdict.RIGHT,
        label="charging_swapping",
        model="m@1",
        note="yes",
        by="Ms. Liu",
        via="command",
        at=NOW,
    )


def test_wrong_without_labels_makes_no_label_known_unless_there_is_one(taxonomy: Taxonomy) -> None:
    """Of two labels nobody knows which is wrong: guessing would teach the model a lie."""
    single = replace(ALERT, matched=("wind",))

    assert labels_of(say(ALERT, "wrong", known=taxonomy)) == [None]
    assert labels_of(say(single, "wrong", known=taxonomy)) == ["wind"]
    assert settle(say(ALERT, "wrong", known=taxonomy)) == {}


def test_named_labels_are_judged_each_once(taxonomy: Taxonomy) -> None:
    """Any tag of the article may be right or wrong; any label of the model may be missing."""
    assert labels_of(say(ALERT, "wrong", "wind", "wind", known=taxonomy)) == ["wind"]
    assert labels_of(say(ARTICLE, "missing", "solar", "tax_incentive", known=taxonomy)) == ["solar", "tax_incentive"]


@pytest.mark.parametrize(
    ("subject", "verdict", "labels", "message"),
    [
        pytest.param(ALERT, "right", ["winds"], "there is no label 'winds'; did you mean 'wind'?", id="unknown"),
        pytest.param(ALERT, "wrong", ["\x1b"], "there is no label '\\x1b'; `classifier model show` lists", id="far"),
        pytest.param(
            ALERT,
            "right",
            ["solar"],
            "the model did not give 'solar', .* say missing .* its tags are char",
            id="not-given",
        ),
        pytest.param(replace(ARTICLE, tags=Tags({})), "wrong", ["solar"], "its tags are none", id="no-tags"),
        pytest.param(ALERT, "missing", [], "which label is missing", id="missing-what"),
        pytest.param(ARTICLE, "wrong", [], "name them, its tags are charging_swapping, wind, subsidy", id="article"),
        pytest.param(replace(ALERT, matched=()), "right", [], "not known which labels are meant", id="old-alert"),
    ],
)
def test_what_cannot_be_taken_is_refused(
    taxonomy: Taxonomy, subject: Subject, verdict: str, labels: list[str], message: str
) -> None:
    """With the way out."""
    with pytest.raises(FeedbackError, match=message.replace("\\x1b", r"\\\\?x1b")) as caught:
        say(subject, verdict, *labels, known=taxonomy)
    assert caught.value.reason == "label"


@pytest.mark.parametrize(("key", "limit"), [("note", MAX_NOTE), ("by", MAX_BY)])
def test_words_are_bounded(taxonomy: Taxonomy, key: str, limit: int) -> None:
    """The ledger is no place for books."""
    say(ALERT, "right", known=taxonomy, **{key: "x" * limit})
    with pytest.raises(FeedbackError, match=f"{key} has {limit + 1} characters; at most {limit} are kept"):
        say(ALERT, "right", known=taxonomy, **{key: "x" * (limit + 1)})


def test_too_many_labels_are_refused() -> None:
    """Whatever a taxonomy has."""
    known = [f"label_{i}" for i in range(101)]
    with pytest.raises(FeedbackError, match="at most 100 labels at once, got 101"):
        judge(ALERT, Verdict.MISSING, known, known, by="", via="callback", note="", now=NOW)


def test_a_reference_names_one_subject_or_none() -> None:
    """Several are listed."""
    other = replace(ALERT, alert_id="msg_12")
    assert choose("msg_1", [ALERT]) is ALERT
    with pytest.raises(FeedbackError, match="no alert, article or file of this name") as unknown:
        choose("msg_9", [])
    with pytest.raises(FeedbackError, match="'msg_1' may be msg_1, msg_12; give more of the id") as several:
        choose("msg_1", [ALERT, other])

    assert (unknown.value.reason, several.value.reason) == ("unknown", "ambiguous")


def test_the_last_word_about_a_label_counts(taxonomy: Taxonomy) -> None:
    """Each label by itself."""
    said = (
        *say(ALERT, "right", known=taxonomy),
        *say(ALERT, "wrong", "subsidy_grant", known=taxonomy),
        *say(ALERT, "missing", "solar", known=taxonomy),
    )

    assert settle(said) == {"charging_swapping": True, "subsidy_grant": False, "solar": True}
    assert settle(reversed(said))["subsidy_grant"] is True


def test_a_row_knows_what_was_said_and_nothing_else(taxonomy: Taxonomy) -> None:
    """A facet nobody spoke of is not there; in the others what nobody spoke of is unknown, tags of the model too."""
    said = (*say(ALERT, "right", "charging_swapping", known=taxonomy), *say(ALERT, "wrong", "wind", known=taxonomy))
    judged = Judged(article_id="a" * 64, title="City Pays", paths=("a.txt",), judgements=said)
    page = "City Pays\n\nThe city pays for charging piles.\n\nShare this: Twitter\n"
    row = corpus_row(judged, page, taxonomy)
    assert row is not None
    example = parse_example(row, taxonomy)

    assert row["sectors"] == ["charging_swapping"]
    assert "policy_types" not in row
    assert example.labels == {"charging_swapping"}
    assert set(taxonomy.label_ids) - example.unknown == {"charging_swapping", "wind"}
    assert example.text == parse_article(page.encode(), "a.txt").scored_text


def test_a_row_needs_something_known(taxonomy: Taxonomy) -> None:
    """An alert that is wrong somewhere, and labels the model has no more, teach nothing."""
    unclear = Judged(article_id="a" * 64, title="", paths=(), judgements=say(ALERT, "wrong", known=taxonomy))
    gone = replace(unclear, judgements=(replace(unclear.judgements[0], label="steam"),))

    assert corpus_row(unclear, "x", taxonomy) is None
    assert corpus_row(gone, "x", taxonomy) is None
