"""
Tags policy news by sector and policy type, shows its evidence, and posts what matches your rules to webhooks.

    >>> from classifier import load_model
    >>> model = load_model()
    >>> model.labels[:2]
    ('electric_vehicles', 'commercial_vehicles')

The names in `__all__` are the public interface. Each is imported when it is first used, so `import classifier` costs
next to nothing and never loads scikit-learn, SQLAlchemy, APScheduler or httpx.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classifier.adapters.artifacts import load_model, save_model
    from classifier.adapters.cluster import dask_cluster
    from classifier.adapters.corpus import Corpus, load_corpus, load_lexicon, load_taxonomy
    from classifier.archive import score_archive
    from classifier.article import Article, parse_article
    from classifier.delivery import parse_secret, verify
    from classifier.errors import (
        ArchiveError,
        ArticleError,
        ClassifierError,
        ClusterError,
        ConfigError,
        CorpusError,
        LedgerError,
        MissingExtraError,
        ModelCorruptError,
        ModelError,
        ModelIncompatibleError,
        ModelNotFoundError,
        Problem,
        RuleError,
    )
    from classifier.evaluation import Report, evaluate
    from classifier.examples import Example, parse_example
    from classifier.lexicon import Lexicon, parse_lexicon
    from classifier.model import Contribution, Explanation, Model, Sentence
    from classifier.rules import Match, Rule, RuleSet, parse_rules
    from classifier.tags import Abstention, Band, Bands, Scores, Tag, Tags
    from classifier.taxonomy import Facet, Label, Taxonomy, parse_taxonomy
    from classifier.training import Training, TrainingSpec, train

    __version__: str

__all__ = [
    "Abstention",
    "ArchiveError",
    "Article",
    "ArticleError",
    "Band",
    "Bands",
    "ClassifierError",
    "ClusterError",
    "ConfigError",
    "Contribution",
    "Corpus",
    "CorpusError",
    "Example",
    "Explanation",
    "Facet",
    "Label",
    "LedgerError",
    "Lexicon",
    "Match",
    "MissingExtraError",
    "Model",
    "ModelCorruptError",
    "ModelError",
    "ModelIncompatibleError",
    "ModelNotFoundError",
    "Problem",
    "Report",
    "Rule",
    "RuleError",
    "RuleSet",
    "Scores",
    "Sentence",
    "Tag",
    "Tags",
    "Taxonomy",
    "Training",
    "TrainingSpec",
    "dask_cluster",
    "evaluate",
    "load_corpus",
    "load_lexicon",
    "load_model",
    "load_taxonomy",
    "parse_article",
    "parse_example",
    "parse_lexicon",
    "parse_rules",
    "parse_secret",
    "parse_taxonomy",
    "save_model",
    "score_archive",
    "train",
    "verify",
]

_MODULES = {
    "adapters.artifacts": ("load_model", "save_model"),
    "adapters.cluster": ("dask_cluster",),
    "adapters.corpus": ("Corpus", "load_corpus", "load_lexicon", "load_taxonomy"),
    "archive": ("score_archive",),
    "article": ("Article", "parse_article"),
    "delivery": ("parse_secret", "verify"),
    "errors": (
        "ArchiveError",
        "ArticleError",
        "ClassifierError",
        "ClusterError",
        "ConfigError",
        "CorpusError",
        "LedgerError",
        "MissingExtraError",
        "ModelCorruptError",
        "ModelError",
        "ModelIncompatibleError",
        "ModelNotFoundError",
        "Problem",
        "RuleError",
    ),
    "evaluation": ("Report", "evaluate"),
    "examples": ("Example", "parse_example"),
    "lexicon": ("Lexicon", "parse_lexicon"),
    "model": ("Contribution", "Explanation", "Model", "Sentence"),
    "rules": ("Match", "Rule", "RuleSet", "parse_rules"),
    "tags": ("Abstention", "Band", "Bands", "Scores", "Tag", "Tags"),
    "taxonomy": ("Facet", "Label", "Taxonomy", "parse_taxonomy"),
    "training": ("Training", "TrainingSpec", "train"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - slow, and rarely asked for

        return version("policy-classifier")
    if name not in _MODULE_OF:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
