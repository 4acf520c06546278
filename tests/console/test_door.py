"""Who has no token sees nothing and learns nothing; who has it is sent the same strict headers with every page."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest

from proxy.console.door import CONTENT_POLICY
from tests.console.material import TOKEN, look, outcome, shown, write_segment
from tests.gateway import COMPLETION, Answer, Gateway

PAGES = ["", "/calls", "/calls/c0", "/calls/nobody", "/spend", "/chain", "/nothing", "/a/b//c"]
FORM = urlencode({"token": TOKEN}).encode()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("audit")
    write_segment(directory, [outcome("c0", 1_750_000_000.0)])
    with shown(directory) as gate:
        yield gate


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Gateway]:
    """One whose guesses no other test counts."""
    with shown(tmp_path) as gate:
        yield gate


def cookie_of(answer: Answer) -> str:
    """What a browser would send back."""
    jar = SimpleCookie(answer.header("set-cookie") or "")
    return "; ".join(f"{name}={morsel.value}" for name, morsel in jar.items())


def signed_in(gate: Gateway, path: str = "/console") -> str:
    answer = look(gate, path, [], method="POST", body=FORM)
    assert answer.status == 303, answer.body
    return cookie_of(answer)


def test_a_gateway_without_the_table_has_no_such_page(tmp_path: Path) -> None:
    from tests.gateway import gateway

    with gateway() as gate:
        answer = gate.ask(path="/console", method="GET")
        assert answer.status == 404
        assert answer.error["code"] == "unknown_url"


def test_without_a_token_every_address_answers_the_same(gate: Gateway) -> None:
    answers = {look(gate, f"/console{page}", []).body for page in PAGES}
    assert len(answers) == 1
    for page in PAGES:
        answer = look(gate, f"/console{page}", [])
        assert answer.status == 401
        assert answer.header("www-authenticate") == 'Bearer realm="outgate console"'
        assert answer.header("set-cookie") is None


@pytest.mark.parametrize("page", PAGES)
def test_with_the_token_each_page_is_there_or_not(gate: Gateway, page: str) -> None:
    answer = look(gate, f"/console{page}")
    missing = page in ("/calls/nobody", "/nothing", "/a/b//c")
    assert answer.status == (404 if missing else 200)
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert answer.header("set-cookie") is None


@pytest.mark.parametrize("headers", [[], None], ids=["stranger", "known"])
def test_every_answer_has_the_strict_headers(
    gate: Gateway, headers: list[tuple[str, str]] | None
) -> None:
    for page in PAGES:
        answer = look(gate, f"/console{page}", headers)
        assert answer.header("content-security-policy") == CONTENT_POLICY
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("x-frame-options") == "DENY"
        assert answer.header("referrer-policy") == "same-origin"
        assert answer.header("cache-control") == "no-store"
    assert "default-src 'none'" in CONTENT_POLICY
    assert "script-src" not in CONTENT_POLICY
    assert "unsafe" not in CONTENT_POLICY


def test_the_form_gives_a_session_that_is_for_the_page_only(gate: Gateway) -> None:
    answer = look(gate, "/console/calls?team=a%26b", [], method="POST", body=FORM)
    assert (answer.status, answer.header("location")) == (303, "/console/calls?team=a%26b")
    cookie = answer.header("set-cookie") or ""
    for part in ("HttpOnly", "SameSite=Strict", "Path=/console", "Max-Age=3600"):
        assert part in cookie
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    page = look(gate, "/console", [("Cookie", cookie_of(answer))])
    assert page.status == 200
    assert page.header("set-cookie") is None


def test_no_answer_of_the_gateway_itself_sets_a_cookie(gate: Gateway) -> None:
    signed_in(gate)
    for answer in (
        gate.ask(COMPLETION),
        gate.ask(path="/v1/models", method="GET"),
        gate.ask(path="/x"),
    ):
        assert answer.header("set-cookie") is None
        assert answer.header("content-security-policy") is None


def test_a_session_is_no_key_and_a_key_is_no_token(gate: Gateway) -> None:
    cookie = signed_in(gate)
    assert (
        gate.ask(COMPLETION, [("Cookie", cookie), ("Content-Type", "application/json")]).status
        == 401
    )
    from tests.gateway import KEY

    assert look(gate, "/console", [("Authorization", f"Bearer {KEY}")]).status == 401


def test_signing_out_takes_the_cookie_away(gate: Gateway) -> None:
    cookie = signed_in(gate)
    answer = look(gate, "/console/out", [("Cookie", cookie)], method="POST", body=b"x=1")
    assert answer.status == 303
    assert "Expires=Thu, 01 Jan 1970" in (answer.header("set-cookie") or "")
    assert "Path=/console" in (answer.header("set-cookie") or "")


@pytest.mark.parametrize(
    "from_",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
    ids=str,
)
def test_a_form_on_another_site_neither_signs_in_nor_out(
    gate: Gateway, from_: dict[str, str]
) -> None:
    answer = look(gate, "/console", list(from_.items()), method="POST", body=FORM)
    assert answer.status == 401
    assert answer.header("set-cookie") is None
    out = look(gate, "/console/out", list(from_.items()), method="POST", body=b"x=1")
    assert out.header("set-cookie") is None


def test_a_form_of_our_own_is_taken(gate: Gateway) -> None:
    for headers in (
        [("Sec-Fetch-Site", "same-origin")],
        [("Origin", f"http://127.0.0.1:{gate.port}")],
    ):
        assert look(gate, "/console", headers, method="POST", body=FORM).status == 303


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(gate: Gateway, method: str) -> None:
    cookie = signed_in(gate)
    for headers in ([("Cookie", cookie)], None):
        answer = look(gate, "/console/chain", headers, method=method, body=b"x=1")
        assert answer.status == 405
        assert answer.header("allow") == "GET, HEAD"
    assert look(gate, "/console/chain", [], method=method, body=b"x=1").status == 401


def test_after_some_wrong_tokens_nobody_looks_at_the_next(own: Gateway) -> None:
    wrong = [("Authorization", "Bearer wrong-token-0123456789")]
    assert [look(own, "/console", wrong).status for _ in range(5)] == [401] * 5
    answer = look(own, "/console")
    assert answer.status == 429
    assert 0 < int(answer.header("retry-after") or 0) <= 60
    form = urlencode({"token": TOKEN}).encode()
    assert look(own, "/console", [], method="POST", body=form).status == 429


def test_guesses_at_the_same_time_are_counted_one_by_one(own: Gateway) -> None:
    wrong = [("Authorization", "Bearer wrong-token-0123456789")]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: look(own, "/console", wrong).status, range(40)))
    assert found.count(401) == 5
    assert found.count(429) == 35


def test_who_is_signed_in_is_not_locked_out_by_the_guesses_of_others(own: Gateway) -> None:
    cookie = signed_in(own)
    for _ in range(9):
        look(own, "/console", [("Authorization", "Bearer wrong-token-0123456789")])
    assert look(own, "/console", [("Cookie", cookie)]).status == 200


@pytest.mark.parametrize(
    "shown_", ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer \xff\xfe", "Bearer " + "x" * 6000]
)
def test_odd_credentials_are_none(own: Gateway, shown_: str) -> None:
    assert look(own, "/console", [("Authorization", shown_)]).status == 401


def test_a_form_that_is_too_large_or_none_is_none(own: Gateway) -> None:
    large = urlencode({"token": "x" * 100_000}).encode()
    assert look(own, "/console", [], method="POST", body=large).status == 401
    assert look(own, "/console", [], method="POST", body=b"\xff\x00%%%").status == 401


@pytest.mark.parametrize(
    "header",
    [
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("X-Real-Ip", "10.0.0.9"),
        ("Via", "1.1 front"),
        ("Host", "rebound.example"),
        ("Host", "10.0.0.9:8000"),
        ("Host", "[::1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
def test_from_elsewhere_there_is_no_such_page(
    gate: Gateway, header: tuple[str, str], method: str
) -> None:
    shown_token = ("Authorization", f"Bearer {TOKEN}")
    for path in ("/console", "/console/chain", "/console/static/console.css"):
        answer = look(gate, path, [header, shown_token], method=method, body=b"x=1")
        assert answer.status == 404
        assert answer.error["code"] == "unknown_url"
        assert answer.header("content-security-policy") is None
        assert answer.header("allow") is None


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1", "[::1]:80"])
def test_from_this_machine_it_is_there_by_any_of_its_names(gate: Gateway, host: str) -> None:
    assert look(gate, "/console", [("Host", host)]).status == 401


def test_opened_to_others_it_asks_them_for_the_token_all_the_same(tmp_path: Path) -> None:
    with shown(tmp_path, console={"loopback_only": False}) as gate:
        away = [("Host", "gateway.example"), ("X-Forwarded-For", "10.0.0.9")]
        assert look(gate, "/console", away).status == 401
        token = ("Authorization", f"Bearer {TOKEN}")
        assert look(gate, "/console", [*away, token]).status == 200
        # Each address has its own guesses: nginx says whose they are.
        for _ in range(6):
            look(gate, "/console", [*away, ("Authorization", "Bearer wrong-0123456789")])
        assert look(gate, "/console", [*away, token]).status == 429
        other = [("Host", "gateway.example"), ("X-Forwarded-For", "10.0.0.7"), token]
        assert look(gate, "/console", other).status == 200


def test_style_and_icon_are_served_to_who_may_see_the_form(gate: Gateway) -> None:
    for name, kind in (("console.css", "text/css"), ("icon.svg", "image/svg+xml")):
        answer = look(gate, f"/console/static/{name}", [])
        assert answer.status == 200
        assert (answer.header("content-type") or "").startswith(kind)
        assert answer.header("x-content-type-options") == "nosniff"
        assert "immutable" in (answer.header("cache-control") or "")
    for name in ("../view.py", "..%2fview.py", "%2e%2e/view.py", "login.html"):
        assert look(gate, f"/console/static/{name}", []).status in (401, 404)
