import msgspec
import pytest

from proxy import ConfigError, Secret
from proxy.convert import convert
from proxy.store import StoreTable

PEPPER = "0123456789abcdef0123456789abcdef"


def read(**keys: object) -> StoreTable:
    return convert(keys, StoreTable, where="outgate.toml: store")


def test_without_a_word_it_is_a_file_in_the_working_directory() -> None:
    assert read().address() == Secret("sqlite:///outgate.db")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///outgate.db",
        "sqlite:////var/lib/outgate/outgate.db",
        "postgresql://outgate@db.internal/outgate",
        "postgresql://outgate@db.internal:6432/outgate?sslmode=verify-full",
        "postgresql:///outgate?host=/run/postgresql",
    ],
)
def test_urls_of_files_and_servers_are_taken(url: str) -> None:
    assert read(url=url).address().reveal() == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "names no database known here"),
        ("outgate.db", "names no database known here"),
        ("postgres://db/outgate", "Did you mean 'postgresql'"),
        ("mysql://db/outgate", "names no database known here"),
        ("postgresql+asyncpg://db/outgate", "leave out the driver, write postgresql://"),
        ("sqlite://", "every process would have a database of its own"),
        ("sqlite:///", "every process would have a database of its own"),
        ("sqlite:///:memory:", "every process would have a database of its own"),
        ("sqlite://outgate.db", "every process would have a database of its own"),
        ("postgresql://u:hunter2-hunter2@db/outgate", 'write url = { env = "NAME" }'),
        ("mysql://u:hunter2-hunter2@db/outgate", "names no database known here"),
    ],
)
def test_every_other_url_is_refused_with_the_way_out(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(url=url)
    assert message in str(error.value)
    assert "outgate.toml: store" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_url_with_a_password_comes_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_URL", "postgresql://u:hunter2-hunter2@db/outgate")
    table = read(url={"env": "STORE_URL"})
    assert "hunter2" in table.address().reveal()
    assert "hunter2" not in repr(table)
    monkeypatch.setenv("STORE_URL", "mysql://u:hunter2-hunter2@db/outgate")
    with pytest.raises(ConfigError, match="the URL it holds names no database") as error:
        read(url={"env": "STORE_URL"})
    assert "hunter2" not in str(error.value)
    with pytest.raises(ConfigError, match="'NOT_THERE' is not set"):
        read(url={"env": "NOT_THERE"})


@pytest.mark.parametrize("pepper", ["", "short", PEPPER[1:]])
def test_a_pepper_that_can_be_guessed_is_refused(
    pepper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEPPER", pepper)
    with pytest.raises(ConfigError, match="characters") as error:
        read(pepper={"env": "PEPPER"})
    assert not pepper or pepper not in str(error.value)


def test_a_pepper_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEPPER", PEPPER)
    table = read(pepper={"env": "PEPPER"})
    assert table.pepper == Secret(PEPPER)
    assert PEPPER not in repr(table)
    with pytest.raises(TypeError):
        msgspec.json.encode(table)
    with pytest.raises(ConfigError, match="never stands in the configuration"):
        read(pepper=PEPPER)


@pytest.mark.parametrize("lease", [0, 0.5, -1, float("nan"), float("inf"), 3601])
def test_a_lease_is_a_sane_number_of_seconds(lease: float) -> None:
    with pytest.raises(ConfigError, match="write 1 to 3600 seconds"):
        read(lease=lease)


def test_an_unknown_key_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'pepper'"):
        read(peper="x")


@pytest.mark.parametrize(
    ("text", "days"), [("400d", 400), ("7d", 7), ("60w", 420), ("forever", None)]
)
def test_how_long_usage_is_kept(text: str, days: int | None) -> None:
    assert read(keep_usage=text).kept_seconds() == (days and days * 86_400)


@pytest.mark.parametrize("text", ["", "400", "6d", "0d", "12h", "1y", "never", "-7d"])
def test_an_age_that_will_not_do_is_refused_with_one_that_will(text: str) -> None:
    with pytest.raises(ConfigError, match=r'store\.keep_usage .*"400d".*"forever"'):
        read(keep_usage=text)
