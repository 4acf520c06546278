"""A question to a service has one answer, whole and in time, or none."""

import pytest

from proxy import Asker
from tests.upstream import (
    ScriptedUpstream,
    after_continues,
    cut_after,
    huge,
    json_reply,
    reply,
    silent,
    stream,
)

FINE = reply(201, body=b"fine")


def test_the_answer_is_its_status_and_its_body_and_the_connection_is_kept() -> None:
    with ScriptedUpstream(FINE, stream([b"fi", b"ne"]), after_continues(2, FINE)) as service:
        asker = Asker(f"{service.url}/in")
        answers = [asker.ask(b"what?", {"x-a": "b"}) for _ in range(3)]
    assert answers == [(201, b"fine"), (200, b"fine"), (201, b"fine")]
    asked = service.requests[0]
    assert (asked.method, asked.path, asked.body) == ("POST", "/in", b"what?")
    assert (asked.header("x-a"), asked.header("user-agent")) == ("b", "outgate")
    assert asked.header("host") == service.url.removeprefix("http://")
    assert service.connections == 1


def test_an_answer_that_ends_with_its_connection_is_whole() -> None:
    with ScriptedUpstream(stream([b"fi", b"ne"], framing="close")) as service:
        asker = Asker(service.url)
        assert [asker.ask(b"", {}) for _ in range(2)] == [(200, b"fine")] * 2
    assert service.connections == 2


def test_an_answer_may_have_as_many_bytes_as_it_may_and_no_more() -> None:
    with ScriptedUpstream(FINE, FINE, huge(10**6)) as service:
        assert Asker(service.url, most=4).ask(b"", {}) == (201, b"fine")
        for most in (3, 1000):
            with pytest.raises(OSError, match=f"more than {most} bytes"):
                Asker(service.url, most=most).ask(b"", {})


def test_a_cut_answer_is_none() -> None:
    with ScriptedUpstream(cut_after(50, reply(200, body=b"x" * 100))) as service:
        with pytest.raises(OSError, match="cut"):
            Asker(service.url).ask(b"", {})
        assert len(service.requests) == 1


@pytest.mark.parametrize("seconds", [None, 60, 0.1])
def test_silence_ends_with_the_shorter_of_two_times(seconds: float | None) -> None:
    with ScriptedUpstream(silent()) as service, pytest.raises(TimeoutError):
        Asker(service.url, timeout=60 if seconds == 0.1 else 0.1).ask(b"", {}, seconds=seconds)


def test_no_redirect_is_followed_and_no_cookie_kept() -> None:
    headers = [("Location", "http://127.0.0.1:1/"), ("Set-Cookie", "a=b")]
    with ScriptedUpstream(json_reply({}, 307, headers)) as service:
        asker = Asker(service.url)
        assert [asker.ask(b"", {})[0] for _ in range(2)] == [307, 307]
        assert [request.header("cookie") for request in service.requests] == [None, None]
