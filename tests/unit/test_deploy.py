"""What `deploy/` holds: it agrees with itself and with the program; tools look over the rest where they are."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from classifier import Taxonomy
from classifier.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SECRET = "whsec_" + "A" * 43 + "="


@pytest.fixture(name="resources")
def _resources() -> dict[str, Any]:
    """Give the parts of the Kubernetes file by kind."""
    text = (DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")
    return {item["kind"]: item for item in yaml.safe_load_all(text)}


def test_settings_in_the_cluster_are_valid(resources: dict[str, Any], tmp_path: Path, taxonomy: Taxonomy) -> None:
    """As the kubelet lays them out: each file a link into a folder of the day, which is a link itself."""
    volumes = {"settings": resources["ConfigMap"]["data"], "secrets": resources["Secret"]["stringData"]}
    pod = resources["Deployment"]["spec"]["template"]["spec"]
    mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    for volume, files in volumes.items():
        folder = tmp_path / mounted[volume].lstrip("/")
        (folder / "..2026").mkdir(parents=True)
        (folder / "..data").symlink_to("..2026")
        for name, text in files.items():
            settings = text.replace('"/run/', f'"{tmp_path}/run/').replace("whsec_CHANGE-ME", SECRET)
            (folder / "..2026" / name).write_text(settings, encoding="utf-8")
            (folder / name).symlink_to(f"..data/{name}")
    checked = load_settings(tmp_path / "etc/classifier/classifier.toml", lambda _folder: taxonomy, {})

    assert str(checked.folder) == mounted["inbox"]
    assert checked.ledger_url.startswith("postgresql://")
    assert checked.settings.monitor.port == pod["containers"][0]["ports"][0]["containerPort"]
    assert [receiver.id for receiver in checked.receivers] == ["desk"]


def test_pods_are_found_by_their_label(resources: dict[str, Any]) -> None:
    """Deployment, disruption budget and network policy mean the same pods."""
    label = resources["Deployment"]["spec"]["template"]["metadata"]["labels"]

    assert resources["Deployment"]["spec"]["selector"]["matchLabels"] == label
    assert resources["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == label
    assert resources["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == label


def test_the_image_is_made_of_files_that_are_let_in() -> None:
    """What the image copies is in the repository and not kept out of the build; it ends as somebody without rights."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    let_in = (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()]

    assert copied
    assert all((ROOT / name).exists() for name in copied)
    assert {f"!{name}" for name in copied} <= set(let_in)
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["10001:10001"]


def test_the_image_gets_exactly_what_is_locked() -> None:
    """All that a plain installation gets, in the same versions, and the driver of PostgreSQL."""
    pattern = re.compile(r"^(\S+==\S+)", re.MULTILINE)
    plain = set(pattern.findall((ROOT / "requirements.lock").read_text(encoding="utf-8")))
    image = set(pattern.findall((DEPLOY / "requirements.lock").read_text(encoding="utf-8")))

    assert plain <= image
    assert {item.partition("==")[0] for item in image - plain} >= {"psycopg", "psycopg-binary"}


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """With the program where the unit expects it."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    unit = (DEPLOY / "classifier.service").read_text(encoding="utf-8")
    (tmp_path / "classifier.service").write_text(unit.replace("/opt/classifier/bin/classifier", "/bin/true"))
    result = subprocess.run(
        [analyze, "verify", str(tmp_path / "classifier.service")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (result.returncode, result.stderr) == (0, "")
