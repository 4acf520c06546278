"""Sessions cannot be made up or last for ever, and tokens cannot be tried for long."""

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.console.access import IDLE, LONGEST, Guesses, Session, Sessions
from proxy.secret import Secret

NOW = 1_800_000_000.0
SESSIONS = Sessions(Secret("token-0123456789"))


def test_only_the_token_is_the_token() -> None:
    assert SESSIONS.is_token("token-0123456789")
    for other in ("", "token-012345678", "token-01234567890", "TOKEN-0123456789", "\udcff"):
        assert not SESSIONS.is_token(other)


def test_a_session_is_read_by_every_process_that_has_the_token() -> None:
    cookie = SESSIONS.begin(NOW)
    assert Sessions(Secret("token-0123456789")).read(cookie, NOW) == Session(int(NOW), int(NOW))
    assert Sessions(Secret("token-0123456780")).read(cookie, NOW) is None


def test_a_session_that_is_not_used_ends() -> None:
    cookie = SESSIONS.begin(NOW)
    assert SESSIONS.read(cookie, NOW + IDLE - 1)
    assert SESSIONS.read(cookie, NOW + IDLE) is None


def test_a_session_that_is_used_goes_on_and_ends_all_the_same() -> None:
    cookie, now = SESSIONS.begin(NOW), NOW
    while session := SESSIONS.read(cookie, now):
        assert now < NOW + LONGEST
        now += IDLE * 0.75
        assert session.is_due(now)
        cookie = SESSIONS.renew(session, now)
    assert now >= NOW + LONGEST


def test_a_session_from_the_future_is_none() -> None:
    assert SESSIONS.read(SESSIONS.begin(NOW + 3600), NOW) is None


@given(st.integers(0, 200), st.characters())
@settings(max_examples=200)
def test_a_cookie_that_was_changed_anywhere_is_none(place: int, char: str) -> None:
    cookie = SESSIONS.begin(NOW)
    place %= len(cookie)
    changed = cookie[:place] + char + cookie[place + 1 :]
    assert (SESSIONS.read(changed, NOW) is None) or changed == cookie


@given(st.text(max_size=120))
def test_a_cookie_that_was_made_up_is_none(text: str) -> None:
    assert SESSIONS.read(text, NOW) is None


def test_the_cookie_does_not_hold_the_token() -> None:
    assert "token" not in SESSIONS.begin(NOW)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_after_a_few_guesses_an_address_waits() -> None:
    clock = Clock()
    guesses = Guesses(each=3, together=100, seconds=60, clock=clock)
    for _ in range(3):
        assert guesses.take("a") == 0
        clock.now += 1
    assert guesses.take("a") == 57
    assert guesses.take("b") == 0
    clock.now += 57
    assert guesses.take("a") == 0
    assert guesses.take("a") > 0


def test_many_addresses_together_wait_too() -> None:
    clock = Clock()
    guesses = Guesses(each=3, together=10, seconds=60, clock=clock)
    assert [guesses.take(str(n)) for n in range(10)] == [0] * 10
    assert guesses.take("another") == 60


def test_who_knows_the_token_never_waits() -> None:
    guesses = Guesses(each=2, together=100, seconds=60, clock=Clock())
    for _ in range(20):
        assert guesses.take("a") == 0
        guesses.forgive("a")
