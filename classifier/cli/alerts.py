"""Commands about alerts before they are sent: alerts preview."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifier.adapters.artifacts import load_model
from classifier.cli.articles import read_article
from classifier.cli.console import JSON_OPTION, MODEL_OPTION, command, fail, main

if TYPE_CHECKING:
    from classifier.article import Article
    from classifier.model import Model
    from classifier.payloads import Format
    from classifier.rules import Match
    from classifier.tags import Tags

    Preview = tuple[Match, str, Format]


@main.group("alerts", epilog="\b\nExample:\n  classifier alerts preview article.txt --format slack")
def alerts_group() -> None:
    """Look at alerts before anybody gets them."""


@command(
    alerts_group,
    "preview",
    "classifier alerts preview article.txt --format slack\n  classifier alerts preview article.txt -c classifier.toml",
)
@click.argument("path", metavar="FILE")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["standard", "slack", "teams", "discord", "ntfy"]),
    help="What the payload is for; standard without it.",
)
@click.option("--template", type=click.Path(path_type=Path), metavar="FILE", help="Template file instead of a format.")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings file: what its rules would send, to each endpoint in its own format.",
)
@MODEL_OPTION
@JSON_OPTION
def preview_command(
    path: str,
    format_name: str | None,
    template: Path | None,
    config: Path | None,
    model_path: Path | None,
    *,
    as_json: bool,
) -> None:
    """
    Print what a text file would send; - is standard input. Nothing is sent or recorded.

    Without a settings file as if one rule wanted every tag the text has.
    """
    if (format_name and template) or (config and (format_name or template or model_path)):
        message = "--format and --template exclude each other, and --config brings formats and model of its own"
        raise click.UsageError(message)
    article = read_article(path)
    if config is not None:
        model, tags, previews = _by_rules(article, config)
    else:
        model, tags, previews = _by_tags(article, load_model(model_path), format_name, template)
    if not previews:
        why = (
            f"the model abstains, {tags.abstained}"
            if tags.abstained
            else "no rule wants its tags"
            if tags
            else "no tags"
        )
        fail(f"{path!r} would send nothing: {why}")
    for match, endpoint, form in previews:
        body = _render(article, tags, match, model, form)
        if config is not None:
            click.echo(f"rule {match.rule.id!r}, endpoint {endpoint!r}, {form.name}, {len(body)} bytes", err=True)
        click.echo(body.decode() if as_json else json.dumps(json.loads(body), indent=2, ensure_ascii=False))


def _by_rules(article: "Article", config: Path) -> "tuple[Model, Tags, list[Preview]]":
    from classifier.app import check_settings, utc_now  # noqa: PLC0415

    checked = check_settings(config)
    folder = checked.settings.model.path
    model = load_model(checked.path.parent / folder if folder else None)
    tags = model.tag(article)
    formats = {receiver.id: receiver.format for receiver in checked.receivers}
    matches = checked.rules.match(article, tags, utc_now())
    return model, tags, [(match, to, formats[to]) for match in matches for to in match.to]


def _by_tags(
    article: "Article", model: "Model", format_name: str | None, template: Path | None
) -> "tuple[Model, Tags, list[Preview]]":
    from classifier.payloads import FORMATS  # noqa: PLC0415
    from classifier.rules import Match, Rule, TagCondition  # noqa: PLC0415
    from classifier.settings import load_template  # noqa: PLC0415
    from classifier.tags import Band  # noqa: PLC0415

    form = load_template(template) if template else FORMATS[format_name or "standard"]
    tags = model.tag(article)
    wanted = {facet: frozenset(tag.label for tag in found) for facet, found in tags.by_facet.items() if found}
    rule = Rule(id="preview", when=TagCondition(wanted=wanted, bands=frozenset(Band)), to=("preview",))
    return model, tags, [(Match(rule=rule, reasons=tuple(tags)), "preview", form)] if tags else []


def _render(article: "Article", tags: "Tags", match: "Match", model: "Model", form: "Format") -> bytes:
    from classifier.alerts import make_alert  # noqa: PLC0415
    from classifier.app import utc_now  # noqa: PLC0415

    alert = make_alert(
        article,
        tags,
        match,
        model=model.reference,
        explain=lambda label: model.explain(article, label),
        now=utc_now(),
    )
    return form.render(alert)
