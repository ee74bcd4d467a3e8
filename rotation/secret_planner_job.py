"""Asks for what is due of secrets: rotations, ends of dual running, and whatever stands still.

What is due is computed from the rows and the catalog at every run, so that a missed run loses nothing. An order is sent
first and noted afterwards: dying in between sends it twice, and it is done once.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from rotation.catalog import SecretPolicy
from rotation.message import SECRET_JOBS, SecretOrder
from rotation.secret import has_just_ended, is_claimed, is_stalled, next_order, unknown, was_asked
from rotation.secret_job import alert_id
from rotation.tasks import due, task_of
from shared.clock import Clock
from shared.errors import Conflict, Integrity
from shared.ports import Alerts, Queues, SecretRotations
from shared.values import Alert, SecretRotation, Severity

log = logging.getLogger(__name__)

PAGE: Final = 1000


class SecretPlanner:
    """Looks after all secrets of the catalog."""

    def __init__(
        self,
        policies: Mapping[str, SecretPolicy],
        rotations: SecretRotations,
        queues: Queues,
        alerts: Alerts,
        clock: Clock,
        page: int = PAGE,
    ) -> None:
        self._policies = policies
        self._rotations = rotations
        self._queues = queues
        self._alerts = alerts
        self._clock = clock
        self._page = page

    def run(self) -> None:
        """Send every order that is due; tell of rotations that stand still.

        A row that cannot be read keeps no other secret waiting; it is raised when all had their turn.
        """
        damaged: Integrity | None = None
        known: set[str] = set()
        try:
            for rotation in self._rows():
                known.add(rotation.name)
                self._look_after(rotation)
        except Integrity as error:
            damaged = error
        for name in self._policies.keys() - known:
            try:
                row = self._rotations.read(name) if damaged else None  # which of them it is
                self._look_after(row or unknown(name, self._clock()))
            except Integrity as error:
                log.error("a secret cannot be planned", extra={"entry": name, "because": str(error)})  # noqa: TRY400 - no bug
        if damaged is not None:
            raise damaged
        log.info("planned secrets", extra={"entries": len(self._policies)})

    def _rows(self) -> Iterator[SecretRotation]:
        after: str | None = None
        while page := self._rotations.page(after, self._page):
            yield from page
            after = page[-1].name

    def ask(self, rotation: SecretRotation, order: SecretOrder) -> bool:
        """Send the order, unless it was sent lately; whether it was. Not noted in the row that a worker has claimed."""
        now = self._clock()
        if was_asked(rotation, order, now):
            return False
        self._queues.send(SECRET_JOBS, order.to_json())
        if is_claimed(rotation, now):
            return True  # its worker would take a word in the row for somebody else's work
        try:
            self._rotations.put(replace(rotation, asked=order.id, asked_at=now))
        except Conflict:
            log.info("somebody works on this secret", extra={"entry": rotation.name})
        return True

    def _look_after(self, rotation: SecretRotation) -> None:
        now = self._clock()
        policy = self._policies.get(rotation.name)  # None: it was taken out of the catalog
        order = next_order(rotation, policy.entry, now) if policy else None
        if order is not None:
            self.ask(rotation, order)
        task = task_of(rotation, policy.parameters) if policy else None
        told = None if task is None else due(task, now)
        if told is not None:
            self._alerts.raise_alert(told)
        if is_stalled(rotation, now):
            self._tell_stalled(rotation)
        elif has_just_ended(rotation, now):
            self._alerts.resolve(alert_id(rotation.name, "stalled"))  # its worker may have died before it could

    def _tell_stalled(self, rotation: SecretRotation) -> None:
        now = self._clock()
        details = {"phase": rotation.phase.value, "since": f"{rotation.phase_since:%Y-%m-%dT%H:%M:%SZ}"}
        if rotation.trouble:
            details["reason"] = rotation.trouble
        alert = Alert(
            alert_id(rotation.name, "stalled"),
            Severity.CRITICAL,
            "the rotation of a secret stands still",
            f"secret/{rotation.name}",
            now,
            details,
        )
        self._alerts.raise_alert(alert)
        fresh = self._rotations.read(rotation.name)
        if fresh is None or not is_stalled(fresh, now):
            self._alerts.resolve(alert.id)  # it went on meanwhile, and its worker has resolved what was not there yet
