"""Commands about models: train, model show, model verify."""

from pathlib import Path
from typing import Any

import click

from classifier.adapters.artifacts import load_model, make_manifest, read_manifest, save_model
from classifier.cli.console import (
    CORPORA_ARGUMENT,
    DASK_OPTION,
    JSON_OPTION,
    TAXONOMY_OPTION,
    command,
    main,
    print_json,
    progress_bar,
    workplace,
)
from classifier.cli.evaluation import print_report
from classifier.errors import ModelError, ModelNotFoundError
from classifier.lexicon import NO_LEXICON

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
    from classifier.training import TrainingSpec, train  # noqa: PLC0415

    taxonomy = load_taxonomy(taxonomy_path)
    own = [load_corpus(path, taxonomy) for path in corpora]
    others = [load_corpus(path, taxonomy) for path in background]
    examples = [example for corpus in own for example in corpus.examples]
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
    facts = {
        "training": {
            "seed": seed,
            "folds": spec.folds,
            "corpora": [
                {"name": c.name, "examples": len(c.examples), "role": role, "sha256": c.sha256} for c, role in roles
            ],
            "positives": training.support,
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
