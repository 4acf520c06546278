from proxy.demo.received import Received, bearer, fingerprint
from tests.demo.conftest import Site


def test_requests_are_kept_as_they_came_but_for_credentials(site: Site) -> None:
    raw = b'{"model": "demo-base",  "prompt": "caf\xc3\xa9"}'
    headers = {"Authorization": "Bearer sk-very-secret", "X-Portkey-Api-Key": "pk-1", "X-Seen": "1"}
    site.post("/v1/completions?x=1", raw, **headers)
    [entry] = site.get("/demo/received?last=1").json()["data"]
    assert entry["body"] == raw.decode()
    assert entry["body_bytes"] == len(raw)
    assert (entry["method"], entry["path"]) == ("POST", "/v1/completions?x=1")
    assert entry["credential"] == "sk-v…"
    assert entry["headers"]["authorization"] == entry["headers"]["x-portkey-api-key"] == "***"
    assert entry["headers"]["x-seen"] == "1"
    assert "very-secret" not in site.get("/demo/received").text


def test_refused_requests_are_kept_too_and_only_the_last_ones(locked: Site) -> None:
    for number in range(6):
        assert locked.get(f"/nowhere/{number}").status_code == 401
    reply = locked.get("/demo/received", Authorization="Bearer sk-right-key")
    assert [one["path"] for one in reply.json()["data"]] == [f"/nowhere/{n}" for n in range(2, 6)]
    assert reply.json()["data"][0]["credential"] is None


def test_what_was_received_is_shown_only_to_the_holder_of_the_key(locked: Site) -> None:
    assert locked.get("/demo/received").status_code == 401


def test_asking_for_none_gives_none(site: Site) -> None:
    assert site.get("/demo/received?last=0").json()["data"] == []


def test_of_a_long_body_only_the_beginning_is_kept() -> None:
    received = Received(1)
    received.note("POST", "/", (), b"x" * 300_000)
    [entry] = received.last(1)
    assert (len(entry["body"]), entry["body_bytes"]) == (262_144, 300_000)


def test_a_fingerprint_shows_four_characters_at_most() -> None:
    assert [fingerprint("sk-12345"), fingerprint("short")] == ["sk-1…", "…"]


def test_a_credential_comes_with_or_without_its_scheme() -> None:
    assert [bearer("Bearer  a b"), bearer("bearer x"), bearer("sk-1"), bearer("")] == [
        "a b",
        "x",
        "sk-1",
        "",
    ]
