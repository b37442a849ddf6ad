"""
How much several daemons on one PostgreSQL get done: files and deliveries a second with 1, 2 and 4 of them.

Run: ``python tests/benchmarks/workers.py --files 100000``. Each daemon is a process of its own, kept to one core, over
one shared folder of pages of 3 kB (those of ``once.py``); a rule met by some of them sends to 20 endpoints, which are
one receiver on loopback, and which are enabled when the last file is recorded. The server waits for its disk at every
commit. Files are counted from the first record to the last, deliveries from the first try to the last, both by the
ledger's own times; every run ends with an audit.

What it gave (virtual machine of two cores that daemons, database and receiver share; Python 3.11, PostgreSQL 18,
November 2026):

    1 workers: 100000 files, 709 files/s; 37560 deliveries, 161 deliveries/s; 329 s of processor time in the daemons
    2 workers: 100000 files, 1288 files/s; 37560 deliveries, 173 deliveries/s; 396 s of processor time in the daemons
    4 workers: 100000 files, 914 files/s; 37560 deliveries, 133 deliveries/s; 563 s of processor time in the daemons

The first line is of a run whose daemons looked for due messages five times a second for each endpoint and at the
folder every five seconds; two of them then took in 634 files a second, four 136, with no time for anything else. Now
they look once a second, as by default, and at the folder for a fifth of their time at most. More than two have no core
to win here, and deliveries gain little, where most of the work is the database's. Not measured: machines with a core
for each.
"""

import argparse
import asyncio
import base64
import json
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from once import fill_folder

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from postgres import Postgres, server

from classifier.adapters.ledger import SqlLedger, check_url
from classifier.app import utc_now
from classifier.delivery import EndpointHealth, EndpointState

WAIT_S = 3_600.0


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer 204 to every request of a connection."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            length = int(fields[b"content-length"])
            await reader.readexactly(length)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _receive() -> None:
    """Be the receiver; say the port first."""
    listening = await asyncio.start_server(_answer, "127.0.0.1", 0, backlog=1_000)
    print(listening.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - for the parent
    await listening.serve_forever()


def write_settings(folder: Path, port: int, names: list[str]) -> Path:
    """Write settings for a folder and endpoints of these names that are all the one receiver."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    endpoints = "".join(
        f'\n[[endpoint]]\nid = "{name}"\nurl = "http://127.0.0.1:{port}/{name}"\nsecret = "{secret}"\n'
        f'allow = ["127.0.0.1/32:{port}"]\nrate_per_s = 1000\nburst = 1000\n'
        for name in names
    )
    path = folder / "classifier.toml"
    path.write_text(
        '[folder]\npath = "inbox"\nsettle_s = 0\nscan_every_s = 1\n[ledger]\nurl_env = "LEDGER_URL"\n'
        "[stories]\ncooldown_s = 0\n[delivery]\nmax_waiting = 10000000\n"
        '[[rule]]\nid = "nev-money"\nsectors = ["electric_vehicles", "charging_swapping"]\n'
        f'policy_types = ["subsidy_grant", "tax_incentive"]\nto = {json.dumps(names)}\n{endpoints}',
        encoding="utf-8",
    )
    return path


def measure(postgres: Postgres, config: Path, n_workers: int, n_files: int, endpoint_ids: list[str]) -> str:
    """Let so many daemons work the folder off, then send; return a line of what they did in which time."""
    name = f"workers_{n_workers}_{secrets.token_hex(4)}"
    url = postgres.make(name)
    ledger = SqlLedger(url)
    is_off = EndpointHealth(state=EndpointState.DISABLED)
    for endpoint_id in endpoint_ids:
        ledger.set_health(endpoint_id, EndpointHealth(), is_off, utc_now())
    cores = sorted(os.sched_getaffinity(0))
    started = []
    used_s = _used_s()
    with config.with_name(f"{n_workers}.log").open("ab") as log:
        try:
            for number in range(n_workers):
                core = str(cores[number % len(cores)])
                command = ["taskset", "-c", core, sys.executable, "-m", "classifier", "watch", "-c", str(config)]
                environment = os.environ | {"LEDGER_URL": url}
                started += [subprocess.Popen(command, env=environment, stdout=log, stderr=log)]
            _wait(started, lambda: _count(url, "SELECT count(*) FROM files") >= n_files)
            for endpoint_id in endpoint_ids:
                ledger.set_health(endpoint_id, is_off, EndpointHealth(), utc_now())
            _wait(started, lambda: not _count(url, "SELECT count(*) FROM outbox WHERE due_at IS NOT NULL"))
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait(60)
    audit = ledger.audit()
    ledger.close()
    files_s, sent, sent_s = _times(url)
    postgres.drop(name)
    assert not audit.faults, audit.faults
    return (
        f"{n_workers} workers: {n_files} files, {n_files / files_s:.0f} files/s; {sent:.0f} deliveries,"
        f" {sent / sent_s:.0f} deliveries/s; {_used_s() - used_s:.0f} s of processor time in the daemons"
    )


def _used_s() -> float:
    """Return the processor time of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait(started: "list[subprocess.Popen[bytes]]", is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_done():
        time.sleep(1)
        assert time.monotonic() < deadline, "it takes too long"
        assert all(process.poll() is None for process in started), "a daemon has ended"


def _count(url: str, query: str) -> int:
    """Ask the database for a number, which costs it next to nothing."""
    engine = sa.create_engine(check_url(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


def _times(url: str) -> tuple[float, float, float]:
    """Return the seconds from the first file to the last, the number of tries, and the seconds these took."""
    engine = sa.create_engine(check_url(url))
    with engine.connect() as connection:
        [files_s] = connection.exec_driver_sql("SELECT (max(recorded_at) - min(recorded_at)) / 1e6 FROM files").one()
        query = "SELECT count(*), (max(tried_at) - min(tried_at)) / 1e6 FROM attempts"
        sent, sent_s = connection.exec_driver_sql(query).one()
    engine.dispose()
    return float(files_s), float(sent), float(sent_s)


def main() -> None:
    """Fill a folder, work it off with each number of daemons, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--endpoints", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.receive:
        asyncio.run(_receive())
        return
    base = Path(tempfile.mkdtemp(prefix="classifier-workers-"))
    receiver = subprocess.Popen([sys.executable, __file__, "--receive"], stdout=subprocess.PIPE, text=True)
    try:
        assert receiver.stdout is not None
        names = [f"desk-{number}" for number in range(given.endpoints)]
        config = write_settings(base, int(receiver.stdout.readline()), names)
        fill_folder(base / "inbox", given.files, seed=1)
        with server(is_durable=True) as postgres:
            for n_workers in given.workers:
                line = measure(postgres, config, n_workers, given.files, names)
                print(line, flush=True)  # noqa: T201 - what this is for
    finally:
        receiver.kill()
        receiver.wait()
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
