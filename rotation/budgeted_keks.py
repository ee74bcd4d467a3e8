"""Opens and wraps DEKs for the walks of a KEK rotation, within the budgets of the vaults."""

from collections.abc import Callable, Iterable

from rotation.primary_kek import READ_AGAIN
from rotation.quota import Operation, rate, vault_of
from rotation.vault_budget import VaultBudget
from rotation.wrapping import ensure_is, ensure_may_wrap, wrapped
from shared.clock import Clock
from shared.errors import Throttled
from shared.ports import Vault
from shared.secret import Secret
from shared.values import KekVersion, Kid, TenantId, Wrap, WrappedDek


class BudgetedKeks:
    """What a walk does with KEK versions. Thread-safe; one per process."""

    def __init__(self, vault: Vault, budget: VaultBudget, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._vault = vault
        self._budget = budget
        self._clock = clock
        self._monotonic = monotonic
        self._versions: dict[Kid, tuple[KekVersion, float]] = {}

    def reserve(self, headroom: float, operations: Iterable[tuple[Kid, Operation]]) -> None:
        """Wait for the turn of all these; NotNow if it is far away, before anything was done in vain."""
        seconds: dict[str, float] = {}
        for kid, operation in operations:
            version, vault = self.version(kid), vault_of(kid)
            if version.public_key is None or operation is Operation.UNWRAP:
                cost = 1 / rate(vault, version.shape, operation) / (1 - headroom)
                seconds[vault] = seconds.get(vault, 0.0) + cost
        for vault, cost in seconds.items():
            self._budget.take(vault, cost)

    def ensure_soon(self, kid: Kid) -> None:
        """NotNow if the vault of that version has no time soon."""
        self._budget.ensure_soon(vault_of(kid))

    def opened(self, tenant: TenantId, dek: WrappedDek) -> Secret:
        """The DEK, proven to be the right one. Integrity if it is not, or does not open."""
        vault = vault_of(dek.kid)
        try:
            opened = self._vault.unwrap(dek.kid, dek.algorithm, dek.wrapped)
        except Throttled as error:
            raise self._budget.throttled(vault, _seconds(error)) from error
        self._budget.went_well(vault)
        ensure_is(opened, tenant, dek)
        return opened

    def wrapped(self, dek: Secret, kid: Kid) -> Wrap:
        """The DEK under that version. UnusableKey if it must not wrap."""
        version = self.version(kid)
        ensure_may_wrap(version, self._clock())
        try:
            return wrapped(dek, version, self._vault.wrap)
        except Throttled as error:
            raise self._budget.throttled(vault_of(kid), _seconds(error)) from error

    def version(self, kid: Kid) -> KekVersion:
        """That version, as it was within the last minute."""
        known = self._versions.get(kid)
        now = self._monotonic()
        if known is None or now - known[1] > READ_AGAIN.total_seconds():
            known = self._versions[kid] = self._vault.version(kid), now
        return known[0]


def _seconds(error: Throttled) -> float | None:
    said = error.fields.get("retry_after")
    return float(said) if isinstance(said, int | float) else None
