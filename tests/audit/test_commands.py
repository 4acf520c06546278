"""The commands of the audit trail: what they print, how they end, and that no record harms a terminal."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit import ContentTable, keys
from proxy.audit.calls import Call
from proxy.audit.content import Keeper
from proxy.cli import main
from proxy.cli.audit import audit
from proxy.cli.audit.asking import past
from proxy.cli.audit.columns import COLUMNS
from proxy.cli.audit.printing import plain, shown
from tests.audit.material import Place, fill

PATIENCE = 60.0
EVIL = "\x1b[2J\u202eevil\x07\x7f\u2028é"
PROMPT = b'{"prompt": "the password is swordfish \\u001b[31m"}'
REPLY = b"data: swordfish\x1b[0m\n\ndata: \xff\n"


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments], input=text)


def good(*arguments: str, text: str | None = None) -> str:
    result = run(*arguments, text=text)
    assert result.exit_code == 0, result.output
    return result.stdout


def key(place: Place, name: str) -> str:
    return str(place.root / "keys" / name)


@pytest.fixture
def at(place: Place) -> list[str]:
    """Options that name the directory."""
    return ["--directory", str(place.directory)]


@pytest.fixture
def config(place: Place) -> Path:
    path = place.root / "outgate.toml"
    path.write_text(
        f"""
[upstreams.main]
provider = "openai"
credential = {{ env = "A_VARIABLE_THAT_IS_ONLY_THE_GATEWAYS" }}
[audit]
directory = "{place.directory}"
seal_to = "{key(place, keys.SEALING_PUBLIC)}"
sign_with = "{key(place, keys.SIGNING_PRIVATE)}"
export = [{{ file = "{place.root}/exported" }}, {{ url = "https://x/", token = {{ env = "NOT_HERE" }} }}]
"""
    )
    return path


@pytest.fixture
def calls(place: Place) -> list[str]:
    """Three calls: one with texts and findings, one that was refused, one that is open; signed and closed."""
    keeper = Keeper(
        ContentTable(to=key(place, keys.SEALING_PUBLIC), request=True, reply=True, most_bytes=1000)
    )
    finding = {"kind": "email", "place": "messages[0].content", "plugin": "pii", "action": "mask"}
    common = {
        "endpoint": "chat", "principal": EVIL, "model": "=cmd()", "groups": ["a", "b"],
        "metadata": {"team": "research", "key": "key_1"}, "findings": [finding, finding],
        "verdicts": [{"plugin": "pii", "hook": "guard_request", "verdict": "pass"}],
    }  # fmt: skip
    with place.led() as (journal, _):
        first = {"id": "req_1", **common, **keeper.sealed("req_1", "request", PROMPT)}
        journal.record("intent", first, "req_1")
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        ended = {"id": "req_1", "outcome": "ok", "status": 200, "seconds": 1.5, "usage": usage}
        journal.note("outcome", {**ended, **keeper.sealed("req_1", "reply", REPLY, 5000)}, "req_1")
        refused = {
            "id": "req_2",
            "outcome": "denied",
            "status": 403,
            "code": "no",
            "principal": "bob",
        }
        journal.note("outcome", refused)
        journal.record("intent", {"id": "req_3", "principal": "bob", "stream": True}, "req_3")
    return ["req_1", "req_2", "req_3"]


def safe(text: str) -> bool:
    return all(" " <= char <= "~" or char == "\n" for char in text)


# -- keys -----------------------------------------------------------------------------------------


def test_init_makes_keys_that_the_configuration_takes_and_overwrites_nothing(
    tmp_path: Path,
) -> None:
    printed = good("init", str(tmp_path / "keys"))
    lines = printed.splitlines()
    private = tmp_path / "keys" / keys.SEALING_PRIVATE
    assert lines[0].split("   ") == [str(private), "the auditor's: keep it off the gateway"]
    assert re.search(r'^seal_to = ".*sealing\.public\.pem"$', printed, re.MULTILINE)
    before = {path: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    again = run("init", str(tmp_path / "keys"))
    assert again.exit_code == 1
    assert "keys are never overwritten" in again.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "keys").iterdir()} == before


def test_a_password_is_asked_for_and_needed(place: Place, at: list[str], calls: list[str]) -> None:
    directory = str(place.root / "other")
    good("init", directory, "--ask-password", text="tr0ub4dor\ntr0ub4dor\n")
    private = f"{directory}/{keys.SEALING_PRIVATE}"
    without = run("decrypt", calls[0], *at, "--private-key", private)
    assert "it needs a password" in without.stderr
    wrong = run("decrypt", calls[0], *at, "--private-key", private, "--ask-password", text="x\n")
    assert wrong.exit_code == 1
    other = run(
        "decrypt", calls[0], *at, "--private-key", private, "--ask-password", text="tr0ub4dor\n"
    )
    assert "which is none of those given" in other.stderr
    assert "tr0ub4dor" not in other.output


# -- verify ---------------------------------------------------------------------------------------


def test_verify_says_what_it_read_what_it_did_not_check_and_that_all_is_well(
    place: Place, at: list[str], calls: list[str]
) -> None:
    printed = good("verify", *at)
    rows = dict(line.split() for line in printed.splitlines() if len(line.split()) == 2)
    assert (rows["segments"], rows["intents"], rows["outcomes"]) == ("1", "2", "2")
    assert "segments whose macs were not checked: 1; give the auditor's --private-key" in printed
    assert "signatures of checkpoints were not checked: give --public-key" in printed
    assert "calls without an outcome, in flight or not recovered yet: 1" in printed
    assert printed.endswith("ok: as it was written\n")
    private, public = key(place, keys.SEALING_PRIVATE), key(place, keys.SIGNING_PUBLIC)
    full = good("verify", *at, "--private-key", private, "--public-key", public)
    assert "not checked" not in full
    assert json.loads(good("verify", *at, "--json"))["ok"] is True


def test_verify_names_the_first_bad_record_with_status_1(
    place: Place, at: list[str], calls: list[str]
) -> None:
    path, (_, refused) = place.paths()[0], place.entries("outcome")
    path.write_bytes(path.read_bytes().replace(b'"status":403', b'"status":200'))
    result = run("verify", *at, "--private-key", key(place, keys.SEALING_PRIVATE))
    assert result.exit_code == 1
    assert result.stdout.startswith(
        f"first bad record: edited: {path.stem}, record {refused.seq}, "
    )
    assert result.stdout.endswith("NOT as it was written\n")
    told = json.loads(run("verify", *at, "--json").stdout)
    assert (told["ok"], told["problems"][0]["what"]) == (False, "edited")


def test_verify_tells_many_problems_and_harms_no_terminal(place: Place, at: list[str]) -> None:
    for number in range(25):
        journal = place.journal()
        fill(journal, 1, f"call-{number}")
        journal.close()
        path = place.paths()[-1]
        text = path.read_bytes().replace(b'"segment":"', b'"segment":"\\u001b[2J', 1)
        path.write_bytes(text)
    result = run("verify", *at)
    assert "and 5 more; all of them with --json" in result.stdout
    assert r"\x1b[2J" in result.stdout
    assert safe(result.stdout)


def test_verify_takes_keys_and_exported_checkpoints_from_the_configuration(
    place: Place, config: Path, calls: list[str]
) -> None:
    log = place.directory / "checkpoints.jsonl"
    (place.root / "exported").write_bytes(log.read_bytes())
    assert "signatures" not in good("verify", "--config", str(config))
    log.write_bytes(b"")
    result = run("verify", "--config", str(config))
    assert result.exit_code == 1
    assert "was exported to" in result.stdout
    given = run(
        "verify", "--directory", str(place.directory), "--checkpoints", f"{place.root}/exported"
    )
    assert given.exit_code == 1


def test_an_empty_directory_is_not_well(tmp_path: Path) -> None:
    result = run("verify", "--directory", str(tmp_path))
    assert result.exit_code == 1
    assert "there is no record here: name the directory of an audit trail" in result.stdout


# -- looking --------------------------------------------------------------------------------------


def test_search_lists_calls_that_fit(at: list[str], calls: list[str]) -> None:
    printed = good("search", *at)
    rows = [re.split(r"  +", line) for line in printed.splitlines()]
    heads = "id outcome status principal team model seconds findings"
    assert rows[0] == ["time (UTC)", *heads.split()]
    assert [row[1] for row in rows[1:]] == calls
    assert rows[1][2:4] == ["ok", "200"]
    assert rows[1][-2:] == ["1.500", "email x2"]
    assert safe(printed)
    assert r"\x1b[2J\u202eevil" in printed
    assert len(good("search", *at, "--team", "res*", "--finding", "email").splitlines()) == 2
    assert len(good("search", *at, "--last", "1", "--outcome", "denied").splitlines()) == 2
    nothing = run("search", *at, "--until", "2020-01-01")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "no call fits\n")


def test_as_json_every_call_is_a_line_with_its_place(
    place: Place, at: list[str], calls: list[str]
) -> None:
    printed = good("search", *at, "--json")
    first, second, third = map(json.loads, printed.splitlines())
    assert first["principal"] == EVIL
    assert first["records"]["intent"]["segment"] == place.paths()[0].stem
    assert second["records"]["intent"] is None
    assert (third["outcome"], third["records"]["outcome"]) == ("open", None)
    assert safe(printed)


def test_show_prints_all_of_one_call(at: list[str], calls: list[str]) -> None:
    printed = good("show", *at, calls[0])
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "status 200" in lines
    assert "pii guard_request pass" in lines
    assert "email messages[0].content pii mask" in lines
    assert "request and reply, encrypted; see: outgate audit decrypt" in lines
    assert safe(printed)
    assert "outcome record none" in [
        " ".join(line.split()) for line in good("show", *at, calls[2]).splitlines()
    ]
    assert json.loads(good("show", *at, calls[1], "--json"))["code"] == "no"


def test_what_is_not_there_is_told_in_a_sentence(place: Place, at: list[str], config: Path) -> None:
    for arguments, said in (
        (["show", *at, "req_9"], "no record of req_9 in"),
        (["tail", "--directory", str(place.root / "nowhere")], "there is no such directory"),
        (["tail", "--config", str(place.root / "none.toml")], "No such file or directory"),
        (["show", *at, EVIL], r"no record of \x1b[2J"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert said in result.stderr
        assert safe(result.stderr)
    config.write_text("[audti]\n")
    assert (
        "there is no [audit]. Did you mean 'audti'?" in run("tail", "--config", str(config)).stderr
    )
    assert "is no time: write 90m" in run("search", *at, "--since", "yesterday").stderr


def test_a_file_that_may_not_be_read_is_told_in_a_sentence(place: Place, at: list[str]) -> None:
    (place.directory / "20260801T120000.123456Z_h_1_00000000.jsonl").mkdir()
    result = run("search", *at)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "Is a directory" in result.stderr


def test_tail_prints_the_last_calls(at: list[str], calls: list[str]) -> None:
    assert [line.split()[2] for line in good("tail", *at, "-n", "2").splitlines()[1:]] == calls[1:]
    assert good("tail", *at, "-n", "0") == ""
    assert len(good("tail", *at, "--principal", "bob", "--json").splitlines()) == 2


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return iter(process.stdout.readline, "")


def test_tail_follows_until_it_is_interrupted(
    place: Place, at: list[str], calls: list[str]
) -> None:
    command = [
        str(Path(sys.executable).with_name("outgate")),
        "audit",
        "tail",
        "-f",
        "-n",
        "1",
        *at,
    ]
    # A shell starts what runs in the background deaf to SIGINT, and children inherit that.
    hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears,  # noqa: PLW1509 - no thread runs here
    ) as process:
        printed = lines(process)
        assert next(printed).startswith("time (UTC)")
        assert calls[1] in next(printed)
        journal = place.journal()
        fill(journal, 2, "new")
        assert "new-0" in next(printed)
        assert "new-1" in next(printed)
        journal.close()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, "")


# -- export ---------------------------------------------------------------------------------------


def test_json_lines_hold_everything(at: list[str], calls: list[str], tmp_path: Path) -> None:
    target = tmp_path / "calls.jsonl"
    result = run("export", *at, "--output", str(target))
    assert (result.exit_code, result.stderr) == (0, "3 calls are written\n")
    assert target.read_text() == good("search", *at, "--json")
    assert target.stat().st_mode & 0o777 == 0o600
    again = run("export", *at, "--output", str(target))
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    assert good("export", *at) == target.read_text()


def test_csv_runs_nothing_in_a_spreadsheet(at: list[str], calls: list[str]) -> None:
    printed = good("export", *at, "--format", "csv")
    first, _, third = csv.DictReader(printed.splitlines())
    assert first["model"] == "'=cmd()"
    assert first["principal"] == r"\x1b[2J\u202eevil\x07\x7f\u2028é"
    assert (first["team"], first["key"], first["groups"]) == ("research", "key_1", "a b")
    assert (first["findings"], first["verdicts"]) == (
        "email:mask email:mask",
        "pii:guard_request:pass",
    )
    assert (first["total_tokens"], first["seconds"], first["stream"]) == ("7", "1.5", "False")
    assert (third["outcome"], third["stream"], third["ended"]) == ("open", "True", "")


def test_parquet_has_types(at: list[str], calls: list[str], tmp_path: Path) -> None:
    target = tmp_path / "calls.parquet"
    good("export", *at, "--format", "parquet", "--output", str(target))
    first, second, third = pyarrow.parquet.read_table(target).to_pylist()
    assert [row["id"] for row in (first, second, third)] == calls
    assert first["time"] <= first["ended"] <= datetime.now(UTC)
    assert (first["status"], first["seconds"], first["total_tokens"]) == (200, 1.5, 7)
    assert (second["seconds"], third["stream"], third["ended"]) == (None, True, None)
    assert json.loads(first["record"])["principal"] == EVIL


def test_an_export_that_fails_leaves_no_file(place: Place, at: list[str], tmp_path: Path) -> None:
    (place.directory / "20260801T120000.123456Z_h_1_00000000.jsonl").mkdir()
    for kind in ("jsonl", "csv", "parquet"):
        result = run("export", *at, "--format", kind, "--output", str(tmp_path / "out"))
        assert result.exit_code == 1
    assert not list(tmp_path.glob("out*"))
    missing = run("export", *at, "--output", str(tmp_path / "no" / "out"))
    assert "No such file or directory. Choose another --output." in missing.stderr


ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2), max_size=2
)  # fmt: skip


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(["status", "seconds", "model", "usage", "findings", "stream"], ODD),
    )
)
def test_every_cell_is_of_its_kind_whatever_a_record_holds(fields: dict[str, Any]) -> None:
    kinds = {"text": str, "time": str, "integer": int, "number": int | float, "truth": bool}
    call = Call(id="x", time="2026-08-01T12:00:00.000000+00:00", fields=fields)
    for column in COLUMNS:
        cell = column.cell(call)
        assert cell is None or isinstance(cell, kinds[column.kind])


# -- prune ----------------------------------------------------------------------------------------


def test_prune_asks_removes_and_leaves_a_trail_that_verifies(
    place: Place, config: Path, calls: list[str]
) -> None:
    for number in range(2):
        with place.led() as (journal, _):
            fill(journal, 1, f"more-{number}")
    options = ["--config", str(config), "--older-than", "0"]
    # The first one was left with an open call, which the second recovered.
    listed = good("prune", *options, "--dry-run")
    assert len(listed.splitlines()) == 4
    assert len(place.paths()) == 3
    assert run("prune", *options, text="n\n").exit_code == 1
    assert len(place.paths()) == 3
    assert "3 segments are removed" in good("prune", *options, "--yes")
    assert place.paths() == []
    with place.led() as (journal, _):
        fill(journal, 1)
    assert "ok: as it was written" in good("verify", "--config", str(config))
    assert "no closed segment is that old" in good(
        "prune", "--config", str(config), "--older-than", "1d"
    )


def test_prune_says_what_stays_and_why(place: Place, at: list[str], calls: list[str]) -> None:
    signer = key(place, keys.SIGNING_PRIVATE)
    printed = good("prune", *at, "--older-than", "0", "--sign-with", signer)
    assert f"kept: {place.paths()[0].stem}: not closed" in printed
    without = run("prune", *at, "--older-than", "0")
    assert "the key with --sign-with" in without.stderr


def test_retention_days_say_how_old_if_nothing_else_does(place: Place, config: Path) -> None:
    result = run("prune", "--config", str(config))
    assert (
        "write --older-than 400d, or retention_days = 400 in [audit]" in result.stderr.lower()
        or ("retention_days = 400" in result.stderr)
    )
    config.write_text(config.read_text() + "retention_days = 400\n")
    assert "no closed segment is that old" in good("prune", "--config", str(config))


# -- decrypt --------------------------------------------------------------------------------------


def test_decrypt_prints_what_was_kept_for_who_has_the_key(
    place: Place, at: list[str], calls: list[str], tmp_path: Path
) -> None:
    private = ["--private-key", key(place, keys.SEALING_PRIVATE)]
    result = run("decrypt", calls[0], *at, *private)
    assert result.exit_code == 0
    assert "the password is swordfish \\u001b[31m" in result.stdout
    assert r"data: swordfish\x1b[0m" in result.stdout
    assert safe(result.stdout)
    assert f"only the first {len(REPLY)} of 5000 bytes were kept" in result.stderr
    target = tmp_path / "reply"
    good("decrypt", calls[0], *at, *private, "--side", "reply", "--output", str(target))
    assert target.read_bytes() == REPLY
    assert target.stat().st_mode & 0o777 == 0o600
    again = run("decrypt", calls[0], *at, *private, "--side", "reply", "--output", str(target))
    assert "File exists. Choose another --output." in again.stderr


def test_decrypt_says_what_is_missing(place: Place, at: list[str], calls: list[str]) -> None:
    private = ["--private-key", key(place, keys.SEALING_PRIVATE)]
    for arguments, status, said in (
        ([calls[0]], 2, "--private-key is missing"),
        ([calls[1], *private], 1, "no text was kept"),
        ([calls[0], *private, "--output", "x"], 2, "a file holds one text"),
        ([calls[0], "--private-key", key(place, keys.SEALING_PUBLIC)], 1, "not such a key"),
    ):
        result = run("decrypt", *at, *arguments)
        assert result.exit_code == status
        assert said in result.stderr


# -- all of them ----------------------------------------------------------------------------------


def test_every_audit_command_has_help_with_an_example() -> None:
    for name in audit.commands:
        printed = good(name, "--help")
        assert "Example:" in printed
        assert f"outgate audit {name}" in printed


def test_the_gateways_secrets_are_not_needed(config: Path, calls: list[str]) -> None:
    assert not os.environ.get("A_VARIABLE_THAT_IS_ONLY_THE_GATEWAYS")
    assert calls[0] in good("search", "--config", str(config))


@given(st.text())
def test_nothing_that_is_printed_acts_upon_a_terminal(text: str) -> None:
    assert safe(plain(text).replace("\n", "\x00"))
    assert safe(shown(text))
    assert len(shown(text * 100)) < 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-08-01", datetime(2026, 8, 1, tzinfo=UTC)),
        (" 2026-08-01T12:00:00+02:00 ", datetime(2026, 8, 1, 10, tzinfo=UTC)),
        ("2026-08-01T12:00:00Z", datetime(2026, 8, 1, 12, tzinfo=UTC)),
    ],
)
def test_times_are_taken_as_people_write_them(text: str, expected: datetime) -> None:
    assert _past(text) == expected


@pytest.mark.parametrize(
    ("text", "ago"),
    [("90m", timedelta(minutes=90)), ("2W", timedelta(weeks=2)), ("0", timedelta())],
)
def test_durations_are_ago(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    found = _past(text)
    assert found is not None
    assert before - ago <= found <= datetime.now(UTC) - ago


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1y", "2026-13-01", "999999w", "٣d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time"):
        _past(text)


def _past(text: str) -> datetime | None:
    command = click.Command("x")
    return past(click.Context(command), click.Option(["--since"]), text)
