"""Checked by mypy, never run: the types a user of the library sees."""

from collections.abc import Sequence
from typing import assert_type

from classifier import (
    Article,
    Example,
    Explanation,
    Model,
    Report,
    Scores,
    Tag,
    Tags,
    Taxonomy,
    Training,
    evaluate,
    load_model,
    load_taxonomy,
    parse_article,
    train,
)

model = load_model()
assert_type(model, Model)
article = parse_article(b"text", "name")
assert_type(article, Article)
tags = model.tag(article)
assert_type(tags, Tags)
assert_type(tags.sectors, tuple[Tag, ...])
assert_type(tags.policy_types[0].score, float)
assert_type(model.tag_many(["text", article]), list[Tags])
assert_type(model.score(iter(["text"])), Scores)
assert_type(model.explain("text", "wind"), Explanation)
taxonomy = load_taxonomy("taxonomy.toml")
assert_type(taxonomy, Taxonomy)


def train_and_evaluate(examples: Sequence[Example]) -> None:
    """Use what training gives."""
    training = train(examples, taxonomy)
    assert_type(training, Training)
    assert_type(evaluate(training.model, examples), Report)
