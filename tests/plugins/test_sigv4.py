"""Requests to AWS are signed as they are sent, with credentials that are found late and told to nobody."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from plugins.providers.sigv4 import Signed, Signing
from proxy import ConfigError, Secret, Unavailable
from proxy.app import create_app
from proxy.config import parse
from tests.bridge.chats import chat
from tests.gateway import Gateway, document, gateway
from tests.upstream import Received, json_reply

#: AWS's own example of a key, by which its documents sign.
ACCESS: Final = "AKIDEXAMPLE"
SECRET: Final = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
CHAT: Final = {"model": "openai.gpt-oss-20b", "messages": [{"role": "user", "content": "Grüße"}]}
SIGNED: Final[dict[str, Any]] = {
    "plugins": [{"use": "providers"}],
    "upstream": {
        "provider": "bedrock",
        "credential": None,
        "settings": {"region": "eu-central-1"},
    },
}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine without any credential of AWS."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


@pytest.fixture
def key(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    aws.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def test_a_known_request_has_the_signature_that_aws_publishes() -> None:
    """The test suite of Signature Version 4, "get-vanilla": the algorithm beneath is the published one."""
    request = AWSRequest(method="GET", url="https://example.amazonaws.com/", data=b"")
    request.context["timestamp"] = "20150830T123600Z"
    request.headers["X-Amz-Date"] = "20150830T123600Z"
    auth = SigV4Auth(Credentials(ACCESS, SECRET), "service", "us-east-1")
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    assert signature == "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"


def verified(request: Received, gate: Gateway, token: str | None = None) -> Mapping[str, str]:
    """What a server of AWS does: sign what came with the key that it knows, and compare."""
    given = request.header("authorization") or ""
    scheme, _, rest = given.partition(" ")
    assert scheme == "AWS4-HMAC-SHA256"
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    names = fields["SignedHeaders"].split(";")
    assert {"host", "x-amz-date", "content-type"} <= set(names)
    headers = {name: request.header(name) for name in names if name != "x-amz-date"}
    url = f"http://127.0.0.1:{gate.upstream.port}{request.path}"
    again = AWSRequest(method=request.method, url=url, headers=headers, data=request.body)
    again.headers["X-Amz-Date"] = request.header("x-amz-date")
    again.context["timestamp"] = request.header("x-amz-date")
    _, region, service = fields["Credential"].split("/", 1)[1].split("/")[:3]
    auth = SigV4Auth(Credentials(ACCESS, SECRET, token), service, region)
    signature = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    assert signature == fields["Signature"]
    return {"region": region, "service": service, "key": fields["Credential"].split("/")[0]}


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("name", ["bedrock", "bedrock-mantle"])
def test_the_bytes_that_are_sent_are_the_bytes_that_were_signed(name: str) -> None:
    upstream = {**SIGNED["upstream"], "provider": name}
    with gateway(json_reply(chat("Hello")), plugins=SIGNED["plugins"], upstream=upstream) as gate:
        assert gate.ask(CHAT, path="/v1/chat/completions").status == 200
        # Each chat of a call that crosses the bridge has a signature of its own.
        assert gate.ask({"model": "m", "prompt": ["a", "b"]}).status == 200
        assert len(gate.upstream.requests) == 3
        for request in gate.upstream.requests:
            told = verified(request, gate)
            assert told == {"region": "eu-central-1", "service": name, "key": ACCESS}
        other = replace(gate.upstream.requests[0], body=b"other")
        with pytest.raises(AssertionError):
            verified(other, gate)


def test_a_session_has_its_token_signed_too(key: None, aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_SESSION_TOKEN", "session-token")
    with gateway(json_reply(chat("Hello")), **SIGNED) as gate:
        gate.ask(CHAT, path="/v1/chat/completions")
        (request,) = gate.upstream.requests
        assert request.header("x-amz-security-token") == "session-token"
        assert verified(request, gate, "session-token")


def test_a_profile_is_found_where_tools_of_aws_look(
    aws: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        f"[team]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n"
    )
    settings = {"region": "eu-central-1", "profile": "team"}
    upstream = {**SIGNED["upstream"], "settings": settings}
    with gateway(json_reply(chat("Hello")), plugins=SIGNED["plugins"], upstream=upstream) as gate:
        gate.ask(CHAT, path="/v1/chat/completions")
        assert verified(gate.upstream.requests[0], gate)["key"] == ACCESS


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("profile", ["", "nobody"])
def test_without_credentials_an_upstream_is_out_of_reach(
    profile: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"region": "eu-central-1", "profile": profile}
    upstream = {**SIGNED["upstream"], "settings": settings}
    with gateway(plugins=SIGNED["plugins"], upstream=upstream) as gate:
        with caplog.at_level(logging.ERROR):
            answer = gate.ask(CHAT, path="/v1/chat/completions")
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")
        assert gate.record().failures[0].kind == "connect"
        assert not gate.upstream.requests
    assert "credentials of AWS" in caplog.text


def test_an_api_key_goes_in_its_header_and_nothing_is_signed() -> None:
    upstream = {name: value for name, value in SIGNED["upstream"].items() if name != "credential"}
    with gateway(json_reply(chat("Hello")), plugins=SIGNED["plugins"], upstream=upstream) as gate:
        gate.ask(CHAT, path="/v1/chat/completions")
        assert (gate.upstream.requests[0].header("authorization") or "").startswith("Bearer ")


def refusal(**upstream: Any) -> str:
    main = {**SIGNED["upstream"], **upstream}
    value = document("http://127.0.0.1:9", "unused", plugins=SIGNED["plugins"], upstream=main)
    with pytest.raises(ConfigError) as caught:
        create_app(parse(value))
    return str(caught.value)


def test_what_cannot_be_signed_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "upstream 'main': requests are signed for a region" in refusal(settings={})
    assert "no caller's key is sent" in refusal(pass_caller_credential=True)
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    with pytest.raises(ConfigError, match=r'pip install "outgate\[bedrock\]"'):
        Signing("bedrock")({"region": "eu-central-1"}, None)
    assert Signing("bedrock")({}, Secret("api-key")) is None


@pytest.mark.usefixtures("key")
def test_the_secret_is_told_to_nobody() -> None:
    signed = Signed("bedrock", "eu-central-1")
    headers = signed("POST", "https://example.com/x", {"content-type": "application/json"}, b"{}")
    assert SECRET not in repr(signed) + str(headers)
    with pytest.raises(Unavailable) as caught:
        Signed("bedrock", "eu-central-1", profile="nobody")("GET", "https://example.com/", {}, None)
    assert "nobody" not in str(caught.value)
