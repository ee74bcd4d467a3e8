"""Faults on demand: which request fails, how, and whether it took effect before it did.

The hard case for a client is `after`: the vault did what it was asked for, and the answer got lost.
"""

import random
import re
from dataclasses import dataclass, field
from enum import StrEnum

from local.key_vault.body import Body
from local.key_vault.errors import invalid_property
from local.key_vault.wire import JsonObject


class Moment(StrEnum):
    """When a fault strikes."""

    BEFORE = "before"  # the operation is not carried out
    AFTER = "after"  # the operation took effect, only its answer is lost


DROP = "drop"
"""The outcome for which the connection is closed without an answer."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault. With neither a status nor a drop, the request is only slowed down."""

    match: re.Pattern[str]
    """Searched for in "METHOD /path", without the query."""
    status: int | None
    drop: bool
    latency_ms: float
    apply: Moment
    times: int | None
    """How often it strikes; None is for ever."""
    probability: float
    """Of striking a request that matches; drawn from a generator that starts at `seed`."""
    seed: int

    @classmethod
    def parse(cls, body: Body) -> "Rule":
        """Read a rule from a request; only `match` must be there. Raises a 400."""
        outcome = body.optional_text_or_int("status")
        probability = body.optional_float("probability")
        try:
            rule = cls(
                match=re.compile(body.text("match")),
                status=outcome if isinstance(outcome, int) else None,
                drop=outcome == DROP,
                latency_ms=body.optional_float("latency_ms") or 0.0,
                apply=Moment(body.optional_text("apply") or Moment.BEFORE),
                times=body.optional_int("times"),
                probability=1.0 if probability is None else probability,
                seed=body.optional_int("seed") or 0,
            )
        except (re.error, ValueError):
            raise invalid_property("match or apply") from None
        if isinstance(outcome, str) and outcome != DROP:
            raise invalid_property("status")
        if rule.status is not None and not 400 <= rule.status <= 599:
            raise invalid_property("status")
        if rule.latency_ms < 0 or not 0 <= rule.probability <= 1 or (rule.times is not None and rule.times < 0):
            raise invalid_property("latency_ms, probability or times")
        return rule


@dataclass(slots=True)
class _Armed:
    rule: Rule
    left: int | None
    struck: int = 0
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.rule.seed)  # noqa: S311 - repeatable on purpose

    def strikes(self, moment: Moment, line: str) -> bool:
        if self.left == 0 or self.rule.apply is not moment or not self.rule.match.search(line):
            return False
        if self.chance.random() >= self.rule.probability:
            return False
        self.struck += 1
        if self.left is not None:
            self.left -= 1
        return True


@dataclass(frozen=True, slots=True)
class Strike:
    """What happens to one request at one moment: first the delay, then the outcome, if any."""

    latency_ms: float = 0.0
    status: int | None = None
    drop: bool = False


class Faults:
    """The rules in the order in which they were added."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def add(self, rule: Rule) -> None:
        """Arm a rule."""
        self._armed.append(_Armed(rule, rule.times))

    def clear(self) -> None:
        """Disarm all."""
        self._armed.clear()

    def strike(self, moment: Moment, line: str) -> Strike:
        """Delays of all rules that strike add up; the first outcome wins, and rules after it stay unused."""
        latency_ms = 0.0
        for armed in self._armed:
            if armed.strikes(moment, line):
                latency_ms += armed.rule.latency_ms
                if armed.rule.drop or armed.rule.status is not None:
                    return Strike(latency_ms, armed.rule.status, armed.rule.drop)
        return Strike(latency_ms)

    def listing(self) -> list[JsonObject]:
        """The rules as they were given, with what is left of each and how often it struck."""
        return [
            {
                "match": armed.rule.match.pattern,
                "status": DROP if armed.rule.drop else armed.rule.status,
                "latency_ms": armed.rule.latency_ms,
                "apply": armed.rule.apply.value,
                "times": armed.rule.times,
                "probability": armed.rule.probability,
                "seed": armed.rule.seed,
                "left": armed.left,
                "struck": armed.struck,
            }
            for armed in self._armed
        ]
