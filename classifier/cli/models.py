"""Commands about models: train, model show, model verify, model switch."""

import datetime as dt
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifier.adapters.artifacts import load_model, make_manifest, read_manifest, refuse_foreign, save_model
from classifier.cli.console import (
    CONFIG_OPTION,
    CORPORA_ARGUMENT,
    DASK_OPTION,
    JSON_OPTION,
    TAXONOMY_OPTION,
    command,
    fail,
    main,
    print_json,
    progress_bar,
    workplace,
)
from classifier.cli.evaluation import print_report
from classifier.cli.rules import EXAMPLES_OPTION, LEDGER, SINCE_OPTION, Reading, load_rules, print_matches
from classifier.errors import ConfigError, ModelError, ModelNotFoundError
from classifier.lexicon import NO_LEXICON

if TYPE_CHECKING:
    from classifier.model_switch import AlertChange, Standing, Switch

KEPT_SHARE = 0.98  # of the old macro F1 that a new model must reach to take its place


@command(main, "train", "classifier train seeds/articles.jsonl --taxonomy seeds/taxonomy.toml --output models/mine")
@CORPORA_ARGUMENT
@TAXONOMY_OPTION
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
    "--feedback",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="CORPUS",
    help="What people said of alerts, as `feedback export` writes it. May be repeated.",
)
@click.option(
    "--feedback-weight",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.0, 100.0, min_open=True),
    metavar="W",
    help="An article that people spoke of counts as so many others.",
)
@click.option(
    "--lexicon",
    "lexicon_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Phrases per label, TOML; each label's become one more term to learn from.",
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
@DASK_OPTION
@click.option("--force", is_flag=True, help="Replace a model although the new one is worse.")
@JSON_OPTION
def train_command(
    corpora: tuple[Path, ...],
    taxonomy_path: Path,
    output: Path,
    background: tuple[Path, ...],
    feedback: tuple[Path, ...],
    feedback_weight: float,
    lexicon_path: Path | None,
    notes: Path | None,
    seed: int,
    dask: str | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Train a model on labelled articles (JSON lines) and write its folder."""
    from classifier.adapters.corpus import load_corpus, load_lexicon, load_taxonomy  # noqa: PLC0415
    from classifier.evaluation import measure, model_card  # noqa: PLC0415
    from classifier.examples import with_feedback  # noqa: PLC0415
    from classifier.training import TrainingSpec, train  # noqa: PLC0415

    refuse_foreign(output)  # before the minutes that training takes
    taxonomy = load_taxonomy(taxonomy_path)
    own = [load_corpus(path, taxonomy) for path in corpora]
    others = [load_corpus(path, taxonomy) for path in background]
    told = [load_corpus(path, taxonomy) for path in feedback]
    said = [example for corpus in told for example in corpus.examples]
    examples = with_feedback([example for corpus in own for example in corpus.examples], said, feedback_weight)
    spec = TrainingSpec()
    with progress_bar() as on_progress, workplace(dask):
        training = train(
            examples,
            taxonomy,
            background=[example for corpus in others for example in corpus.examples],
            lexicon=load_lexicon(lexicon_path) if lexicon_path else NO_LEXICON,
            spec=spec,
            seed=seed,
            name=output.resolve().name,
            on_progress=on_progress,
        )
    model = training.model
    report = measure(training.decided_scores, examples, model.bands, taxonomy)
    roles = [(corpus, "main") for corpus in own] + [(corpus, "background") for corpus in others]
    roles += [(corpus, "feedback") for corpus in told]
    facts = {
        "training": {
            "seed": seed,
            "folds": spec.folds,
            "corpora": [
                {"name": c.name, "examples": len(c.examples), "role": role, "sha256": c.sha256} for c, role in roles
            ],
            "positives": training.support,
            **({"feedback_weight": feedback_weight} if told else {}),
            "digests": [example.digest for corpus, _ in roles for example in corpus.examples],
        },
        "metrics": report.to_record(),
    }
    card = model_card(make_manifest(model, facts), notes.read_text(encoding="utf-8") if notes else "")
    if not force:
        _refuse_worse(output, report.to_record())
    save_model(output, model, training.pipeline, facts, card)
    if as_json:
        print_json({"model": model.reference, "path": str(output), "metrics": report.to_record()})
    else:
        click.echo(f"{model.reference} written to {output}, {len(model.vectorizer.terms)} terms. Out of fold:")
        print_report(report.to_record())


def _refuse_worse(output: Path, record: dict[str, Any]) -> None:
    """Refuse to replace a model whose out-of-fold macro F1 is clearly better, in any facet both have."""
    try:
        before = read_manifest(output).get("metrics", {}).get("facets", {})
    except ModelNotFoundError:
        return
    for facet, metrics in record["facets"].items():
        old, new = before.get(facet, {}).get("macro_f1"), metrics["macro_f1"]
        if old and (new or 0.0) < KEPT_SHARE * old:
            message = f"out-of-fold macro F1 of {facet} is {new or 0.0:.3f}, that of the model there {old:.3f}"
            raise ModelError(output, f"{message}; not replaced, say --force to replace it all the same")


@main.group("model", epilog="\b\nExample:\n  classifier model show")
def model_group() -> None:
    """Look at a model folder."""


@command(model_group, "show", "classifier model show models/nev-policy")
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
@JSON_OPTION
def model_show_command(folder: Path | None, *, as_json: bool) -> None:
    """Show what a model is, what it was trained on and how well it did."""
    manifest = read_manifest(folder)
    if as_json:
        print_json(manifest)
        return
    click.echo(
        f"{manifest['name']}@{manifest['model_id']}, format {manifest['format_version']}, {manifest['n_terms']} terms"
    )
    for corpus in manifest.get("training", {}).get("corpora", []):
        click.echo(f"trained on {corpus['name']}: {corpus['examples']} examples ({corpus['role']})")
    if "metrics" in manifest:
        print_report(manifest["metrics"])


@command(model_group, "verify", "classifier model verify models/nev-policy")
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
def model_verify_command(folder: Path | None) -> None:
    """Check every digest and every array of a model folder; nothing in it is executed."""
    click.echo(f"{load_model(folder).reference}: all files are as the manifest says")


@command(
    model_group,
    "switch",
    "classifier model switch models/mine --dry-run --archive old-articles --since 30d\n"
    "  classifier model switch models/mine",
)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--dry-run", is_flag=True, help="Change nothing; show the alerts that would appear or vanish.")
@CONFIG_OPTION
@click.option("--archive", metavar="PATH", help="Folder of text files or JSON lines; without it the watched folder.")
@SINCE_OPTION
@EXAMPLES_OPTION
@JSON_OPTION
def model_switch_command(
    folder: Path,
    config: Path,
    archive: str | None,
    since: dt.datetime | None,
    examples: int,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """
    Put another model into the settings file, or say first which alerts that would change.

    The rules must fit the labels of the new model; without --dry-run nothing else is looked at. A running daemon takes
    the change up as it takes up any other of its settings.
    """
    from classifier.rules import parse_rules  # noqa: PLC0415
    from classifier.settings import replace_model  # noqa: PLC0415

    checked, old = load_rules(config)
    new = load_model(folder)
    try:
        rules = parse_rules(checked.settings.rule, new.taxonomy, [item.id for item in checked.settings.endpoint])
    except ConfigError as error:
        raise ConfigError(f"{checked.path} with {new.reference}", error.problems) from error
    if not dry_run:
        replace_model(checked.path, folder)
        click.echo(f"{checked.path}: the model is {new.reference} instead of {old.reference}")
        return
    if archive == LEDGER:
        fail("the ledger keeps no texts for another model to read; name a folder or a file, or ./ledger for one")
    from classifier.backtest import thin  # noqa: PLC0415
    from classifier.model_switch import compare_models  # noqa: PLC0415

    reading = Reading()
    with progress_bar() as on_progress:
        articles = reading.articles(checked, archive, since, on_progress)
        cooldown = dt.timedelta(seconds=checked.settings.stories.cooldown_s)
        switch = compare_models(articles, (old, new), (checked.rules, rules), thin=partial(thin, cooldown=cooldown))
    if not switch.before.n_articles:
        fail(reading.say_empty(since))
    if as_json:
        record = {"before": old.reference, "after": new.reference, **reading.to_record()}
        print_json(record | switch.to_record(examples=examples))
        return
    click.echo(f"from {old.reference} to {new.reference}")
    _print_switch(switch, examples)
    reading.print_notes()


def _print_switch(switch: "Switch", examples: int) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    past = switch.before
    click.echo(f"{past.n_articles} articles, {past.first} to {past.last}, {past.n_days} days\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("rule", "alerts before", "after", "appear", "vanish"):
        table.add_column(name, justify="left" if name == "rule" else "right")
    for change in switch.rules:
        counts = (change.n_before, change.n_after, len(change.appeared), len(change.vanished))
        table.add_row(Text(change.rule_id), *map(str, counts))
    Console(highlight=False, markup=False).print(table)
    for change in switch.rules:
        if change.appeared or change.vanished:
            click.echo("\n" + click.style(change.rule_id, bold=True))
        for sign, changes in (("+", change.appeared), ("-", change.vanished)):
            print_matches(f"  {sign} ", ((_say_change(item), item.match) for item in changes[:examples]))
            if len(changes) > examples:
                click.echo(f"  {sign} {len(changes) - examples} more")


def _say_change(change: "AlertChange") -> str:
    if change.before is None or change.after is None:
        return "told by another article"
    return f"{_say_standing(change.before)} -> {_say_standing(change.after)}"


def _say_standing(standing: "Standing") -> str:
    return f"{standing.score:.2f} {'kept out' if standing.is_kept_out else standing.band or 'silent'}"
