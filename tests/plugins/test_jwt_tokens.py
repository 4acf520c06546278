"""Tokens of a single sign-on: whose are taken, and that nothing else ever is."""

import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from plugins import jwt_tokens
from proxy import ConfigError, Credentials, Request, Secret
from proxy.testing import Harness, PluginFailed, Result, harness
from tests.gateway import COMPLETION, bearer, gateway, refused
from tests.upstream import Script, ScriptedUpstream, huge, json_reply, raw, silent

ISSUER: Final = "https://sso.example.org"
AUDIENCE: Final = "outgate"
RSA: Final = rsa.generate_private_key(65537, 2048)
OTHER: Final = rsa.generate_private_key(65537, 2048)
WEAK: Final = rsa.generate_private_key(65537, 1024)
EC: Final = ec.generate_private_key(ec.SECP256R1())
ED: Final = ed25519.Ed25519PrivateKey.generate()


def public(key: Any, kid: str | None = "one", **more: Any) -> dict[str, Any]:
    kinds: dict[type, Any] = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}  # fmt: skip
    algorithm = next((a for kind, a in kinds.items() if isinstance(key, kind)), OKPAlgorithm)
    written = json.loads(algorithm.to_jwk(key.public_key()))
    return {**written, **({"kid": kid} if kid else {}), **more}


def key_set(*keys: dict[str, Any]) -> dict[str, Any]:
    return {"keys": list(keys)}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600,
        "groups": ["eng", "staff"], **changes,
    }  # fmt: skip
    return {name: value for name, value in made.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "one", **changes: Any) -> str:
    header = {"kid": kid} if kid else {}
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=header)


def is_stranger(plugin: Harness, credential: str) -> bool:
    """Show a credential to this one plugin, which is not loaded anew for it."""
    request = Request(
        id="r", endpoint="chat", headers={}, client="127.0.0.1",
        credentials=Credentials(caller=Secret(credential)),
    )  # fmt: skip
    return plugin.parts.chain.identify[0].function(request) is None


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(key_set(public(RSA))))
    return path


def loaded(file: Path, **options: Any) -> Harness:
    given = {"issuer": ISSUER, "audience": [AUDIENCE], "jwks_file": str(file), **options}
    return harness("jwt", **given)


def shown(plugin: Harness, credential: str) -> Result:
    return plugin.given(headers={"authorization": f"Bearer {credential}"}).completions()


def stranger(result: Result) -> bool:
    assert result.denied is None or result.denied.status == 401
    return result.denied is not None


# -- who is known ------------------------------------------------------------------------------------


def test_a_sound_token_names_its_caller_with_groups(file: Path) -> None:
    result = shown(loaded(file), token())
    assert result.denied is None
    assert (result.record.principal, result.record.groups) == ("alice", ("eng", "staff"))
    assert dict(result.record.metadata) == {"owner": "alice"}


def test_claims_are_found_where_the_operator_says(file: Path) -> None:
    plugin = loaded(
        file, name_claim="email", groups_claim="realm_access.roles", team_claim="https://x/team",
        prefix="sso:",
    )  # fmt: skip
    made = token(
        email="a@example.org", realm_access={"roles": ["admin"]}, **{"https://x/team": "red"}
    )
    record = shown(plugin, made).record
    assert (record.principal, record.groups) == ("sso:a@example.org", ("admin",))
    assert dict(record.metadata) == {"owner": "sso:a@example.org", "team": "red"}


@pytest.mark.parametrize(("groups", "expected"), [(None, ()), ([], ()), ("eng", ("eng",))])
def test_groups_may_be_missing_or_a_single_one(
    file: Path, groups: Any, expected: tuple[str, ...]
) -> None:
    assert shown(loaded(file), token(groups=groups)).record.groups == expected


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA, "RS256"), (RSA, "RS512"), (RSA, "PS256"), (EC, "ES256"), (ED, "EdDSA")],
)
def test_every_algorithm_with_a_public_key_works_when_it_is_allowed(
    tmp_path: Path, key: Any, algorithm: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(key_set(public(key))))
    assert not stranger(shown(loaded(path, algorithms=[algorithm]), token(key, algorithm)))
    path.write_text(json.dumps(key_set(public(RSA, "r"), public(key))))
    assert stranger(shown(loaded(path, algorithms=["RS384"]), token(key, algorithm)))


def test_a_token_without_a_key_name_is_checked_with_the_only_key_there_is(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(key_set(public(RSA))))
    assert not stranger(shown(loaded(path), token(kid=None)))
    path.write_text(json.dumps(key_set(public(RSA), public(OTHER, "two"))))
    assert stranger(shown(loaded(path), token(kid=None)))


def test_one_of_several_audiences_is_enough(file: Path) -> None:
    plugin = loaded(file, audience=["first", "second"])
    assert not stranger(shown(plugin, token(aud=["second", "elsewhere"])))
    assert stranger(shown(plugin, token(aud=["third"])))


# -- who is not --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example.org"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"aud": []},
        {"aud": {"outgate": 1}},
        {"exp": None},
        {"exp": 1},
        {"exp": "never"},
        {"exp": 1e400},
        {"exp": int(time.time()) - 40},
        {"nbf": int(time.time()) + 3600},
        {"iat": int(time.time()) + 3600},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"sub": "x" * 257},
        {"groups": [1]},
        {"groups": {"eng": True}},
        {"groups": ["a\u0000"]},
    ],
)
def test_a_signed_token_with_claims_that_will_not_do_is_not_known(
    file: Path, changes: dict[str, Any]
) -> None:
    assert stranger(shown(loaded(file), token(**changes)))


def test_within_the_leeway_a_token_that_has_just_ended_is_known(file: Path) -> None:
    ended = token(exp=int(time.time()) - 5)
    assert not stranger(shown(loaded(file), ended))
    assert stranger(shown(loaded(file, leeway=0), ended))


def _forged() -> dict[str, str]:
    good = token()
    head, body, signature = good.split(".")
    pem = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    def confused(secret: bytes) -> str:
        signed = f"{part({'alg': 'HS256', 'kid': 'one'})}.{body}"
        return f"{signed}.{part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    return {
        "no algorithm": f"{part({'alg': 'none', 'kid': 'one'})}.{body}.",
        "no algorithm, spelt otherwise": f"{part({'alg': 'nOnE', 'kid': 'one'})}.{body}.",
        "the public key as a shared secret": confused(pem),
        "the modulus as a shared secret": confused(public(RSA)["n"].encode()),
        "another key under the same name": token(OTHER),
        "another key under a name that is not known": token(OTHER, kid="two"),
        "a key of its own in the header": jwt.encode(
            claims(), OTHER, algorithm="RS256", headers={"kid": "one", "jwk": public(OTHER)}
        ),
        "a place of keys in the header": jwt.encode(
            claims(), OTHER, algorithm="RS256",
            headers={"kid": "two", "jku": "https://evil.example.org/keys"},
        ),
        "no signature": f"{head}.{body}.",
        "a cut signature": good[:-6],
        "another body": f"{head}.{part(claims(sub='root'))}.{signature}",
        "an algorithm that is not allowed": token(algorithm="RS384"),
        "a demand that nobody knows": jwt.encode(
            claims(), RSA, algorithm="RS256", headers={"kid": "one", "crit": ["x"], "x": 1}
        ),
        "a name of a key that is no text": f"{part({'alg': 'RS256', 'kid': ['one']})}.{body}.{signature}",
        "an algorithm that is no text": f"{part({'alg': ['RS256'], 'kid': 'one'})}.{body}.{signature}",
        "a header that is no object": f"{part([1])}.{body}.{signature}",
        "a header of great depth": f"{part(b'[' * 3000)}.{body}.{signature}",
        "three parts of nothing": "..",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.x",
        "five parts, as if encrypted": f"{good}.x.y",
        "a token that is too long": f"{head}.{'A' * 7000}.{signature}",
        "a detached body": jwt.encode(
            claims(), RSA, algorithm="RS256", headers={"kid": "one", "b64": False, "crit": ["b64"]}
        ),
    }  # fmt: skip


FORGED: Final = _forged()


@pytest.mark.parametrize("name", FORGED)
def test_no_forged_token_is_known(file: Path, name: str) -> None:
    assert stranger(shown(loaded(file), FORGED[name]))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_text(json.dumps(key_set(public(RSA))))
    return loaded(path)


@given(st.lists(st.text(st.characters(codec="latin-1"), max_size=40), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_garbage_in_the_form_of_a_token_is_a_stranger(known: Harness, parts: list[str]) -> None:
    assert is_stranger(known, ".".join(parts))


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "b64", "crit", "x5c"]), st.one_of(
    st.none(), st.booleans(), st.floats(), st.text(max_size=9), st.just("RS256"), st.lists(st.text(), max_size=2),
)))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_header_over_a_wrong_signature_is_a_stranger(
    known: Harness, header: dict[str, Any]
) -> None:
    assert is_stranger(known, f"{part(header)}.{part(claims())}.{part(b'x' * 256)}")


def test_the_refusal_is_the_same_as_for_any_unknown_key(file: Path) -> None:
    options = {"issuer": ISSUER, "audience": [AUDIENCE], "jwks_file": str(file)}
    with gateway(plugins=[{"use": "jwt", "options": options}]) as gate:
        wrong = [FORGED["no signature"], token(exp=1), "unknown-key-0123456789", "a.b.c"]
        answers = [gate.ask(COMPLETION, bearer(key)) for key in wrong]
        assert len({answer.body for answer in answers}) == 1
        refused(answers[0], 401, "invalid_api_key")
        assert gate.ask(COMPLETION, bearer(token())).status == 200
        assert gate.record(5).principal == "alice"
        assert "eyJ" not in repr(gate.records) + repr(gate.upstream.requests)


# -- keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "Put the issuer's key set there"),
        ("{", "Expecting property name"),
        ("[]", 'an object with a list "keys"'),
        ('{"keys": 1}', 'an object with a list "keys"'),
        ('{"keys": []}', "no public key for RS256, ES256"),
        (json.dumps(key_set({"kty": "oct", "k": "c2VjcmV0", "kid": "one"})), "no public key"),
        (json.dumps(key_set(public(RSA, use="enc"))), "no public key"),
        (json.dumps(key_set(public(RSA, alg="RS512"))), "no public key"),
        (json.dumps(key_set({**public(RSA), "d": "AQAB"})), "no public key"),
        (json.dumps(key_set({"kty": "RSA", "n": "!", "e": "AQAB"})), "no public key"),
        (json.dumps(key_set(public(ED))), "no public key"),
    ],
)
def test_a_file_without_a_usable_key_stops_the_start(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        loaded(path)


def test_a_key_that_is_too_short_to_trust_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(key_set(public(WEAK))))
    head, body = part({"alg": "RS256", "kid": "one"}), part(claims())
    made = RSAAlgorithm(RSAAlgorithm.SHA256).sign(f"{head}.{body}".encode(), WEAK)
    assert stranger(shown(loaded(path), f"{head}.{body}.{part(made)}"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"issuer": ""}, "whose tokens"),
        ({"audience": []}, "whose tokens"),
        ({"audience": [""]}, "whose tokens"),
        ({"algorithms": ["none"]}, "does not rest on a public key"),
        ({"algorithms": ["RS256", "HS256"]}, "does not rest on a public key"),
        ({"algorithms": []}, "needs an entry"),
        ({"leeway": -1}, "leeway is 0 to 300"),
        ({"leeway": 9999}, "leeway is 0 to 300"),
        ({"refresh": 0.0}, "refresh at least 1"),
        ({"jwks_file": None}, "either jwks_file"),
        ({"jwks_url": "https://h/keys"}, "either jwks_file"),
        ({"jwks_file": None, "jwks_url": "http://h/keys"}, "write https://host/path"),
        ({"jwks_file": None, "jwks_url": "https://user@h/keys"}, "write https://host/path"),
        ({"jwks_file": None, "jwks_url": "https://h:x/keys"}, "cannot be read as a URL"),
        ({"jwks_file": None, "jwks_url": "file:///etc/passwd"}, "write https://host/path"),
        (
            {"jwks_file": None, "jwks_url": "https://h/keys", "ca_bundle": "/nowhere"},
            "ca_bundle '/nowhere'",
        ),
        ({"isuer": "x"}, "Did you mean 'issuer'"),
    ],
)
def test_options_that_cannot_be_meant_stop_the_start(
    file: Path, changes: dict[str, Any], message: str
) -> None:
    options = {"issuer": ISSUER, "audience": [AUDIENCE], "jwks_file": str(file), **changes}
    options = {name: value for name, value in options.items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        harness("jwt", **options)


# -- keys from a server ------------------------------------------------------------------------------


@dataclass
class Issuer:
    """A server of keys; ``age`` lets as much time seem to pass for the plugin."""

    server: ScriptedUpstream
    options: dict[str, Any]

    def plugin(self, **changes: Any) -> Harness:
        return harness("jwt", **{**self.options, **changes})

    def fetched(self) -> int:
        return len(self.server.requests)


@contextmanager
def issuing(tmp_path: Path, *scripts: Script, name: str = "localhost") -> Iterator[Issuer]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with ScriptedUpstream(*scripts, tls=context) as server:
        options = {
            "issuer": ISSUER,
            "audience": [AUDIENCE],
            "jwks_url": f"https://localhost:{server.port}/keys?v=1",
            "ca_bundle": str(bundle),
            "allow_private": True,
        }
        yield Issuer(server, options)


def keys_of(plugin: Harness) -> Any:
    """The plugin's key set, to let time pass for it."""
    identify: Any = plugin.parts.chain.identify[0].function
    return identify.__self__._keys


def test_keys_are_fetched_once_and_at_the_first_token(tmp_path: Path) -> None:
    with issuing(tmp_path, json_reply(key_set(public(RSA)))) as issuer:
        plugin = issuer.plugin()
        assert is_stranger(plugin, "no-token-at-all-0123456789")
        assert issuer.fetched() == 0
        assert [is_stranger(plugin, token()) for _ in range(3)] == [False] * 3
        assert issuer.fetched() == 1
        (request,) = issuer.server.requests
        assert (request.method, request.path) == ("GET", "/keys?v=1")


def test_a_new_key_is_fetched_when_it_is_first_shown_and_then_not_for_a_minute(
    tmp_path: Path,
) -> None:
    first, second = key_set(public(RSA)), key_set(public(RSA), public(OTHER, "two"))
    with issuing(tmp_path, json_reply(first), json_reply(second)) as issuer:
        plugin = issuer.plugin()
        assert not is_stranger(plugin, token())
        rotated = token(OTHER, kid="two")
        assert is_stranger(plugin, rotated)
        assert issuer.fetched() == 1
        keys_of(plugin)._tried -= 61
        assert not is_stranger(plugin, rotated)
        for number in range(5):
            assert is_stranger(plugin, token(OTHER, kid=f"guess-{number}"))
        assert issuer.fetched() == 2


def test_the_last_good_keys_stay_in_force_while_the_server_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults: Sequence[Script] = (
        json_reply({}, status=500), raw(b""), json_reply({"keys": []}), raw(b"garbage\r\n\r\n"),
        huge(2_000_000), json_reply({}, status=302, headers=[("location", "https://evil/")]),
    )  # fmt: skip
    with issuing(tmp_path, json_reply(key_set(public(RSA))), *faults) as issuer:
        plugin = issuer.plugin()
        assert not is_stranger(plugin, token())
        for number in range(len(faults)):
            keys_of(plugin)._tried -= 61
            assert is_stranger(plugin, token(OTHER, kid=f"guess-{number}"))
            assert not is_stranger(plugin, token())
        assert issuer.fetched() == 1 + len(faults)
    assert caplog.text.count("1 stay in force") == len(faults)
    assert "not 200" in caplog.text


def test_keys_that_are_old_are_renewed_while_calls_go_on(tmp_path: Path) -> None:
    with issuing(tmp_path, json_reply(key_set(public(RSA)))) as issuer:
        plugin = issuer.plugin(refresh=300.0)
        assert not is_stranger(plugin, token())
        keys_of(plugin)._tried -= 301
        assert not is_stranger(plugin, token())
        issuer.server.wait_for(lambda: issuer.fetched() == 2)


@pytest.mark.parametrize("fault", ["silent", "wrong name", "unknown authority", "private"])
def test_without_any_keys_calls_with_tokens_are_refused_for_now_and_others_are_not(
    tmp_path: Path, fault: str
) -> None:
    script = silent() if fault == "silent" else json_reply(key_set(public(RSA)))
    name = "other.example.org" if fault == "wrong name" else "localhost"
    with issuing(tmp_path, script, name=name) as issuer:
        options = dict(issuer.options)
        if fault == "unknown authority":
            del options["ca_bundle"]
        if fault == "private":
            options["allow_private"] = False
        with gateway(plugins=[{"use": "jwt", "options": options}]) as gate:
            for _ in range(2):
                answer = gate.ask(COMPLETION, bearer(token()))
                assert answer.status == 503
                assert answer.error["code"] == "state_unavailable"
                assert answer.header("retry-after")
            assert gate.ask(COMPLETION).status == 200
            refused(gate.ask(COMPLETION, bearer("unknown-key-0123456789")), 401)
        assert len(issuer.server.requests) <= 1


def test_a_plugin_that_cannot_tell_says_so_and_does_not_fail(tmp_path: Path) -> None:
    with issuing(tmp_path, raw(b"")) as issuer, pytest.raises(PluginFailed, match="unavailable"):
        shown(issuer.plugin(), token())


def test_the_algorithms_are_those_with_public_keys() -> None:
    names = set(jwt_tokens._KEY_TYPES)
    assert not {name for name in names if name.startswith("HS") or name == "none"}
    assert names <= set(jwt.algorithms.get_default_algorithms())
