"""Commands about single articles: tag, explain."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifier.adapters.artifacts import load_model
from classifier.alerts import tag_record
from classifier.article import MAX_BYTES, Article, parse_article
from classifier.cli.console import JSON_OPTION, MODEL_OPTION, command, keeping_on, main, one_line, print_json
from classifier.errors import ArticleError

if TYPE_CHECKING:
    from classifier.model import Model
    from classifier.tags import Tags


@command(
    main, "tag", "classifier tag seeds/inbox/*.txt\n  curl -s https://example.org/news.txt | classifier tag --json -"
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@MODEL_OPTION
@JSON_OPTION
def tag_command(paths: tuple[str, ...], model_path: Path | None, *, as_json: bool) -> None:
    """Tag text files; - is standard input."""
    model = load_model(model_path)
    with keeping_on() as attempt:
        for path in paths:
            with attempt():
                article = read_article(path)
                tags = model.tag(article)
                if as_json:
                    print_json(_record(article, tags, model))
                else:
                    click.echo("\n".join(_describe(article, tags)))


@command(
    main, "explain", "classifier explain seeds/inbox/2022-09-27_guizhou-power-battery-cluster_p1.txt power_batteries"
)
@click.argument("path")
@click.argument("label")
@MODEL_OPTION
@JSON_OPTION
def explain_command(path: str, label: str, model_path: Path | None, *, as_json: bool) -> None:
    """Show which words and sentences of one file spoke for and against a label."""
    model = load_model(model_path)
    article = read_article(path)
    found = model.explain(article, label)
    band = model.bands[label].band_of(found.score)
    if as_json:
        print_json(
            {
                "source": article.source,
                "label": label,
                "score": round(found.score, 4),
                "band": band and str(band),
                "logit": found.logit,
                "intercept": found.intercept,
                "terms": [
                    {"term": t.term, "phrases": t.phrases, "weight": t.weight, "spans": t.spans}
                    for t in (*found.terms, *found.against)
                ],
                "sentences": [
                    {"text": s.text, "start": s.start, "end": s.end, "weight": s.weight} for s in found.sentences
                ],
                "model": model.reference,
            }
        )
        return
    click.echo(f"{label}: score {found.score:.3f} ({band or 'silent'}); limits: {_limits(model, label)}")
    click.echo(
        f"logit {found.logit:+.2f} = intercept {found.intercept:+.2f}"
        f" + for {_sum(found.terms):+.2f} + against {_sum(found.against):+.2f}"
    )
    for title, terms in (("for", found.terms), ("against", found.against)):
        click.echo(f"\n{title}:")
        for term in terms[:10]:
            times = f"  ({len(term.spans)} times)" if len(term.spans) > 1 else ""
            click.echo(f"  {term.weight:+.3f}  {', '.join(term.phrases[:4])}{times}")
    click.echo("\nsentences:")
    for sentence in found.sentences[:3]:
        click.echo(click.wrap_text(f"{sentence.weight:+.2f}  {' '.join(sentence.text.split())}", 78, "  ", "         "))


def _record(article: Article, tags: "Tags", model: "Model") -> dict[str, object]:
    return {
        "source": article.source,
        "article_id": article.id,
        "title": article.title,
        "date": article.date.isoformat() if article.date else None,
        **{facet: [tag_record(tag) for tag in facet_tags] for facet, facet_tags in tags.by_facet.items()},
        "abstained": tags.abstained,
        "model": model.reference,
    }


def _describe(article: Article, tags: "Tags") -> Iterator[str]:
    yield click.style(one_line(article.title) or "(no title)", bold=True)
    yield f"  {one_line(article.source)}" + (f", {article.date}" if article.date else "")
    for facet, facet_tags in tags.by_facet.items():
        shown = [f"{tag.label} {tag.score:.2f}" + ("" if tag.band == "alert" else "?") for tag in facet_tags]
        yield f"  {facet}: {', '.join(shown) or 'none'}"
    if tags.abstained:
        yield f"  abstained: {tags.abstained}"


def _limits(model: "Model", label: str) -> str:
    bands = model.bands[label]
    return f"review {bands.review:.2f}, " + ("no alert band" if bands.alert is None else f"alert {bands.alert:.2f}")


def _sum(terms: Iterable[Any]) -> float:
    return float(sum(term.weight for term in terms))


def read_article(path: str) -> Article:
    """Read a file, or standard input for a dash."""
    if path == "-":
        return parse_article(sys.stdin.buffer.read(MAX_BYTES + 1), "-")
    try:
        with Path(path).open("rb") as stream:
            return parse_article(stream.read(MAX_BYTES + 1), path)
    except OSError as error:
        raise ArticleError(path, "unreadable", f"cannot be read: {error.strerror}") from error
