"""Messages as RFC 5424 wants them, over each transport, and what happens while the receiver is away."""

import json
import re
import ssl
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from plugins.syslog import Syslog
from proxy import ConfigError, Finding, Undelivered, Verdict
from proxy.testing import harness
from tests.gateway import COMPLETION, gateway
from tests.ports import free_address
from tests.receivers import Certificates, SyslogServer, certificates
from tests.records import PATIENCE, eventually, full, record

#: RFC 5424 section 6: PRI VERSION TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG.
MESSAGE = re.compile(
    rb"<(\d{1,3})>1 (\S+) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) - (\{.*\})\Z"
)


def parsed(message: bytes) -> tuple[Any, ...]:
    found = MESSAGE.match(message)
    assert found, message
    assert message.isascii()
    datetime.fromisoformat(found[2].decode())
    return (int(found[1]), *(part.decode() for part in found.groups()[2:6]), json.loads(found[7]))


@pytest.fixture
def ours(tmp_path: Path) -> Certificates:
    return certificates(tmp_path)


@pytest.fixture
def server() -> Iterator[SyslogServer]:
    found = SyslogServer()
    yield found
    found.close()


def test_a_message_says_what_the_record_says(server: SyslogServer) -> None:
    sink = Syslog(server.address, "tcp", "auth", app_name="gate", hostname="edge-1")
    sink.log_exchange(full(), required=False)
    eventually(lambda: server.messages)
    priority, host, app, process, kind, said = parsed(server.messages[0])
    assert (priority, host, app, kind) == (4 * 8 + 6, "edge-1", "gate", "ok")
    assert process.isdigit()
    assert (said["id"], said["principal"], said["findings"][0]["kind"]) == (
        "req_1",
        "alice",
        "email",
    )


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"outcome": "ok"}, 6),
        ({"outcome": "client_gone"}, 6),
        ({"outcome": "denied", "status": 400}, 5),
        ({"outcome": "denied", "status": 500}, 3),
        ({"outcome": "upstream_error", "status": 502}, 4),
        ({"outcome": "truncated"}, 4),
    ],
)
def test_what_went_wrong_is_more_severe(
    server: SyslogServer, fields: dict[str, Any], severity: int
) -> None:
    Syslog(server.address, "tcp").log_exchange(record(**fields), required=False)
    eventually(lambda: server.messages)
    assert parsed(server.messages[0])[0] == 16 * 8 + severity


def test_messages_are_told_apart_by_their_counts_on_one_connection(server: SyslogServer) -> None:
    sink = Syslog(server.address, "tcp")
    for number in range(300):
        sink.log_exchange(record(id=f"req_{number}", model="line\nbreak"), required=False)
    eventually(lambda: len(server.messages) == 300)
    assert [parsed(message)[-1]["id"] for message in server.messages] == [
        f"req_{number}" for number in range(300)
    ]
    assert server.connections == 1


def test_over_tls_the_server_is_verified(ours: Certificates) -> None:
    server = SyslogServer(context=ours.server())
    trusting = Syslog(server.address, ca_bundle=ours.bundle)
    trusting.log_exchange(record(), required=False)
    eventually(lambda: server.messages)
    suspicious = Syslog(server.address)
    suspicious.log_exchange(record(id="secret"), required=False)
    eventually(lambda: suspicious._outbox.fault)
    assert "CERTIFICATE_VERIFY_FAILED" in str(suspicious._outbox.fault)
    assert len(server.messages) == 1
    server.close()


def test_over_tls_a_certificate_of_our_own_can_be_shown(ours: Certificates, tmp_path: Path) -> None:
    context = ours.server()
    context.verify_mode = ssl.CERT_REQUIRED
    ours.authority.configure_trust(context)
    server = SyslogServer(context=context)
    cert, key = ours.client(tmp_path)
    sink = Syslog(server.address, ca_bundle=ours.bundle, client_cert=cert, client_key=key)
    sink.log_exchange(record(), required=False)
    eventually(lambda: server.messages)
    assert server.peers[0]
    server.close()


def test_a_datagram_holds_one_message_and_is_never_larger_than_it_may_be() -> None:
    server = SyslogServer(datagrams=True)
    sink = Syslog(server.address, "udp", datagram_bytes=1024)
    large = {
        "verdicts": tuple(Verdict("p" * 50, "guard_request", "pass", 1.0) for _ in range(50)),
        "findings": tuple(Finding("k" * 50, "prompt", "p", "mask") for _ in range(50)),
    }
    sink.log_exchange(record(), required=False)
    sink.log_exchange(full(**large), required=False)
    eventually(lambda: len(server.messages) == 2)
    small, spared = (parsed(message)[-1] for message in server.messages)
    assert small["id"] == spared["id"] == "req_1"
    assert spared["principal"] == "alice"
    assert "verdicts" not in spared
    assert max(map(len, server.messages)) <= 1024
    server.close()


@pytest.mark.parametrize("secure", [False, True])
def test_a_receiver_that_hung_up_loses_nothing_that_comes_later(
    secure: bool, ours: Certificates
) -> None:
    server = SyslogServer(context=ours.server() if secure else None)
    sink = Syslog(
        server.address, "tls" if secure else "tcp", ca_bundle=ours.bundle if secure else None
    )
    for number in range(5):
        sink.log_exchange(record(id=f"req_{number}"), required=False)
        eventually(partial(server.has, number + 1))
        server.hang_up()
        time.sleep(0.05)
    assert [parsed(message)[-1]["id"] for message in server.messages] == [
        f"req_{number}" for number in range(5)
    ]
    server.close()


def test_what_came_while_the_receiver_was_away_arrives_when_it_is_back() -> None:
    port = int(free_address().rpartition(":")[2])
    sink = Syslog(f"127.0.0.1:{port}", "tcp")
    for number in range(3):
        sink.log_exchange(record(id=f"req_{number}"), required=False)
    eventually(lambda: sink._outbox.fault)
    with pytest.raises(Undelivered, match="ConnectionRefusedError"):
        sink.log_exchange(record(id="req_3"), required=True)
    server = SyslogServer(port=port)
    assert sink._outbox.flush(PATIENCE)
    eventually(lambda: len(server.messages) == 4)
    sink.log_exchange(record(id="req_4"), required=True)
    eventually(lambda: len(server.messages) == 5)
    server.close()


def test_while_a_required_receiver_is_away_no_call_is_sent_and_then_calls_are_again() -> None:
    port = int(free_address().rpartition(":")[2])
    options = {"address": f"127.0.0.1:{port}", "transport": "tcp"}
    plugin = {"use": "syslog", "required": True, "options": options}
    with gateway(plugins=[plugin]) as gate:
        assert gate.ask(COMPLETION).status == 200
        eventually(lambda: gate.ask(COMPLETION).status == 503)
        sent = len(gate.upstream.requests)
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (503, "log_unavailable")
        assert len(gate.upstream.requests) == sent
        assert gate.pipeline.vitals()["sinks_failing"] >= 1
        server = SyslogServer(port=port)
        eventually(lambda: gate.ask(COMPLETION).status == 200)
        eventually(lambda: len(server.messages) == len(gate.records))
        server.close()


def test_one_that_is_not_required_never_hinders_a_call() -> None:
    plugin = {
        "use": "syslog",
        "options": {"address": free_address(), "transport": "tcp", "most": 2},
    }
    with gateway(plugins=[plugin]) as gate:
        before = gate.pipeline.vitals()["sink_records_dropped"]
        for _ in range(5):
            assert gate.ask(COMPLETION).status == 200
        gate.record(5)
        eventually(lambda: gate.pipeline.vitals()["sink_records_dropped"] == before + 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"address": "log host"}, 'write "host" or "host:port"'),
        ({"address": "tcp://h"}, 'write "host" or "host:port"'),
        ({"address": "h", "app_name": "a b"}, "no blanks"),
        ({"address": "h", "transport": "udp", "ca_bundle": "/x"}, "knows no certificates"),
        ({"address": "h", "transport": "tsl"}, "Did you mean 'tls'"),
        ({"address": "h", "facility": "local9"}, "local0"),
        ({"address": "h", "ca_bundle": "/nowhere.pem"}, "ca_bundle cannot be used"),
        ({}, "'address' is missing"),
    ],
)
def test_options_that_will_not_do_stop_the_start(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        harness("syslog", **options)
