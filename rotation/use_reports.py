"""What one process of an ATP service tells about the keys it uses, from a thread of its own.

Two kinds of reports: per tenant the DEK versions in use, for the consumers table; and for the rotations of KEKs which
KEK versions the rows name that were read lately, and which the vault has refused. Nobody's data waits for a report
longer than 0.1 s, or fails because of one: what cannot be told is logged and told later.
"""

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.clock import Clock
from shared.ports import Consumers, KekUses
from shared.values import ConsumerReport, KekUse, Kid, TenantId

log = logging.getLogger(__name__)

_WAIT_FOR_REPORT_S: Final = 0.1
"""Longer than a report takes, so that those of a short-lived process arrive; what hangs is left to its thread."""
_BETWEEN_KEK_REPORTS_S: Final = 30.0
"""While KEK versions come and go; a version that is refused is reported at once."""
_TELL_REFUSALS_FOR_S: Final = 900.0
"""In every report for so long: whoever looks for refusals sees only the newest report, and looks only now and then."""

type Using = tuple[int, tuple[int, ...]]
"""The DEK version a tenant's data is encrypted with, and those it is decrypted with."""


@dataclass(slots=True)
class Reported:
    """What was said last to the consumers table about one tenant."""

    using: Using | None = None
    at: float = float("-inf")


class UseReports:
    """Collects what is to be told; `send` has it told. Thread-safe."""

    def __init__(
        self,
        consumers: Consumers,
        kek_uses: KekUses,
        consumer: str,
        report_every: timedelta,
        max_tenants: int,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._consumers = consumers
        self._kek_uses = kek_uses
        self._consumer = consumer
        self._report_every = report_every.total_seconds()
        self._least_pause = min(_BETWEEN_KEK_REPORTS_S, self._report_every)
        self._max_tenants = max_tenants
        self._clock = clock
        self._monotonic = monotonic
        self.forget()

    def forget(self) -> None:
        """As new: for a forked child, whose parent reports for itself."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._unsent: dict[TenantId, tuple[ConsumerReport, Reported]] = {}
        self._unsent_use: KekUse | None = None
        self._kids = _KidsRead(self._report_every, self._max_tenants)
        self._refused: set[Kid] = set()  # since the last report that arrived
        self._refused_at: dict[Kid, float] = {}  # when last
        self._tried_refused: frozenset[Kid] = frozenset()
        self._tried_at = float("-inf")
        self._told_kids: tuple[Kid, ...] | None = None
        self._told_at = float("-inf")

    def deks_used(self, tenant: TenantId, using: Using, reported: Reported) -> None:
        """These DEK versions are in use; told if that is new or it is time."""
        now = self._monotonic()
        if using == reported.using and now - reported.at < self._report_every:
            return
        reported.using, reported.at = using, now
        with self._lock:
            self._unsent[tenant] = ConsumerReport(self._consumer, tenant, *using, self._clock()), reported

    def rows_read(self, tenant: TenantId, kids: Iterable[Kid]) -> None:
        """The rows of a tenant were read: its DEKs are wrapped under these KEK versions."""
        with self._lock:
            self._kids.read(tenant, frozenset(kids), self._monotonic())

    def kek_refused(self, kid: Kid) -> None:
        """The vault does not open what the rows name this KEK version for."""
        with self._lock:
            self._refused.add(kid)
            self._refused_at[kid] = self._monotonic()

    def send(self) -> None:
        """Have told what is to be told; what failed before is tried again."""
        with self._lock:
            self._use_if_due()
            if self._thread is not None or not (self._unsent or self._unsent_use):
                return
            thread = self._thread = threading.Thread(target=self._send_all, name="atp-reports", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            with self._lock:
                self._thread = None
                for _, reported in self._unsent.values():
                    reported.using = None
                self._unsent.clear()
                self._take_back_use()
            log.warning("could not report the keys in use", extra={"because": str(error)})
            return
        thread.join(_WAIT_FOR_REPORT_S)

    def _use_if_due(self) -> None:
        now = self._monotonic()
        kids = self._kids.within(now)
        if not self._refused - self._tried_refused:
            is_new = bool(self._refused) or kids != self._told_kids or now - self._told_at >= self._report_every
            if not is_new or now - self._tried_at < self._least_pause:
                return
        self._take_back_use()
        self._tried_at, self._tried_refused = now, frozenset(self._refused)
        lately = {kid for kid, at in self._refused_at.items() if now - at < _TELL_REFUSALS_FOR_S}
        self._unsent_use = KekUse(self._consumer, kids, tuple(sorted(self._refused | lately)), self._clock())
        self._refused.clear()

    def _take_back_use(self) -> None:
        if self._unsent_use is not None:
            self._refused.update(self._unsent_use.refused)
            self._unsent_use = None

    def _send_all(self) -> None:
        while True:
            with self._lock:
                use, self._unsent_use = self._unsent_use, None
                waiting = self._unsent.pop(next(iter(self._unsent))) if use is None and self._unsent else None
                if use is None and waiting is None:
                    self._thread = None
                    return
            if use is not None:
                self._send_use(use)
            if waiting is not None:
                self._send_report(*waiting)

    def _send_use(self, use: KekUse) -> None:
        try:
            self._kek_uses.report(use)
        except Exception as error:  # noqa: BLE001 - nobody's data waits for a report, whatever is wrong with it
            with self._lock:
                self._refused.update(use.refused)
            log.warning("could not report the KEK versions in use", extra={"because": str(error)})
            return
        with self._lock:
            self._told_kids, self._told_at = use.kids, self._monotonic()

    def _send_report(self, report: ConsumerReport, reported: Reported) -> None:
        try:
            self._consumers.report(report)
        except Exception as error:  # noqa: BLE001 - nobody's data waits for a report, whatever is wrong with it
            reported.using = None
            log.warning("could not report the DEK versions in use", extra={"because": str(error)})


class _KidsRead:
    """The KEK versions that rows named when they were read last, of the tenants that were read lately."""

    def __init__(self, keep_for: float, at_most: int) -> None:
        self._keep_for = keep_for
        self._at_most = at_most
        self._by_tenant: OrderedDict[TenantId, tuple[float, frozenset[Kid]]] = OrderedDict()  # read last comes last
        self._tenants = Counter[Kid]()

    def read(self, tenant: TenantId, kids: frozenset[Kid], now: float) -> None:
        """The rows of the tenant name these, and no others any more."""
        if tenant in self._by_tenant:
            self._forget(tenant)
        if kids:
            self._by_tenant[tenant] = now, kids
            self._tenants.update(kids)
            if len(self._by_tenant) > self._at_most:
                self._forget(next(iter(self._by_tenant)))

    def within(self, now: float) -> tuple[Kid, ...]:
        """Those of the rows that were read lately, sorted."""
        while self._by_tenant:
            oldest = next(iter(self._by_tenant))
            if now - self._by_tenant[oldest][0] < self._keep_for:
                break
            self._forget(oldest)
        return tuple(sorted(self._tenants))

    def _forget(self, tenant: TenantId) -> None:
        _, kids = self._by_tenant.pop(tenant)
        self._tenants.subtract(kids)
        for kid in kids:
            if not self._tenants[kid]:
                del self._tenants[kid]
