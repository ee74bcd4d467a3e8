"""The second half of the demo: rotate the KEK under load, with accidents.

1. order the rotation; in the middle of the sweep kill the worker, and start another one
2. when everything is rewrapped and proven, roll one shard back, then forward again
3. move the clock past the grace period and the soak, until the rotation is closed and the old version disabled
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Final

from local.load import EventStore, Load, Work
from local.progress import PATIENCE_S, Steps, Unfinished
from local.stack import Stack
from rotation.message import KEK_ORDERS, KekAction, KekOrder, Trigger
from rotation.tenant_cipher import TenantCipher
from shared.azure.wiring import load_catalog
from shared.values import SHARDS, KekRun, Kid, Phase, ShardState, shard_of, tenant_id

_LEASE_S: Final = 10
_LOOK_EVERY_S: Final = 0.05
_ORDER_OF_PHASES: Final = tuple(Phase)


@dataclass(slots=True)
class KekReport:
    """What the rotation of the KEK has come to."""

    phase: str = ""
    root_before: str = ""
    root_after: str = ""
    rows: int = 0  # DEKs in the manifest
    rewrapped: int = 0
    under_new: int = 0  # DEKs under the new version at the end
    checked: int = 0  # DEKs opened at the vault as a sample
    births: int = 0
    removed: int = 0
    seconds: float = 0.0  # from the order until everything was rewrapped and proven
    killed_in: str = ""  # phase in which the worker was killed
    shard: int = 0
    rolled_back: int = 0  # DEKs of that shard that went back under the old version
    rolled_forward: int = 0
    old_disabled: bool = False
    vault_operations: Mapping[str, int] = field(default_factory=dict)
    load: Work = field(default_factory=Work)
    failures: list[str] = field(default_factory=list)

    def promises(self) -> dict[str, bool]:
        """Every promise of the rotation of the KEK, and whether it held."""
        return {
            "the KEK was rotated and every DEK rewrapped": self.phase == Phase.CLOSED
            and self.under_new == self.rows + self.births > 0,
            "no read and no write failed while the KEK rotated": self.load.writes > 0 < self.load.reads
            and self.load.failed == 0,
            "every DEK is the one it was: the roots are equal": self.root_before == self.root_after != "",
            "a worker was killed in the middle": self.killed_in == Phase.SWEEPING,
            "one shard was rolled back and forward again": self.rolled_back == self.rolled_forward > 0,
            "the old KEK version is disabled": self.old_disabled,
        }

    def to_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        fields = asdict(self)
        fields["seconds"] = round(self.seconds, 2)
        del fields["failures"]
        return fields

    def rows_told(self) -> list[tuple[str, str]]:
        """The same for people."""
        return [
            ("KEK rotated", f"{self.rewrapped} DEKs rewrapped in {self.seconds:.1f} s, {self.checked} opened again"),
            (
                "accidents",
                f"worker killed in the sweep; shard {self.shard} ({self.rolled_back} DEKs) back and forth",
            ),
            ("while the KEK rotated", self.load.told),
            ("root before", self.root_before[:48]),
            ("root after", self.root_after[:48]),
        ]


def play(
    stack: Stack, report: KekReport, show: Steps, store: EventStore, cipher: TenantCipher, names: list[str]
) -> None:
    """Rotate the KEK of the DEKs while the services go on."""
    kek = load_catalog(stack.settings).dek.kek
    policy = load_catalog(stack.settings).keks[kek]
    demo = _Demo(stack, kek, show)
    load = Load(store, cipher, names)
    try:
        with load:
            stack.vault.reset_counts()
            began = time.monotonic()
            demo.order(KekAction.ROTATE)
            demo.reach(Phase.SWEEPING)
            demo.show.until("the sweep is under way", 1, lambda: int(demo.run().fanned_out))
            stack.hosts[0].kill()
            report.killed_in = demo.run().phase
            stack.add_host(lease_s=_LEASE_S)
            demo.reach(Phase.GRACE)
            report.seconds = time.monotonic() - began
            report.shard = min(shard_of(tenant_id(name)) for name in names)
            _shard_back_and_forth(demo, report)
            _let_services_confirm(demo)
            stack.clock.move(policy.grace + timedelta(minutes=5))
            demo.reach(Phase.SOAKING)
            time.sleep(2)
            stack.clock.move(policy.soak + timedelta(minutes=5))
            demo.reach(Phase.CLOSED)
            time.sleep(2)
            report.vault_operations = stack.vault.counts().operations
    finally:
        report.load = load.work()
        report.failures += load.failures()
        demo.conclude(report)


def _shard_back_and_forth(demo: "_Demo", report: KekReport) -> None:
    run = demo.run()
    demo.order(KekAction.ROLLBACK, shard=report.shard)
    wanted = len(demo.kids_of_shard(report.shard))
    demo.show.until("rolling one shard back", wanted, lambda: demo.kids_of_shard(report.shard).count(run.old_kid))
    report.rolled_back = wanted
    demo.order(KekAction.RESUME, shard=report.shard)
    demo.show.until(
        "rolling it forward", wanted, lambda: sum(kid == run.new_kid for kid in demo.kids_of_shard(report.shard))
    )
    report.rolled_forward = wanted
    demo.reach(Phase.GRACE)


def _let_services_confirm(demo: "_Demo") -> None:
    old = demo.run().old_kid
    demo.show.until(
        "services confirm", 1, lambda: int(all(old not in use.kids for use in demo.stack.adapters.kek_uses.all()))
    )


class _Demo:
    """Orders, and looks how far the run is."""

    def __init__(self, stack: Stack, kek: str, show: Steps) -> None:
        self.stack = stack
        self.show = show
        self._kek = kek
        self._orders = 0

    def order(self, action: KekAction, shard: int | None = None) -> None:
        self._orders += 1
        request = f"demo-{self._orders}"
        order = KekOrder(action, self._kek, request, Trigger.MANUAL, "demo", "the demo rotates the KEK", shard=shard)
        self.stack.adapters.queues.send(KEK_ORDERS, order.to_json())

    def run(self) -> KekRun:
        """The run. Unfinished if there is none."""
        run = self._run()
        if run is None:
            raise Unfinished("there is no rotation of the KEK")
        return run

    def _run(self) -> KekRun | None:
        record = self.stack.adapters.keks.read(self._kek)
        return record.run if record else None

    def reach(self, phase: Phase) -> None:
        """Show the shards of each phase on the way to that one, until its move is on record.

        Unfinished if that takes too long. Whoever moves the clock before the outcome is on record has made a step
        that was begun days ago.
        """
        deadline = time.monotonic() + PATIENCE_S
        while (run := self._run()) is None or run.phase is not phase or run.move is not None:
            if run is not None:
                self._show(run)
                if _ORDER_OF_PHASES.index(run.phase) > _ORDER_OF_PHASES.index(Phase.CLOSED):
                    raise Unfinished(f"the rotation of the KEK is {run.phase}: {run.verdict}")
            if time.monotonic() > deadline:
                raise Unfinished(f"the KEK is not {phase} after {PATIENCE_S:.0f} s, but {run and run.phase}")
            time.sleep(_LOOK_EVERY_S)

    def _show(self, run: KekRun) -> None:
        if run.pass_number:
            progress = self.stack.adapters.shards.of_pass(run.id, run.pass_number)
            done = sum(each.state is ShardState.DONE for each in progress)
            self.show.step(f"KEK {run.phase}, pass {run.pass_number}", done, SHARDS)

    def kids_of_shard(self, shard: int) -> list[Kid]:
        """What the DEKs of the shard are wrapped under."""
        page = self.stack.adapters.deks.page(shard, None, 10_000)
        return [dek.kid for keyring in page for dek in keyring.deks]

    def conclude(self, report: KekReport) -> None:
        """Note what has become of the run."""
        run = self._run()
        if run is None:
            return
        report.phase = run.phase
        report.root_before, report.root_after = run.root_before, run.root_after
        report.rows, report.births, report.removed = run.rows, run.births, run.removed
        for number in range(1, run.pass_number + 1):
            for each in self.stack.adapters.shards.of_pass(run.id, number):
                report.checked += each.verified
        kids = [kid for shard in range(SHARDS) for kid in self.kids_of_shard(shard)]
        report.under_new = sum(kid == run.new_kid for kid in kids)
        report.rewrapped = report.under_new - report.births
        report.old_disabled = not self.stack.adapters.vault.version(run.old_kid).enabled
