"""The reference library of Standard Webhooks in JavaScript, as a function; where there is no Node.js, nothing."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

JsVerifier = Callable[[Sequence[tuple[bytes, dict[str, str], bytes]]], list[bool]]

_SOURCE = Path(__file__).parent / "data" / "node"
_HOME = Path(__file__).resolve().parents[1] / "build" / "node"
_INSTALL_S = 120


def load_verifier() -> JsVerifier | str:
    """
    Return a function from (key, headers, body) triples to whether each is signed, or why there is none here.

    The library is installed once, into ``build/node``, at the version and with the digests of the lock file.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return "Node.js and npm are not on this machine"
    _HOME.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "verify.js"):
        shutil.copy(_SOURCE / name, _HOME / name)
    if not (_HOME / "node_modules" / "standardwebhooks").is_dir():
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            subprocess.run(command, cwd=_HOME, check=True, capture_output=True, timeout=_INSTALL_S)
        except (subprocess.SubprocessError, OSError):
            return "npm could not install the library: no network?"

    def verify(cases: Sequence[tuple[bytes, dict[str, str], bytes]]) -> list[bool]:
        lines = [
            json.dumps(
                {
                    "secret": base64.b64encode(key).decode(),
                    "headers": headers,
                    "body": base64.b64encode(body).decode(),
                }
            )
            for key, headers, body in cases
        ]
        command = [node, str(_HOME / "verify.js")]
        result = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True, timeout=60)
        return [line == "true" for line in result.stdout.split()]

    return verify
