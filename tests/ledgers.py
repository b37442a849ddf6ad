"""Every kind of ledger, empty, for the tests that all of them must pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import FakeLedger

from classifier.adapters.ledger import SqlLedger
from classifier.ports import Ledger


@contextmanager
def open_empty(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Ledger]:
    """
    Give an empty ledger.

    Args:
        kind: ``fake``, ``sqlite`` or ``postgres``.
        request: of the test, for the server.
        folder: for the file.
    """
    if kind == "fake":
        yield FakeLedger()
        return
    url = f"sqlite:///{folder / 'ledger.db'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    real = SqlLedger(url)
    try:
        yield real
    finally:
        real.close()
