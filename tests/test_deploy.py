"""What lies in ``deploy/`` is what its own tools take, and says the same in every file."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from proxy import serving

ROOT: Final = Path(__file__).parents[1]
DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final[Any] = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
KUBERNETES: Final = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
LOCKED: Final = DEPLOY / "constraints.txt"
DRAIN: Final = 45


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def kind(name: str) -> Any:
    found = [one for path in KUBERNETES for one in documents(path) if one["kind"] == name]
    assert len(found) == 1
    return found[0]


def run(*command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, **more)


@pytest.fixture(name="unit")
def installed_unit(tmp_path: Path) -> Path:
    """The unit with its program where one is."""
    text = (DEPLOY / "outgate.service").read_text()
    path = tmp_path / "outgate.service"
    path.write_text(text.replace("/opt/outgate/bin/outgate", sys.executable))
    return path


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="install systemd")
def test_systemd_takes_the_unit_without_a_remark(unit: Path) -> None:
    result = run(
        "systemd-analyze", "verify", str(unit), env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    )
    assert "outgate.service" not in result.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="install systemd")
def test_the_unit_is_as_closed_as_the_page_says(unit: Path) -> None:
    result = run("systemd-analyze", "security", "--offline=yes", "--threshold=15", str(unit))
    assert result.returncode == 0, result.stdout[-500:]
    (score,) = re.findall(r"Overall exposure level for outgate.service: ([0-9.]+)", result.stdout)
    assert f"scores {score}" in (ROOT / "proxy/docs/deployment.md").read_text()


def test_whoever_stops_it_waits_longer_than_it_drains() -> None:
    assert serving.graceful_timeout == DRAIN
    unit = (DEPLOY / "outgate.service").read_text()
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(stop) > DRAIN
    assert int(COMPOSE["services"]["outgate"]["stop_grace_period"].removesuffix("s")) > DRAIN
    pod = kind("StatefulSet")["spec"]["template"]["spec"]
    (pause,) = re.findall(r"sleep\((\d+)\)", str(pod["containers"][0]["lifecycle"]))
    assert pod["terminationGracePeriodSeconds"] > DRAIN + int(pause)
    nginx = int(pod["containers"][1]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert DRAIN + int(pause) <= nginx < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_every_manifest_follows_the_schema_of_kubernetes(path: Path) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, "1.31", strict=True)


def test_the_kustomization_names_every_manifest_and_files_that_are_there() -> None:
    (base,) = documents(DEPLOY / "kustomization.yaml")
    assert sorted(base["resources"]) == [f"kubernetes/{path.name}" for path in KUBERNETES]
    for generated in base["configMapGenerator"]:
        for file in generated["files"]:
            # kustomize takes nothing from outside its own folder.
            assert (DEPLOY / file.rpartition("=")[2]).resolve().is_relative_to(DEPLOY)
            assert (DEPLOY / file.rpartition("=")[2]).is_file()


def test_every_container_runs_without_rights_on_a_root_that_cannot_be_written() -> None:
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    pod = kind("StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", dockerfile, re.MULTILINE)
    assert "HEALTHCHECK" in dockerfile


def test_compose_mounts_what_is_there_and_declares_what_it_uses() -> None:
    folder = DEPLOY / "compose"
    for service in COMPOSE["services"].values():
        for name in service.get("secrets", []):
            assert name in COMPOSE["secrets"]
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            found = (
                (folder / source).exists()
                if source.startswith(".")
                else source in COMPOSE["volumes"]
            )
            assert found, volume
        for other in service.get("depends_on", {}):
            assert "healthcheck" in COMPOSE["services"][other] or other == "outgate"


def test_the_secrets_that_the_script_makes_are_those_that_are_mounted(tmp_path: Path) -> None:
    script = shutil.copy(DEPLOY / "compose/secrets.sh", tmp_path)
    assert run("sh", str(script), input="sk-test-0123456789\n").returncode == 0
    before = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    files = {Path(entry["file"]).name for entry in COMPOSE["secrets"].values()}
    assert set(before) == files
    assert before["openai_api_key"] == "sk-test-0123456789"
    assert before["database_password"] in before["database_url"]
    # A second run changes nothing, or the database would no longer know its password.
    assert run("sh", str(script)).returncode == 0
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == before


def test_the_configuration_for_containers_passes_the_check(tmp_path: Path) -> None:
    script = shutil.copy(DEPLOY / "compose/secrets.sh", tmp_path)
    run("sh", str(script), input="sk-test-0123456789\n")
    text = (DEPLOY / "compose/outgate.toml").read_text()
    text = text.replace("/run/secrets", str(tmp_path / "secrets"))
    path = tmp_path / "outgate.toml"
    path.write_text(text.replace("/var/lib/outgate", str(tmp_path)))
    result = run(sys.executable, "-m", "proxy.cli", "check", "--config", str(path))
    assert result.returncode == 0, result.stderr
    assert tomllib.loads(text)["audit"]["directory"].startswith("/var/lib/outgate")


@pytest.mark.parametrize("source", ["compose", "kubernetes"])
def test_nginx_takes_its_file_as_the_containers_start_it(source: str, tmp_path: Path) -> None:
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        pytest.skip("install nginx")
    if source == "compose":
        script = COMPOSE["services"]["nginx"]["command"][2]
    else:
        script = kind("StatefulSet")["spec"]["template"]["spec"]["containers"][1]["command"][2]
    edit, start = script.strip().splitlines()
    edit = edit.replace("/etc/outgate", str(DEPLOY)).replace("/run/nginx", str(tmp_path))
    assert run("sh", "-ec", edit).returncode == 0
    assert "listen     8080 default_server" in (tmp_path / "nginx.conf").read_text()
    assert start.startswith("exec nginx -p /run/nginx -c /run/nginx/nginx.conf")
    check = run(nginx, "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))
    assert check.returncode == 0, check.stderr


def test_the_image_is_made_of_files_that_are_locked() -> None:
    text = LOCKED.read_text()
    names = set(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==\S+", text, re.MULTILINE))
    for wanted in ("flask", "gunicorn", "requests", "psycopg-binary", "redis", "pyjwt"):
        assert wanted in names
    pins = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    assert all("--hash=sha256:" in pin for pin in pins if "==" in pin)


def test_what_is_locked_is_what_the_package_asks_for() -> None:
    pins = dict(
        re.findall(
            r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==([0-9a-z.]+)", LOCKED.read_text(), re.MULTILINE
        )
    )
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].split()
    for extra in ("jwt", "otel", "postgres", "redis"):
        lines += settings["options.extras_require"][extra].split()
    for wanted in map(Requirement, lines):
        assert pins[canonicalize_name(wanted.name)] in wanted.specifier, wanted


def test_the_image_is_built_from_nothing_but_the_product() -> None:
    allowed = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == set(allowed)
    assert all((ROOT / name).exists() for name in allowed)
