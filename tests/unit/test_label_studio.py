"""Corpus rows to tasks of Label Studio and back: nothing is lost, nothing is made up, people decide."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text

from classifier import CorpusError, Taxonomy, parse_example, parse_taxonomy
from classifier.label_studio import NONE, make_tasks, parse_tasks, render_config

SMALL = parse_taxonomy(
    {
        "facet": [
            {"id": "sector", "label": [{"id": "wind", "definition": 'On- & offshore <"wind">.\n'}, {"id": "solar"}]},
            {"id": "policy_type", "label": [{"id": "subsidy"}, {"id": "plan"}]},
        ]
    }
)


def answer(control: str, *choices: str, **more: Any) -> dict[str, Any]:
    """Return one answer as Label Studio exports it."""
    value = {"choices": list(choices)}
    return {"id": "x7Kd2", "from_name": control, "to_name": "text", "type": "choices", "value": value} | (
        {"origin": "manual"} | more
    )


def annotation(*result: dict[str, Any], by: object = 1, **more: Any) -> dict[str, Any]:
    """Return one annotation as Label Studio exports it."""
    return {
        "id": 12,
        "completed_by": by,
        "result": list(result),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-02T03:04:05.678901Z",
        "updated_at": "2026-01-02T03:05:05.678901Z",
        "lead_time": 12.5,
        "prediction": {},
        "result_count": len(result),
        "task": 7,
        "parent_prediction": None,
    } | more


def task(*annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return one task as Label Studio exports it."""
    data = {"id": "a", "title": "City Pays", "text": "The city pays for wind.", "source": "desk"}
    return {"id": 7, "data": data, "annotations": list(annotations), "drafts": [], "predictions": [], "meta": {}} | more


def sectors(*annotations: dict[str, Any]) -> tuple[list[str] | None, list[str]]:
    """Return what several annotations of one task come to: given, unknown."""
    row = parse_tasks([task(*annotations)], SMALL, source="x.json").rows[0]
    return row.get("sectors"), row.get("sectors_unknown", [])


def test_rows_come_back_as_they_went(taxonomy: Taxonomy, corpus_rows: list[dict[str, object]]) -> None:
    """Labels, arguable labels and facets nobody looked at; every row of the corpus that somebody labelled."""
    some = [*corpus_rows[:150], *(row for row in corpus_rows if row.get("sectors_unknown"))][:250]
    found = parse_tasks(make_tasks(some, taxonomy), taxonomy, source="x.json")

    assert [parse_example(row, taxonomy) for row in found.rows] == [parse_example(row, taxonomy) for row in some]
    assert (found.unanswered, found.skipped, found.disputed) == (0, 0, 0)


@given(title=any_text, text=any_text, given=st.sets(st.sampled_from(["wind", "solar"])), is_known=st.booleans())
def test_any_text_comes_back(title: str, text: str, given: set[str], is_known: bool) -> None:  # noqa: FBT001
    """Whatever stands in it."""
    row = {"id": "1", "title": title, "text": text, "source": ""} | ({"sectors": sorted(given)} if is_known else {})
    found = parse_tasks(make_tasks([row], SMALL), SMALL, source="x.json")

    assert [dict(item, sectors=set(item["sectors"])) for item in found.rows] == (
        [row | {"sectors": given}] if is_known else []
    )
    assert found.unanswered == (not is_known)


def test_the_configuration_asks_for_every_facet() -> None:
    """Well-formed, with every label and its definition, and a way to say "none" and "arguable"."""
    view = ET.fromstring(render_config(SMALL))  # noqa: S314 - our own
    asked = {item.attrib["name"]: item for item in view.iter("Choices")}

    assert list(asked) == ["sectors", "sectors_unknown", "policy_types", "policy_types_unknown"]
    assert [choice.attrib["value"] for choice in asked["sectors"]] == [NONE, "wind", "solar"]
    assert [choice.attrib["value"] for choice in asked["sectors_unknown"]] == ["wind", "solar"]
    assert asked["sectors"][1].attrib["hint"].startswith('On- & offshore <"wind">.')
    assert {item.attrib["toName"] for item in asked.values()} == {"text"}
    assert asked["sectors"].attrib["required"] == "true"
    assert view.find("Text").attrib == {"name": "text", "value": "$text"}  # type: ignore[union-attr]


def test_an_export_becomes_rows() -> None:
    """A facet without an answer is unknown; "none of these" is an answer."""
    found = parse_tasks(
        [
            task(annotation(answer("sectors", "wind"), answer("policy_types", NONE))),
            task(annotation(answer("policy_types", "plan")), data={"text": "No id."}),
            task(),
            task(annotation(was_cancelled=True)),
        ],
        SMALL,
        source="x.json",
    )

    assert found.rows == (
        {
            "id": "a",
            "title": "City Pays",
            "text": "The city pays for wind.",
            "source": "desk",
            "sectors": ["wind"],
            "policy_types": [],
        },
        {"id": "task-7", "title": "", "text": "No id.", "source": "", "policy_types": ["plan"]},
    )
    assert (found.unanswered, found.skipped) == (2, 1)


def test_several_people_decide_by_majority_and_otherwise_nobody_knows() -> None:
    """Two against one is a label; one against one is arguable, and counted."""
    wind, solar, both = (answer("sectors", *names) for names in (["wind"], ["solar"], ["wind", "solar"]))

    assert sectors(annotation(wind, by=1), annotation(wind, by=2), annotation(solar, by=3)) == (["wind"], [])
    assert sectors(annotation(both, by=1), annotation(solar, by=2)) == (["solar"], ["wind"])
    assert sectors(annotation(wind, by=1), annotation(answer("sectors", NONE), by=2)) == ([], ["wind"])
    assert sectors(annotation(wind, by=1), annotation(answer("policy_types", "plan"), by=2)) == (["wind"], [])
    disputed = parse_tasks([task(annotation(both, by=1), annotation(solar, by=2))], SMALL, source="x.json").disputed
    assert disputed == 1


def test_arguable_labels_are_unknown() -> None:
    """When the only one, or most, say so; a clear majority overrules."""
    doubt, wind = (answer("sectors", "solar"), answer("sectors_unknown", "wind")), answer("sectors", "wind")

    assert sectors(annotation(*doubt)) == (["solar"], ["wind"])
    assert sectors(annotation(answer("sectors", "wind"), answer("sectors_unknown", "wind"))) == ([], ["wind"])
    assert sectors(annotation(wind, by=1), annotation(wind, by=2), annotation(*doubt, by=3)) == (["wind"], [])


def test_skipped_annotations_ground_truth_and_second_thoughts() -> None:
    """What was skipped does not count; ground truth alone does; of one person the last word, however he is named."""
    wind, solar = answer("sectors", "wind"), answer("sectors", "solar")
    later = {"updated_at": "2026-01-09T00:00:00Z"}

    assert sectors(annotation(solar, was_cancelled=True), annotation(wind, by=2)) == (["wind"], [])
    assert sectors(annotation(wind, by=1), annotation(wind, by=2), annotation(solar, by=3, ground_truth=True)) == (
        ["solar"],
        [],
    )
    for person in (1, {"id": 1, "email": "a@example.org"}, {"email": "a@example.org"}):
        assert sectors(annotation(solar, by=person, **later), annotation(wind, by=person)) == (["solar"], [])
    assert sectors(annotation(solar, by=None), annotation(wind, by=None)) == ([], ["wind", "solar"])


def test_predictions_never_become_labels() -> None:
    """Neither those of a task nor what an annotation took over from one unchanged; what was changed is a person's."""
    guess = {"model_version": "m", "score": 0.99, "result": [answer("sectors", "wind")]}
    alone = parse_tasks([task(predictions=[guess])], SMALL, source="x.json")
    taken = annotation(answer("sectors", "wind", origin="prediction"), answer("policy_types", "plan"))
    changed = annotation(answer("sectors", "wind", origin="prediction-changed"))

    assert (alone.rows, alone.unanswered) == ((), 1)
    assert sectors(taken) == (None, [])
    assert sectors(changed) == (["wind"], [])
    assert "predictions" not in make_tasks([{"id": "1", "text": "x", "sectors": ["wind"]}], SMALL)[0]


def test_none_beside_a_label_says_nothing() -> None:
    """It contradicts itself."""
    assert sectors(annotation(answer("sectors", NONE, "wind"), answer("policy_types", NONE))) == (None, [])


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"tasks": []}, "x.json: a JSON list of tasks needed, got dict"),
        ([{"text": "x", "sectors": {"choices": ["wind"]}}], "task 1 has no 'data'; export as JSON, not as JSON-MIN"),
        ([task(), "x"], "task 2 has no 'data'"),
        ([task(data={"text": 1})], "task 1: 'title', 'text' and 'source' of 'data' need to be texts"),
        ([task(annotations="x")], "task 1: 'annotations' needs a list of objects"),
        ([task({"result": "x"})], "task 1: 'annotations' needs a list of objects with a 'result' each"),
        ([task(annotation(answer("sectors", "winds")))], "task 1: sectors has no label 'winds'; did you mean 'wind'?"),
        ([task(annotation(answer("sectors", value={})))], "task 1: the answer to 'sectors' needs a list of choices"),
        ([task(annotation(answer("sentiment", "bad")))], "answers to sentiment, but none to sectors, policy_types"),
    ],
)
def test_what_is_no_export_is_refused(tasks: object, message: str) -> None:
    """With place and remedy."""
    with pytest.raises(CorpusError, match=message):
        parse_tasks(tasks, SMALL, source="x.json")
