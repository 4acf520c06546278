"""A text model without weights: it has counted which token follows which in a few paragraphs.

Its probabilities are real ones: they add up to 1 over all tokens, depend on nothing but the tokens
so far, and are the same whether a token was written by the model or is scored in an echoed prompt.
"""

import hashlib
import math
import string
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from heapq import nsmallest
from itertools import accumulate, pairwise
from random import Random

from proxy.demo.corpus import DOCUMENTS, FRAGMENTS
from proxy.demo.tokenizer import END, Tokenizer, words

#: How many tokens a prompt and its completion may have together.
CONTEXT = 16_384

_SHARES = (0.68, 0.27, 0.05)  # of what followed the last two tokens, the last one, and any
_UNSEEN = 1e-3  # the share of all tokens that the documents do not hold
_MEMORY = 24  # tokens back in which a repeated word grows less likely
_FATIGUE = 0.55
_AHEAD = 8  # tokens ahead that the way to a suffix is planned
_OFF_THE_WAY = 1e-6
_OPENING = 8  # tokens that set the mood of a text, so that other prompts get other words
_TASTE = 0.6
_RELUCTANCE = 0.5  # to end: a reply without a word shows nothing


@dataclass(frozen=True, slots=True)
class Step:
    """One token of a text: its log-probability is None where nothing came before it."""

    number: int
    text: str
    logprob: float | None
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn (OpenAI API reference, the parameters of the same names).

    `goal` is the token that the text must lead to: the first one of a suffix.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    goal: int | None = None


def dice(*facts: object) -> Random:
    """A source of chance that is the same whenever the facts are the same."""
    return Random(hashlib.sha256(repr(facts).encode()).digest())


class TextModel:
    """Counts over `documents`, and the texts that can be drawn from them."""

    def __init__(self, documents: Sequence[str] = DOCUMENTS) -> None:
        seen = {word for line in documents for word in words(line)}
        self.tokenizer = Tokenizer((*seen, *FRAGMENTS, *string.ascii_lowercase))
        self._any: Counter[int] = Counter()
        self._after_one: dict[int, Counter[int]] = {}
        self._after_two: dict[tuple[int, int], Counter[int]] = {}
        for line in documents:
            self._read((END, *self.tokenizer.encode(line), END))
        self._tireless = {END} | {number for number, _ in self._any.most_common(16)}
        self._pause = self.tokenizer.encode(".")[0]
        self._spread = lru_cache(maxsize=4096)(self._fresh_spread)
        self._mood = lru_cache(maxsize=256)(self._fresh_mood)
        self._way = lru_cache(maxsize=64)(self._fresh_way)

    def _read(self, line: Sequence[int]) -> None:
        for before, after in pairwise(line):
            self._any[after] += 1
            self._after_one.setdefault(before, Counter())[after] += 1
        for first, second, after in zip(line, line[1:], line[2:], strict=False):
            self._after_two.setdefault((first, second), Counter())[after] += 1

    @cached_property
    def fingerprint(self) -> str:
        """Names this model and its vocabulary: the `system_fingerprint` of its replies."""
        facts = sorted(self._any.items()), self.tokenizer.size
        return f"fp_{hashlib.sha256(repr(facts).encode()).hexdigest()[:10]}"

    def knows(self, number: int) -> bool:
        """Whether the documents hold this token."""
        return number in self._any

    def _fresh_spread(self, first: int, second: int) -> dict[int, float]:
        """Probabilities of the known tokens after two others, adding up to 1 - _UNSEEN."""
        known = (
            (_SHARES[0], self._after_two.get((first, second))),
            (_SHARES[1], self._after_one[second]),
            (_SHARES[2], self._any),
        )
        counts = [(share, counted) for share, counted in known if counted]
        whole = sum(share for share, _ in counts) / (1 - _UNSEEN)
        spread = dict.fromkeys(self._any, 0.0)
        for share, counted in counts:
            unit = share / whole / counted.total()
            for number, count in counted.items():
                spread[number] += unit * count
        return spread

    def _fresh_mood(self, opening: tuple[int, ...]) -> dict[int, float]:
        chance = dice(opening)
        mood = {number: math.exp(chance.gauss(0, _TASTE)) for number in self._any}
        return mood | {END: _RELUCTANCE}

    def spread(self, context: Sequence[int]) -> dict[int, float]:
        """The probability of each known token after `context`; the rest share what is left."""
        first, second = (END, END, *context[-2:])[-2:]
        # After a word it has never read the model starts a new sentence.
        second = second if second in self._after_one else self._pause
        mood = self._mood(tuple(context[:_OPENING]))
        spread = {
            number: chance * mood[number] for number, chance in self._spread(first, second).items()
        }
        for number, count in Counter(context[-_MEMORY:]).items():
            if number in spread and number not in self._tireless:
                spread[number] *= _FATIGUE**count
        scale = (1 - _UNSEEN) / sum(spread.values())
        return {number: chance * scale for number, chance in spread.items()}

    @property
    def _rest(self) -> float:
        return _UNSEEN / (self.tokenizer.size - len(self._any))

    def _step(self, number: int, spread: Mapping[int, float], top: int) -> Step:
        best = nsmallest(top, spread.items(), key=lambda item: (-item[1], item[0]))
        return Step(
            number,
            self.tokenizer.text(number),
            math.log(spread.get(number, self._rest)),
            tuple((self.tokenizer.text(other), math.log(chance)) for other, chance in best),
        )

    def score(self, context: Sequence[int], numbers: Sequence[int], top: int = 0) -> Iterator[Step]:
        """The steps of a text that is already there; the very first token of all has no chance."""
        history = list(context)
        for number in numbers:
            if history:
                yield self._step(number, self.spread(history), top)
            else:
                yield Step(number, self.tokenizer.text(number), None)
            history.append(number)

    def write(
        self,
        context: Sequence[int],
        limit: int,
        sampling: Sampling,
        chance: Random,
        top: int = 0,
    ) -> Iterator[Step]:
        """At most `limit` further tokens; fewer when the text, or the way to the goal, ends.

        Temperature, penalties and bias decide which token is drawn; the log-probabilities stay the
        model's own, so that they compare across candidates and equal those of `score`.
        """
        history, written = list(context), Counter[int]()
        last = END if sampling.goal is None else sampling.goal
        for left in range(limit - 1, -1, -1):
            spread = self.spread(history)
            logits = self._logits(spread, written, sampling)
            self._steer(logits, sampling.goal, left)
            number = _draw(logits, sampling, chance)
            if number == last and (sampling.goal is None or written):
                return
            yield self._step(number, spread, top)
            history.append(number)
            written[number] += 1

    def _logits(
        self, spread: Mapping[int, float], written: Counter[int], sampling: Sampling
    ) -> dict[int, float]:
        logits = {number: math.log(chance) for number, chance in spread.items()}
        for number, bias in sampling.logit_bias.items():
            logits[number] = logits.get(number, math.log(self._rest)) + bias
        for number, count in written.items():
            penalty = sampling.presence_penalty + sampling.frequency_penalty * count
            logits[number] = logits.get(number, math.log(self._rest)) - penalty
        return logits

    def _steer(self, logits: dict[int, float], goal: int | None, left: int) -> None:
        """Favour the tokens from which the goal can be reached in the tokens left."""
        if goal is None:
            return
        del logits[END]
        way = self._way(goal, min(left, _AHEAD))
        for number in logits:
            logits[number] += math.log(way.get(number, 0.0) + _OFF_THE_WAY)

    def _fresh_way(self, goal: int, left: int) -> dict[int, float]:
        """The chance that the goal comes within `left` tokens after each known token."""
        further = self._way(goal, left - 1) if left else {goal: 1.0}
        return {goal: 1.0} | {
            number: sum(count * further.get(after, 0.0) for after, count in counted.items())
            / counted.total()
            for number, counted in self._after_one.items()
            if number != goal
        }


def _draw(logits: Mapping[int, float], sampling: Sampling, chance: Random) -> int:
    """One token number; at temperature 0 the likeliest, and of equals the lowest number."""
    ranked = sorted(logits.items(), key=lambda item: (-item[1], item[0]))
    if sampling.temperature == 0:
        return ranked[0][0]
    peak = ranked[0][1]
    weights = [math.exp((logit - peak) / sampling.temperature) for _, logit in ranked]
    nucleus = _nucleus(weights, sampling.top_p)
    return chance.choices([number for number, _ in ranked[:nucleus]], weights[:nucleus])[0]


def _nucleus(weights: Sequence[float], top_p: float) -> int:
    """How many of the ranked tokens hold the share `top_p` together; at least one."""
    shares = list(accumulate(weights))
    return min(len(shares), bisect_left(shares, top_p * shares[-1]) + 1)
