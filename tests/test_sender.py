"""Each upstream is spoken to as its provider says: address, paths, headers, settings, the bridge's defaults."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from proxy import Bridge, ConfigError, Provider, hookimpl
from proxy.app import assemble
from proxy.config import parse
from proxy.frozen import FrozenDict
from proxy.model import Upstream
from tests.bridge.chats import chat, echoing
from tests.gateway import UPSTREAM_KEY, bearer, document, gateway, refused
from tests.upstream import json_reply

CHAT: Final = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
COMPLETION: Final = {"model": "m", "prompt": "Hi"}


@dataclass(frozen=True)
class Acme:
    """A provider that leaves much to its settings, and to the model of the call."""

    @hookimpl
    def providers(self) -> Iterator[Provider]:
        yield Provider(
            name="acme",
            base_url="https://{resource}.example.com/openai",
            paths=FrozenDict(
                chat="/deployments/{model}/chat?api-version={version}",
                models="/models?api-version={version}",
                model="/models/{id}",
            ),
            headers=FrozenDict({"X-Version": "v-{version}", "x-fixed": "1"}),
            settings=FrozenDict(resource=None, version="7"),
            credential_header="Api-Key",
            credential_prefix="",
            bridge=Bridge(split_n=True, message="continue", system="Go on."),
        )


PLUGINS: Final = [{"use": "tests.test_sender:Acme"}]


def acme(**upstream: Any) -> dict[str, Any]:
    return {"plugins": PLUGINS, "upstream": {"provider": "acme", **upstream}}


def assembled(**upstream: Any) -> Upstream:
    value = document("http://127.0.0.1:9", "unused", **acme(**upstream))
    if "base_url" not in upstream:
        del value["upstreams"]["main"]["base_url"]
    return assemble(parse(value))[1].upstreams["main"]


# -- settings --------------------------------------------------------------------------------------


def test_settings_fill_the_address_of_the_provider_and_ones_own() -> None:
    upstream = assembled(settings={"resource": "acme"})
    assert upstream.base_url == "https://acme.example.com/openai"
    assert upstream.settings == {"resource": "acme", "version": "7"}
    own = assembled(base_url="https://{resource}.example.org/v1/", settings={"resource": "a"})
    assert own.base_url == "https://a.example.org/v1"


def test_settings_that_do_not_fit_stop_the_start() -> None:
    with pytest.raises(ConfigError, match=r"upstreams\.main\.settings: .* needs resource"):
        assembled()
    with pytest.raises(ConfigError, match=r"no setting 'resourc'\. Did you mean 'resource'"):
        assembled(settings={"resourc": "acme"})


def test_paths_and_headers_of_the_provider_go_with_every_call() -> None:
    with gateway(json_reply(chat("Hello")), **acme(settings={"version": "9"})) as gate:
        assert gate.ask(CHAT, path="/v1/chat/completions").status == 200
        assert gate.ask(path="/v1/models", method="GET").status == 200
        asked, listed = gate.upstream.requests
    assert asked.path == "/v1/deployments/m/chat?api-version=9"
    assert listed.path == "/v1/models?api-version=9"
    assert asked.header_values("x-version") == ["v-9"]
    assert asked.header_values("api-key") == [UPSTREAM_KEY]
    assert not asked.header_values("authorization")


def test_a_callers_header_counts_before_the_providers_where_the_operator_lets_it_pass() -> None:
    headers = [*bearer(), ("x-fixed", "2"), ("x-version", "3")]
    with gateway(json_reply(chat("Hello")), **acme(pass_headers=["x-fixed"])) as gate:
        gate.ask(CHAT, headers, path="/v1/chat/completions")
        asked = gate.upstream.requests[0]
    assert asked.header_values("x-fixed") == ["2"]
    assert asked.header_values("x-version") == ["v-7"]


# -- the model in a path ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "part"),
    [("gpt-4o", "gpt-4o"), ("a/b c", "a%2Fb%20c"), ("../x", "..%2Fx"), ("é?#", "%C3%A9%3F%23")],
)
def test_a_model_is_one_part_of_the_path(model: str, part: str) -> None:
    with gateway(json_reply(chat("Hello")), **acme()) as gate:
        assert gate.ask({**CHAT, "model": model}, path="/v1/chat/completions").status == 200
        assert gate.upstream.requests[0].path == f"/v1/deployments/{part}/chat?api-version=7"


@pytest.mark.parametrize("model", [".", "..", "...", "m" * 513])
def test_a_model_that_can_be_no_part_of_a_path_does_not_exist(model: str) -> None:
    with gateway(json_reply(chat("Hello")), **acme()) as gate:
        answer = gate.ask({**CHAT, "model": model}, path="/v1/chat/completions")
        error = refused(answer, 404, "model_not_found")
        assert error["param"] == "model"
        assert not gate.upstream.requests


# -- the bridge's defaults -------------------------------------------------------------------------


def test_a_provider_brings_its_bridge_and_single_keys_of_it_are_the_operators() -> None:
    assert assembled(settings={"resource": "a"}).bridge == Bridge(
        split_n=True, message="continue", system="Go on."
    )
    changed = assembled(settings={"resource": "a"}, bridge={"split_n": False, "parallel": 2})
    assert changed.bridge == Bridge(message="continue", system="Go on.", parallel=2)


def test_another_message_is_not_sent_with_the_providers_words() -> None:
    changed = assembled(settings={"resource": "a"}, bridge={"message": "user"})
    assert changed.bridge == Bridge(split_n=True)


def test_completions_take_the_bridge_of_the_provider() -> None:
    with gateway(echoing(), **acme()) as gate:
        answer = gate.ask({**COMPLETION, "n": 2})
        assert [one["text"] for one in answer.json()["choices"]] == ["[Hi]", "[Hi]"]
        assert gate.upstream.requests[0].json()["messages"][0]["content"] == "Go on."
        assert len(gate.upstream.requests) == 2
