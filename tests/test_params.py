"""Legal bodies pass, bodies that would blind the hooks do not, and limits hold only when strict."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ApiError, InvalidRequest
from proxy.frozen import freeze
from proxy.jsonio import decode, encode
from proxy.model import Endpoint
from proxy.param_tables import TABLES, Param
from proxy.params import STEERING, check, markdown, unknown, unscannable, unsendable

patient = settings(deadline=None)  # the machine may be busy

MINIMAL: dict[Endpoint, dict[str, Any]] = {
    "completions": {"model": "m", "prompt": "p"},
    "chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "embeddings": {"model": "m", "input": "i"},
}
SAMPLES: dict[str, list[Any]] = {
    "string": ["text", ""],
    "integer": [1],
    "number": [1, 0.5],
    "boolean": [True, False],
    "object": [{}, {"type": "x", "nested": {"a": [1]}}],
    "[string]": [["a", "b"], []],
    "[integer]": [[1, 2]],
    "[[integer]]": [[[1], [2, 3]]],
    "[object]": [[{"role": "user"}], []],
    "{string: number}": [{"50256": -100, "foo": 0}, {}, {"1": 0.5}],
}
NEVER: dict[str, list[Any]] = {
    "string": [1, 1.5, True, {}],
    "integer": [1.0, "1", True, {}, [1]],
    "number": ["1", True, {}, [1]],
    "boolean": ["true", 1, 0, {}],
    "object": ["x", 1, True, [{}]],
    "[string]": [[1.5], ["a", 1], ["a", None]],
    "[integer]": [[True], [1, "a"], [1, [2]], [1.0]],
    "[[integer]]": [[[]], [[1], []], [[1], 2], [["a"]], [[[1]]]],
    "[object]": ["x", {}, [1], [{}, None], [[]]],
    "{string: number}": [{"a": "1"}, {"a": None}, {"a": True}, [], "x"],
}
ROWS = [(endpoint, param) for endpoint, table in TABLES.items() for param in table.values()]


def refused(endpoint: Endpoint, body: Any, *, strict: bool = False) -> ApiError:
    with pytest.raises(InvalidRequest) as caught:
        check(endpoint, body, strict=strict)
    assert caught.value.status == 400
    return caught.value


def with_(endpoint: Endpoint, **changes: Any) -> dict[str, Any]:
    return {**MINIMAL[endpoint], **changes}


def name(row: tuple[Endpoint, Param]) -> str:
    return f"{row[0]}-{row[1].name}"


def test_the_tables_have_every_parameter_of_the_reference() -> None:
    assert len(TABLES["completions"]) == 18
    assert set(TABLES["embeddings"]) == {"model", "input", "dimensions", "encoding_format", "user"}
    assert set(TABLES["chat"]) >= {
        "messages", "model", "tools", "tool_choice", "functions", "function_call",
        "response_format", "max_completion_tokens", "max_tokens", "n", "logprobs", "top_logprobs",
        "stop", "stream", "stream_options", "temperature", "top_p", "seed", "user", "metadata",
        "modalities", "audio", "prediction", "parallel_tool_calls", "reasoning_effort",
        "service_tier", "store", "verbosity", "web_search_options", "safety_identifier",
        "prompt_cache_key", "logit_bias", "frequency_penalty", "presence_penalty",
    }  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_every_legal_form_of_every_parameter_passes(row: tuple[Endpoint, Param]) -> None:
    endpoint, param = row
    for kind in param.types:
        for value in SAMPLES[kind]:
            if param.name != "model" or value:
                check(endpoint, freeze(with_(endpoint, **{param.name: value})))


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_null_passes_exactly_where_the_reference_has_it(row: tuple[Endpoint, Param]) -> None:
    endpoint, param = row
    body = with_(endpoint, **{param.name: None})
    if param.nullable:
        check(endpoint, body)
        check(endpoint, body, strict=True)
    else:
        assert refused(endpoint, body).param == param.name


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_every_wrong_type_is_refused_without_strict(row: tuple[Endpoint, Param]) -> None:
    endpoint, param = row
    legal = [value for kind in param.types for value in SAMPLES[kind]]
    for value in NEVER[param.types[0]]:
        if value in legal and type(value) in {type(item) for item in legal}:
            continue
        error = refused(endpoint, with_(endpoint, **{param.name: value}))
        assert error.param == param.name
        assert error.code == ("invalid_prompt" if param.name == "prompt" else "invalid_type")
        assert f"'{param.name}'" in error.message


def test_only_the_user_of_a_completion_is_optional_and_not_nullable() -> None:
    fixed = [p.name for p in TABLES["completions"].values() if not p.nullable and not p.required]
    assert fixed == ["user"]


@pytest.mark.parametrize("body", [None, "x", ["x"], 1, True])
@pytest.mark.parametrize("endpoint", list(MINIMAL))
def test_a_body_that_is_no_object_is_refused(endpoint: Endpoint, body: Any) -> None:
    assert "must be a JSON object" in refused(endpoint, body).message


@pytest.mark.parametrize("endpoint", list(MINIMAL))
@pytest.mark.parametrize("model", [None, ""])
def test_a_model_must_be_named(endpoint: Endpoint, model: str | None) -> None:
    error = refused(endpoint, with_(endpoint, model=model))
    assert (error.param, error.code) == ("model", "missing_required_parameter")
    body = {key: value for key, value in MINIMAL[endpoint].items() if key != "model"}
    assert refused(endpoint, body).param == "model"


def test_an_absent_prompt_is_refused_and_a_null_one_is_not() -> None:
    error = refused("completions", {"model": "m"})
    assert (error.message, error.code) == ("You must provide a prompt.", "invalid_prompt")
    check("completions", {"model": "m", "prompt": None})


@pytest.mark.parametrize(("endpoint", "param"), [("chat", "messages"), ("embeddings", "input")])
def test_what_a_call_is_about_must_be_there(endpoint: Endpoint, param: str) -> None:
    error = refused(endpoint, {"model": "m"})
    assert (error.param, error.code) == (param, "missing_required_parameter")


@pytest.mark.parametrize(
    "prompt",
    [1, True, {}, {"prompt": "x"}, [1, "x"], ["x", 1], ["x", [1]], [[1], "x"], [[]], [[1], []],
     [["x"]], [None], ["x", None], [True], [1.0], [[1.0]], [{}], [[[1]]]],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize(
    ("endpoint", "param"), [("completions", "prompt"), ("embeddings", "input")]
)
def test_a_prompt_in_any_other_form_than_the_four_is_refused(
    endpoint: Endpoint, param: str, prompt: Any
) -> None:
    assert refused(endpoint, with_(endpoint, **{param: prompt})).param == param


@pytest.mark.parametrize(
    "changes",
    [
        {"n": True}, {"n": 1.0}, {"n": "1"}, {"max_tokens": 1e9}, {"stream": "true"}, {"stream": 1},
        {"temperature": "0.5"}, {"temperature": True}, {"logit_bias": {"1": "x"}},
        {"stop": [1]}, {"stop": ["a", None]}, {"stream_options": []}, {"echo": "yes"},
    ],
    ids=repr,
)  # fmt: skip
def test_values_that_proxy_and_upstream_could_read_differently_are_refused(
    changes: dict[str, Any],
) -> None:
    refused("completions", with_("completions", **changes))


@pytest.mark.parametrize(
    ("key", "known"),
    [("PROMPT", "prompt"), ("Prompt", "prompt"), ("ſuffix", "suffix"), ("ｍｏｄｅｌ", "model"),
     ("STREAM", "stream"), ("Stream_Options", "stream_options"), ("ﬁrst", None)],
)  # fmt: skip
def test_a_name_that_differs_only_in_case_or_width_is_refused(key: str, known: str | None) -> None:
    body = with_("completions", **{key: "SECRET"})
    if known is None:
        check("completions", body)
        return
    error = refused("completions", body)
    assert (error.code, error.param) == ("unknown_parameter", key)
    assert f"'{known}'" in error.message
    assert "SECRET" not in error.message


@pytest.mark.parametrize("key", [*sorted(STEERING), "API_BASE", "Base_Url"])
@pytest.mark.parametrize("endpoint", list(MINIMAL))
def test_a_body_chooses_no_host_and_no_credential(endpoint: Endpoint, key: str) -> None:
    error = refused(endpoint, with_(endpoint, **{key: "http://127.0.0.1"}))
    assert "The operator chooses the upstream" in error.message


def test_the_names_that_steer_are_the_operators_to_list() -> None:
    body = with_("completions", api_base="x", my_switch=1)
    check("completions", body, steering=())
    with pytest.raises(InvalidRequest, match="my_switch"):
        check("completions", body, steering={"my_switch"})


EXTRA = {"top_k": 5, "min_p": 0.1, "grammar": "root", "cache_salt": None}


def test_unknown_names_pass_and_are_listed_but_not_when_strict() -> None:
    body = with_("completions", **EXTRA)
    check("completions", body)
    assert unknown("completions", body) == tuple(EXTRA)
    assert refused("completions", body, strict=True).code == "unknown_parameter"
    assert unknown("completions", MINIMAL["completions"]) == ()


def test_a_misspelt_name_is_answered_with_the_nearest_one_when_strict() -> None:
    error = refused("completions", with_("completions", max_token=1), strict=True)
    assert "Did you mean 'max_tokens'?" in error.message


def test_a_very_long_name_is_shown_in_part() -> None:
    error = refused("completions", with_("completions", **{"x" * 10_000: 1}), strict=True)
    assert len(error.message) < 200
    assert error.param == "x" * 64


OUT_OF_RANGE: list[tuple[Endpoint, dict[str, Any], str | None]] = [
    ("completions", {"n": 0}, "integer_below_min_value"),
    ("completions", {"n": 129}, "integer_above_max_value"),
    ("completions", {"best_of": 21}, "integer_above_max_value"),
    ("completions", {"best_of": 1, "n": 2}, "invalid_value"),
    ("completions", {"best_of": 2, "stream": True}, "invalid_value"),
    ("completions", {"logprobs": 6}, "integer_above_max_value"),
    ("completions", {"max_tokens": -1}, "integer_below_min_value"),
    ("completions", {"temperature": 2.1}, "decimal_above_max_value"),
    ("completions", {"top_p": -0.1}, "decimal_below_min_value"),
    ("completions", {"frequency_penalty": -3}, "decimal_below_min_value"),
    ("completions", {"presence_penalty": 3}, "decimal_above_max_value"),
    ("completions", {"logit_bias": {"1": 101}}, "decimal_above_max_value"),
    ("completions", {"stop": ["a"] * 5}, "array_above_max_length"),
    ("completions", {"stream_options": {"include_usage": True}}, None),
    ("completions", {"stream": False, "stream_options": {}}, None),
    ("completions", {"stream": True, "stream_options": {"x": 1}}, "unknown_parameter"),
    ("chat", {"top_logprobs": 21, "logprobs": True}, "integer_above_max_value"),
    ("chat", {"top_logprobs": 2}, "invalid_value"),
    ("chat", {"stream_options": {}}, None),
    ("embeddings", {"dimensions": 0}, "integer_below_min_value"),
]


@pytest.mark.parametrize(("endpoint", "changes", "code"), OUT_OF_RANGE, ids=repr)
def test_limits_and_rules_hold_only_when_strict(
    endpoint: Endpoint, changes: dict[str, Any], code: str | None
) -> None:
    body = with_(endpoint, **changes)
    check(endpoint, body)
    assert refused(endpoint, body, strict=True).code == code


@pytest.mark.parametrize(
    ("endpoint", "changes"),
    [
        ("completions", {"n": 2, "best_of": 2, "temperature": 2, "logprobs": 5, "stop": ["a"] * 4}),
        ("completions", {"stream": True, "stream_options": {"include_usage": None}}),
        ("completions", {"best_of": None, "n": None, "logit_bias": None, "stream_options": None}),
        ("completions", {"max_tokens": 0, "echo": True, "suffix": "x", "seed": 2**63 - 1}),
        ("completions", {"logit_bias": {"1": -100, "2": 100}, "user": "u"}),
        ("chat", {"logprobs": True, "top_logprobs": 20, "stream": True, "stream_options": {}}),
        ("chat", {"tool_choice": {"type": "function"}, "modalities": ["text", "audio"]}),
        ("embeddings", {"dimensions": 1, "encoding_format": "base64"}),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_within_all_limits_passes_when_strict(
    endpoint: Endpoint, changes: dict[str, Any]
) -> None:
    check(endpoint, with_(endpoint, **changes), strict=True)


def test_bodies_that_official_clients_send_against_the_prose_pass() -> None:
    check("completions", with_("completions", best_of=0, n=1, stream=True))
    check("completions", with_("completions", stream=False, stream_options={"include_usage": True}))
    check("completions", with_("completions", echo=True, suffix="s", logit_bias={"foo": 0}))


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"include_usage": 1}, "stream_options.include_usage"),
        ({"include_obfuscation": "x"}, "stream_options.include_obfuscation"),
        ({"Include_Usage": True}, "stream_options.Include_Usage"),
    ],
)
def test_stream_options_are_checked_inside(options: dict[str, Any], param: str) -> None:
    assert refused("chat", with_("chat", stream=True, stream_options=options)).param == param


def test_stream_options_of_an_endpoint_without_them_are_an_unknown_name() -> None:
    check("embeddings", with_("embeddings", stream_options={"include_usage": 1}))


def test_endpoints_without_a_body_have_no_parameters() -> None:
    check("models", {})
    check("model", {"anything": 1})
    assert unknown("models", {"a": 1}) == ("a",)
    refused("models", {"a": 1}, strict=True)


@patient
@given(st.dictionaries(st.sampled_from(sorted(TABLES["completions"])), st.none() | st.booleans()
                       | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())))  # fmt: skip
def test_a_body_is_taken_or_refused_and_never_changed(body: dict[str, Any]) -> None:
    before = repr(body)
    try:
        check("completions", body, strict=True)
    except InvalidRequest as error:
        assert error.param is None or error.param in TABLES["completions"]  # noqa: PT017 - either way is right
    assert repr(body) == before


def test_values_never_appear_in_the_refusal() -> None:
    for value in ("hunter2", ["hunter2"], {"hunter2": "hunter2"}):
        assert "hunter2" not in refused("completions", with_("completions", n=value)).message


@pytest.mark.parametrize(
    ("endpoint", "changes", "places"),
    [
        ("completions", {"prompt": "text"}, ()),
        ("completions", {"prompt": ["a", "b"]}, ()),
        ("completions", {"prompt": None}, ()),
        ("completions", {"prompt": []}, ()),
        ("completions", {"prompt": [1, 2]}, ("prompt",)),
        ("completions", {"prompt": [[1], [2]]}, ("prompt",)),
        ("completions", {"prompt_embeds": "x"}, ("prompt_embeds",)),
        ("completions", {"Prompt_Embeds": "x", "input_ids": [1]}, ("Prompt_Embeds", "input_ids")),
        ("embeddings", {"input": [[1]]}, ("input",)),
        ("chat", {}, ()),
        ("chat", {"messages": []}, ()),
        ("chat", {"prediction": {"type": "content", "content": "x"}}, ()),
        ("chat", {"prediction": {"content": [{"type": "image_url"}]}}, ("prediction.content[0]",)),
    ],
    ids=repr,
)
def test_content_that_no_scan_can_read_is_named(
    endpoint: Endpoint, changes: dict[str, Any], places: tuple[str, ...]
) -> None:
    assert unscannable(endpoint, with_(endpoint, **changes)) == places


@pytest.mark.parametrize(
    ("part", "readable"),
    [
        ("plain", True),
        ({"type": "text", "text": "x"}, True),
        ({"type": "refusal", "refusal": "x"}, True),
        ({"type": "thinking", "thinking": "x"}, True),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}, False),
        ({"type": "input_audio", "input_audio": {"data": "AA"}}, False),
        ({"type": "file", "file": {"file_id": "f"}}, False),
        ({"type": "text", "text": "x", "image_url": {"url": "u"}}, False),
        ({"type": "text", "text": "x", "Image_URL": {"url": "u"}}, False),
        ({"type": "hologram"}, False),
        ({"type": ["text"]}, False),
        ({"text": "x"}, False),
        (7, False),
    ],
    ids=repr,
)
def test_a_content_part_is_readable_only_if_it_is_known_to_be_text(
    part: Any, readable: bool
) -> None:
    body = with_("chat", messages=[{"role": "user", "content": [part]}])
    assert unscannable("chat", body) == (() if readable else ("messages[0].content[0]",))


def test_media_beside_the_content_of_a_message_is_named() -> None:
    body = with_("chat", messages=["x", {"content": "x", "images": ["AA"]}])
    assert unscannable("chat", body) == ("messages[1].images",)


def test_a_tool_may_name_its_own_parameters_as_it_likes() -> None:
    schema = {"type": "object", "properties": {"file": {"type": "string"}, "image": {}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert unscannable("chat", with_("chat", tools=[tool])) == ()


@pytest.mark.parametrize("endpoint", list(MINIMAL))
def test_the_documentation_has_one_row_for_each_parameter(endpoint: Endpoint) -> None:
    head, rule, *rows = markdown(endpoint).splitlines()
    assert head.count("|") == rule.count("|") == 7
    assert [row.split("`")[1] for row in rows] == list(TABLES[endpoint])
    assert all(row.replace("\\|", "").count("|") == 7 for row in rows)
    assert all("OpenAI API reference" in row for row in rows)


def test_limits_are_told_in_words() -> None:
    rows = TABLES["completions"]
    assert rows["temperature"].limits() == "0 to 2"
    assert rows["max_tokens"].limits() == "0 or more"
    assert rows["stop"].limits() == "at most 4"
    assert rows["model"].limits() == ""


def test_a_checked_body_reaches_the_upstream_with_exactly_its_own_members() -> None:
    data = b'{"model":"m","prompt":null,"seed":9007199254740993,"top_k":5,"n":null}'
    body = decode(data, depth=64)
    check("completions", body)
    assert encode(body) == data


def test_a_plugin_can_ask_why_a_body_cannot_be_sent() -> None:
    body = {"model": "m", "prompt": "Hello"}
    assert unsendable("completions", body) is None
    assert "temperature" in str(unsendable("completions", {**body, "temperature": "hot"}))
