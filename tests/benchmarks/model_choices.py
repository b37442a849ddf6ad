"""
What each choice in the model is worth, and what more articles would bring. Run: ``make choices``.

Every line is one training with one thing changed, measured out of fold on ``seeds/articles.jsonl`` with whole writing
batches held out: macro F1 at the review limits, mean average precision (no limits involved), and the share of texts
without labels that got a tag. With ``../shared/data`` there, a line also gives the best-cut macro F1 on every fourth
entry of ``policies_iea_dev.jsonl``: human labels, another genre, never trained on; and ``policies_open.jsonl`` is the
background, as it is of the bundled model. The first two lines differ in the deal of the folds only: differences no
larger than theirs mean nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier import Example, Lexicon, Training, TrainingSpec, load_corpus, load_lexicon, load_taxonomy, train
from classifier.evaluation import measure
from classifier.examples import truth_table
from classifier.lexicon import NO_LEXICON
from classifier.measures import average_precision

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
TAXONOMY = load_taxonomy(ROOT / "seeds/taxonomy.toml")
N_SECTORS = len(TAXONOMY.facets[0].labels)


def _means(values: Sequence[float | None], facet: int) -> float:
    part = values[:N_SECTORS] if facet == 0 else values[N_SECTORS:]
    known = [value for value in part if value is not None]
    return sum(known) / len(known) if known else float("nan")


def _best_cut(scores: NDArray[np.float32], positive: NDArray[np.bool_], known: NDArray[np.bool_]) -> list[float | None]:
    """Return the best F1 any cut could give, per label; None below three positives."""
    best: list[float | None] = []
    for column in range(positive.shape[1]):
        mask = known[:, column]
        truth = positive[mask, column][np.argsort(-scores[mask, column], kind="stable")]
        f1 = 2 * np.cumsum(truth) / (np.arange(1, len(truth) + 1) + truth.sum()) if truth.sum() > 2 else None
        best.append(None if f1 is None else float(f1.max()))
    return best


def _line(name: str, training: Training, examples: Sequence[Example], other: Sequence[Example]) -> None:
    report = measure(training.decided_scores, examples, training.model.bands, TAXONOMY)
    positive, known = truth_table(examples, TAXONOMY.label_ids)
    precisions = [
        average_precision(training.out_of_fold[known[:, k], k], positive[known[:, k], k])
        for k in range(positive.shape[1])
    ]
    cells = [f"{facet.macro_f1 or 0:.3f}" for facet in report.facets] + [f"{_means(precisions, f):.3f}" for f in (0, 1)]
    cells.append(f"{report.off_topic_tagged / max(1, report.off_topic):.2f}")
    if other:
        best = _best_cut(training.model.score(e.text for e in other).values, *truth_table(other, TAXONOMY.label_ids))
        cells += [f"{_means(best, f):.3f}" for f in (0, 1)]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)  # noqa: T201 - this is its output


def _without_second_title(examples: Iterable[Example]) -> list[Example]:
    changed = []
    for example in examples:
        title, _, rest = example.text.partition("\n\n")
        changed.append(replace(example, text=rest if rest.startswith(f"{title}\n\n") else example.text))
    return changed


def main() -> None:
    """Print the table."""
    examples = list(load_corpus(ROOT / "seeds/articles.jsonl", TAXONOMY).examples)
    lexicon = load_lexicon(ROOT / "seeds/lexicon.toml")
    other: list[Example] = []
    background: list[Example] = []
    if DATA.is_dir():
        other = list(load_corpus(DATA / "policies_iea_dev.jsonl", TAXONOMY).examples[::4])
        background = list(load_corpus(DATA / "policies_open.jsonl", TAXONOMY).examples)
    head = ["", "F1 sector", "F1 policy", "AP sector", "AP policy", "off-topic tagged"]
    head += ["other genre, sector", "other genre, policy"] if other else []
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)  # noqa: T201

    def run(
        name: str,
        *,
        own: Sequence[Example] = examples,
        words: Lexicon = lexicon,
        more: Sequence[Example] | None = None,
        seed: int = 0,
        spec: TrainingSpec | None = None,
    ) -> None:
        others = background if more is None else more
        _line(name, train(own, TAXONOMY, background=others, lexicon=words, spec=spec, seed=seed), own, other)

    run("as shipped")
    run("as shipped, other folds", seed=1)
    run("without lexicon", words=NO_LEXICON)
    run("title once", own=_without_second_title(examples))
    run("no log-count ratios", spec=TrainingSpec(ratio_power=0.0))
    run("log-count ratios in full", spec=TrainingSpec(ratio_power=1.0))
    run("weaker regularisation, C = 30", spec=TrainingSpec(inverse_regularisation=30.0))
    run("stronger regularisation, C = 2", spec=TrainingSpec(inverse_regularisation=2.0))
    run("words in two or more articles", spec=TrainingSpec(min_df=2))
    run("pairs of words", spec=TrainingSpec(ngram_range=(1, 2)))
    if background:
        run("without open policy data", more=())
        for scale in (0.1, 0.3):
            run(f"open policy data at scale {scale}", spec=TrainingSpec(background_scale=scale))
    order = np.random.default_rng(0).permutation(len(examples))
    for share in (0.25, 0.5, 0.75):
        part = [examples[i] for i in sorted(order[: int(share * len(examples))].tolist())]
        run(f"{share:.0%} of the articles", own=part)
        run(f"{share:.0%} of the articles, without lexicon", own=part, words=NO_LEXICON)


if __name__ == "__main__":
    main()
