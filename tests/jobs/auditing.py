"""A platform that only writes, signs, copies and verifies its audit trail, on the simulated world."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from rotation.audit import STREAMS, AuditEvent, Outcome
from rotation.audit_job import AuditTrail
from rotation.checkpoint_job import Checkpointer
from rotation.evidence_job import EvidenceCopy, Reconciler
from rotation.trail import BEGINNING, Trail
from rotation.verification import MAX_GAP, Expectations, Report, StampCheck, Verification
from shared.ports import TimestampAuthority
from tests.simulator import SimAlerts, SimCheckpoints, SimEvidence, SimRecords, SimSigner, World

ORIGIN = "atp.example/audit"
MINUTE = timedelta(minutes=1)


class AuditProcess:
    """One process: everything in it is forgotten when it dies."""

    def __init__(self, world: World, authority: TimestampAuthority | None = None, blocks: int = 1000) -> None:
        records, checkpoints, evidence = SimRecords(world), SimCheckpoints(world), SimEvidence(world)
        alerts = SimAlerts(world)
        self.audit = AuditTrail(records, world.clock, sleep=lambda _: None)
        self.trail = Trail(records, checkpoints)
        self.copy = EvidenceCopy(self.trail, evidence, alerts, world.clock, blocks)
        self.checkpointer = Checkpointer(
            records, checkpoints, SimSigner(world), self.copy, authority, self.audit, alerts, ORIGIN, world.clock
        )
        self.reconciler = Reconciler(records, self.trail, evidence, alerts, world.clock)
        self.evidence = evidence


def event(number: int, tenant: str = "", outcome: Outcome = Outcome.SUCCEEDED) -> AuditEvent:
    """An event; without a tenant, of one of many, so that all streams are used."""
    name = tenant or f"tenant-{number % 100}"
    return AuditEvent(
        f"dek.rotate/{name}/v{number}", outcome, "dek.rotate", f"dek/{name}", "planner", "schedule", "it was due"
    )


@dataclass
class Platform:
    """A world with a signing key, and a process that may be replaced."""

    world: World = field(default_factory=World)
    authority: TimestampAuthority | None = None
    recorded: int = 0

    def __post_init__(self) -> None:
        self.world.add_signing_key()
        self.restart()

    def restart(self) -> None:
        """Forget everything that a process remembers."""
        self.process = AuditProcess(self.world, self.authority)

    def record(self, count: int = 1, tenant: str = "") -> None:
        """Record that many events."""
        for _ in range(count):
            self.process.audit.record(event(self.recorded + 1, tenant))
            self.recorded += 1

    def sign(self, minutes: int = 1) -> None:
        """Let minutes pass, with a checkpoint and its copy in each."""
        for _ in range(minutes):
            self.world.now += MINUTE
            self.process.checkpointer.run()
            self.process.copy.run()

    def live(self, minutes: int, each: int = 3) -> None:
        """Let minutes pass in which something happens."""
        for _ in range(minutes):
            self.record(each)
            self.sign()

    @property
    def keys(self) -> Sequence[EllipticCurvePublicKey]:
        """The first signing key, as an auditor pins it."""
        return [next(iter(self.world.signing_keys.values())).public_key]

    @property
    def notes(self) -> list[str]:
        """Every checkpoint, as the world was told it."""
        return [self.world.checkpoints[number].note for number in sorted(self.world.checkpoints)]

    def export(self, behind: int = 0, upto: int | None = None) -> list[bytes]:
        """The trail as lines."""
        trail = AuditProcess(self.world).trail
        point = trail.point_before(behind) if behind else BEGINNING
        newest = trail.newest() if upto is None else upto
        return [trail.anchor(point), *trail.lines(point.sizes, point.number, newest)]

    def copies(self) -> list[list[bytes]]:
        """The files of the evidence copy, as lines."""
        files = [b"".join(blocks) for _, blocks in sorted(self.world.evidence.items())]
        return [content.splitlines(keepends=True) for content in files]


def verified(
    files: Iterable[Sequence[bytes]],
    keys: Sequence[EllipticCurvePublicKey],
    *,
    held: Sequence[str] = (),
    stamps: StampCheck | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    origin: str | None = None,
    max_gap: timedelta = MAX_GAP,
) -> Report:
    """What the verification says of files."""
    with Verification(Expectations(keys, held, stamps, since, until, origin, max_gap)) as verification:
        for lines in files:
            verification.feed(lines)
        return verification.conclude()


def stream_with(world: World, least: int) -> int:
    """A stream that has that many records or more."""
    return next(stream for stream in range(STREAMS) if len(world.streams.get(stream, ())) >= least)
