"""
The main job, shown: a receiver on loopback, the real daemon as a process, articles dropped into its folder while it
runs.

Everything lives in a temporary folder and is gone afterwards. The receiver checks every signature before it believes a
message.
"""

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from classifier.adapters.artifacts import bundled
from classifier.adapters.ledger import SqlLedger
from classifier.app import utc_now
from classifier.delivery import SECRET_PREFIX, parse_secret, verify
from classifier.errors import LedgerError
from classifier.ports import Audit

DEADLINE_S = 50
_MAX_BODY = 1_000_000

_SETTINGS = """\
[folder]
path = "inbox"
settle_s = 0.4
scan_every_s = 0.2

[delivery]
check_every_s = 0.1

[[rule]]
id = "money"
policy_types = ["subsidy_grant", "tax_incentive", "finance_loan"]
bands = ["alert", "review"]
to = ["desk"]

[[rule]]
id = "clusters-and-plans"
sectors = ["electric_vehicles", "power_batteries", "hydrogen", "auto_parts"]
policy_types = ["target_plan", "pilot_demonstration", "agreement_partnership"]
to = ["desk"]

[[rule]]
id = "driverless"
sectors = ["connected_vehicles"]
bands = ["alert", "review"]
to = ["desk"]

[[endpoint]]
id = "desk"
url_env = "DESK_URL"
secret_env = "DESK_SECRET"
allow = ["127.0.0.1/32:{port}"]
rate_per_s = 100
burst = 20
"""


@dataclass(slots=True)
class _Received:
    """What arrived: (is the signature right, the envelope) in order."""

    messages: list[tuple[bool, dict[str, Any]]] = field(default_factory=list)


def run_demo(*, as_json: bool) -> bool:
    """Run the demonstration and print what arrived; say whether everything arrived with a right signature."""
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    with (
        tempfile.TemporaryDirectory(prefix="classifier-demo-") as name,
        _receiver(parse_secret(secret)) as (port, received),
    ):
        folder = Path(name)
        (folder / "inbox").mkdir()
        (folder / "classifier.toml").write_text(_SETTINGS.format(port=port), encoding="utf-8")
        environment = os.environ | {"DESK_URL": f"http://127.0.0.1:{port}/alerts", "DESK_SECRET": secret}
        pages = sorted(bundled("seeds", "inbox").glob("*.txt"))
        _say(f"receiver on 127.0.0.1:{port}; daemon on {folder / 'inbox'}")
        with _daemon(folder, environment) as log:
            for page in pages:
                # As a careful program puts a file: under another name first, so that it is whole when it appears.
                shutil.copy(page, folder / "inbox" / f".{page.name}.tmp")
                (folder / "inbox" / f".{page.name}.tmp").rename(folder / "inbox" / page.name)
                _say(f"dropped {page.name}")
                time.sleep(0.1)
            audit = _wait(folder / "classifier.db", len(pages))
        if audit is None:
            _say(log.read_text(encoding="utf-8", errors="replace"))
            return False
        _show(received, [page.name for page in pages], as_json=as_json)
        delivered = audit.messages.get("delivered", 0)
        _say(
            f"audit: {len(pages)} files, {audit.matches} matches, {delivered} delivered; "
            + ("; ".join(audit.faults) or "the counts add up")
        )
        is_right = all(is_signed for is_signed, _ in received.messages)
        return is_right and not audit.faults and delivered == sum(audit.messages.values()) == len(received.messages)


@contextlib.contextmanager
def _receiver(key: bytes) -> Iterator[tuple[int, _Received]]:
    received = _Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(min(int(self.headers["content-length"]), _MAX_BODY))
            received.messages.append((verify(key, self.headers.get, body, utc_now()), json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1], received
        finally:
            server.shutdown()


@contextlib.contextmanager
def _daemon(folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    log = folder / "daemon.log"
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "classifier", "watch", "-c", str(folder / "classifier.toml")]
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)  # noqa: S603 - our own interpreter
        try:
            yield log
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(database: Path, n_files: int) -> Audit | None:
    """Look at the books until every file has a verdict and every message is settled."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(LedgerError), _ledger(database) as ledger:
            audit = ledger.audit()
            if sum(audit.files.values()) == n_files and not audit.messages.get("pending"):
                return audit
        time.sleep(0.1)
    return None


@contextlib.contextmanager
def _ledger(database: Path) -> Iterator[SqlLedger]:
    ledger = SqlLedger(f"sqlite:///{database}", migrate=False)
    try:
        yield ledger
    finally:
        ledger.close()


def _show(received: _Received, names: list[str], *, as_json: bool) -> None:
    if as_json:
        for is_signed, envelope in received.messages:
            print(json.dumps({"signature_verified": is_signed, **envelope}))  # noqa: T201 - this is the command's output
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title="Alerts that arrived", title_justify="left", show_lines=True)
    for column in ("article", "tags", "rule", "signed"):
        table.add_column(column, overflow="fold", no_wrap=column == "signed")
    for is_signed, envelope in received.messages:
        data = envelope["data"]
        tags = [tag for facet in data["tags"].values() for tag in facet]
        # A question mark: in the review band, worth a look but not sure.
        shown = "\n".join(
            f"{tag['label']} {tag['score']:.2f}" + ("" if tag["band"] == "alert" else " ?") for tag in tags
        )
        quote = next((item["text"] for label in data["matched"] for item in data["evidence"][label]["sentences"]), "")
        article = Text.assemble((data["article"]["title"], "bold"), "\n", (f"\u201c{_cut(quote, 150)}\u201d", "dim"))
        table.add_row(article, Text(shown), Text(data["rule"]["id"]), "yes" if is_signed else "NO")
    console = Console()
    console.print(table)
    alerted = {envelope["data"]["article"]["file_name"] for _, envelope in received.messages}
    for name in names:
        if name not in alerted:
            console.print(Text(f"no alert: {name}"))


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1].rstrip() + "\u2026"


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - progress of a command
