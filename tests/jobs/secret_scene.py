"""A secret with its target, its consumers and the workers that rotate it, for tests to play on."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from rotation.catalog import PENDING_SUFFIX
from rotation.message import SECRET_JOBS, SecretAction, SecretOrder, Trigger
from shared.errors import AtpError
from shared.values import SecretPhase, SecretRotation, SecretVersion
from tests.jobs.platform import Platform, Process
from tests.jobs.secret_targets import NATURES, SimRotator, Target
from tests.simulator import VAULT_URL, Killed, World

NAME: Final = "database"


@dataclass
class Scene(Platform):
    """A secret, its target, and a consumer that always reads the newest version."""

    kind: type[SimRotator] = NATURES["logins"]
    target: Target = field(init=False)

    def __post_init__(self) -> None:
        self.target = Target(NAME, self.kind)
        self.world.targets[NAME] = self.target
        super().__post_init__()
        first = self.target.rotator(World()).first()
        self.world.add_secret(NAME, first.value.reveal())
        self.plan()
        self.settle()

    def plan(self) -> None:
        """The timer fires; the host fires it again after a failure."""
        for _ in range(5):
            try:
                self.process.secret_planner.run()
            except Killed:
                self.process = Process(self.world)
            except AtpError:
                continue
            else:
                return

    def pass_time(self, by: timedelta) -> None:
        """Time goes on, and with it the timer: every hour for half a day, and then once."""
        for _ in range(12):
            self.world.now += timedelta(hours=1)
            self.plan()
            self.settle()
        self.world.now += max(by - timedelta(hours=12), timedelta())
        self.plan()
        self.settle()

    def send(self, action: SecretAction, request: str = "by-hand", **fields: object) -> SecretOrder:
        """An operator orders something."""
        order = SecretOrder(action, NAME, request, Trigger.MANUAL, "alice@atp", "asked for", **fields)  # type: ignore[arg-type]
        self.drop(SECRET_JOBS, order.to_json())
        return order

    @property
    def row(self) -> SecretRotation:
        """Where the secret stands."""
        return self.world.rotations[NAME]

    def versions(self, name: str = NAME) -> list[tuple[SecretVersion, bytes]]:
        """What the vault has."""
        return self.world.secrets.get((VAULT_URL, name), [])

    def consume(self) -> None:
        """A consumer reads the newest version and uses it: it must always work (I9)."""
        newest, value = self.versions()[-1]
        assert newest.enabled
        assert value in self.target.accepted.values(), f"{self.row.phase}: what consumers use does not work"

    def works(self, version: str) -> bool:
        """Whether the value of that version is accepted by the target."""
        return any(
            each.version == version and value in self.target.accepted.values() for each, value in self.versions()
        )

    def check_secret(self) -> None:
        """What holds whenever nothing is under way but dual running."""
        self.check()
        self.consume()
        row = self.row
        newest = self.versions()[-1][0]
        assert row.current == newest.version
        assert newest.expires is None or newest.expires > self.world.now
        known = {value for each, value in self.versions() if each.version in (row.current, row.previous)}
        told = {value for _, value in self.versions()} | {value for _, value in self.versions(NAME + PENDING_SUFFIX)}
        # Whatever anybody was ever told and still works is in use, or was in use before.
        assert set(self.target.accepted.values()) & told <= known
        if row.previous:
            assert row.phase is SecretPhase.GRACE
            assert self.works(row.previous)
        if row.phase is SecretPhase.STEADY and self.kind is not NATURES["keys"]:
            assert len(self.target.accepted) == 1, "a credential that nobody has is left"
        enabled = [each.version for each, _ in self.versions() if each.enabled]
        assert set(enabled) <= {row.current, row.previous}
        assert not any(each.enabled for each, _ in self.versions(NAME + PENDING_SUFFIX))
