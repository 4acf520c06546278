"""What cannot work in ``[audit]`` stops the start and says what to write."""

from typing import Any

import pytest

from proxy import ConfigError
from proxy.audit.table import AuditTable, ContentTable, ExportEntry, check, syslog_target
from proxy.convert import convert


def table(**fields: Any) -> AuditTable:
    return convert({"directory": "/d", **fields}, AuditTable, where="outgate.toml: audit")


def test_everything_but_the_directory_has_a_default() -> None:
    found = table()
    check(found, "audit")
    assert (found.mode, found.checkpoint_seconds, found.content) == ("required", 60, None)


def test_a_whole_table_is_accepted() -> None:
    found = table(
        mode="best_effort",
        export=[{"file": "/f"}, {"syslog": "host:514"}, {"url": "https://h/p"}],
        content={"to": "/k", "request": True},
        retention_days=30,
    )
    check(found, "audit")
    assert [entry.label for entry in found.export] == ["/f", "host:514", "https://h/p"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"directory": " "}, "name a directory"),
        ({"checkpoint_seconds": 0}, "audit.checkpoint_seconds = 0"),
        ({"checkpoint_seconds": float("inf")}, "write a number above 0"),
        ({"segment_bytes": 100}, "write a number above 4095"),
        ({"retention_days": 0}, "retention_days = 0"),
        ({"content": {"to": "k"}}, "keeps nothing"),
        ({"content": {"to": "k", "reply": True, "most_bytes": 0}}, "most_bytes = 0"),
        ({"export": [{}]}, "names 0 targets"),
        ({"export": [{"file": "f", "url": "https://h"}]}, "names 2 targets"),
        ({"export": [{"syslog": "host"}]}, r"export\[0\].syslog = 'host'"),
        ({"export": [{"syslog": "http://host:1"}]}, "host:port"),
        ({"export": [{"syslog": "host:99999"}]}, "host:port"),
        ({"export": [{"url": "ftp://h"}]}, "write https://"),
        ({"export": [{"url": "https://u:p@h"}]}, "without user name"),
        ({"export": [{"url": "https://[h"}]}, "write https://"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(table(**fields), "audit")


def test_a_token_goes_to_https_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "0123456789")
    token = {"env": "TOKEN"}
    check(table(export=[{"url": "https://h", "token": token}]), "audit")
    with pytest.raises(ConfigError, match="over https only"):
        check(table(export=[{"url": "http://h", "token": token}]), "audit")
    with pytest.raises(ConfigError, match="to a url only"):
        check(table(export=[{"file": "/f", "token": token}]), "audit")


def test_an_unknown_key_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'seal_to'"):
        table(seal_too="x")


def test_syslog_targets_have_a_transport() -> None:
    assert syslog_target("host:514", "w") == ("udp", "host", 514)
    assert syslog_target("tls://host:6514", "w") == ("tls", "host", 6514)
    assert syslog_target("tcp://[::1]:601", "w") == ("tcp", "::1", 601)


def test_the_types_are_those_of_the_table() -> None:
    assert ExportEntry().label == "nothing"
    assert ContentTable(to="x").most_bytes == 256 * 1024
