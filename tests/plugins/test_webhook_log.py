"""What a receiver of calls gets, how it knows who sent it, and what happens while it is away."""

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest

from plugins.webhook_log import WebhookLog
from proxy import ConfigError, Secret, Undelivered
from proxy.testing import harness
from tests.gateway import COMPLETION, gateway
from tests.ports import free_address
from tests.receivers import HttpReceiver, certificates, http_receiver
from tests.records import PATIENCE, eventually, full, record

KEY = "signing-key-0123456789"


def ids(receiver: HttpReceiver) -> list[str]:
    return [one["id"] for post in receiver.posts for one in json.loads(post.body)["records"]]


def test_records_come_in_batches_as_json() -> None:
    with http_receiver() as receiver:
        sink = WebhookLog(f"{receiver.url}/in", batch=50)
        for number in range(120):
            sink.log_exchange(full(id=f"req_{number}"), required=False)
        assert sink._outbox.flush(PATIENCE)
    assert ids(receiver) == [f"req_{number}" for number in range(120)]
    assert len(receiver.posts) < 20
    assert {post.path for post in receiver.posts} == {"/in"}
    (kind,) = {post.headers["content-type"] for post in receiver.posts}
    assert kind == "application/json"


def test_a_post_is_signed_over_its_time_and_its_body() -> None:
    with http_receiver() as receiver:
        headers = {"Authorization": Secret("Bearer in-token-0123456789")}
        sink = WebhookLog(receiver.url, Secret(KEY), headers)
        sink.log_exchange(record(), required=False)
        assert sink._outbox.flush(PATIENCE)
    (post,) = receiver.posts
    moment = post.headers["x-outgate-timestamp"]
    assert abs(int(moment) - time.time()) < 300
    mac = hmac.new(KEY.encode(), f"{moment}.".encode() + post.body, hashlib.sha256).hexdigest()
    assert post.headers["x-outgate-signature"] == f"v1={mac}"
    assert post.headers["Authorization"] == "Bearer in-token-0123456789"
    assert KEY not in repr(sink)


def test_over_https_the_receiver_is_verified(tmp_path: Path) -> None:
    ours = certificates(tmp_path)
    with http_receiver(ours.server()) as receiver:
        sink = WebhookLog(receiver.url, ca_bundle=ours.bundle)
        sink.log_exchange(record(), required=False)
        assert sink._outbox.flush(PATIENCE)
        suspicious = WebhookLog(receiver.url)
        suspicious.log_exchange(record(), required=False)
        eventually(lambda: suspicious._outbox.fault)
    assert ids(receiver) == ["req_1"]
    assert "CERTIFICATE_VERIFY_FAILED" in str(suspicious._outbox.fault)


@pytest.mark.parametrize("status", [500, 503, 429, 404, 401, 302])
def test_a_receiver_that_cannot_take_them_now_gets_them_again(status: int) -> None:
    with http_receiver() as receiver:
        receiver.first = [status]
        sink = WebhookLog(receiver.url)
        sink.log_exchange(record(), required=False)
        assert sink._outbox.flush(PATIENCE)
    assert ids(receiver) == ["req_1", "req_1"]
    assert sink._outbox.dropped == 0


def test_a_record_that_is_rejected_is_dropped_alone_and_counted() -> None:
    with http_receiver() as receiver:
        receiver.first = [503, 400, 200, 422, 200]
        sink = WebhookLog(receiver.url)
        sink.log_exchange(record(id="a"), required=False)
        eventually(lambda: receiver.posts)
        sink.log_exchange(record(id="b"), required=False)
        sink.log_exchange(record(id="c"), required=False)
        assert sink._outbox.flush(PATIENCE)
    assert ids(receiver)[-3:] == ["a", "b", "c"]
    assert sink._outbox.dropped == 1


def test_while_a_required_receiver_is_away_no_call_is_sent_and_then_calls_are_again() -> None:
    port = int(free_address().rpartition(":")[2])
    options = {"url": f"http://127.0.0.1:{port}/in"}
    plugin = {"use": "webhook_log", "required": True, "options": options}
    with gateway(plugins=[plugin]) as gate:
        assert gate.ask(COMPLETION).status == 200
        eventually(lambda: gate.ask(COMPLETION).status == 503)
        with http_receiver(port=port) as receiver:
            eventually(lambda: gate.ask(COMPLETION).status == 200)
            eventually(lambda: len(ids(receiver)) == len(gate.records))
            assert ids(receiver) == [told.id for told in gate.records]


def test_a_full_queue_is_told_to_who_must_know() -> None:
    sink = WebhookLog(f"http://{free_address()}", most=1)
    sink.log_exchange(record(), required=True)
    with pytest.raises(Undelivered, match="more records wait than there is room for"):
        sink.log_exchange(record(), required=True)
    sink.log_exchange(record(), required=False)
    assert sink._outbox.dropped == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"url": "http://hooks.example/in"}, "allow_http = true"),
        ({"url": "https://u:p@hooks.example/in"}, "no user name or password"),
        ({"url": "https://h", "headers": {"Host": Secret("x" * 9)}}, "cannot be set here"),
        ({"url": "https://h", "headers": {"a b": Secret("x" * 9)}}, "cannot be set here"),
        ({"url": "https://h", "secret": Secret("too short")}, "can be guessed"),
        ({"url": "https://h", "secret": "in-the-open-0123456789"}, "a secret never stands"),
        ({"url": "https://h", "batch": 0}, "write a number above zero"),
        ({}, "'url' is missing"),
    ],
)
def test_options_that_will_not_do_stop_the_start(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        harness("webhook_log", **options)
