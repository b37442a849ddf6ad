"""
The command line: parse, call, print, exit code. Decides nothing.

With ``--json`` standard output holds one JSON object per line and nothing else; progress, warnings and errors go to
standard error. Exit codes: 0 done, 1 the user's input is at fault, 2 usage, 3 model, 4 ledger.

Longer than other modules because every command has its help here; modules that take time to load are imported by the
command that needs them.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifier.adapters.artifacts import bundled, load_model, read_manifest, save_model
from classifier.alerts import tag_record
from classifier.article import MAX_BYTES, Article, parse_article
from classifier.errors import ArticleError, ClassifierError, ConfigError, CorpusError, LedgerError, ModelError

if TYPE_CHECKING:
    from classifier.adapters.ledger import SqlLedger
    from classifier.model import Model
    from classifier.tags import Tags

_EXIT_CODES: tuple[tuple[type[ClassifierError], int], ...] = ((ModelError, 3), (LedgerError, 4), (ClassifierError, 1))
_MODEL = click.option(
    "--model",
    "model_path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Model folder; the bundled model without it.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line and nothing else.")
_CONFIG = click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=Path("classifier.toml"),
    show_default=True,
    help="Settings file.",
)


class _Commands(click.Group):
    """Turns our errors into one line per problem and the right exit code, in one place."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click declares it
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(f"classifier: {error.source}: {problem}", err=True)
            ctx.exit(1)
        except ClassifierError as error:
            click.echo(f"classifier: {error}", err=True)
            ctx.exit(next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))


def _command(group: click.Group, name: str, example: str) -> Callable[[Callable[..., None]], click.Command]:
    """Register a command whose help ends with an example."""
    return group.command(
        name, epilog=f"\b\nExample:\n  {example}", context_settings={"help_option_names": ["-h", "--help"]}
    )


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  classifier tag article.txt",
)
@click.version_option(package_name="policy-classifier", prog_name="classifier")
def main() -> None:
    """Tag policy news by sector and policy type, and post what matches your rules to webhooks."""


# -- articles --------------------------------------------------------------------------------------------------------


@_command(
    main, "tag", "classifier tag seeds/inbox/*.txt\n  curl -s https://example.org/news.txt | classifier tag --json -"
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_MODEL
@_JSON
def tag_command(paths: tuple[str, ...], model_path: Path | None, *, as_json: bool) -> None:
    """Tag text files; - is standard input."""
    model = load_model(model_path)
    with _keeping_on() as attempt:
        for path in paths:
            with attempt():
                article = _read_article(path)
                tags = model.tag(article)
                if as_json:
                    _print_json(_record(article, tags, model))
                else:
                    click.echo("\n".join(_describe(article, tags)))


@_command(
    main, "explain", "classifier explain seeds/inbox/2022-09-27_guizhou-power-battery-cluster_p1.txt power_batteries"
)
@click.argument("path")
@click.argument("label")
@_MODEL
@_JSON
def explain_command(path: str, label: str, model_path: Path | None, *, as_json: bool) -> None:
    """Show which words and sentences of one file spoke for and against a label."""
    model = load_model(model_path)
    article = _read_article(path)
    found = model.explain(article, label)
    band = model.bands[label].band_of(found.score)
    if as_json:
        _print_json(
            {
                "source": article.source,
                "label": label,
                "score": round(found.score, 4),
                "band": band and str(band),
                "logit": found.logit,
                "intercept": found.intercept,
                "terms": [
                    {"term": t.term, "weight": t.weight, "spans": t.spans} for t in (*found.terms, *found.against)
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
            click.echo(
                f"  {term.weight:+.3f}  {term.term}" + (f"  ({len(term.spans)} times)" if len(term.spans) > 1 else "")
            )
    click.echo("\nsentences:")
    for sentence in found.sentences[:3]:
        click.echo(click.wrap_text(f"{sentence.weight:+.2f}  {' '.join(sentence.text.split())}", 78, "  ", "         "))


def _read_article(path: str) -> Article:
    if path == "-":
        return parse_article(sys.stdin.buffer.read(MAX_BYTES + 1), "-")
    try:
        with Path(path).open("rb") as stream:
            return parse_article(stream.read(MAX_BYTES + 1), path)
    except OSError as error:
        raise ArticleError(path, "unreadable", f"cannot be read: {error.strerror}") from error


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
    yield click.style(_one_line(article.title) or "(no title)", bold=True)
    yield f"  {_one_line(article.source)}" + (f", {article.date}" if article.date else "")
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


# -- models ----------------------------------------------------------------------------------------------------------


@_command(main, "train", "classifier train seeds/articles.jsonl --taxonomy seeds/taxonomy.toml --output models/mine")
@click.argument("corpora", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CORPUS...")
@click.option(
    "--taxonomy",
    "taxonomy_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Facets and labels, TOML.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Model folder to write; its last part is the name.",
)
@click.option(
    "--background",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="CORPUS",
    help="Labelled texts of another genre: they teach words, with less weight, and decide no limits. May be repeated.",
)
@click.option(
    "--notes",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="What the model card should say about the corpora, Markdown.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Decides the folds; the same seed and data give the same model."
)
@_JSON
def train_command(
    corpora: tuple[Path, ...],
    taxonomy_path: Path,
    output: Path,
    background: tuple[Path, ...],
    notes: Path | None,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Train a model on labelled articles (JSON lines) and write its folder."""
    from classifier.adapters.corpus import load_corpus, load_taxonomy  # noqa: PLC0415
    from classifier.evaluation import measure, model_card  # noqa: PLC0415
    from classifier.training import TrainingSpec, train  # noqa: PLC0415

    taxonomy = load_taxonomy(taxonomy_path)
    own = [load_corpus(path, taxonomy) for path in corpora]
    others = [load_corpus(path, taxonomy) for path in background]
    examples = [example for corpus in own for example in corpus.examples]
    spec = TrainingSpec()
    with _progress() as on_progress:
        training = train(
            examples,
            taxonomy,
            background=[example for corpus in others for example in corpus.examples],
            spec=spec,
            seed=seed,
            name=output.resolve().name,
            on_progress=on_progress,
        )
    model = training.model
    report = measure(training.out_of_fold, examples, model.bands, taxonomy)
    roles = [(corpus, "main") for corpus in own] + [(corpus, "background") for corpus in others]
    facts = {
        "training": {
            "seed": seed,
            "folds": spec.folds,
            "corpora": [
                {"name": c.name, "examples": len(c.examples), "role": role, "sha256": c.sha256} for c, role in roles
            ],
            "positives": training.support,
        },
        "metrics": report.to_record(),
    }
    card = model_card(
        {
            "name": model.name,
            "model_id": model.id,
            "facets": [
                {"labels": [{"id": label.id, "definition": label.definition} for label in facet.labels]}
                for facet in taxonomy
            ],
            "bands": {label: {"alert": bands.alert, "review": bands.review} for label, bands in model.bands.items()},
            **facts,
        },
        notes.read_text(encoding="utf-8") if notes else "",
    )
    save_model(output, model, training.pipeline, facts, card)
    if as_json:
        _print_json({"model": model.reference, "path": str(output), "metrics": report.to_record()})
    else:
        click.echo(f"{model.reference} written to {output}, {len(model.vectorizer.terms)} terms. Out of fold:")
        _print_report(report.to_record())


@_command(main, "evaluate", "classifier evaluate seeds/articles.jsonl --model models/mine")
@click.argument("corpora", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CORPUS...")
@_MODEL
@_JSON
def evaluate_command(corpora: tuple[Path, ...], model_path: Path | None, *, as_json: bool) -> None:
    """Compare a model's tags (both bands) with labelled articles; labels unknown in a row are masked."""
    from classifier.adapters.corpus import load_corpus  # noqa: PLC0415
    from classifier.evaluation import evaluate  # noqa: PLC0415

    model = load_model(model_path)
    examples = [example for path in corpora for example in load_corpus(path, model.taxonomy).examples]
    record = evaluate(model, examples).to_record()
    if as_json:
        _print_json({"model": model.reference, **record})
    else:
        click.echo(f"{model.reference} on {len(examples)} examples")
        _print_report(record)


def _print_report(record: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    def cell(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    console = Console(highlight=False)
    for facet, metrics in record["facets"].items():
        table = Table(title=facet, title_justify="left", box=None, pad_edge=False)
        table.add_column("label")
        for name in ("support", "tagged", "P", "R", "F1", "alert P", "alert R"):
            table.add_column(name, justify="right")
        for label, row in metrics["labels"].items():
            shares = [cell(row[key]) for key in ("precision", "recall", "f1", "alert_precision", "alert_recall")]
            table.add_row(label, str(row["support"]), str(row["tagged"]), *shares)
        console.print(table)
        console.print(
            f"macro F1 {cell(metrics['macro_f1'])} (mean over labels with support), "
            f"micro F1 {cell(metrics['micro_f1'])}\n"
            f"alert band: precision {cell(metrics['alert_precision'])}, recall {cell(metrics['alert_recall'])}\n"
        )
    console.print(f"{record['off_topic_tagged']} of {record['off_topic']} examples without any label got a tag")


@main.group("model", epilog="\b\nExample:\n  classifier model show")
def model_group() -> None:
    """Look at a model folder."""


@_command(model_group, "show", "classifier model show models/nev-policy")
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
@_JSON
def model_show_command(folder: Path | None, *, as_json: bool) -> None:
    """Show what a model is, what it was trained on and how well it did."""
    manifest = read_manifest(folder or bundled("models", "nev-policy"))
    if as_json:
        _print_json(manifest)
        return
    click.echo(
        f"{manifest['name']}@{manifest['model_id']}, format {manifest['format_version']}, {manifest['n_terms']} terms"
    )
    for corpus in manifest.get("training", {}).get("corpora", []):
        click.echo(f"trained on {corpus['name']}: {corpus['examples']} examples ({corpus['role']})")
    if "metrics" in manifest:
        _print_report(manifest["metrics"])


@_command(model_group, "verify", "classifier model verify models/nev-policy")
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
def model_verify_command(folder: Path | None) -> None:
    """Check every digest and every array of a model folder; nothing in it is executed."""
    click.echo(f"{load_model(folder).reference}: all files are as the manifest says")


# -- settings --------------------------------------------------------------------------------------------------------


@main.group("config", epilog="\b\nExample:\n  classifier config check -c classifier.toml")
def config_group() -> None:
    """Write, check or describe the settings file."""


@_command(config_group, "init", "classifier config init -c classifier.toml")
@_CONFIG
def config_init_command(config: Path) -> None:
    """Write a commented settings file to start from; an existing file is left alone."""
    try:
        with config.open("x", encoding="utf-8") as stream:
            stream.write(bundled("seeds", "classifier.toml").read_text(encoding="utf-8"))
    except FileExistsError:
        _fail(f"{config} is there already; nothing was written")
    except OSError as error:
        _fail(f"{config}: cannot be written: {error.strerror}")
    click.echo(f"{config} written; edit it, then `classifier config check -c {config}`")


@_command(config_group, "check", "classifier config check -c classifier.toml")
@_CONFIG
def config_check_command(config: Path) -> None:
    """Check a settings file: every fault at once, each with its place and what to write instead."""
    from classifier.app import check_settings  # noqa: PLC0415

    checked = check_settings(config)
    click.echo(
        f"{config}: fine; {len(checked.rules.rules)} rules, {len(checked.receivers)} endpoints, folder {checked.folder}"
    )


@_command(config_group, "schema", "classifier config schema > classifier.schema.json")
def config_schema_command() -> None:
    """Print the JSON Schema of the settings file, for editors."""
    from classifier.settings import settings_schema  # noqa: PLC0415

    click.echo(json.dumps(settings_schema(), indent=1))


# -- the daemon ------------------------------------------------------------------------------------------------------


@_command(main, "watch", "classifier watch -c classifier.toml")
@_CONFIG
def watch_command(config: Path) -> None:
    """Watch the folder and deliver alerts until SIGTERM or Ctrl-C."""
    from classifier.app import open_app, utc_now  # noqa: PLC0415
    from classifier.service import Job, run_service  # noqa: PLC0415

    _log_to_stderr()
    with open_app(config) as app:
        settings = app.checked.settings
        jobs = {"scan": Job(app.ingest.run, settings.folder.scan_every_s)}
        for endpoint_id in app.endpoint_ids:
            jobs[f"deliver {endpoint_id}"] = Job(partial(app.deliver.run, endpoint_id), settings.delivery.check_every_s)
        logging.getLogger("classifier").info(
            "watching %r with %s; %d rules, %d endpoints",
            str(app.checked.folder),
            app.model.reference,
            len(app.checked.rules.rules),
            len(app.endpoint_ids),
        )
        run_service(jobs, app.stop, utc_now())
    logging.getLogger("classifier").info("stopped")


@_command(main, "once", "classifier once -c classifier.toml")
@_CONFIG
@_JSON
def once_command(config: Path, *, as_json: bool) -> None:
    """Score what is in the folder, make one round of deliveries, and exit."""
    from classifier.app import open_app  # noqa: PLC0415

    _log_to_stderr(logging.WARNING if as_json else logging.INFO)
    with open_app(config) as app:
        found, sent = app.run_once()
    if as_json:
        _print_json({"files": found, "deliveries": sent})
    else:
        click.echo(f"files: {_counts(found)}\ndeliveries: {_counts(sent)}")


@main.group("outbox", epilog="\b\nExample:\n  classifier outbox list --state dead")
def outbox_group() -> None:
    """Look at messages on their way, and send dead ones again."""


@_command(outbox_group, "list", "classifier outbox list --state dead --state pending")
@_CONFIG
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["pending", "delivered", "dead"]),
    default=("pending", "dead"),
    show_default=True,
    help="May be repeated.",
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Rows at most.")
@_JSON
def outbox_list_command(config: Path, states: tuple[str, ...], limit: int, *, as_json: bool) -> None:
    """List messages, newest first, with the result of their last try."""
    with _open_ledger(config) as ledger:
        rows = ledger.outbox(states=states, limit=limit)
    for row in rows:
        if as_json:
            _print_json(
                {
                    "id": row.id,
                    "rule": row.rule_id,
                    "endpoint": row.endpoint_id,
                    "state": row.state,
                    "attempts": row.attempts,
                    "next_attempt_at": row.next_attempt_at.isoformat() if row.next_attempt_at else None,
                    "last_result": row.last_result,
                    "last_detail": row.last_detail,
                    "created_at": row.created_at.isoformat(),
                }
            )
        else:
            due = f", due {row.next_attempt_at:%Y-%m-%d %H:%M:%S}Z" if row.next_attempt_at else ""
            click.echo(f"{row.id}  {row.state}  {row.endpoint_id}  rule {row.rule_id}  {row.attempts} tries{due}")
            if row.last_detail:
                click.echo(f"    {row.last_result}: {row.last_detail}")
    if not rows and not as_json:
        click.echo(f"no {' or '.join(states)} messages")


@_command(outbox_group, "retry", "classifier outbox retry --all")
@_CONFIG
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--all", "every", is_flag=True, help="All dead messages.")
def outbox_retry_command(config: Path, ids: tuple[str, ...], *, every: bool) -> None:
    """Make dead messages due again, with a fresh schedule and the same webhook-id."""
    from classifier.alerts import MessageId  # noqa: PLC0415
    from classifier.app import utc_now  # noqa: PLC0415

    if every == bool(ids):
        message = "name messages, or say --all"
        raise click.UsageError(message)
    with _open_ledger(config) as ledger:
        count = ledger.retry(None if every else [MessageId(item) for item in ids], utc_now())
    click.echo(f"{count} messages are due again")
    if ids and count < len(set(ids)):
        _fail(f"{len(set(ids)) - count} of the messages named are not dead or not there")


@_command(main, "audit", "classifier audit -c classifier.toml")
@_CONFIG
@_JSON
def audit_command(config: Path, *, as_json: bool) -> None:
    """Count every file and every match by state, and check that the counts add up."""
    with _open_ledger(config) as ledger:
        audit = ledger.audit()
    total, sent = sum(audit.files.values()), sum(audit.messages.values())
    if as_json:
        _print_json(
            {
                "files": {"total": total, **audit.files},
                "rejections": audit.rejections,
                "articles": audit.articles,
                "matches": audit.matches,
                "messages": {"total": sent, **audit.messages},
                "faults": list(audit.faults),
            }
        )
    else:
        click.echo(
            f"{total} files: {_counts(audit.files)}" + (f" ({_counts(audit.rejections)})" if audit.rejections else "")
        )
        click.echo(f"{audit.matches} matches, {sent} messages: {_counts(audit.messages)}")
        click.echo("the counts add up" if not audit.faults else "\n".join(audit.faults))
    if audit.faults:
        raise LedgerError("ledger", "the counts do not add up")


@_command(main, "demo", "classifier demo")
@_JSON
def demo_command(*, as_json: bool) -> None:
    """Run the whole thing once: receiver, daemon, eight articles, and a table of the alerts that arrived."""
    from classifier.demo import run_demo  # noqa: PLC0415

    if not run_demo(as_json=as_json):
        _fail("not every alert arrived, or a signature was wrong")


# -- odds and ends ---------------------------------------------------------------------------------------------------


@contextmanager
def _open_ledger(config: Path) -> "Iterator[SqlLedger]":
    from classifier.adapters.ledger import SqlLedger  # noqa: PLC0415
    from classifier.app import check_settings  # noqa: PLC0415

    ledger = SqlLedger(check_settings(config).ledger_url, migrate=False)
    try:
        yield ledger
    finally:
        ledger.close()


@contextmanager
def _keeping_on() -> "Iterator[Callable[[], Any]]":
    """Give a context that reports a faulty input and goes on; at the end the exit code tells."""
    failed = False

    @contextmanager
    def attempt() -> Iterator[None]:
        nonlocal failed
        try:
            yield
        except (ArticleError, CorpusError) as error:
            failed = True
            click.echo(f"classifier: {error}", err=True)

    yield attempt
    if failed:
        click.get_current_context().exit(1)


@contextmanager
def _progress() -> "Iterator[Callable[[str, int, int], None]]":
    """Give a callback that moves a bar on standard error."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn  # noqa: PLC0415

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def move(step: str, done: int, size: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=size)
            progress.update(tasks[step], completed=done)

        yield move


def _log_to_stderr(level: int = logging.INFO) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logger = logging.getLogger("classifier")
    logger.handlers[:] = [handler]
    logger.setLevel(level)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _print_json(record: dict[str, Any]) -> None:
    click.echo(json.dumps(record, ensure_ascii=True))


def _fail(message: str) -> None:
    click.echo(f"classifier: {message}", err=True)
    click.get_current_context().exit(1)
