"""The report in a real browser, headless."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from classifier.cli import main

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EVIL = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"


@pytest.fixture(scope="module")
def chromium() -> str:
    """Return the browser's path."""
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium is on this machine; on Debian `apt-get install chromium`")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report on articles with markup in their titles."""
    folder = tmp_path_factory.mktemp("report")
    text = "Operators of charging piles receive a subsidy. The county builds charging stations beside the road."
    rows = [
        {"id": f"a{k}", "title": f"{EVIL} {k}", "text": text, "sectors": ["wind"] if k % 2 else [], "source": EVIL}
        for k in range(6)
    ]
    (folder / "corpus.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    path = folder / "report.html"
    result = CliRunner().invoke(main, ["evaluate", str(folder / "corpus.jsonl"), "--report", str(path)])
    assert result.exit_code == 0, result.stderr
    return path


def _open(chromium: str, page: Path, *options: str) -> str:
    profile = page.parent / "profile"
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *options]
    result = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, check=False, timeout=120, cwd=page.parent
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_browser_shows_the_page_and_runs_nothing_of_it(chromium: str, page: Path) -> None:
    """The title is ours, the markup of the articles is text, every error can be read."""
    document = _open(chromium, page, "--dump-dom")

    assert re.search(r"<title>nev-policy@\w+: evaluation</title>", document)
    assert "<script" not in document
    assert "<img" not in document
    assert "&lt;script&gt;" in document
    assert document.count("<details") >= 3


@pytest.mark.parametrize(("width", "scheme"), [(1100, 1), (390, 0)], ids=["desk-light", "phone-dark"])
def test_browser_draws_the_page(chromium: str, page: Path, width: int, scheme: int) -> None:
    """A picture of the page is not one flat colour, in both colour schemes."""
    picture = page.parent / f"{width}.png"
    _open(
        chromium,
        page,
        f"--blink-settings=preferredColorScheme={scheme}",
        f"--window-size={width},1600",
        f"--screenshot={picture}",
    )

    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
