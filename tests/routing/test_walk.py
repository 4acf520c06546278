"""Walking a tree of targets: what comes next after which failures, and that it ends."""

from collections import Counter
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import Balance, Choice, Failure, Fallback, Retry, Target, Way, next_choice

A: Final = Target("a")
B: Final = Target("b")
C: Final = Target("c")


def failed(choice: Choice, kind: str = "connect", **more: Any) -> Failure:
    """The failure of this try."""
    if isinstance(status := more.get("status"), int):
        kind = "status"
        assert status in choice.again_on, "the answer would have been passed on"
    return Failure(choice.upstream, kind, "", choice.target, **more)


def first(way: Way, key: str = "k") -> Choice:
    choice = next_choice(way, key, ())
    assert choice is not None
    return choice


def walk(way: Way, *ends: dict[str, Any], key: str = "k") -> list[str]:
    """The targets that are tried when the tries end like this, one after the other."""
    failures: tuple[Failure, ...] = ()
    seen: list[str] = []
    for end in ends:
        choice = next_choice(way, key, failures)
        if choice is None:
            return [*seen, "-"]
        seen.append(choice.target)
        kind = end.get("kind", "connect" if "status" not in end else "status")
        failures += (Failure(choice.upstream, kind, "", choice.target, end.get("status")),)
    return seen


UNSENT: Final = {"kind": "connect"}
BUSY: Final = {"status": 429}
BROKEN: Final = {"status": 500}
CUT: Final = {"kind": "cut"}
OPEN: Final = {"kind": "circuit_open"}


# -- one target ------------------------------------------------------------------------------------


def test_a_target_alone_is_asked_once() -> None:
    assert first(A) == Choice(upstream="a", target="0")
    assert walk(A, UNSENT, UNSENT) == ["0", "-"]


def test_a_choice_says_all_that_its_target_says() -> None:
    target = Target("a", {"model": "m"}, 3.0, reply_headers={"x-tier": "2"})
    wanted = Choice(
        upstream="a", target="0", body={"model": "m"}, timeout=3.0, reply_headers={"x-tier": "2"}
    )
    assert first(target) == wanted


def test_attempts_are_tries_in_all_and_the_last_one_takes_any_answer() -> None:
    retried = Target("a", retry=Retry(attempts=3))
    choice = first(retried)
    failures: tuple[Failure, ...] = ()
    for _ in range(2):
        assert choice.again_on == Retry().on
        failures = (*failures, failed(choice, status=503))
        choice = next_choice(retried, "k", failures)  # type: ignore[assignment]
    assert choice.again_on == frozenset()
    assert next_choice(retried, "k", (*failures, failed(choice))) is None


@pytest.mark.parametrize(
    ("end", "unanswered", "again"),
    [
        ({"kind": "resolve"}, False, True),
        ({"kind": "timeout_connect"}, False, True),
        ({"kind": "tls"}, False, True),
        ({"kind": "refused_address"}, False, True),
        ({"kind": "cut"}, False, False),
        ({"kind": "timeout_first_byte"}, False, False),
        ({"kind": "timeout_idle"}, False, False),
        ({"kind": "cut"}, True, True),
        ({"kind": "timeout_first_byte"}, True, True),
        ({"kind": "protocol"}, True, False),
        ({"kind": "client_gone"}, True, False),
        ({"kind": "circuit_open"}, True, False),
        ({"status": 429}, False, True),
        ({"status": 404}, True, False),
    ],
)
def test_only_some_failures_are_tried_again(
    end: dict[str, Any], unanswered: bool, again: bool
) -> None:
    way = Target("a", retry=Retry(attempts=2, unanswered=unanswered))
    assert walk(way, end, UNSENT) == (["0", "0"] if again else ["0", "-"])


def pauses(retry: Retry, *asked: float | None, key: str = "k") -> list[float]:
    """The pauses between the tries, when each is answered 429 with this ``retry-after``."""
    failures: tuple[Failure, ...] = ()
    found = []
    for seconds in asked:
        failures += (Failure("a", "status", "", "0", 429, seconds),)
        choice = next_choice(Target("a", retry=retry), key, failures)
        if choice is None:
            break
        found.append(choice.after)
    return found


def test_pauses_double_up_to_a_limit_and_are_never_the_same_for_two_calls() -> None:
    retry = Retry(attempts=9, base=0.5, most=4.0)
    seen = [pauses(retry, *[None] * 6, key=f"call-{number}") for number in range(50)]
    for found in seen:
        for pause, full in zip(found, [0.5, 1, 2, 4, 4, 4], strict=True):
            assert full / 2 <= pause <= full
    assert len({found[0] for found in seen}) == 50


def test_many_tries_make_no_number_that_is_too_large() -> None:
    assert pauses(Retry(attempts=5000, most=2.0), *[None] * 1200)[-1] <= 2.0


def test_the_pause_that_an_upstream_asks_for_is_kept_and_at_most_a_tenth_longer() -> None:
    for pause in pauses(Retry(attempts=3), 20.0, 0.004):
        assert any(asked <= pause <= asked * 1.1 for asked in (20.0, 0.004))
    assert pauses(Retry(attempts=2, most=1.0), 60.0)[0] >= 60.0


def test_an_upstream_that_asks_for_more_than_our_patience_is_not_waited_for() -> None:
    assert pauses(Retry(attempts=3, patience=10.0), 10.5) == []
    way = Fallback((Target("a", retry=Retry(attempts=3, patience=10.0)), B))
    choice = next_choice(way, "k", (Failure("a", "status", "", "0", 429, 11.0),))
    assert choice is not None
    assert (choice.upstream, choice.after) == ("b", 0.0)


def test_calls_of_one_key_can_still_pause_for_different_times() -> None:
    way = Target("a", retry=Retry(attempts=2))
    failures = (Failure("a", "connect", "", "0"),)
    found = [next_choice(way, "alice", failures, jitter=str(number)) for number in range(9)]
    assert len({choice.after for choice in found if choice}) == 9


# -- fallbacks -------------------------------------------------------------------------------------


def test_a_fallback_goes_on_in_order_and_never_back() -> None:
    assert walk(Fallback((A, B, C)), UNSENT, BUSY, BROKEN, UNSENT) == ["0", "1", "2", "-"]


def test_a_fallback_without_statuses_goes_on_only_where_nothing_can_have_arrived() -> None:
    bare = Fallback((A, B), on=frozenset())
    assert first(bare).again_on == frozenset()
    assert walk(bare, UNSENT, UNSENT) == ["0", "1"]
    assert walk(bare, BUSY, UNSENT) == ["0", "-"]
    assert walk(bare, CUT, UNSENT) == ["0", "-"]
    assert walk(bare, OPEN, UNSENT) == ["0", "1"]


def test_with_unanswered_a_fallback_goes_on_after_a_cut_too() -> None:
    way = Fallback((A, B), unanswered=True)
    assert first(way).again_unanswered
    assert walk(way, CUT, CUT, CUT) == ["0", "1", "-"]


def test_each_target_is_retried_before_the_next_one_is_asked() -> None:
    twice = Retry(attempts=2)
    way = Fallback((Target("a", retry=twice), Target("b", retry=twice)))
    assert walk(way, *[BUSY] * 5) == ["0", "0", "1", "1", "-"]
    assert walk(way, BUSY, OPEN, BUSY, OPEN, BUSY) == ["0", "0", "1", "1", "-"]


def test_a_breaker_that_opens_between_two_tries_hides_not_how_the_first_one_ended() -> None:
    way = Fallback((Target("a", retry=Retry(attempts=3)), B), on=frozenset({429}))
    assert walk(way, BROKEN, OPEN, UNSENT) == ["0", "0", "-"]
    assert walk(way, BUSY, OPEN, UNSENT) == ["0", "0", "1"]


def test_an_inner_fallback_that_gives_up_leaves_it_to_the_outer_one() -> None:
    inner = Fallback((A, B), on=frozenset({429}))
    way = Fallback((inner, C), on=frozenset({500}))
    assert first(way).again_on == {429, 500}
    assert walk(way, BUSY, BROKEN, UNSENT, UNSENT) == ["0.0", "0.1", "1", "-"]
    assert walk(way, BROKEN, UNSENT) == ["0.0", "1"]
    assert walk(way, BUSY, BUSY, UNSENT) == ["0.0", "0.1", "-"]


def test_the_last_way_of_all_takes_any_answer() -> None:
    way = Fallback((A, Fallback((B, C))))
    assert first(way).again_on
    failures = (Failure("a", "connect", "", "0"), Failure("b", "connect", "", "1.0"))
    last = next_choice(way, "k", failures)
    assert last == Choice(upstream="c", target="1.1")


def test_a_failure_without_a_target_counts_for_every_target_of_its_upstream() -> None:
    choice = next_choice(Fallback((A, B, Target("a", {"model": "m"}), C)), "k", (
        Failure("a", "connect", ""), Failure("b", "connect", ""),
    ))  # fmt: skip
    assert choice is not None
    assert choice.upstream == "c"


def test_a_failure_of_another_upstream_at_the_same_place_of_another_tree_does_not_count() -> None:
    choice = next_choice(Fallback((A, B)), "k", (Failure("other", "connect", "", "0"),))
    assert choice is not None
    assert choice.upstream == "a"


# -- weights ---------------------------------------------------------------------------------------


def shares(way: Way, keys: int = 6000) -> Counter[str]:
    return Counter(first(way, f"req_{number}").upstream for number in range(keys))


def test_weights_come_out_over_many_keys() -> None:
    found = shares(Balance(((3, A), (1, B), (0.5, C), (0, Target("never")))))
    for upstream, weight in {"a": 3, "b": 1, "c": 0.5}.items():
        assert abs(found[upstream] / 6000 - weight / 4.5) < 0.025
    assert found["never"] == 0


def test_weights_come_out_among_those_that_are_left() -> None:
    way = Balance(((2, A), (1, B), (1, C)))
    found: Counter[str] = Counter()
    for number in range(6000):
        choice = first(way, f"req_{number}")
        if choice.upstream == "a":
            then = next_choice(way, f"req_{number}", (failed(choice),))
            assert then is not None
            found[then.upstream] += 1
    assert abs(found["b"] / found.total() - 0.5) < 0.04
    assert set(found) == {"b", "c"}


def test_choices_on_two_levels_are_independent() -> None:
    halves = Balance(((1, A), (1, B)))
    found = Counter(
        first(Balance(((1, halves), (1, halves))), f"req_{number}").target for number in range(4000)
    )
    for target in ("0.0", "0.1", "1.0", "1.1"):
        assert abs(found[target] / 4000 - 0.25) < 0.035


def test_the_same_key_always_starts_at_the_same_target() -> None:
    way = Balance(((1, A), (1, B), (1, C)))
    for key in ("alice", "bob", "", "\ud800"):
        assert len({first(way, key).target for _ in range(20)}) == 1


def test_a_weight_that_grows_moves_calls_only_to_its_own_target() -> None:
    before, after = Balance(((1, A), (1, B))), Balance(((1, A), (2, B)))
    for number in range(500):
        if first(before, str(number)).upstream == "b":
            assert first(after, str(number)).upstream == "b"


def test_a_weight_of_zero_is_never_chosen_also_when_all_others_failed() -> None:
    assert walk(Balance(((1, A), (0, B))), UNSENT, UNSENT) == ["0", "-"]


def test_a_balance_that_does_not_fall_back_has_one_choice() -> None:
    way = Balance(((1, A), (1, B)), falls_back=False)
    assert walk(way, UNSENT, UNSENT)[1] == "-"
    assert first(way).again_on == frozenset()
    around = Fallback((way, C))
    assert walk(around, UNSENT, UNSENT)[1] == "1"


# -- any tree --------------------------------------------------------------------------------------

STATUSES: Final = st.frozensets(st.sampled_from([429, 500, 503]))
RETRIES: Final = st.builds(
    Retry, attempts=st.integers(1, 3), on=STATUSES, unanswered=st.booleans(),
    patience=st.sampled_from([1.0, 60.0]),
)  # fmt: skip
TARGETS: Final = st.builds(Target, st.sampled_from("abc"), retry=RETRIES)


def _inner(ways: st.SearchStrategy[Way]) -> st.SearchStrategy[Way]:
    weighted = st.tuples(st.sampled_from([0.5, 1.0, 3.0]), ways)
    return st.one_of(
        st.builds(
            Fallback, st.lists(ways, min_size=1, max_size=3).map(tuple), STATUSES, st.booleans()
        ),
        st.builds(
            Balance,
            st.lists(weighted, min_size=1, max_size=3).map(tuple),
            st.booleans(), STATUSES, st.booleans(),
        ),
    )  # fmt: skip


TREES: Final = st.recursive(TARGETS, _inner, max_leaves=8)
ENDS: Final = st.lists(
    st.builds(
        Failure, st.just(""), st.sampled_from(["status", "connect", "cut", "circuit_open", "tls"]),
        st.just(""), st.just(""), st.sampled_from([429, 500, 503]),
        st.sampled_from([None, 0.0, 5.0]),
    ),
    min_size=30, max_size=30,
)  # fmt: skip


def places(way: Way, path: str = "") -> dict[str, Target]:
    """All targets of a tree by their places."""
    if isinstance(way, Target):
        return {path or "0": way}
    ways = way.ways if isinstance(way, Fallback) else tuple(inner for _, inner in way.ways)
    found: dict[str, Target] = {}
    for number, inner in enumerate(ways):
        found |= places(inner, f"{path}.{number}" if path else str(number))
    return found


@given(TREES, ENDS, st.text())
def test_every_walk_ends_and_tries_no_target_more_often_than_it_may(
    tree: Way, ends: list[Failure], key: str
) -> None:
    targets = places(tree)
    tried: Counter[str] = Counter()
    failures: tuple[Failure, ...] = ()
    # The last pass asks once more than there are tries.
    for end in [*ends, ends[-1]]:
        choice = next_choice(tree, key, failures)
        assert choice == next_choice(tree, key, failures)
        if choice is None:
            break
        tried[choice.target] += 1
        assert targets[choice.target].upstream == choice.upstream
        assert tried[choice.target] <= targets[choice.target].retry.attempts
        failures += (_end(choice, end),)
    else:
        raise AssertionError("this walk does not end")
    assert tried.total() <= sum(target.retry.attempts for target in targets.values())


@given(TREES, ENDS, st.text())
def test_a_choice_says_exactly_which_failures_lead_to_another_one(
    tree: Way, ends: list[Failure], key: str
) -> None:
    failures: tuple[Failure, ...] = ()
    for end in ends:
        choice = next_choice(tree, key, failures)
        if choice is None:
            break
        for status in (429, 500, 503, 404):
            told = Failure(choice.upstream, "status", "", choice.target, status)
            then = next_choice(tree, key, (*failures, told))
            assert (then is not None) is (status in choice.again_on)
        cut = Failure(choice.upstream, "cut", "", choice.target)
        assert (next_choice(tree, key, (*failures, cut)) is not None) is choice.again_unanswered
        failures += (_end(choice, end),)


def _end(choice: Choice, end: Failure) -> Failure:
    status = end.status if end.kind == "status" else None
    return Failure(choice.upstream, end.kind, "", choice.target, status, end.retry_after)
