"""Looks once more at what was recorded: a secret that nobody knew when a record was written may be known by now.

Records are masked before they are written. This is the look afterwards, in the processes that handle secrets, because
only they know them: it finds what was written by somebody else, or before the secret was handled here. What it finds
cannot be taken out of the trail any more; the secret has to be rotated.
"""

import logging
from datetime import timedelta
from typing import Final

from rotation.trail import Trail
from shared.clock import Clock
from shared.errors import Integrity
from shared.ports import Alerts
from shared.redact import mask
from shared.values import Alert, Severity

log = logging.getLogger(__name__)

_WINDOW: Final = timedelta(days=1)


class RecordSweep:
    """Sweeps the audit records of the last day, and then what is new each time."""

    def __init__(self, trail: Trail, alerts: Alerts, clock: Clock) -> None:
        self._trail = trail
        self._alerts = alerts
        self._clock = clock
        self._seen: dict[int, int] | None = None  # the last record of each stream that was swept

    def run(self) -> None:
        """Raise an alert for every record that holds a secret, or what looks like one."""
        if self._seen is None:
            self._seen = self._trail.point_before(self._trail.number_at(self._clock() - _WINDOW)).sizes
        for stream in self._seen:
            try:
                self._sweep(stream, self._seen)
            except Integrity as error:
                # Whoever signs checkpoints alerts; the other streams are swept meanwhile.
                log.error("cannot read an audit stream", extra={"because": str(error)})  # noqa: TRY400 - no bug

    def _sweep(self, stream: int, seen: dict[int, int]) -> None:
        for stored in self._trail.records(stream, seen[stream]):
            text = stored.canonical.decode(errors="replace")
            if mask(text) != text:
                self._alerts.raise_alert(
                    Alert(
                        id=f"secret/{stream}/{stored.seq}",
                        severity=Severity.CRITICAL,
                        what="an audit record holds a secret",
                        subject="audit/trail",
                        raised=self._clock(),
                        details={"reason": "rotate the secret that it holds", "record": f"{stream}/{stored.seq}"},
                    )
                )
            seen[stream] = stored.seq
