"""
Corpus rows as tasks of Label Studio, and annotated tasks as corpus rows.

    rows --make_tasks--> tasks to label --(people)--> annotated tasks --parse_tasks--> rows
    taxonomy --render_config--> the labelling configuration that makes both understand each other

Hides: the JSON of tasks and the XML of the configuration.
Keeps: what comes back as a label is what people gave. Predictions of a model are never asked for, never sent along, and
passed over when somebody added them; so is what an annotation took over from one unchanged. A facet that a person did
not answer is unknown.

Several people: a label is given, or is not, when more than half of those who answered for its facet say so; otherwise
it is unknown, as it is when they call it arguable. Of one person the last annotation counts; where an annotation is
marked as ground truth, that alone does; what was skipped does not.

Formats: https://labelstud.io/guide/task_format, https://labelstud.io/tags/choices
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET  # only to write

from classifier.errors import CorpusError, did_you_mean, one_line
from classifier.taxonomy import Facet, Taxonomy

NONE = "none of these"  # cannot be the id of a label, which has no blanks
_TEXT = "text"
_KEPT = ("id", "title", "text", "source")  # of a row, in the data of a task


def render_config(taxonomy: Taxonomy) -> str:
    """
    Return the labelling configuration: per facet one list of labels, and one for those that are arguable.

    An answer is needed for every facet, so that "none" and "not looked at" are told apart.
    """
    view = ET.Element("View")
    ET.SubElement(view, "Header", value="$title")
    ET.SubElement(view, "Text", name=_TEXT, value="$text")
    for facet in taxonomy:
        ET.SubElement(view, "Header", value=facet.plural)
        ask = ET.SubElement(view, "Choices", name=facet.plural, toName=_TEXT, choice="multiple", required="true")
        ET.SubElement(ask, "Choice", value=NONE)
        ET.SubElement(view, "Header", value=f"{facet.plural}: arguable either way", size="5")
        doubt = ET.SubElement(view, "Choices", name=_doubtful(facet), toName=_TEXT, choice="multiple", layout="select")
        for label in facet.labels:
            hint = {"hint": one_line(label.definition)} if label.definition else {}
            ET.SubElement(ask, "Choice", {"value": label.id, **hint})
            ET.SubElement(doubt, "Choice", value=label.id)
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def make_tasks(rows: Iterable[Mapping[str, Any]], taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """
    Return corpus rows as tasks; what is known of a row is an annotation that people can correct.

    Args:
        rows: as `parse_example` takes them.
        taxonomy: the labels there are.
    """
    return [_task(row, taxonomy) for row in rows]


def _task(row: Mapping[str, Any], taxonomy: Taxonomy) -> dict[str, Any]:
    result = []
    for facet in taxonomy:
        unknown = row.get(_doubtful(facet), [])
        if (facet.plural not in row and not unknown) or set(unknown) == set(facet.label_ids):
            continue  # nobody has looked
        result.append(_answer(facet.plural, row.get(facet.plural) or [NONE]))
        if unknown:
            result.append(_answer(_doubtful(facet), unknown))
    task: dict[str, Any] = {"data": {key: row.get(key, "") for key in _KEPT}}
    return task | ({"annotations": [{"result": result}]} if result else {})


def _answer(control: str, choices: Sequence[str]) -> dict[str, Any]:
    value = {"choices": list(choices)}
    return {"id": control, "from_name": control, "to_name": _TEXT, "type": "choices", "value": value}


def _doubtful(facet: Facet) -> str:
    return f"{facet.plural}_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated:
    """
    What people made of tasks.

    Attributes:
        rows: corpus rows, in the order of the tasks.
        unanswered: tasks that nobody answered, left out.
        skipped: annotations that were skipped.
        disputed: labels that are unknown because people who answered do not agree, in all rows together.
    """

    rows: tuple[dict[str, Any], ...]
    unanswered: int
    skipped: int
    disputed: int


@dataclass(frozen=True, slots=True)
class _View:
    """What one person says of one facet."""

    given: frozenset[str]
    arguable: frozenset[str]

    def of(self, label: str) -> bool | None:
        """Return whether the label is given; None when it is arguable."""
        return None if label in self.arguable else label in self.given


def parse_tasks(tasks: object, taxonomy: Taxonomy, *, source: str) -> Annotated:
    """
    Return what people said in annotated tasks.

    Args:
        tasks: the parsed export, of the kind Label Studio calls JSON.
        taxonomy: the labels there are.
        source: what error messages call the export.

    Raises:
        CorpusError: it is no such export, was made with another configuration, or holds a label that is not in the
            taxonomy.
    """
    if not isinstance(tasks, list):
        raise CorpusError(source, f"a JSON list of tasks needed, got {type(tasks).__name__}")
    rows = []
    unanswered = skipped = disputed = 0
    strange: set[str] = set()
    for number, task in enumerate(tasks, start=1):
        data, annotations = _check_task(task, source, number)
        skipped += sum(bool(item.get("was_cancelled")) for item in annotations)
        counted = _counted(annotations)
        where = f"task {number}"
        views = [_views(item, taxonomy, source, where, strange) for item in counted]
        row = {key: data.get(key) or "" for key in _KEPT}
        row["id"] = str(data.get("id") or f"task-{task.get('id', number)}")
        for facet in taxonomy:
            of_facet = [view[facet.plural] for view in views if facet.plural in view]
            if of_facet:
                disputed += _settle(row, facet, of_facet)
        if any(facet.plural in row for facet in taxonomy):
            rows.append(row)
        else:
            unanswered += 1
    if strange and not rows:
        names = ", ".join(sorted(strange))
        wanted = ", ".join(facet.plural for facet in taxonomy)
        raise CorpusError(
            source, f"answers to {names}, but none to {wanted}; label with the configuration `data export` writes"
        )
    return Annotated(rows=tuple(rows), unanswered=unanswered, skipped=skipped, disputed=disputed)


def _settle(row: dict[str, Any], facet: Facet, views: Sequence[_View]) -> int:
    """Write what *views* come to into *row*; return how many labels are unknown because they differ."""
    given, unknown, disputed = [], [], 0
    for label in facet.label_ids:
        votes = [view.of(label) for view in views]
        if 2 * votes.count(True) > len(votes):
            given.append(label)
        elif 2 * votes.count(False) <= len(votes):
            unknown.append(label)
            disputed += len(set(votes)) > 1
    row[facet.plural] = given
    if unknown:
        row[_doubtful(facet)] = unknown
    return disputed


def _check_task(task: object, source: str, number: int) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        raise CorpusError(source, f"task {number} has no 'data'; export as JSON, not as JSON-MIN, CSV or TSV")
    if not all(isinstance(task["data"].get(key, ""), str) for key in ("title", "text", "source")):
        raise CorpusError(source, f"task {number}: 'title', 'text' and 'source' of 'data' need to be texts")
    annotations = task.get("annotations", [])
    if not isinstance(annotations, list) or not all(_is_annotation(item) for item in annotations):
        raise CorpusError(source, f"task {number}: 'annotations' needs a list of objects with a 'result' each")
    return task["data"], annotations


def _is_annotation(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("result", []), list)


def _counted(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the annotations that count: not skipped, ground truth before others, of each person the last."""
    kept = [item for item in annotations if not item.get("was_cancelled")]
    kept = [item for item in kept if item.get("ground_truth")] or kept
    by_person: dict[object, dict[str, Any]] = {}
    for position, item in enumerate(sorted(kept, key=lambda item: str(item.get("updated_at") or ""))):
        person = item.get("completed_by")
        key = person.get("id") or person.get("email") if isinstance(person, dict) else person
        by_person[("unnamed", position) if key is None else key] = item
    return list(by_person.values())


def _views(
    annotation: Mapping[str, Any], taxonomy: Taxonomy, source: str, where: str, strange: set[str]
) -> dict[str, _View]:
    """Return facet plural to what an annotation says of it; names of foreign questions go into *strange*."""
    chosen: dict[str, list[str]] = {}
    controls = {name for facet in taxonomy for name in (facet.plural, _doubtful(facet))}
    for item in annotation.get("result", []):
        if not isinstance(item, dict) or item.get("type") != "choices" or item.get("origin") == "prediction":
            continue
        name = str(item.get("from_name"))
        value = item.get("value")
        choices = value.get("choices") if isinstance(value, dict) else None
        if name not in controls:
            strange.add(name)
        elif isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
            chosen.setdefault(name, []).extend(choices)
        else:
            raise CorpusError(source, f"{where}: the answer to {name!r} needs a list of choices")
    views = {}
    for facet in taxonomy:
        given, arguable = chosen.get(facet.plural), chosen.get(_doubtful(facet), [])
        for label in (*(given or ()), *arguable):
            if label not in facet.label_ids and label != NONE:
                near = did_you_mean(label, facet.label_ids)
                raise CorpusError(source, f"{where}: {facet.plural} has no label {label!r}{near}")
        if given and (NONE not in given or len(given) == 1):  # "none of these" beside a label says nothing
            views[facet.plural] = _View(frozenset(given) - {NONE}, frozenset(arguable))
    return views
