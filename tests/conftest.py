"""What most tests need: a clock to advance, a tiny model, a ledger, a folder, a real receiver."""

import datetime as dt
import json
import os
import secrets
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import FakeClock
from hypothesis import settings
from javascript import JsVerifier, load_verifier
from ledgers import open_empty
from postgres import Postgres, server
from receiver import Receiver

from classifier import Model, Taxonomy, Training, TrainingSpec, load_model, parse_example, parse_taxonomy, train
from classifier.ports import Ledger

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

settings.register_profile("default", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("default")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take long, so that at the end no core waits for the last of them."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores: many tests wait for a daemon, for a receiver or for the disk."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Take out of the environment what would change the behaviour of the code under test.

    And what would have the processes that it starts measured, too: to see which of their lines they run takes them half
    as long again, and those that are killed could not say so.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    for name in list(os.environ):
        if name.startswith(("DESK_", "CLASSIFIER_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still until it is advanced."""
    return FakeClock(dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC))


@pytest.fixture(scope="session")
def taxonomy() -> Taxonomy:
    """Return the taxonomy of the seeds."""
    return parse_taxonomy(tomllib.loads((ROOT / "seeds/taxonomy.toml").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def corpus_rows() -> list[dict[str, object]]:
    """Return the rows of the seeds' corpus."""
    return [json.loads(line) for line in (ROOT / "seeds/articles.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def model() -> Model:
    """Return the bundled model."""
    return load_model()


SMALL_TAXONOMY = {
    "facet": [
        {"id": "sector", "label": [{"id": "charging"}, {"id": "wind"}]},
        {"id": "policy_type", "label": [{"id": "subsidy"}, {"id": "plan"}]},
        {"id": "level", "label": [{"id": "city"}, {"id": "province"}]},
    ]
}


@pytest.fixture(scope="session")
def small_training() -> Training:
    """Return a model of three facets trained on a few dozen sentences."""
    taxonomy = parse_taxonomy(SMALL_TAXONOMY)
    phrases = {
        "charging": "new charging piles and charging stations for cars stand beside the road",
        "wind": "turbines of the wind farm turn above the sea and feed the cable",
        "subsidy": "operators receive a subsidy and a reward is paid from the budget",
        "plan": "the action plan sets goals and a roadmap for the coming years",
        "city": "the municipal bureau and the mayor of the city said so",
        "province": "the provincial department and the governor of the province said so",
    }
    filler = (
        "On Monday",
        "It was raining and",
        "According to reports",
        "Readers wrote that",
        "Yesterday evening",
        "At last",
    )
    rows = []
    for number, opening in enumerate(filler * 2):
        for sector in ("charging", "wind"):
            for policy in ("subsidy", "plan"):
                level = "city" if number % 2 else "province"
                ordinal = "abcdefghijkl"[number]
                text = f"{opening} {phrases[sector]}. In {ordinal}, {phrases[policy]}. Then {phrases[level]}."
                row = {"id": f"{number}-{sector}-{policy}", "title": "", "text": text}
                rows.append(row | {"sectors": [sector], "policy_types": [policy], "levels": [level]})
    examples = [parse_example(row, taxonomy) for row in rows]
    return train(examples, taxonomy, spec=TrainingSpec(min_df=1, n_jobs=1), seed=1, name="small")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a real PostgreSQL."""
    with server() as found:
        yield found


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """Return the URL of a database with an empty ledger in it."""
    name = f"t{secrets.token_hex(8)}"
    yield postgres.make(name)
    postgres.drop(name)


@pytest.fixture(params=["fake", "sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Return each kind of ledger, empty."""
    with open_empty(request.param, request, tmp_path) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a real HTTP server on loopback."""
    with Receiver() as server:
        yield server


@pytest.fixture(scope="session")
def standardwebhooks_js() -> JsVerifier:
    """Return the reference library in JavaScript; the test is skipped, with the reason, where it cannot be had."""
    verifier = load_verifier()
    if isinstance(verifier, str):
        pytest.skip(verifier)
    return verifier


@pytest.fixture
def write_settings(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a settings file for a receiver, with fast times, and makes the inbox."""

    def write(receiver: Receiver, *, rules: str = "", delivery: str = "") -> Path:
        (tmp_path / "inbox").mkdir(exist_ok=True)
        default_rule = '[[rule]]\nid = "all"\nsectors = ["electric_vehicles", "charging_swapping"]\nto = ["desk"]\n'
        path = tmp_path / "classifier.toml"
        path.write_text(
            '[folder]\npath = "inbox"\nsettle_s = 0\nscan_every_s = 0.1\n'
            f"[delivery]\ncheck_every_s = 0.05\n{delivery}\n"
            f"{rules or default_rule}"
            f'[[endpoint]]\nid = "desk"\nurl = "{receiver.url}"\nsecret = "{receiver.secret}"\n'
            f'allow = ["127.0.0.1/32:{receiver.port}"]\nrate_per_s = 1000\nburst = 100\n',
            encoding="utf-8",
        )
        return path

    return write
