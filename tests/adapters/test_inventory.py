"""The inventory and the policies of the real adapters, against what a vault really answers."""

from dataclasses import replace
from datetime import timedelta

from rotation.audit_job import AuditTrail
from rotation.calendar import Every
from rotation.catalog import Catalog, Entry, EntryKind, RotatedBy
from rotation.commands.policies import Drift, Writer
from rotation.inventory import Difference, Row, State
from rotation.inventory_scan import InventoryScan
from rotation.renewal import shortfalls
from shared.clock import system_clock
from shared.values import ObjectKind, RenewalPolicy
from tests.adapters.backends import AzureBackend, Backend
from tests.pure.keyrings import POLICY

DAY = timedelta(days=1)


def entry(name: str, kind: EntryKind) -> Entry:
    return Entry(name, kind, "security", Every(90 * DAY), name, grace=7 * DAY, rotated_by=RotatedBy.VAULT)


def rows(backend: Backend, *entries: Entry) -> dict[str, Row]:
    catalog = Catalog({}, POLICY, {}, {each.name: each for each in entries})
    scan = InventoryScan(catalog, backend.vault_objects, backend.keks, None)
    return {row.object: row for row in scan.rows(system_clock(), versions=True)}


def test_what_a_vault_holds_is_told_beside_what_the_catalog_says(azure: AzureBackend) -> None:
    key = entry(azure.new_object(ObjectKind.KEY, "signing"), EntryKind.KEY)
    certificate = entry(azure.new_object(ObjectKind.CERTIFICATE, "tls"), EntryKind.CERTIFICATE)
    absent = entry(azure.key_name("absent"), EntryKind.KEY)
    stranger = azure.new_object(ObjectKind.SECRET, "stranger")
    found = rows(azure, key, certificate, absent)
    assert found[key.name].differences == (Difference.NO_EXPIRY, Difference.WEAK_POLICY)
    assert found[key.name].versions == 1
    assert found[certificate.name].differences == (Difference.LONG_VALIDITY, Difference.WEAK_POLICY)
    assert found[absent.name].state is State.MISSING
    assert found[stranger].differences == (Difference.UNMANAGED,)
    assert sum(row.object == certificate.object for row in found.values()) == 1


def test_a_policy_that_is_written_is_as_strong_as_the_catalog(azure: AzureBackend) -> None:
    writer = Writer(AuditTrail(azure.records, system_clock), azure.vault_objects, "cli-1", "jane", "CHG-1")
    key = entry(azure.new_object(ObjectKind.KEY, "signing"), EntryKind.KEY)
    certificate = entry(azure.new_object(ObjectKind.CERTIFICATE, "tls"), EntryKind.CERTIFICATE)
    certificate = replace(certificate, alert_days=(300,))  # a year's validity is no shortfall then
    for each in (key, certificate):
        policy = azure.vault_objects.renewal(each.object_kind, each.object)
        assert shortfalls(each, policy)
        assert writer.write(Drift(each, None, policy)).shortfalls == ()
    assert azure.vault_objects.renewal(ObjectKind.KEY, key.object) == RenewalPolicy(
        120 * DAY, rotates_after=90 * DAY, notifies_before=30 * DAY
    )
