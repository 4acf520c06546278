"""``outgate egress check``, as it is typed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from proxy.cli.egress import _HEADS
from tests.egress.authority import Authority
from tests.egress.proxies import tunnel
from tests.egress.servers import Server, ok, says, serving
from tests.pages import DOCS, ROOT

KEY: Final = "sk-hunter2hunter2"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def secure(authority: Authority) -> Iterator[Server]:
    with serving(says(ok(b'{"data":[]}'), then_close=False), authority.context()) as server:
        yield server


class Desk:
    """A directory with a configuration, and the command over it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "outgate.toml"

    def write(self, text: str) -> None:
        self.path.write_text(text + '\n[[plugins]]\nuse = "openai_compatible"\n')

    def run(self, *words: str) -> Result:
        words = ("egress", "check", *words, "--config", str(self.path))
        result = CliRunner().invoke(main, words)
        assert "hunter2" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    def seen(self, *words: str) -> dict[str, Any]:
        """The upstreams of the JSON form, by name."""
        found = json.loads(self.run(*words, "--json").output)
        assert found["ok"] == all(row["ok"] for row in found["upstreams"])
        return {row["upstream"]: row for row in found["upstreams"]}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def upstream(name: str, port: int, *lines: str, scheme: str = "https") -> str:
    return "\n".join(
        [
            f"[upstreams.{name}]",
            'provider = "openai_compatible"',
            f'base_url = "{scheme}://localhost:{port}/v1"',
            "allow_private = true",
            *lines,
            "",
        ]
    )


def bundle(authority: Authority) -> str:
    return f'ca_bundle = "{authority.bundle}"'


def rows(result: Result) -> dict[str, str]:
    """The lines of the table by their first word."""
    table = result.output.partition("\n\n")[0]
    return {line.split()[0]: line for line in table.splitlines()}


def test_upstreams_that_are_well_are_one_line_each_and_status_0(
    desk: Desk, authority: Authority, secure: Server
) -> None:
    with serving(says(ok(b"{}"))) as plain:
        first = upstream("main", secure.port, bundle(authority))
        desk.write(first + upstream("own", plain.port, scheme="http"))
        result = desk.run()
    assert result.exit_code == 0, result.output
    assert list(rows(result)) == ["upstream", "main", "own"]
    line = rows(result)["main"]
    assert f"https://localhost:{secure.port}" in line
    assert "TLSv1.3" in line
    assert authority.bundle in line
    assert line.endswith("ok")
    # Nobody has a proxy or was asked for anything.
    assert "through" not in rows(result)["upstream"]
    assert "answer" not in rows(result)["upstream"]
    assert (plain.requests, secure.requests) == ([], [])


def test_one_upstream_that_is_not_well_is_status_1_with_its_remedy(
    desk: Desk, authority: Authority, secure: Server
) -> None:
    desk.write(upstream("good", secure.port, bundle(authority)) + upstream("bad", secure.port))
    result = desk.run()
    assert result.exit_code == 1
    assert rows(result)["good"].endswith("ok")
    assert rows(result)["bad"].endswith("FAILED: tls")
    assert "\nbad: the upstream's certificate was not accepted" in result.output
    assert "  it shows: " in result.output
    assert "Test Authority" in result.output
    assert "  what to do: If it is issued by your company" in result.output


def test_only_the_upstreams_that_are_named_are_looked_at(
    desk: Desk, authority: Authority, secure: Server
) -> None:
    desk.write(upstream("good", secure.port, bundle(authority)) + upstream("bad", secure.port))
    result = desk.run("good")
    assert (result.exit_code, list(rows(result))) == (0, ["upstream", "good"])
    result = desk.run("goood")
    assert result.exit_code == 1
    assert "Did you mean 'good'? Configured: bad, good" in result.output


def test_a_call_shows_the_credential_and_tells_the_status(
    desk: Desk, authority: Authority, secure: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    desk.write(upstream("main", secure.port, bundle(authority), 'credential = { env = "THE_KEY" }'))
    result = desk.run("--call")
    assert result.exit_code == 0, result.output
    assert rows(result)["main"].split()[-4:] == ["env", "THE_KEY", "200", "ok"]
    (request,) = secure.requests
    assert request.startswith(b"GET /v1/models ")
    assert f"authorization: Bearer {KEY}\r\n".encode() in request


def test_a_credential_that_is_refused_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    refusal = b"HTTP/1.1 401 x\r\nContent-Length: 18\r\n\r\nInvalid key hunter"
    with serving(says(refusal)) as server:
        line = 'credential = { env = "THE_KEY" }'
        desk.write(upstream("main", server.port, line, scheme="http"))
        result = desk.run("--call")
    assert result.exit_code == 1
    assert "main: the upstream answered 401: the credential was refused" in result.output


def test_without_a_call_no_credential_has_to_be_there(
    desk: Desk, authority: Authority, secure: Server
) -> None:
    line = 'credential = { env = "NOBODY_SET_THIS" }'
    desk.write(upstream("main", secure.port, bundle(authority), line))
    result = desk.run()
    assert result.exit_code == 0, result.output
    assert "env NOBODY_SET_THIS, MISSING" in rows(result)["main"]
    assert "note: " in result.output
    assert "export NOBODY_SET_THIS=" in result.output


def test_with_a_call_a_missing_credential_is_named_and_nothing_is_asked(
    desk: Desk, authority: Authority, secure: Server
) -> None:
    line = 'credential = { file = "/nonexistent/key" }'
    desk.write(upstream("main", secure.port, bundle(authority), line))
    result = desk.run("--call")
    assert result.exit_code == 1
    assert rows(result)["main"].endswith("FAILED: call")
    assert "the file '/nonexistent/key' cannot be read" in result.output
    assert secure.requests == []


def test_what_other_plugins_need_does_not_have_to_be_there(
    desk: Desk, authority: Authority, secure: Server
) -> None:
    desk.write(
        upstream("main", secure.port, bundle(authority))
        + '[[plugins]]\nuse = "static_keys"\n[plugins.options]\n'
        'keys = [{ name = "a", key = { env = "NOBODY_SET_THIS" } }]\n'
    )
    assert desk.run().exit_code == 0


def test_a_proxy_is_named_without_its_credentials(
    desk: Desk, authority: Authority, secure: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tunnel("outgate", "hunter2")) as proxy:
        monkeypatch.setenv("WAY_OUT", f"http://outgate:hunter2@localhost:{proxy.port}")
        line = 'outbound_proxy = { env = "WAY_OUT" }'
        desk.write(upstream("main", secure.port, bundle(authority), line))
        result = desk.run()
        assert result.exit_code == 0, result.output
        assert f" localhost:{proxy.port} " in rows(result)["main"]
        monkeypatch.setenv("WAY_OUT", f"http://outgate:hunter22@localhost:{proxy.port}")
        result = desk.run()
    assert result.exit_code == 1
    assert "main: the outbound proxy refused the credentials (407)" in result.output


def test_a_proxy_that_is_not_there_to_be_read_is_named(desk: Desk) -> None:
    desk.write(upstream("main", 1, 'outbound_proxy = { env = "NOBODY_SET_THIS" }'))
    result = desk.run()
    assert result.exit_code == 1
    assert rows(result)["main"].endswith("FAILED: configuration")
    assert "'NOBODY_SET_THIS' is not set" in result.output


def test_an_upstream_that_is_wrongly_written_spoils_no_other(
    desk: Desk, authority: Authority, secure: Server
) -> None:
    desk.write(
        upstream("good", secure.port, bundle(authority))
        + upstream("odd", 1, "time_outs = 3")
        + '[upstreams.where]\nprovider = "openai_compatible"\n'
        '[upstreams.who]\nprovider = "openai_compatibel"\n'
    )
    result = desk.run()
    assert result.exit_code == 1
    table = rows(result)
    assert table["good"].endswith("ok")
    assert all(table[name].endswith("FAILED: configuration") for name in ("odd", "where", "who"))
    assert "Did you mean 'timeouts'?" in result.output
    assert "upstreams.where.base_url is missing" in result.output
    assert "Did you mean 'openai_compatible'?" in result.output


def test_a_provider_whose_plugin_cannot_be_loaded_says_why(desk: Desk) -> None:
    desk.write(
        '[upstreams.main]\nprovider = "openai"\n'
        '[[plugins]]\nuse = "openai"\n[plugins.options]\nfoo = 1\n'
    )
    result = desk.run()
    assert result.exit_code == 1
    assert "this plugin takes no options" in result.output


def test_a_configuration_without_upstreams_is_told(desk: Desk) -> None:
    desk.write("")
    result = desk.run()
    assert (result.exit_code, "Add [upstreams.NAME]" in result.output) == (1, True)


def test_json_holds_all_that_was_seen(desk: Desk, authority: Authority, secure: Server) -> None:
    first = upstream("good", secure.port, bundle(authority))
    desk.write(first + upstream("bad", secure.port))
    found = desk.seen()
    good, bad = found["good"], found["bad"]
    assert (good["ok"], good["trouble"], good["tls"]["version"]) == (True, None, "TLSv1.3")
    assert good["tls"]["certificate"]["names"] == ["localhost"]
    assert good["addresses"][0]["refused"] is None
    assert (bad["ok"], bad["trouble"]["step"], bad["trouble"]["kind"]) == (False, "tls", "tls")
    assert desk.run("good", "--json").exit_code == 0
    assert desk.run("--json").exit_code == 1


def test_a_timeout_is_for_each_step(desk: Desk) -> None:
    with serving(says(ok(b"{}"))) as server:  # waits for a request that TLS never sends
        desk.write(upstream("main", server.port))
        found = desk.seen("--timeout", "0.3")["main"]
    assert found["trouble"]["kind"] == "timeout_connect"
    assert desk.run("--timeout", "0").exit_code == 2


def test_a_provider_that_nobody_provides_is_told(desk: Desk) -> None:
    desk.write(upstream("main", 1).replace('"openai_compatible"', '"openai_compatibel"'))
    result = desk.run()
    assert rows(result)["main"].endswith("FAILED: configuration")
    assert "Did you mean 'openai_compatible'?" in result.output


def test_a_provider_whose_plugin_lacks_its_secrets_is_looked_at_and_not_asked(desk: Desk) -> None:
    with serving(says(ok(b"{}"))) as server:
        text = upstream("main", server.port, scheme="http")
        desk.write(
            text.replace('"openai_compatible"', '"acme"')
            + '[[plugins]]\nuse = "openai"\noptions = { key = { env = "NOBODY_SET_THIS" } }\n'
        )
        result = desk.run("--call")
        assert (result.exit_code, server.requests) == (0, [])
    assert "note: main: the plugin that provides 'acme' cannot be loaded" in result.output


PAGE: Final = (DOCS / "outbound.md").read_text()


def column(heading: str) -> list[str]:
    """The first column of the table below a heading of the page."""
    _, _, rest = PAGE.partition(f"\n## {heading}\n")
    found = re.search(r"(?:^\|.*\|\n)+", rest, re.MULTILINE)
    assert found
    return [line.split("|")[1].strip() for line in found[0].splitlines()[2:]]


def test_the_page_explains_every_column() -> None:
    assert tuple(column("Checking it")) == _HEADS


def test_the_page_explains_what_the_command_and_the_records_really_say() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "proxy" / "egress").glob("*.py"))
    # A text may be broken into two lines there.
    plain = re.sub(r'"\s+f?"', "", sources)
    said = column("What it says, and what to do")
    assert len(said) > 12
    for text in said:
        for part in text.split("…"):
            assert part.strip(" `") in plain, text
