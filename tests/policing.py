"""What tests of the policy share: a few detectors, and calls, screens and reviews made of them."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.chain import Trail
from proxy.detect.detector import Detector
from proxy.frozen import freeze
from proxy.mask import Vault
from proxy.model import Call, Principal
from proxy.policy import Policy, Watch
from proxy.review import Review
from proxy.rules import PolicyTable
from proxy.screen import Screen, Screened

CANARY: Final = "CANARY-7781"
TICKET: Final = Detector.regex("ticket", r"T-[0-9]{1,6}", groups=("refs", "refs.tickets"))
#: One of every way to say what is found.
DETECTORS: Final = (
    TICKET,
    Detector.regex("password", "[a-z]{3,8}", context="pw[:=] ?"),
    Detector(kind="block", opens="<<", closes=">>", most=64),
    Detector.regex("word", "bluebird", fold=True),
    Detector.regex("even", "E[0-9]{1,4}", check=lambda text: int(text[1:]) % 2 == 0),
)


def watch(detector: Detector = TICKET, **settings: Any) -> Watch:
    return Watch(detector, settings.pop("plugin", "p"), **settings)


def call(endpoint: Any = "completions", **body: Any) -> Call:
    full = {"model": "m", **({"prompt": "Hello"} if endpoint == "completions" else {}), **body}
    return Call(
        id="1", endpoint=endpoint, body=freeze(full), principal=Principal("a"), model=full["model"]
    )


def screened(
    body: Mapping[str, Any],
    *watches: Watch,
    endpoint: Any = "completions",
    headers: Mapping[str, str] | None = None,
    **table: Any,
) -> tuple[Screened, Trail]:
    """A request after the policy, and what was noted; ``table`` is what ``[policy]`` takes."""
    trail = Trail()
    made = call(endpoint, **body).replace(headers=headers or {})
    screen = Screen(Policy(PolicyTable(**table), watches), tuple(headers or ()))
    return screen.judge(made, trail), trail


def review(
    *watches: Watch, vault: Vault | None = None, trail: Trail | None = None, **response: Any
) -> Review:
    """A review of one reply; ``response`` are the rules of ``[policy.response]``."""
    policy = Policy(PolicyTable(response=response), watches)
    return Review(policy, call(), vault, trail or Trail())


def planted(shape: Any, canary: str = CANARY) -> Iterator[tuple[str, Any]]:
    """``shape`` with the canary in every place, as a value and as a key, each with the place's name."""
    if isinstance(shape, dict):
        yield "{}", {**shape, canary: 1}
        yield "{}", {**shape, canary: "x"}
        yield "{}", {**shape, "unknown": {"deep": [{"deeper": canary}, [canary]]}}
        for key, value in shape.items():
            yield from ((f".{key}{at}", {**shape, key: new}) for at, new in planted(value, canary))
    elif isinstance(shape, list):
        yield "[]", [*shape, canary]
        for i, item in enumerate(shape):
            for at, new in planted(item, canary):
                yield f"[{i}]{at}", [*shape[:i], new, *shape[i + 1 :]]
    else:
        yield "", canary
        yield "", f"before {canary} behind"
        yield "", [canary]
        yield "", {canary: {}}
