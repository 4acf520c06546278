"""What plugins may import is a list that is kept, and every module has its tests."""

import ast
from pathlib import Path

import pytest

import proxy
from proxy import hookspecs, model, records

ROOT = Path(__file__).parent.parent
#: Modules that are proven by other tests than one of their own name, and by which.
ELSEWHERE = {
    "proxy/audit/__init__.py": "tests/audit/test_trail.py",
    "proxy/audit/batch.py": "tests/audit/test_journal.py",
    "proxy/audit/faults.py": "tests/audit/test_trail.py",
    "proxy/audit/follower.py": "tests/audit/test_checkpoint.py",
    "proxy/audit/inspection.py": "tests/audit/test_verify.py",
    "proxy/audit/ledger.py": "tests/audit/test_verify.py",
    "proxy/audit/overseer.py": "tests/audit/test_recovery.py",
    "proxy/blueprint.py": "tests/test_threats_body.py",
    "proxy/cli/__main__.py": "tests/test_cli.py",
    "proxy/console/__init__.py": "tests/console/test_pages.py",
    "proxy/demo/client.py": "tests/demo/test_upstream.py",
    "proxy/demo/corpus.py": "tests/demo/test_upstream.py",
    "proxy/demo/events.py": "tests/demo/test_upstream.py",
    "proxy/demo/messages.py": "tests/demo/test_upstream.py",
    "proxy/demo/models.py": "tests/demo/test_upstream.py",
    "proxy/demo/output.py": "tests/demo/test_upstream.py",
    "proxy/demo/reading.py": "tests/demo/test_upstream.py",
    "proxy/demo/refusals.py": "tests/demo/test_upstream.py",
    "proxy/dialect_reply.py": "tests/test_dialect.py",
    "proxy/errand.py": "tests/test_sender.py",
    "proxy/egress/adapter.py": "tests/egress/test_client.py",
    "proxy/egress/attempt.py": "tests/egress/test_client.py",
    "proxy/egress/causes.py": "tests/egress/test_probe.py",
    "proxy/egress/certificates.py": "tests/egress/test_probe.py",
    "proxy/egress/decode.py": "tests/egress/test_client.py",
    "proxy/egress/known.py": "tests/egress/test_client.py",
    "proxy/egress/reply.py": "tests/egress/test_client.py",
    "proxy/egress/tls.py": "tests/egress/test_client.py",
    "proxy/egress/tls_faults.py": "tests/egress/test_outbound.py",
    "proxy/exchange.py": "tests/test_threats_streams.py",
    "proxy/gate.py": "tests/test_threats_streams.py",
    "proxy/intake.py": "tests/test_threats_body.py",
    "proxy/pipeline.py": "tests/test_threats_egress.py",
    "proxy/reading.py": "tests/test_threats_streams.py",
    "proxy/cli/telling.py": "tests/cli/test_replay.py",
    "proxy/rehearsal/__init__.py": "tests/rehearsal/test_judging.py",
    "proxy/rehearsal/table.py": "tests/rehearsal/test_report.py",
    "proxy/rehearsal/witness.py": "tests/rehearsal/test_shadow.py",
    "proxy/relay.py": "tests/test_threats_streams.py",
    "proxy/sender.py": "tests/test_pipeline.py",
    "proxy/serving.py": "tests/test_cli.py",
    "proxy/veil.py": "tests/test_canary.py",
    "proxy/wire.py": "tests/test_threats_body.py",
    "proxy/__init__.py": "tests/test_public_api.py",
    "proxy/routing/__init__.py": "tests/routing/test_walk.py",
    "proxy/routing/faults.py": "tests/routing/test_walk.py",
    "proxy/bridge/__init__.py": "tests/bridge/test_crossing.py",
    "proxy/bridge/listening.py": "tests/bridge/test_crossing.py",
    "proxy/bridge/readers.py": "tests/bridge/test_whole.py",
    "proxy/bridge/reply.py": "tests/bridge/test_crossing.py",
    "proxy/bridge/way.py": "tests/bridge/test_fan.py",
    "proxy/cli/__init__.py": "tests/test_cli.py",
    "proxy/cli/check.py": "tests/test_cli.py",
    "proxy/cli/demo.py": "tests/test_cli.py",
    "proxy/cli/docs.py": "tests/test_cli.py",
    "proxy/cli/init.py": "tests/test_cli.py",
    "proxy/cli/provided.py": "tests/cli/test_providers.py",
    "proxy/cli/openapi.py": "tests/test_openapi.py",
    "proxy/cli/options.py": "tests/test_cli.py",
    "proxy/cli/serve.py": "tests/test_cli.py",
    "proxy/demo/__init__.py": "tests/demo/test_upstream.py",
    "proxy/egress/__init__.py": "tests/egress/test_client.py",
    "proxy/egress/faults.py": "tests/egress/test_client.py",
    "proxy/origins.py": "tests/test_registry.py",
    "proxy/results.py": "tests/test_chain.py",
    "proxy/param_tables.py": "tests/test_params.py",
    "proxy/parts.py": "tests/test_app.py",
    "proxy/detect/__init__.py": "tests/detect/test_engine.py",
    "proxy/detect/detector.py": "tests/detect/test_engine.py",
    "proxy/detect/lane.py": "tests/detect/test_stream.py",
    "proxy/detect/literals.py": "tests/detect/test_syntax.py",
    "proxy/detect/matcher.py": "tests/detect/test_engine.py",
    "proxy/detect/plan.py": "tests/detect/test_stream.py",
    "proxy/detect/prefix.py": "tests/detect/test_syntax.py",
    "proxy/detect/readings.py": "tests/detect/test_stream.py",
    "proxy/detect/rule.py": "tests/detect/test_engine.py",
    "proxy/detect/windows.py": "tests/detect/test_stream.py",
    "proxy/fakes.py": "tests/test_mask.py",
    "proxy/signing.py": "tests/plugins/test_sigv4.py",
    "proxy/steps.py": "tests/test_chain.py",
    "proxy/records.py": "tests/test_exchange.py",
    "proxy/chunks.py": "tests/test_streaming.py",
    "proxy/fence.py": "tests/test_policy.py",
    "proxy/cli/keyfile.py": "tests/cli/test_keys.py",
    "proxy/cli/output.py": "tests/cli/test_keys.py",
    "proxy/cli/showing.py": "tests/cli/test_plugins.py",
    "proxy/cli/stores.py": "tests/cli/test_keys.py",
    "proxy/cli/ways.py": "tests/cli/test_egress.py",
    "proxy/store/__init__.py": "tests/store/test_store.py",
    "proxy/store/schema.py": "tests/store/test_migrations.py",
    "proxy/store/entries.py": "tests/store/test_ledger.py",
    "proxy/store/ledger_sql.py": "tests/store/test_ledger.py",
    "proxy/store/reserving.py": "tests/store/test_together.py",
    "proxy/labels.py": "tests/test_streaming.py",
    "proxy/per_token.py": "tests/test_review.py",
    "plugins/__init__.py": "tests/test_registry.py",
    "plugins/providers/anthropic_content.py": "tests/plugins/test_anthropic.py",
    "plugins/providers/anthropic_reply.py": "tests/plugins/test_anthropic.py",
    "plugins/providers/anthropic_request.py": "tests/plugins/test_anthropic.py",
    "plugins/openai.py": "tests/plugins/test_providers.py",
    "plugins/openai_compatible.py": "tests/plugins/test_providers.py",
    "proxy/upgrading.py": "tests/e2e/test_upgrade.py",
}
#: Plugins that are packages are proven as a whole.
PACKAGES = {
    "proxy/cli/audit": "tests/audit/test_commands.py",
    "proxy/testing": "tests/test_testing.py",
    "plugins/icap_guard": "tests/plugins/test_icap_guard.py",
    "plugins/metrics": "tests/plugins/test_metrics.py",
    "plugins/budget": "tests/plugins/test_budget.py",
    "plugins/providers": "tests/plugins/test_provider_table.py",
    "plugins/pii": "tests/plugins/test_pii.py",
    "plugins/presidio": "tests/plugins/test_presidio.py",
    "plugins/rate_limit": "tests/plugins/test_rate_limit.py",
    "plugins/response_cache": "tests/plugins/test_response_cache.py",
    "plugins/secrets": "tests/plugins/test_secrets.py",
    "plugins/portkey": "tests/plugins/test_portkey.py",
}
MODULES = sorted(
    str(path.relative_to(ROOT)) for package in ("proxy", "plugins")
    for path in (ROOT / package).rglob("*.py")
)  # fmt: skip


def test_the_public_names_are_sorted_and_exactly_those_that_are_imported() -> None:
    assert proxy.__all__ == sorted(proxy.__all__)
    tree = ast.parse((ROOT / "proxy" / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(proxy.__all__) == imported


def test_every_type_that_a_hook_speaks_of_is_public() -> None:
    spoken = {
        name for name in ast.walk(ast.parse(Path(hookspecs.__file__).read_text()))
        if isinstance(name, ast.FunctionDef)
    }  # fmt: skip
    names = {
        node.id
        for function in spoken
        for part in [function.returns, *(argument.annotation for argument in function.args.args)]
        if part is not None
        for node in ast.walk(part)
        if isinstance(node, ast.Name)
    }
    known = {*vars(model), *vars(records), "Detector"}
    types = names & known
    assert {"Call", "Deny", "Reply", "Record"} <= types <= set(proxy.__all__)


@pytest.mark.parametrize("name", proxy.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert getattr(proxy, name).__doc__


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_tests(module: str) -> None:
    path = Path(module)
    mirrored = Path("tests", *path.parts[1:-1]) / f"test_{path.name}"
    if path.parts[0] == "plugins":
        mirrored = Path("tests/plugins") / f"test_{path.name}"
    found = ROOT / ELSEWHERE.get(module, PACKAGES.get(str(path.parent), mirrored))
    assert found.is_file(), f"{module} has no {found.relative_to(ROOT)}"


def test_every_exception_to_that_is_still_a_module() -> None:
    assert set(ELSEWHERE) <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_in_one_sentence_what_it_is_for_and_is_short(module: str) -> None:
    text = (ROOT / module).read_text()
    doc = ast.get_docstring(ast.parse(text))
    assert doc is not None
    assert doc.splitlines()[0].endswith((".", ":"))
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 45, node.name
