from proxy import Provider
from proxy.testing import harness
from tests.gateway import COMPLETION, UPSTREAM_KEY, gateway


def test_openai_is_where_openai_is() -> None:
    provider = harness("openai").parts.providers["openai"]
    assert provider.base_url == "https://api.openai.com/v1"
    assert provider.paths == Provider(name="any").paths


def test_a_compatible_server_is_wherever_the_upstream_says() -> None:
    provider = harness("openai_compatible").parts.providers["openai_compatible"]
    assert provider.base_url is None
    assert provider.paths == Provider(name="any").paths


def test_both_speak_the_same_dialect() -> None:
    paths = {
        "/v1/completions": COMPLETION,
        "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        "/v1/embeddings": {"model": "m", "input": "hi"},
    }
    for upstream in ({}, {"provider": "openai"}):
        with gateway(plugins=[{"use": "openai"}], upstream=upstream) as gate:
            for path, body in paths.items():
                assert gate.ask(body, path=path).status == 200
                request = gate.upstream.requests[-1]
                assert (request.method, request.path, request.json()) == ("POST", path, body)
                assert request.header_values("authorization") == [f"Bearer {UPSTREAM_KEY}"]
