import hashlib
import hmac
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from proxy import ConfigError, Secret, Unavailable
from proxy.store import Store, StoreTable, schema
from proxy.store.grant import Grant, Key
from proxy.store.known import VALID
from tests.store.servers import PEPPER, PostgreSQL, opened


def create(store: Store, name: str = "alice", **grant: Any) -> tuple[Key, str]:
    key, secret = store.keys.create(Grant(name=name, **grant))
    return key, secret.reveal()


def eventually(answer: Callable[[], object]) -> None:
    """Soon; how soon is shown where it is promised."""
    deadline = time.monotonic() + 60
    while not answer():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def everything(store: Store) -> str:
    """All that the database holds, as text."""
    with store.reading() as connection:
        return "\n".join(
            str([bytes(value).hex() if isinstance(value, bytes) else value for value in row])
            for table in schema.metadata.tables.values()
            for row in connection.execute(table.select())
        )


# -- secrets -------------------------------------------------------------------------------------


def test_a_secret_has_256_bits_and_nothing_in_common_with_the_id(store: Store) -> None:
    made = [create(store, f"n{number}") for number in range(20)]
    for key, secret in made:
        assert re.fullmatch(r"og-[A-Za-z0-9_-]{43}", secret)
        assert re.fullmatch(r"key_[0-9a-f]{16}", key.id)
        plain = hashlib.sha256(secret.encode()).hexdigest()
        peppered = hmac.new(PEPPER.encode(), secret.encode(), "sha256").hexdigest()
        assert key.id[4:] not in plain + peppered
    assert len({secret for _, secret in made}) == len({key.id for key, _ in made}) == 20


def test_the_database_has_a_peppered_digest_and_never_the_secret(store: Store) -> None:
    _, secret = create(store)
    text = everything(store)
    assert hmac.new(PEPPER.encode(), secret.encode(), "sha256").hexdigest() in text
    assert secret not in text
    assert secret[3:20] not in text
    assert hashlib.sha256(secret.encode()).hexdigest() not in text
    assert PEPPER not in text


def test_another_pepper_is_noticed_and_makes_no_key(store: Store, store_url: str) -> None:
    _, secret = create(store)
    other = opened(store_url, PEPPER[::-1])
    assert other.keys.find(secret) is None
    with pytest.raises(ConfigError, match="not the one that the keys"):
        other.start()
    with pytest.raises(ConfigError, match="put the former one back"):
        create(other, "bob")
    with pytest.raises(ConfigError, match="put the former one back"):
        other.keys.rotate("alice", 0)
    opened(store_url).start()


def test_without_a_pepper_nothing_is_digested(store: Store, store_url: str) -> None:
    key, secret = create(store)
    bare = Store(StoreTable(url=store_url))
    for use in (lambda: create(bare, "bob"), lambda: bare.keys.find(secret)):
        with pytest.raises(ConfigError, match=r"store.pepper is missing.*OUTGATE_PEPPER"):
            use()
    assert bare.keys.list() == (key,)
    bare.close()


# -- look-up -------------------------------------------------------------------------------------


def test_a_key_is_found_by_its_secret_alone(store: Store) -> None:
    key, secret = create(store, owner="a@example.com", team="t", groups=("g",), models=("gpt-*",),
                         endpoints=("chat",), networks=("10.0.0.0/8",), upstream="main",
                         metadata={"cost": "42"}, expires=int(time.time()) + 1000)  # fmt: skip
    assert store.keys.find(secret) == key
    assert store.keys.by_id(key.id) == key
    assert store.keys.get(key.id) == store.keys.get("alice") == key
    assert (key.owner, key.groups, key.metadata) == ("a@example.com", ("g",), {"cost": "42"})


@pytest.mark.parametrize("change", [
    lambda s: s[:-1], lambda s: s + "A", lambda s: s[:-1] + ("A" if s[-1] != "A" else "B"),
    lambda s: s.upper(), lambda s: s.lower(), lambda s: s[3:], lambda s: f" {s}", lambda s: f"{s}\n",
    lambda s: s.replace("og-", "OG-"), lambda s: f"{s}\x00", lambda s: s * 200, lambda s: s[::-1],
    *(lambda _, shown=shown: shown
      for shown in ("", "og-", "' OR 1=1--", "\ud800" * 46, "og-" + "é" * 43)),
])  # fmt: skip
def test_nothing_else_finds_it(store: Store, change: Callable[[str], str]) -> None:
    _, secret = create(store)
    assert store.keys.find(change(secret)) is None
    assert store.keys.find(secret) is not None


def test_the_id_the_name_and_the_digest_find_nothing(store: Store) -> None:
    key, secret = create(store)
    digest = hmac.new(PEPPER.encode(), secret.encode(), "sha256").hexdigest()
    for shown in (key.id, key.name, digest, f"og-{digest[:43]}"):
        assert store.keys.find(shown) is None


@pytest.mark.parametrize("length", [20, 32, 45])
def test_secrets_that_begin_alike_are_different_keys(store: Store, length: int) -> None:
    start = ("og-" + "k" * 43)[:length]
    secrets = [start + end * (46 - length) for end in "abc"]
    keys = store.keys
    for number, secret in enumerate(secrets[:2]):
        key, _ = create(store, f"n{number}")
        with store.writing() as connection:  # what chance would take long to do
            digest = keys._digest(secret)
            connection.execute(
                schema.digests.update().where(schema.digests.c.key == key.id).values(digest=digest)
            )
    names = [found.name if (found := keys.find(secret)) else None for secret in secrets]
    assert names == ["n0", "n1", None]


def test_a_key_is_looked_up_in_the_database_once(store: Store) -> None:
    _, secret = create(store)
    assert store.keys.find(secret)
    statements: list[str] = []
    sa.event.listen(
        store.database._engine, "before_cursor_execute", lambda *given: statements.append(given[2])
    )
    for _ in range(1000):
        assert store.keys.find(secret)
        assert store.keys.find("og-" + "x" * 43) is None
    # One for the stranger; beside it only the number of changes, four times a second.
    assert sum("outgate_key_digests" in text for text in statements) <= 1


def test_a_key_that_expires_is_unknown_from_then_on_though_it_was_found_before(
    store: Store,
) -> None:
    _, secret = create(store, expires=int(time.time()) + 2)
    assert store.keys.find(secret) is not None
    eventually(lambda: store.keys.find(secret) is None)
    assert store.keys.find(secret) is None


# -- changes are seen ----------------------------------------------------------------------------


def test_a_new_key_is_known_to_others_though_they_did_not_know_it_before(
    store: Store, store_url: str
) -> None:
    other = opened(store_url)
    key, secret = create(store)
    store.keys.revoke(key.id)
    assert other.keys.find(secret) is None
    _, secret = create(store, "bob")
    eventually(lambda: other.keys.find(secret))


def test_a_call_a_second_after_a_revocation_is_refused_everywhere(
    store: Store, store_url: str
) -> None:
    key, secret = create(store)
    others = [opened(store_url) for _ in range(3)]
    assert all(other.keys.find(secret) for other in others)
    revoked = store.keys.revoke("alice")
    assert revoked.revoked is not None
    time.sleep(1)
    assert not any(other.keys.find(secret) for other in (store, *others))
    assert store.keys.by_id(key.id) == revoked
    assert store.keys.revoke(key.id) == revoked  # once more changes nothing


def test_nobody_is_taken_for_a_second_after_a_revocation_under_load(
    store: Store, store_url: str
) -> None:
    """Look-ups, on many threads, never end with a yes that began a second after the key was revoked."""
    _, secret = create(store)
    other = opened(store_url)
    began: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            started = time.monotonic()
            if other.keys.find(secret):
                began.append(started)
            time.sleep(0.002)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    store.keys.revoke("alice")
    revoked = time.monotonic()
    time.sleep(1.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert began
    assert max(began) - revoked < 1


def test_while_the_database_is_away_a_known_key_lives_for_less_than_a_second(
    postgresql_server: PostgreSQL, postgresql: str
) -> None:
    store = opened(postgresql)
    store.start()
    _, secret = create(store)
    assert store.keys.find(secret)
    postgresql_server.stop()
    try:
        time.sleep(VALID)
        for shown in (secret, "og-" + "x" * 43):
            with pytest.raises(Unavailable):
                store.keys.find(shown)
        assert store.keys.find("no key at all") is None
    finally:
        postgresql_server.start()

    def back() -> bool:
        try:
            return store.keys.find(secret) is not None
        except Unavailable:
            return False

    eventually(back)


# -- rotation ------------------------------------------------------------------------------------


def test_a_rotated_key_takes_both_secrets_for_a_while(store: Store) -> None:
    key, first = create(store)
    rotated, second = store.keys.rotate("alice", 2)
    assert rotated == key
    both = (first, second.reveal())
    assert all(store.keys.find(secret) == key for secret in both)
    until = store.keys.overlap(key)
    assert until is not None
    eventually(lambda: store.keys.find(first) is None)
    assert store.keys.find(both[1]) == key
    assert store.keys.overlap(key) is None


def test_without_an_overlap_the_former_secret_ends_at_once(store: Store) -> None:
    _, first = create(store)
    _, second = store.keys.rotate("alice", 0)
    eventually(lambda: store.keys.find(first) is None)
    assert store.keys.find(second.reveal())


def test_a_key_never_has_more_than_two_secrets(store: Store) -> None:
    _, first = create(store)
    _, second = store.keys.rotate("alice", 1000)
    _, third = store.keys.rotate("alice", 1000)
    eventually(lambda: store.keys.find(first) is None)
    assert store.keys.find(second.reveal())
    assert store.keys.find(third.reveal())


def test_a_revoked_key_has_no_secret_and_gets_none(store: Store) -> None:
    _, first = create(store)
    _, second = store.keys.rotate("alice", 1000)
    store.keys.revoke("alice")
    eventually(lambda: not any(map(store.keys.find, (first, second.reveal()))))
    with pytest.raises(ConfigError, match="is revoked: create another"):
        store.keys.rotate("alice", 0)
    with store.reading() as connection:
        assert connection.execute(schema.digests.select()).first() is None


# -- the operator's mistakes ---------------------------------------------------------------------


def test_a_name_is_taken_once(store: Store) -> None:
    create(store)
    with pytest.raises(ConfigError, match="'alice' is taken"):
        create(store)
    store.keys.revoke("alice")
    with pytest.raises(ConfigError, match="perhaps by a key that is revoked"):
        create(store)


def test_a_key_that_is_not_there_is_told_with_the_nearest(store: Store) -> None:
    create(store)
    with pytest.raises(ConfigError, match=r"no key 'alise'. Did you mean 'alice'"):
        store.keys.get("alise")
    _, secret = create(store, "bob")
    with pytest.raises(ConfigError, match="that is a secret") as error:
        store.keys.revoke(secret)
    assert secret not in str(error.value)


def test_many_keys_are_made_all_or_none(store: Store) -> None:
    create(store, "n700")
    grants = [Grant(name=f"n{number}") for number in range(1200)]
    with pytest.raises(ConfigError, match="'n700' is taken"):
        store.keys.create_all(grants)
    told: list[int] = []

    def fail(made: Any) -> None:
        told.append(len(made))
        if len(told) > 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.keys.create_all(grants[:700], fail)
    assert [key.name for key in store.keys.list()] == ["n700"]
    assert store.keys.taken(["n700", "n1"]) == {"n700"}
    made = store.keys.create_all(grants[:700])
    assert store.keys.find(made[-1][1].reveal()) == made[-1][0]


def test_names_given_to_two_at_once_go_to_one(store: Store, store_url: str) -> None:
    """Whoever comes second is told so, whatever the order of their transactions."""
    results: list[object] = []

    def work(one: Store) -> None:
        try:
            results.append(create(one, "same"))
        except (ConfigError, Unavailable) as error:
            results.append(error)

    threads = [threading.Thread(target=work, args=[opened(store_url)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(result, tuple) for result in results) == 1, results
    assert len(store.keys.list()) == 1


def test_what_is_made_is_a_secret(store: Store) -> None:
    _, secret = store.keys.create(Grant(name="alice"))
    assert isinstance(secret, Secret)
