"""Takes Key Vault events: alerts the owner of the object, and has a KEK rotated that got a new version by itself."""

import logging

from rotation.catalog import Catalog
from rotation.expiry import alert_for, is_new_kek_version, parse
from rotation.kek_job import KekJobs
from shared.clock import Clock
from shared.errors import InvalidMessage
from shared.ports import Alerts

log = logging.getLogger(__name__)


class ExpiryWatch:
    """Handles the events of the Event Grid subscription on the vault."""

    def __init__(self, catalog: Catalog, kek_jobs: KekJobs, alerts: Alerts, clock: Clock) -> None:
        self._catalog = catalog
        self._kek_jobs = kek_jobs
        self._alerts = alerts
        self._clock = clock

    def handle(self, event_type: str, data: object) -> None:
        """Raise the alert, or order the rotation, that the event calls for.

        A malformed event is refused for good: sending it again is no use.

        Transient makes Event Grid deliver the event again.
        """
        try:
            event = parse(event_type, data)
        except InvalidMessage as error:
            log.error("event refused", extra={"because": str(error)})  # noqa: TRY400 - no bug of ours
            return
        alert = alert_for(event, self._catalog, self._clock())
        if alert is not None:
            self._alerts.raise_alert(alert)
        if is_new_kek_version(event, self._catalog):
            self._kek_jobs.plan(event.name)
        log.info("event handled", extra={"object": f"{event.kind}/{event.name}", "happening": event.happening})
