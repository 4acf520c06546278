"""Every provider of the table, behind a running gateway: what it is sent, and what becomes of its answers."""

import re
import tomllib
from importlib.resources import files
from typing import Any, Final

import pytest

from plugins.providers import providers
from proxy import Provider
from proxy.app import assemble
from proxy.bridge.crossing import must_cross
from proxy.config import parse
from proxy.errors import ConfigError
from proxy.testing import harness
from tests.gateway import Answer, Gateway, gateway
from tests.plugins.shapes import ASKED, DONE, FOLDER, OURS, PROVIDED, Shape, payloads, said
from tests.upstream import Script, json_reply

NAMES: Final = sorted(PROVIDED)
TRANSLATED: Final = [name for name in NAMES if PROVIDED[name].provider.dialect]
SPEAKING: Final = [Shape(name) for name in NAMES if name not in TRANSLATED]
#: Once for each provider that speaks OpenAI's routes.
every = pytest.mark.parametrize("shape", SPEAKING, ids=lambda shape: shape.name)


def bridged(provider: Provider) -> bool:
    return must_cross(provider.bridge, provider.paths, "completions")


BRIDGED: Final = [shape for shape in SPEAKING if bridged(shape.provider)]
over_the_bridge = pytest.mark.parametrize("shape", BRIDGED, ids=lambda shape: shape.name)


def gate_to(shape: Shape, *scripts: Script, **upstream: Any) -> Any:
    return gateway(*scripts, plugins=shape.plugins, upstream={**shape.upstream, **upstream})


# -- the table -------------------------------------------------------------------------------------


def test_every_provider_has_its_shape_and_every_shape_its_provider() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shape_has_exactly_the_routes_that_the_table_says(name: str) -> None:
    shape = Shape(name)
    offered = {*shape.provider.paths, *(["fill_in"] if shape.provider.fill_in else [])}
    assert set(shape.paths) == offered


def test_every_entry_says_what_people_need_and_which_documents_say_so() -> None:
    for provider in providers():
        assert provider.title
        assert provider.base_url
        assert "chat" in provider.paths
        assert all(url.startswith("https://") for url in provider.documentation)
        assert provider.documentation
        assert provider.quirks
        assert all(quirk.endswith(".") for quirk in provider.quirks)
        assert re.fullmatch(r"[A-Z_]*", provider.credential_variable)
        local = provider.base_url.startswith("http://localhost:")
        assert local or provider.credential_variable


def test_the_table_names_each_provider_once_and_neither_of_the_plugins_of_their_own() -> None:
    text = files("plugins.providers").joinpath("table.toml").read_text()
    names = [provider.name for provider in providers()]
    assert names == [*tomllib.loads(text), *TRANSLATED]
    assert not {"openai", "openai_compatible"} & set(names)


def test_both_plugins_of_their_own_stand_beside_the_table() -> None:
    plugins = [{"use": name} for name in ("openai", "openai_compatible", "providers")]
    loaded = parse(
        {
            "access": {"anonymous": "guest"},
            "upstreams": {"a": {"provider": "openai"}, "b": {"provider": "groq"}},
            "routes": [{"upstreams": ["a", "b"]}],
            "plugins": plugins,
        }
    )
    _, parts = assemble(loaded)
    assert set(parts.providers) == set(NAMES)
    assert parts.upstreams["b"].base_url == "https://api.groq.com/openai/v1"


def test_a_name_that_two_plugins_give_stops_the_start() -> None:
    entries = [{"use": "providers"}, {"use": "providers", "name": "again"}]
    document = {
        "access": {"anonymous": "guest"},
        "upstreams": {"a": {"provider": "groq"}},
        "routes": [{"upstreams": ["a"]}],
        "plugins": entries,
    }
    with pytest.raises(ConfigError, match=r"'again': the provider 'azure-openai' is there already"):
        assemble(parse(document))


@pytest.mark.parametrize(
    ("name", "settings", "base_url"),
    [
        ("azure-openai", {"resource": "acme"}, "https://acme.openai.azure.com/openai/v1"),
        ("azure-openai-deployments", {"resource": "acme"}, "https://acme.openai.azure.com/openai"),
        (
            "bedrock",
            {"region": "eu-central-1"},
            "https://bedrock-runtime.eu-central-1.amazonaws.com/openai/v1",
        ),
        (
            "bedrock-mantle",
            {"region": "eu-central-1"},
            "https://bedrock-mantle.eu-central-1.api.aws/v1",
        ),
        (
            "workers-ai",
            {"account_id": "acc0123"},
            "https://api.cloudflare.com/client/v4/accounts/acc0123/ai/v1",
        ),
        (
            "databricks",
            {"workspace": "dbc-1.cloud.databricks.com"},
            "https://dbc-1.cloud.databricks.com/serving-endpoints",
        ),
    ],
)
def test_settings_make_the_address_and_a_missing_one_stops_the_start(
    name: str, settings: dict[str, str], base_url: str
) -> None:
    main = {"provider": name, "settings": settings}
    document: dict[str, Any] = {
        "access": {"anonymous": "guest"},
        "upstreams": {"main": main},
        "routes": [{"upstreams": ["main"]}],
        "plugins": [{"use": "providers"}],
    }
    _, parts = assemble(parse(document))
    assert parts.upstreams["main"].base_url == base_url
    main.pop("settings")
    (needed,) = settings
    with pytest.raises(ConfigError, match=f"the provider '{name}' needs {needed}"):
        assemble(parse(document))


def test_the_plugin_takes_no_options() -> None:
    with pytest.raises(ConfigError, match="takes no options, remove only"):
        harness("providers", only=["groq"])


# -- behind a gateway ------------------------------------------------------------------------------


@every
def test_a_call_goes_as_it_is_and_the_answer_comes_back_as_it_was(shape: Shape) -> None:
    with gate_to(shape, bridge={"always": False}) as gate:
        for kind in OURS.keys() & shape.paths.keys():
            gate.upstream.play(shape.whole(kind))
            answer = ask(gate, kind)
            assert (answer.status, answer.json()) == (200, shape.reply(kind))
            (request,) = gate.upstream.requests
            shape.check_request(request, kind, ASKED.get(kind))


@every
def test_a_stream_comes_back_event_by_event(shape: Shape) -> None:
    with gate_to(shape, bridge={"always": False}) as gate:
        for kind in {"chat", "completions"} & shape.paths.keys():
            gate.upstream.play(shape.stream(kind))
            answer = ask(gate, kind, stream=True)
            assert answer.status == 200
            assert payloads(answer.body) == [*shape.events(kind), DONE]
            (request,) = gate.upstream.requests
            shape.check_request(request, kind, {**ASKED[kind], "stream": True})


@over_the_bridge
def test_a_completion_is_sent_as_a_chat_where_that_is_the_way(shape: Shape) -> None:
    with gate_to(shape, shape.whole("chat")) as gate:
        answer = ask(gate, "completions").json()
        assert answer["object"] == "text_completion"
        assert [choice["text"] for choice in answer["choices"]] == ["Hello there"]
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["total_tokens"] == 4
        (request,) = gate.upstream.requests
        shape.check_request(request, "chat", ASKED["chat"])

        gate.upstream.play(shape.stream("chat"))
        events = payloads(ask(gate, "completions", stream=True).body)
        assert said(events) == ("Hello there", ["stop"])
        assert events[-1] == DONE
        (request,) = gate.upstream.requests
        shape.check_request(request, "chat")
        assert request.json()["stream"] is True


@over_the_bridge
def test_several_choices_are_several_chats_where_n_is_not_known(shape: Shape) -> None:
    with gate_to(shape, shape.whole("chat")) as gate:
        answer = ask(gate, "completions", n=2)
        sent = [request.json().get("n") for request in gate.upstream.requests]
        if shape.provider.bridge.split_n:
            assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1]
            assert sent == [None, None]
        else:
            assert sent == [2]


@pytest.mark.parametrize("name", ["mistral", "deepseek"])
def test_a_suffix_goes_to_the_route_that_fills_in(name: str) -> None:
    shape = Shape(name)
    with gate_to(shape, shape.whole("fill_in")) as gate:
        answer = ask(gate, "completions", suffix="!").json()
        assert answer["object"] == "text_completion"
        assert [choice["text"] for choice in answer["choices"]] == ["Hello there"]
        (request,) = gate.upstream.requests
        shape.check_request(request, "fill_in", {**ASKED["completions"], "suffix": "!"})

        gate.upstream.play(shape.stream("fill_in"))
        events = payloads(ask(gate, "completions", suffix="!", stream=True).body)
        assert said(events) == ("Hello there", ["stop"])
        (request,) = gate.upstream.requests
        shape.check_request(request, "fill_in")
        assert request.json()["suffix"] == "!"


def test_those_are_all_that_have_one() -> None:
    assert {known.name for known in providers() if known.fill_in} == {"mistral", "deepseek"}


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_provider_with_words_of_its_own_is_asked_in_them_and_answers_as_openai_would(
    name: str,
) -> None:
    shape = Shape(name)
    with gate_to(shape, json_reply(shape.translated["reply"])) as gate:
        for kind in ("chat", "completions"):
            gate.upstream.play(json_reply(shape.translated["reply"]))
            answer = ask(gate, kind).json()
            (choice,) = answer["choices"]
            said_so = choice["text"] if kind == "completions" else choice["message"]["content"]
            assert (said_so, choice["finish_reason"]) == ("Hello there", "stop")
            assert answer["usage"]["total_tokens"] == 4
            (request,) = gate.upstream.requests
            shape.check_request(request, "chat", shape.translated["sent"])

            gate.upstream.play(shape.named_events())
            events = payloads(ask(gate, kind, stream=True).body)
            assert said(events) == ("Hello there", ["stop"])
            assert events[-1] == DONE
            (request,) = gate.upstream.requests
            shape.check_request(request, "chat", {**shape.translated["sent"], "stream": True})


@pytest.mark.parametrize("name", TRANSLATED)
def test_its_errors_keep_their_status_and_are_told_as_openai_would(name: str) -> None:
    shape = Shape(name)
    with gate_to(shape, shape.refusal()) as gate:
        for kind in ("chat", "completions"):
            answer = ask(gate, kind)
            assert answer.status == shape.error["status"]
            assert answer.error["message"] == shape.error["body"]["error"]["message"]


@every
def test_an_error_keeps_its_status_and_its_shape(shape: Shape) -> None:
    with gate_to(shape, shape.refusal()) as gate:
        for number, kind in enumerate(("chat", "completions"), 1):
            answer = ask(gate, kind)
            assert (answer.status, answer.json()) == (shape.error["status"], shape.error["body"])
            assert gate.record(number).upstream_status == shape.error["status"]
        gate.upstream.play()
        for kind in OURS.keys() - shape.paths.keys() - {"completions"}:
            answer = ask(gate, kind)
            assert (answer.status, answer.error["code"]) == (404, "endpoint_not_offered")
        assert gate.upstream.requests == []


def ask(gate: Gateway, kind: str, **more: Any) -> Answer:
    if kind in ASKED:
        return gate.ask({**ASKED[kind], **more}, path=OURS[kind])
    return gate.ask(path=OURS[kind], method="GET")
