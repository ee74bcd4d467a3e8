"""The main job, for real: rotate the DEKs of many tenants and then their KEK under load, then check every promise.

1. start the stack, add the tenants, store events encrypted under their first DEK
2. let writers and readers run, move the clock past the rotation interval, let the timer fire
3. wait until every tenant has its second DEK
4. rotate the KEK, see local/kek_demo.py; stop the load
5. decrypt every ciphertext ever written, verify the audit chain, count vault operations
6. export the audit trail and verify it offline, see local/audit_demo.py

All through that time secrets are in use, and rotate with the clock, see local/secrets_demo.py.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from azure.storage.blob import ContainerClient
from rich.console import Console
from rich.table import Table

from local import audit_demo, kek_demo, process
from local.audit_demo import AuditReport
from local.kek_demo import KekReport
from local.load import MIB, EventStore, Load, RequestLogs, Work
from local.progress import Steps, Unfinished
from local.secrets_demo import SecretsDemo, SecretsReport
from local.stack import Stack, running
from rotation.__main__ import tenants as all_tenants
from rotation.audit import STREAMS, verify_chain
from rotation.message import ROTATION_JOBS, Action, Job, Trigger
from rotation.tenant_cipher import CachePolicy, TenantCipher
from shared.azure import wiring
from shared.errors import AtpError
from shared.redact import MASK
from shared.values import Alert, StoredRecord, tenant_id

_CACHES: Final = CachePolicy(refresh_after=timedelta(seconds=1), report_every=timedelta(seconds=5))
_MASK: Final = MASK.encode()
_PAGE: Final = 1000
_KEPT_FAILURES: Final = 5
_LEASE_S: Final = 10
"""After which the messages of a killed host are delivered again: 10 minutes in Azure."""
_FOLDER: Final = "atp-demo-"
"""How the name of a demo's folder begins."""


@dataclass(slots=True)
class Report:
    """What the demo found, for people and for machines."""

    tenants: int
    rotated: int = 0
    rotation_s: float = 0.0
    load: Work = field(default_factory=Work)  # from the first moment until every tenant was seen to be rotated
    load_afterwards: Work = field(default_factory=Work)
    failures: list[str] = field(default_factory=list)
    ciphertexts: int = 0
    decrypted: int = 0
    largest_bytes: int = 0
    audit_records: int = 0
    audit_verified: bool = False
    open_intents: int = 0
    masked_records: int = 0
    log_lines: int = 0  # of the functions hosts and the app
    masked_lines: int = 0
    vault_operations: Mapping[str, int] = field(default_factory=dict)
    kek: KekReport = field(default_factory=KekReport)
    audit: AuditReport = field(default_factory=AuditReport)
    secrets: SecretsReport = field(default_factory=SecretsReport)
    alerts: int = 0
    unfinished: str = ""

    def promises(self) -> dict[str, bool]:
        """Every promise of this demo, and whether it held."""
        # Opening a DEK to read with it is the readers' business; signing a checkpoint, and looking at its key, is
        # that of the audit trail. A rotation needs no operation on keys of its own.
        operations = self.vault_operations
        others = sum(n for kind, n in operations.items() if kind not in ("unwrapkey", "sign") and "secret" not in kind)
        rotation_operations = others - 2 * operations.get("sign", 0)
        return {
            "everything finished in time": not self.unfinished,
            "every tenant's DEK was rotated, once": self.rotated == self.tenants,
            "no read and no write failed, during the rotation or afterwards": self.load.writes > 0 < self.load.reads
            and self.load.failed + self.load_afterwards.failed == 0,
            "every ciphertext ever written decrypts again": self.decrypted == self.ciphertexts > 0,
            "the audit chain verifies": self.audit_verified,
            "every intent in the audit trail has its outcome": self.open_intents == 0,
            "no audit record and at most 1 % of the log lines has a mask in it": self.log_lines > 0
            and self.masked_lines <= self.log_lines / 100
            and self.masked_records == 0,
            "no vault operation per rotated tenant": rotation_operations <= 2 + self.tenants // 10,
            **self.kek.promises(),
            **self.secrets.promises(),
            **self.audit.promises(),
            "no alert is left": self.alerts == 0,
        }

    def to_json(self) -> dict[str, Any]:
        """The same as the summary says, for machines."""
        promises = self.promises()
        return {
            "ok": all(promises.values()),
            "tenants": {"total": self.tenants, "rotated": self.rotated, "seconds": round(self.rotation_s, 2)},
            "load": asdict(self.load),
            "load_afterwards": asdict(self.load_afterwards),
            "failures": self.failures[:_KEPT_FAILURES],
            "ciphertexts": {
                "written": self.ciphertexts,
                "decrypted": self.decrypted,
                "largest_bytes": self.largest_bytes,
            },
            "audit": {
                "records": self.audit_records,
                "verified": self.audit_verified,
                "open_intents": self.open_intents,
                "masked": self.masked_records,
            },
            "log_lines": {"written": self.log_lines, "masked": self.masked_lines},
            "vault_operations_during_rotation": dict(self.vault_operations),
            "kek": self.kek.to_json(),
            "secrets": self.secrets.to_json(),
            "offline": self.audit.to_json(),
            "alerts": self.alerts,
            "unfinished": self.unfinished,
            "promises": promises,
        }


def run(tenants: int, json_file: Path | None) -> int:
    """Run the demo; 0 if every promise held, 1 if one did not."""
    console = Console()
    report = Report(tenants)
    with (
        _temporary_folder() as folder,
        Steps(console) as show,
        running(folder) as stack,
        SecretsDemo.running(stack) as secrets,
    ):
        report.secrets = secrets.report
        try:
            _play(stack, report, show, secrets)
        except (Unfinished, AtpError) as error:
            report.unfinished = str(error)
            report.failures += [f"{log.name}: {line}" for log in stack.host_logs for line in _last_lines(log)]
    report.failures += report.secrets.failures
    _print_summary(console, report)
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    return 0 if all(report.promises().values()) else 1


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = process.own_folder(_FOLDER, Path(tempfile.gettempdir()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _play(stack: Stack, report: Report, show: Steps, secrets: SecretsDemo) -> None:
    # The emulator makes no version by itself, as the policies of a vault do: the daily scan would miss them.
    stack.use_settings(AzureWebJobs_scan_vaults_Disabled="true")
    stack.add_host(lease_s=_LEASE_S)
    secrets.adopt(show)
    names = [f"tenant-{number:04d}" for number in range(report.tenants)]
    for name in names:
        job = Job(Action.ADD_TENANT, tenant_id(name), "demo", Trigger.MANUAL, "demo", "the demo adds its tenants")
        stack.adapters.queues.send(ROTATION_JOBS, job.to_json())
    show.until("adding tenants", report.tenants, lambda: _with_primary(stack, 1))

    blobs = ContainerClient.from_connection_string(
        stack.azurite.connection_string, "events", max_single_get_size=2 * MIB
    )
    with blobs:
        blobs.create_container()
        store = EventStore(blobs, RequestLogs(*stack.request_logs))
        cipher = wiring.tenant_cipher(stack.settings, "demo", _CACHES)
        for done, name in enumerate(names):
            store.write(cipher, name, size=done % 2)
            show.step("storing first events", done + 1, report.tenants)
        _rotate_under_load(stack, report, show, store, cipher, names)
        kek_demo.play(stack, report.kek, show, store, cipher, names)
        report.failures += report.kek.failures
        secrets.play(show)
        _verify(stack, report, show, store)
        try:
            audit_demo.play(stack, report.audit, show)
        finally:
            report.failures += report.audit.failures


def _rotate_under_load(
    stack: Stack, report: Report, show: Steps, store: EventStore, cipher: TenantCipher, names: list[str]
) -> None:
    load = Load(store, cipher, names)
    try:
        with load:
            stack.vault.reset_counts()
            stack.clock.move(timedelta(days=91))
            began = time.monotonic()
            try:
                show.until("rotating under load", report.tenants, lambda: _with_primary(stack, 2))
            finally:
                report.rotation_s, report.load = time.monotonic() - began, load.work()
            report.vault_operations = stack.vault.counts().operations
            # The services go on for a while on the new DEKs, until the logs fill the largest event.
            time.sleep(2 * _CACHES.refresh_after.total_seconds())
            load.hurry()
            wanted = MIB + MIB // 16
            show.until("bytes of logs to encrypt", wanted, lambda: min(store.logs.size(), wanted))
            store.write(cipher, names[0], MIB)
    finally:
        report.load_afterwards = load.work().since(report.load)
        report.failures += load.failures()
    report.rotated = sum(tenant.primary == 2 for tenant in all_tenants(stack.adapters))


def _verify(stack: Stack, report: Report, show: Steps, store: EventStore) -> None:
    report.ciphertexts = len(store.events)
    report.largest_bytes = max(event.size for event in store.events)
    newcomer = wiring.tenant_cipher(stack.settings, "demo-verifier", CachePolicy())
    for done, event in enumerate(store.events, 1):
        try:
            store.read(newcomer, event)
            report.decrypted += 1
        except (AtpError, ValueError) as error:
            report.failures.append(f"{event.blob}: {type(error).__name__}: {error}")
        show.step("decrypting everything again", done, report.ciphertexts)
    left = _alerts_left(stack, show)
    report.alerts = len(left)
    report.failures += [f"alert: {alert.subject}: {alert.what}" for alert in left]
    outcomes: dict[str, set[str]] = {}
    try:
        for stream in range(STREAMS):
            records = _stream(stack, stream)
            report.audit_records += verify_chain(records)[0]
            for record in records:
                report.masked_records += _MASK in record.canonical
                fields = json.loads(record.canonical)
                outcomes.setdefault(fields["job"], set()).add(fields["outcome"])
        report.audit_verified = report.audit_records > 0
    except AtpError as error:
        report.failures.append(str(error))
    report.open_intents = sum(states == {"intent"} for states in outcomes.values())
    for log in stack.host_logs:
        with log.open("rb") as lines:
            for line in lines:
                report.log_lines += 1
                report.masked_lines += _MASK in line


def _alerts_left(stack: Stack, show: Steps) -> list[Alert]:
    """The open ones, when the watchdog has resolved those whose cause is gone; it would within ten minutes."""

    def left() -> list[Alert]:
        return [alert for alert in stack.adapters.alerts.all() if alert.resolved is None]

    stack.hosts[-1].fire("watch_intents")
    with suppress(Unfinished):
        show.until("no alert is left", 1, lambda: int(not left()))
    return left()


def _stream(stack: Stack, stream: int) -> list[StoredRecord]:
    records: list[StoredRecord] = []
    while page := stack.adapters.records.read(stream, len(records) + 1, _PAGE):
        records += page
    return records


def _with_primary(stack: Stack, version: int) -> int:
    return sum(tenant.primary >= version for tenant in all_tenants(stack.adapters))


def _last_lines(log: Path, lines: int = 5) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-lines:]


def _print_summary(console: Console, report: Report) -> None:
    numbers = Table(show_header=False, box=None, padding=(0, 2), title="What happened", title_justify="left")
    rate = report.rotated / report.rotation_s if report.rotation_s else 0.0
    for name, value in (
        ("tenants rotated", f"{report.rotated} of {report.tenants}, in {report.rotation_s:.1f} s ({rate:.0f}/s)"),
        ("during rotation", report.load.told),
        ("on the new DEKs", report.load_afterwards.told),
        *report.kek.rows_told(),
        *report.secrets.rows_told(),
        *report.audit.rows_told(),
        ("ciphertexts", f"{report.decrypted} of {report.ciphertexts} decrypted, up to {report.largest_bytes:,} bytes"),
        ("audit records", f"{report.audit_records} in {STREAMS} streams, {report.masked_records} with a mask"),
        ("log lines", f"{report.log_lines:,} of the app, {report.masked_lines} with a mask"),
        ("vault operations", ", ".join(f"{kind} {n}" for kind, n in report.vault_operations.items()) or "none"),
    ):
        numbers.add_row(name, value)
    console.print(numbers)
    console.print()
    for promise, held in report.promises().items():
        console.print(f"[green]held  [/green]  {promise}" if held else f"[red]BROKEN[/red]  {promise}")
    for failure in (report.unfinished, *report.failures[:_KEPT_FAILURES]):
        if failure:
            console.print(f"        {failure}", markup=False, style="red", soft_wrap=True)
