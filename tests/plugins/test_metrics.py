"""What is counted, who may read it, and that no caller can make it grow without end."""

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from plugins.metrics import Metrics
from plugins.metrics.shared import Shared, place
from proxy import ConfigError, Secret
from proxy.testing import harness
from tests.gateway import (
    COMPLETION,
    STREAMED,
    Answer,
    Gateway,
    bearer,
    chunk,
    gateway,
    read_answer,
)
from tests.records import full, record
from tests.test_canary import _SLOTS as SLOTS
from tests.upstream import WAIT, json_reply, sse

ROOT = Path(__file__).parents[2]
TOKEN = "scrape-token-0123456789"
PLUGIN = {"use": "metrics"}


def samples(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by name and then by the values of the labels, in the order of the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def shown(plugin: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    text, _ = plugin._service.shown("")
    return samples(text.decode())


def scrape(
    gate: Gateway, headers: Mapping[str, str] | None = None, path: str = "/metrics"
) -> Answer:
    return gate.ask(None, list((headers or {}).items()), path=path, method="GET")


def read(gate: Gateway) -> dict[str, dict[tuple[str, ...], float]]:
    answer = scrape(gate)
    assert answer.status == 200
    return samples(answer.body.decode())


def test_everything_that_a_record_says_is_counted() -> None:
    plugin = Metrics()
    plugin.log_exchange(full())
    plugin.log_exchange(full(outcome="denied", status=403, code="no", denied_by="guard"))
    found = shown(plugin)
    assert found["outgate_calls_total"] == {
        ("chat", "gpt-x", "ok", "200"): 1,
        ("chat", "gpt-x", "denied", "403"): 1,
    }
    assert found["outgate_tokens_total"] == {
        ("prompt", "gpt-x"): 22, ("completion", "gpt-x"): 10, ("cached", "gpt-x"): 6,
    }  # fmt: skip
    assert found["outgate_cost_total"] == {("gpt-x", "red"): 5.0}
    assert found["outgate_bytes_total"] == {("in",): 200, ("sent",): 180, ("out",): 1600}
    assert found["outgate_refusals_total"] == {("no", "guard"): 1}
    assert found["outgate_retried_calls_total"] == {("chat",): 2}
    assert found["outgate_findings_total"] == {("mask", "email"): 2}
    assert found["outgate_hook_verdicts_total"] == {("guard_request", "guard", "pass"): 2}
    assert found["outgate_upstream_errors_total"] == {("connect", "spare"): 2}
    assert found["outgate_upstream_replies_total"] == {("200", "main"): 2}
    assert found["outgate_stream_events_total"] == {("gpt-x",): 14}
    for name, labels, total in (
        ("call_seconds", ("chat", "true"), 1.0),
        ("proxy_seconds", ("chat", "true"), 0.024),
        ("first_byte_seconds", ("true", "main"), 0.5),
        ("upstream_seconds", ("main",), 0.4),
        ("hook_seconds", ("guard_request", "guard"), 0.0005),
    ):
        assert found[f"outgate_{name}_count"][labels] == 2
        assert found[f"outgate_{name}_sum"][labels] == pytest.approx(total)


def test_a_record_that_says_next_to_nothing_is_counted_too() -> None:
    plugin = Metrics()
    plugin.log_exchange(record(outcome="denied", status=401, code="invalid_api_key"))
    found = shown(plugin)
    assert found["outgate_calls_total"] == {("chat", "", "denied", "401"): 1}
    assert found["outgate_refusals_total"] == {("invalid_api_key", ""): 1}


def test_calls_through_the_gateway_are_counted_and_the_proxy_is_told_from_the_upstream() -> None:
    slow = sse([chunk("a"), chunk("b"), chunk("", "stop"), "[DONE]"], gap=0.15)
    with gateway(json_reply({"id": "x", "choices": []}), slow, plugins=[PLUGIN]) as gate:
        gate.ask(COMPLETION)
        gate.ask(STREAMED)
        gate.ask(COMPLETION, [("Content-Type", "application/json")])
        gate.record(3)
        found = read(gate)
        told = gate.records[1]
    calls = {labels[2:]: value for labels, value in found["outgate_calls_total"].items()}
    assert calls == {("ok", "200"): 2, ("denied", "401"): 1}
    assert told.seconds > 0.3
    assert told.proxy_seconds is not None
    assert told.proxy_seconds < told.seconds - 0.25
    assert told.sent_seconds is not None
    assert told.first_byte_seconds is not None
    assert told.sent_seconds < told.first_byte_seconds < told.seconds - 0.25


def test_a_caller_that_reads_slowly_does_not_make_the_proxy_look_slow() -> None:
    piece = {**chunk("x" * 500_000)}
    script = sse([piece] * 20 + [chunk("", "stop"), "[DONE]"])
    with gateway(script, plugins=[PLUGIN]) as gate, gate.send(STREAMED) as sock:
        time.sleep(0.5)
        assert read_answer(sock).status == 200
        told = gate.record()
    assert told.proxy_seconds is not None
    assert told.proxy_seconds < told.seconds - 0.25


def test_what_goes_on_at_the_moment_is_shown() -> None:
    held = sse([chunk("a"), WAIT, chunk("", "stop"), "[DONE]"])
    with gateway(held, plugins=[PLUGIN]) as gate:
        with gate.send(STREAMED) as sock:
            sock.recv(1)
            found = read(gate)
            assert found["outgate_calls_inside"][()] == 1
            assert found["outgate_streams_in_flight"][()] == 1
            assert found["outgate_capacity"][()] > 1
            assert found["outgate_processes"] == {(gate.pipeline.parts.digest[:16],): 1}
            gate.upstream.release()
            while b"[DONE]" not in sock.recv(65536):
                pass
        gate.record()
        after = read(gate)
    assert (after["outgate_calls_inside"][()], after["outgate_streams_in_flight"][()]) == (0, 0)
    assert set(gate.pipeline.vitals()) == {
        "calls_inside", "capacity", "streams_in_flight", "hung_hooks", "draining", "circuits_open",
        "sink_records_waiting", "sink_records_dropped", "sinks_failing",
    }  # fmt: skip


def test_a_drain_is_shown() -> None:
    with gateway(plugins=[PLUGIN]) as gate:
        assert read(gate)["outgate_draining"][()] == 0
        gate.pipeline.drain(60)
        assert read(gate)["outgate_draining"][()] == 1


# -- who may read ------------------------------------------------------------------------------------


def test_without_a_token_only_this_machine_is_answered() -> None:
    with gateway(plugins=[PLUGIN]) as gate:
        assert scrape(gate).status == 200
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
            answer = scrape(gate, {header: "127.0.0.1"})
            assert answer.status == 403
            assert b"outgate_" not in answer.body


def test_with_a_token_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRAPE", TOKEN)
    options = {"token": {"env": "SCRAPE"}, "path": "/internal/metrics"}
    with gateway(plugins=[{**PLUGIN, "options": options}]) as gate:
        wrong = ["", TOKEN, "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"]
        for value in wrong:
            headers = {"Authorization": value} if value else {}
            assert scrape(gate, headers, "/internal/metrics").status == 401
        right = {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "10.0.0.9"}
        assert scrape(gate, right, "/internal/metrics").status == 200
        assert scrape(gate, right).status == 404


def test_both_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRAPE", TOKEN)
    options = {"token": {"env": "SCRAPE"}, "loopback": True}
    with gateway(plugins=[{**PLUGIN, "options": options}]) as gate:
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert scrape(gate, right).status == 200
        assert scrape(gate, {**right, "X-Forwarded-For": "10.0.0.9"}).status == 401
        assert scrape(gate).status == 401


def test_without_the_plugin_there_is_no_page() -> None:
    with gateway() as gate:
        assert scrape(gate).status == 404


def test_only_get_is_taken_and_a_callers_key_opens_nothing() -> None:
    with gateway(plugins=[PLUGIN]) as gate:
        assert gate.ask(b"", path="/metrics").status == 405
        answer = scrape(gate, {"Authorization": "Bearer caller-key-0123456789", "Via": "nginx"})
        assert answer.status == 403


def test_a_scraper_gets_the_form_it_asks_for() -> None:
    with gateway(plugins=[PLUGIN]) as gate:
        gate.ask(COMPLETION)
        gate.record()
        plain = scrape(gate)
        assert (plain.header("content-type") or "").startswith("text/plain; version=")
        answer = scrape(gate, {"Accept": "application/openmetrics-text; version=1.0.0"})
    assert (answer.header("content-type") or "").startswith("application/openmetrics-text")
    families = openmetrics_families(answer.body.decode())  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert "outgate_calls" in names


# -- no growth without end ---------------------------------------------------------------------------


def test_a_caller_that_makes_up_models_makes_no_labels() -> None:
    plugin = Metrics(most_labels=5)
    for number in range(1000):
        plugin.log_exchange(record(model=f"made-up-{number}", status=404))
    assert {labels[1] for labels in shown(plugin)["outgate_calls_total"]} == {"other"}
    for number in range(1000):
        plugin.log_exchange(full(model=f"answered-{number}"))
    models = {labels[1] for labels in shown(plugin)["outgate_calls_total"]}
    assert models == {f"answered-{number}" for number in range(5)} | {"other"}


def test_the_operator_can_say_which_models_are_labels() -> None:
    plugin = Metrics(models=("gpt-*",))
    plugin.log_exchange(full(model="gpt-4o"))
    plugin.log_exchange(full(model="unheard-of"))
    assert {labels[1] for labels in shown(plugin)["outgate_calls_total"]} == {"gpt-4o", "other"}


def test_kinds_codes_and_teams_are_bounded_too() -> None:
    plugin = Metrics(most_labels=3)
    for number in range(20):
        plugin.log_exchange(
            full(
                outcome="denied", code=f"code{number}", metadata={"team": f"team{number}"},
                findings=(full().findings[0].__class__(f"kind{number}", "p", "x", "mask"),),
            )
        )  # fmt: skip
    found = shown(plugin)
    for name in ("refusals", "cost", "findings"):
        assert len(found[f"outgate_{name}_total"]) == 4


@pytest.mark.parametrize("model", ["\ud800", "a\nb", 'a"b\\', "\x00", "é" * 300, "{}=,"])
def test_no_name_can_break_the_page(model: str) -> None:
    plugin = Metrics()
    plugin.log_exchange(full(model=model, metadata={"team": model}))
    assert sum(shown(plugin)["outgate_calls_total"].values()) == 1


def test_numbers_that_an_upstream_makes_up_break_nothing() -> None:
    plugin = Metrics()
    usage = full().usage
    assert usage is not None
    odd = usage.__class__(-5, 2**70, None, None)
    plugin.log_exchange(full(usage=odd, cost_nano=-1))
    found = shown(plugin)
    assert found["outgate_tokens_total"] == {("completion", "gpt-x"): 2.0**70}
    assert "outgate_cost_total" not in found


# -- several processes -------------------------------------------------------------------------------


def test_the_counts_of_several_processes_are_one_page_and_the_dead_do_not_count_as_alive(
    tmp_path: Path,
) -> None:
    code = """
import os, sys, time
from plugins.metrics import Metrics
plugin = Metrics(directory=sys.argv[1])
from tests.plugins.test_metrics import full, shown
plugin._service.vitals = lambda: {"calls_inside": 2.0, "audit_lag_seconds": float(sys.argv[2])}
for _ in range(10):
    plugin.log_exchange(full())
plugin._service.shown("")
print("ready", flush=True)
if sys.argv[2] == "3":
    sys.stdin.readline()
    found = shown(plugin)
    print(found["outgate_calls_total"], found["outgate_calls_inside"], found["outgate_audit_lag_seconds"], flush=True)
sys.stdin.readline()
"""
    environment = {**os.environ, "OUTGATE_RUN_DIRECTORY": "/run/one"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
        )
        for number in (1, 2, 3)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        processes[1].kill()
        processes[1].wait()
        asked = processes[2]
        assert asked.stdin is not None
        assert asked.stdout is not None
        asked.stdin.write("\n")
        asked.stdin.flush()
        line = asked.stdout.readline()
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert "): 30.0}" in line  # what the dead one counted still counts
    assert "{(): 4.0}" in line  # but its calls are over
    assert "{(): 3.0}" in line
    (folder,) = tmp_path.iterdir()
    # The files of the dead do not pile up: their counts are in one.
    assert len(list(folder.glob("counter_*.db"))) == 3
    assert (folder / "counter_dead.db").exists()
    assert folder.name == "outgate-metrics-one"
    assert folder.stat().st_mode & 0o77 == 0


def test_a_full_disk_stops_the_start_and_not_the_process_later(tmp_path: Path) -> None:
    code = """
import resource, sys
from proxy import ConfigError
from tests.plugins.test_metrics import Path, Shared
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    Shared.opened(Path(sys.argv[1], "metrics"))
except ConfigError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60, cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "File too large. Name one this user may write." in done.stdout


def test_what_a_killed_service_left_behind_is_removed_but_not_what_another_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTGATE_RUN_DIRECTORY", "/run/mine")
    for name in ("dead", "alive", "young", "elsewhere"):
        folder = tmp_path / (f"outgate-metrics-{name}" if name != "elsewhere" else name)
        folder.mkdir()
        (folder / "1.alive").touch()
        if name != "young":
            os.utime(folder, (1, 1))
    with contextlib.closing((tmp_path / "outgate-metrics-alive" / "1.alive").open("w")) as sign:
        fcntl.flock(sign, fcntl.LOCK_EX)
        path = place(str(tmp_path))
        assert path is not None
        assert Shared.opened(path).path == path
    assert {path.name for path in tmp_path.iterdir()} == {
        "outgate-metrics-alive", "outgate-metrics-young", "outgate-metrics-mine", "elsewhere",
    }  # fmt: skip


def test_a_check_of_the_configuration_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import sys; from proxy.testing import harness; harness('metrics', directory=sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=ROOT)
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_was_loaded_for_one_process_is_not_trusted_with_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with pytest.raises(ConfigError, match="list metrics before it"):
        harness("metrics", directory=str(tmp_path))


def test_a_directory_that_cannot_be_written_is_named() -> None:
    with pytest.raises(ConfigError, match="Name one this user may write"):
        Shared.opened(Path("/proc/nowhere/metrics"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"path": "metrics"}, "write a plain path"),
        ({"path": "/<x>"}, "write a plain path"),
        ({"token": Secret("too short")}, "can be guessed"),
        ({"directory": "/proc/nowhere"}, "name one that exists"),
        ({"most_labels": 0}, "write a number above zero"),
        ({"modles": ["x"]}, "Did you mean 'models'"),
    ],
)
def test_options_that_will_not_do_stop_the_start(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        harness("metrics", **options)


def test_no_credential_is_in_any_label_whatever_slot_it_was_in() -> None:
    with gateway(plugins=[PLUGIN, {"use": "portkey"}]) as gate:
        for name, value in SLOTS:
            gate.ask(COMPLETION, [("Content-Type", "application/json"), (name, value)])
            gate.ask({**COMPLETION, "api_key": "CaNaRy-body"}, [*bearer(), (name, value)])
        gate.ask({**COMPLETION, "model": "CaNaRy-model"}, bearer())
        page = scrape(gate).body
    assert b"outgate_calls_total" in page
    assert b"CaNaRy" not in page.replace(b"CaNaRy-model", b"")


# -- the dashboard -----------------------------------------------------------------------------------


def exposed() -> set[str]:
    """Every name that can be on the page."""
    plugin = Metrics()
    plugin.log_exchange(full(outcome="denied", code="no", denied_by="guard"))
    plugin.log_exchange(full(answered_by="cache", upstream=None, upstream_status=None))
    with gateway() as gate:
        plugin._service.vitals = gate.pipeline.vitals
        shadow = {
            f"outgate_shadow_{name}" for name in ("calls", "disagreements", "errors", "dropped")
        }
        return set(shown(plugin)) | {"outgate_audit_lag_seconds"} | shadow


def test_every_metric_is_documented() -> None:
    page = (ROOT / "proxy" / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"outgate_\w+", page))
    plain = {re.sub(r"(?<=_seconds)_(bucket|count|sum|created)$", "", name) for name in exposed()}
    assert {name for name in plain if not name.endswith("_created")} == documented


def test_every_metric_of_the_dashboard_exists() -> None:
    board = json.loads((ROOT / "deploy" / "grafana-outgate.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    used = {name for query in queries for name in re.findall(r"outgate_\w+", query)}
    assert len(queries) >= 15
    assert used - exposed() == set()
    places = [panel["gridPos"] for panel in board["panels"]]
    assert len({panel["id"] for panel in board["panels"]}) == len(places)
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in places
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
