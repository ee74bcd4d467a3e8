"""What every rotator keeps, whatever it rotates: tests over a small bench that each rotator's own tests supply.

Subclass `RotatorContract` as a `Test...` class that has a fixture `bench`. The bench's rotators make every external
call through `bench.faults.around(...)`; the tests then kill the process, or lose the answer, before and after each of
these calls in turn, and go on with a new rotator as a new process would.
"""

import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, cast, override

import pytest

from rotation.calendar import Every
from rotation.catalog import Entry, EntryKind, SecretPolicy
from rotation.message import SecretAction
from rotation.rotators.base import Change, Credential, Notice, Place, Rotator
from shared.errors import Rejected, Transient
from shared.secret import Secret
from shared.values import SecretPhase
from tests.conftest import Tally
from tests.jobs.platform import Platform
from tests.jobs.secret_scene import NAME, Scene
from tests.jobs.secret_targets import GRACE, INTERVAL, Target
from tests.simulator import Killed, World

STAGES: Final = ("placed", "obtained", "installed", "tested")
CLOCKS: Final = (
    ("time.monotonic", float),
    ("system_clock", lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
"""What shared/clock.py reads, made of seconds: while a machine is suspended only one of them goes on."""
_TRIES: Final = 5
_NOON: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Mode(Enum):
    """What happens to one external call."""

    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"
    LOST_BEFORE = "never arrived"
    LOST_AFTER = "answer lost"


@dataclass
class Faults:
    """Stands around every external call of the bench's rotators."""

    lost: Callable[[], Exception] = field(default=lambda: Transient("no answer"))
    """What a call raises to the rotator when there is no answer."""
    calls: int = 0
    _at: int = 0
    _mode: Mode = Mode.KILLED_BEFORE

    def arm(self, at: int, mode: Mode) -> None:
        """Let the call of that number, counted from now, go wrong once."""
        self.calls, self._at, self._mode = 0, at, mode

    @property
    def struck(self) -> bool:
        """Whether the armed fault has happened."""
        return 0 < self._at <= self.calls

    def around[T](self, call: Callable[[], T]) -> T:
        """Make the external call."""
        self.calls += 1
        if self.calls != self._at:
            return call()
        match self._mode:
            case Mode.KILLED_BEFORE:
                raise Killed
            case Mode.LOST_BEFORE:
                raise self.lost()
            case Mode.KILLED_AFTER:
                call()
                raise Killed
            case Mode.LOST_AFTER:
                call()
                raise self.lost()


class Bench(ABC):
    """A target, and rotators for one secret in it."""

    can_begin = True
    """Whether the rotator can make a first credential where there is none."""

    def __init__(self) -> None:
        self.faults = Faults()

    @abstractmethod
    def rotator(self) -> Rotator:
        """A new one that shares no memory with those before it."""

    @abstractmethod
    def unreachable(self) -> Rotator:
        """One whose target does not answer."""

    @abstractmethod
    def adopt(self) -> Secret:
        """Set the target up anew and make one credential by hand: its value."""

    def clear(self) -> None:
        """Set the target up anew, without a credential. Only where `can_begin`."""
        raise NotImplementedError

    @abstractmethod
    def wrong(self) -> Secret:
        """A well-formed value that the target has never accepted."""

    @abstractmethod
    def working(self) -> set[bytes]:
        """Of all values that the target has ever been given or has made since it was set up: those that work now."""

    def hidden(self, value: Secret) -> Sequence[bytes]:
        """What of a value must be seen nowhere."""
        return [value.reveal()]


class Engine:
    """Calls a rotator as the engine does; what it keeps is what a row and the vault keep."""

    def __init__(self, bench: Bench, *, twice: bool = False) -> None:
        self._bench = bench
        self._twice = twice
        self.generation = 0
        self.current: Credential | None = None
        self.previous: Credential | None = None
        self.seen: list[Secret] = []
        self.errors: list[BaseException] = []

    def adopt(self) -> None:
        """Begin with a credential that was made by hand."""
        value = self._bench.adopt()
        self.seen.append(value)
        self.current = Credential(self.call(lambda rotator: rotator.locate(value)), value)

    def place(self) -> Change:
        """Decide on the next rotation."""
        self.generation += 1
        place = self.call(lambda rotator: rotator.place(self.current, self.generation))
        return self.change(place)

    def change(self, place: Place) -> Change:
        """The rotation as it is on record."""
        return Change(NAME, self.generation, place, self.current)

    def obtain(self, change: Change) -> Credential:
        """The new credential, as it is kept aside."""
        new = self.call(lambda rotator: rotator.obtain(change))
        self.seen.append(new.value)
        return new

    def install(self, change: Change, new: Credential) -> Credential:
        """Have it accepted; the one that finally is."""
        for _ in range(_TRIES):
            if self.call(lambda rotator, new=new: rotator.install(change, new)):  # type: ignore[misc]
                return new
            new = self.obtain(change)
        raise AssertionError("install says over and over that the credential is void")

    def test(self, credential: Credential) -> bool:
        """Whether it works, by the rotator."""
        return self.call(lambda rotator: rotator.test(credential))

    def publish(self, new: Credential) -> None:
        """Consumers use the new one from now on."""
        self.previous, self.current = self.current, new
        notice = Notice(NAME, self.generation, "0" * 32, new, self.previous, _NOON + timedelta(days=1))
        self.call(lambda rotator: rotator.announce(notice))

    def revoke(self) -> None:
        """The grace period is over."""
        assert self.current is not None
        assert self.test(self.current)
        if self.previous is not None:
            self._revoke(self.previous, self.current)
        self.previous = None

    def roll_back(self) -> None:
        """After publication: consumers use the previous one again."""
        assert self.current is not None
        assert self.previous is not None
        new, self.current = self.current, self.previous
        self._revoke(new, self.current)
        self.previous = None

    def _revoke(self, old: Credential, current: Credential) -> None:
        self.call(lambda rotator: rotator.revoke(old, current))
        assert not self.test(old)

    def abandon(self, change: Change) -> None:
        """Before publication."""
        self.call(lambda rotator: rotator.abandon(change))

    def up_to(self, stage: str) -> Change:
        """A rotation that has got so far."""
        change = self.place()
        if stage == "placed":
            return change
        new = self.obtain(change)
        if stage == "obtained":
            return change
        new = self.install(change, new)
        if stage == "tested":
            assert self.test(new)
        return change

    def until_published(self) -> None:
        """The first half of a rotation."""
        change = self.place()
        new = self.install(change, self.obtain(change))
        assert self.test(new)
        self.publish(new)

    def rotate(self) -> None:
        """A whole rotation."""
        self.until_published()
        self.revoke()

    def call[T](self, method: Callable[[Rotator], T]) -> T:
        """One method, called again by a new process until it is through; who uses the current one notices nothing."""
        for _ in range(_TRIES):
            try:
                answer = method(self._bench.rotator())
            except (Killed, Transient) as error:
                self.errors.append(error)
                self.check_consumers()
                continue
            return method(self._bench.rotator()) if self._twice else answer
        raise self.errors[-1]

    def check_consumers(self) -> None:
        """Whoever may use a credential now can."""
        assert self.used() <= self._bench.working()

    def check(self) -> None:
        """What consumers use works, and nothing else does."""
        assert self._bench.working() == self.used()

    def used(self) -> set[bytes]:
        """The values that are to work."""
        return {each.value.reveal() for each in (self.current,) if each}

    def check_grace(self) -> None:
        """Dual running: both work, and nothing else does."""
        both = {each.value.reveal() for each in (self.current, self.previous) if each}
        assert self._bench.working() == both

    def check_silence(self, records: Sequence[logging.LogRecord]) -> None:
        """No error or log record shows a value."""
        texts = [text for error in self.errors for text in (repr(error), *traceback.format_exception(error))]
        texts += [str(vars(error)) for error in self.errors]
        texts += [f"{record.getMessage()} {vars(record)}" for record in records]
        everything = "\n".join(texts).encode()
        assert [value for value in self.seen if any(part in everything for part in self._bench.hidden(value))] == []


@dataclass
class BenchTarget:
    """The bench's target as the simulated platform of the jobs' tests knows targets."""

    bench: Bench

    @property
    def policy(self) -> SecretPolicy:
        """The catalog entry of its secret."""
        entry = Entry(NAME, EntryKind.SECRET, "platform", Every(INTERVAL), NAME, grace=GRACE)
        return SecretPolicy(entry, "of the bench", None)

    def rotator(self, world: World) -> Rotator:  # noqa: ARG002 - as all targets
        """The rotator of its secret."""
        return self.bench.rotator()


@dataclass
class BenchScene(Scene):
    """The real engine with the bench's rotator: vault, rows and queues are simulated."""

    bench: Bench = field(kw_only=True)

    def __post_init__(self) -> None:
        self.target = cast("Target", BenchTarget(self.bench))
        self.world.targets[NAME] = self.target
        Platform.__post_init__(self)
        self.world.add_secret(NAME, self.bench.adopt().reveal())
        self.plan()
        self.settle()

    @override
    def consume(self) -> None:
        newest, value = self.versions()[-1]
        assert newest.enabled
        assert value in self.bench.working()


def calls_of(bench: Bench, flow: Callable[[], None]) -> int:
    """How many external calls it makes when nothing goes wrong."""
    bench.faults.arm(0, Mode.KILLED_BEFORE)
    flow()
    return bench.faults.calls


class RotatorContract:
    """The tests. `bench` is the fixture of the subclass; it is used again by every test of the class."""

    @pytest.fixture(autouse=True)
    def _watch(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)

    def test_an_adopted_value_is_found_in_its_slot_and_works(self, bench: Bench) -> None:
        engine = Engine(bench)
        engine.adopt()
        assert engine.current is not None
        assert engine.current.slot
        assert engine.test(engine.current)
        engine.check()

    def test_a_value_that_the_target_does_not_accept_is_told_from_one_that_it_accepts(self, bench: Bench) -> None:
        engine = Engine(bench)
        engine.adopt()
        assert engine.current is not None
        assert not engine.test(Credential(engine.current.slot, bench.wrong()))
        engine.check()

    def test_what_is_no_value_of_this_kind_is_not_adopted(self, bench: Bench) -> None:
        bench.adopt()
        with pytest.raises(Rejected):
            bench.rotator().locate(Secret(b"neither a string that connects nor a key"))

    def test_rotations_one_after_the_other_leave_one_working_credential_each(self, bench: Bench) -> None:
        engine = Engine(bench)
        engine.adopt()
        for _ in range(3):
            before = engine.current
            engine.until_published()
            assert engine.current is not before
            engine.check_grace()
            engine.revoke()
            engine.check()

    def test_the_next_credential_does_not_go_where_the_current_one_is(self, bench: Bench) -> None:
        engine = Engine(bench)
        engine.adopt()
        assert engine.current is not None
        place = engine.place().place
        assert place.slot != engine.current.slot
        engine.check()

    def test_every_method_called_twice_is_as_if_called_once(self, bench: Bench) -> None:
        engine = Engine(bench, twice=True)
        engine.adopt()
        engine.rotate()
        engine.check()
        engine.rotate()
        engine.check()

    def test_a_first_rotation_makes_the_only_credential(self, bench: Bench) -> None:
        if not bench.can_begin:
            pytest.skip("it cannot begin without a credential")
        bench.clear()
        engine = Engine(bench)
        engine.rotate()
        engine.check()

    @pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
    def test_a_rotation_hit_at_any_external_call_ends_with_one_working_credential(
        self, bench: Bench, mode: Mode, caplog: pytest.LogCaptureFixture, tally: Tally
    ) -> None:
        engine = Engine(bench)
        engine.adopt()
        for at in range(1, calls_of(bench, engine.rotate) + 1):
            bench.faults.arm(at, mode)
            engine.until_published()
            engine.check_grace()
            engine.revoke()
            engine.check()
            assert bench.faults.struck
            tally.count("secret rotations hit at an external call, ending with one working credential")
        engine.check_silence(caplog.records)

    @pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
    def test_a_rollback_hit_at_any_external_call_leaves_the_previous_credential(
        self, bench: Bench, mode: Mode, caplog: pytest.LogCaptureFixture, tally: Tally
    ) -> None:
        engine = Engine(bench)
        engine.adopt()
        current = engine.current
        engine.until_published()
        for at in range(1, calls_of(bench, engine.roll_back) + 1):
            engine.until_published()
            bench.faults.arm(at, mode)
            engine.roll_back()
            assert bench.faults.struck
            assert engine.current is current
            engine.check()
            tally.count("secret rollbacks hit at an external call, leaving the previous credential")
        engine.check_silence(caplog.records)

    @pytest.mark.parametrize("stage", STAGES)
    def test_a_rotation_given_up_at_any_stage_leaves_the_current_credential(
        self, bench: Bench, stage: str, caplog: pytest.LogCaptureFixture, tally: Tally
    ) -> None:
        engine = Engine(bench)
        engine.adopt()

        def given_up(at: int = 0, mode: Mode = Mode.KILLED_BEFORE) -> None:
            change = engine.up_to(stage)
            bench.faults.arm(at, mode)
            engine.abandon(change)

        for mode in (Mode.KILLED_BEFORE, Mode.LOST_AFTER):
            for at in range(1, calls_of(bench, given_up) + 1):
                given_up(at, mode)
                engine.check()
                tally.count("secret rotations given up, leaving the current credential")
        engine.rotate()
        engine.check()
        engine.check_silence(caplog.records)

    def test_a_target_that_does_not_answer_is_no_refusal(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        engine = Engine(bench)
        engine.adopt()
        change = engine.place()
        new = engine.obtain(change)
        current = engine.current
        assert current is not None
        rotator = bench.unreachable()
        methods: Sequence[Callable[[], object]] = (
            lambda: rotator.test(current),
            lambda: rotator.install(change, new),
            lambda: rotator.revoke(new, current),
        )
        for method in methods:
            with pytest.raises(Transient) as caught:
                method()
            engine.errors.append(caught.value)
        engine.abandon(change)
        engine.check()
        engine.check_silence(caplog.records)

    @pytest.mark.parametrize("mode", [Mode.KILLED_AFTER, Mode.LOST_BEFORE], ids=lambda mode: mode.value)
    def test_the_engine_brings_a_rotation_through_that_is_hit_at_any_external_call(
        self, bench: Bench, mode: Mode, tally: Tally
    ) -> None:
        def rotated(at: int = 0) -> None:
            scene = BenchScene(bench=bench)
            (first, _), *_ = scene.versions()
            bench.faults.arm(at, mode)
            scene.send(SecretAction.ROTATE)
            scene.settle()
            scene.consume()
            scene.pass_time(GRACE)
            assert scene.row.phase is SecretPhase.STEADY
            assert scene.row.generation == 1
            newest, value = scene.versions()[-1]
            assert newest.version != first.version
            assert bench.working() == {value}

        for at in range(1, calls_of(bench, rotated) + 1):
            rotated(at)
            assert bench.faults.struck
            tally.count("secret rotations by the engine, hit at an external call, ending with one working credential")
