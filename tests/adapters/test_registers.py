"""The contracts of the small ports: Consumers, KekUses, Alerts, DeadLetters."""

from dataclasses import replace
from datetime import timedelta

import pytest
from azure.data.tables import UpdateMode

from shared.errors import Conflict
from shared.values import (
    Alert,
    AlertEntry,
    Closing,
    ConsumerReport,
    DeadLetter,
    KekUse,
    Kid,
    Owed,
    Severity,
    SinkName,
    TenantId,
)
from tests.adapters.backends import AzureBackend, Backend
from tests.pure.keyrings import ACME, KID, NOW

REPORT = ConsumerReport("ingest/7 ä#?", ACME, 3, (1, 2, 3), NOW)
USE = KekUse("ingest/7 ä#?", (KID, Kid(KID[:-1] + "0")), (Kid(KID[:-1] + "1"),), NOW)
ALERT = Alert(
    id="rotation-jobs/dek.rotate/acme/v2#?\\",
    severity=Severity.CRITICAL,
    what="a message could not be processed",
    subject="queue/rotation-jobs",
    raised=NOW,
    details={"reason": "Zoë 密钥", "letter": "dek.rotate/acme/v2"},
    owner="sre",
)
LETTER = DeadLetter("rotation-jobs", "dek.rotate/acme/v2", "Integrity", '{"reason": "Zoë 密钥\u0001"}', NOW, True)
SECOND = timedelta(seconds=1)


def test_nobody_has_reported_about_a_tenant_at_first(backend: Backend) -> None:
    assert list(backend.consumers.of(ACME)) == []


def test_a_report_reads_back_as_made(backend: Backend) -> None:
    backend.consumers.report(REPORT)
    assert list(backend.consumers.of(ACME)) == [REPORT]


def test_the_newest_report_of_a_consumer_is_kept_whatever_the_order(backend: Backend) -> None:
    newer = replace(REPORT, encrypts_with=4, decrypts_with=(), seen=NOW + SECOND)
    for report in (REPORT, newer, REPORT, replace(REPORT, seen=NOW - SECOND)):
        backend.consumers.report(report)
    assert list(backend.consumers.of(ACME)) == [newer]


def test_every_consumer_of_a_tenant_is_listed_and_no_other_tenants(backend: Backend) -> None:
    reports = [replace(REPORT, consumer=name) for name in ("ingest-1", "ingest-2", "INGEST-1")]
    other = replace(REPORT, tenant=TenantId("acme-2"))
    for report in (*reports, other):
        backend.consumers.report(report)
    assert sorted(report.consumer for report in backend.consumers.of(ACME)) == ["INGEST-1", "ingest-1", "ingest-2"]
    assert list(backend.consumers.of(other.tenant)) == [other]


def test_no_consumer_has_reported_its_keks_at_first(backend: Backend) -> None:
    backend.consumers.report(REPORT)
    assert list(backend.kek_uses.all()) == []


def test_a_use_of_keks_reads_back_as_reported(backend: Backend) -> None:
    backend.kek_uses.report(USE)
    assert list(backend.kek_uses.all()) == [USE]
    assert list(backend.consumers.of(ACME)) == []


def test_the_newest_use_of_a_consumer_is_kept_whatever_the_order(backend: Backend) -> None:
    newer = replace(USE, kids=(), refused=(), seen=NOW + SECOND)
    for use in (USE, newer, USE, replace(USE, seen=NOW - SECOND)):
        backend.kek_uses.report(use)
    assert list(backend.kek_uses.all()) == [newer]


def test_the_uses_of_every_consumer_are_listed(backend: Backend) -> None:
    names = ["INGEST-1", "ingest-1", "ingest-2"]
    for name in names:
        backend.kek_uses.report(replace(USE, consumer=name))
    assert sorted(use.consumer for use in backend.kek_uses.all()) == names


def test_an_alert_reads_back_as_raised(backend: Backend) -> None:
    assert list(backend.alerts.all()) == []
    backend.alerts.raise_alert(ALERT)
    assert list(backend.alerts.all()) == [ALERT]


def test_one_alert_id_is_recorded_once_and_the_first_stays(backend: Backend) -> None:
    backend.alerts.raise_alert(ALERT)
    backend.alerts.raise_alert(replace(ALERT, raised=NOW + SECOND, details={"reason": "again"}))
    assert list(backend.alerts.all()) == [ALERT]


def test_alerts_are_listed_oldest_first(backend: Backend) -> None:
    alerts = [replace(ALERT, id=f"alert/{number}", raised=NOW + number * SECOND) for number in range(6)]
    for number in (3, 0, 5, 1, 4, 2):
        backend.alerts.raise_alert(alerts[number])
    assert list(backend.alerts.all()) == alerts


ENTRY = AlertEntry(
    replace(ALERT, resolved=NOW + SECOND, resolved_by="alice"),
    7,
    {
        SinkName.TEAMS: Owed(3, NOW + SECOND),
        SinkName.WEBHOOK: Owed(),
        SinkName.PAGERDUTY: Owed(1, None, "status 404 ä"),
    },
    (Closing(5, "bob", "mended"), Closing(7, "alice", "Zoë 密钥")),
)


def test_an_alert_with_its_outbox_reads_back_as_put(backend: Backend) -> None:
    assert backend.alert_register.read(ALERT.id) is None
    backend.alert_register.put(ENTRY)
    stored = backend.alert_register.read(ALERT.id)
    assert stored is not None
    assert replace(stored, etag=None) == ENTRY
    backend.alert_register.put(replace(stored, alert=ALERT, owed={}, closings=()))
    changed = backend.alert_register.read(ALERT.id)
    assert changed is not None
    assert changed.alert == ALERT, "what it was resolved by is forgotten"
    assert changed.etag != stored.etag


def test_of_two_who_put_an_alert_at_once_one_is_refused(backend: Backend) -> None:
    backend.alert_register.put(ENTRY)
    with pytest.raises(Conflict):
        backend.alert_register.put(ENTRY)
    stored = backend.alert_register.read(ALERT.id)
    assert stored is not None
    backend.alert_register.put(replace(stored, revision=8))
    with pytest.raises(Conflict):
        backend.alert_register.put(replace(stored, revision=9))


def test_what_is_owed_is_found_oldest_first_and_nothing_else(backend: Backend) -> None:
    owing = {SinkName.TEAMS: Owed(1, NOW)}
    cases = {
        "late": AlertEntry(replace(ALERT, id="late", raised=NOW + SECOND), owed=owing),
        "early": AlertEntry(replace(ALERT, id="early"), owed=owing),
        "to be recorded": AlertEntry(
            replace(ALERT, id="to be recorded", raised=NOW + 2 * SECOND), closings=ENTRY.closings
        ),
        "given up": AlertEntry(replace(ALERT, id="given up"), owed={SinkName.TEAMS: Owed(1, None, "status 404")}),
        "told": AlertEntry(replace(ALERT, id="told")),
    }
    for entry in cases.values():
        backend.alert_register.put(entry)
    assert [entry.alert.id for entry in backend.alert_register.owing()] == ["early", "late", "to be recorded"]
    assert len(backend.alert_register.all()) == 5


def test_an_alert_is_resolved_and_opened_again(backend: Backend) -> None:
    backend.alerts.raise_alert(ALERT)
    for _ in range(2):
        backend.alerts.resolve(ALERT.id, "alice", "mended")
    (over,) = backend.alerts.all()
    assert over.resolved is not None
    assert replace(over, resolved=None, resolved_by="") == ALERT
    backend.alerts.resolve("no/such")
    backend.alerts.raise_alert(replace(ALERT, raised=NOW + SECOND))
    assert list(backend.alerts.all()) == [replace(ALERT, raised=NOW + SECOND)]
    entry = backend.alert_register.read(ALERT.id)
    assert entry is not None
    assert (entry.revision, set(entry.owed), entry.closings) == (3, set(SinkName), (Closing(2, "alice", "mended"),))


def test_an_alert_of_an_earlier_release_is_read_and_owed_to_nobody(azure: AzureBackend) -> None:
    azure.alert_register.put(ENTRY)
    (row,) = azure.alerts_table.list_entities()
    for column in ("owner", "revision", "owed", "closings", "is_owing", "resolved", "resolved_by"):
        del row[column]
    azure.alerts_table.update_entity(row, UpdateMode.REPLACE)
    assert list(azure.alert_register.owing()) == []
    (entry,) = azure.alert_register.all()
    assert (entry.alert, entry.is_owing) == (replace(ALERT, owner=""), False)
    azure.alerts.resolve(ALERT.id)
    (over,) = azure.alert_register.all()
    assert over.is_owing


def test_a_damaged_alert_holds_up_neither_the_telling_of_others_nor_the_job_that_raises_it(azure: AzureBackend) -> None:
    azure.alerts.raise_alert(ALERT)
    (row,) = azure.alerts_table.list_entities()
    azure.alerts_table.update_entity({**row, "owed": "forged"}, UpdateMode.REPLACE)
    other = replace(ALERT, id="another")
    azure.alerts.raise_alert(other)
    assert [entry.alert.id for entry in azure.alert_register.owing()] == ["another"]
    azure.alerts.raise_alert(replace(ALERT, severity=Severity.CRITICAL))


def test_a_letter_reads_back_as_kept(backend: Backend) -> None:
    assert list(backend.dead_letters.all()) == []
    backend.dead_letters.keep(LETTER)
    assert list(backend.dead_letters.all()) == [LETTER]


def test_one_message_is_kept_once_and_the_first_letter_stays(backend: Backend) -> None:
    backend.dead_letters.keep(LETTER)
    backend.dead_letters.keep(replace(LETTER, kept=NOW + SECOND, reason="again"))
    assert list(backend.dead_letters.all()) == [LETTER]


def test_the_same_id_on_another_queue_is_another_letter(backend: Backend) -> None:
    other = replace(LETTER, queue="plan-shards", can_resend=False, kept=NOW + SECOND)
    for letter in (LETTER, other):
        backend.dead_letters.keep(letter)
    assert list(backend.dead_letters.all()) == [LETTER, other]
    backend.dead_letters.resolve(LETTER)
    assert list(backend.dead_letters.all()) == [other]


def test_a_resolved_letter_is_gone_and_resolving_it_again_is_no_error(backend: Backend) -> None:
    backend.dead_letters.keep(LETTER)
    for _ in range(2):
        backend.dead_letters.resolve(LETTER)
    assert list(backend.dead_letters.all()) == []


def test_a_letter_as_long_as_a_message_can_be_is_kept_whole(backend: Backend) -> None:
    long = replace(LETTER, body="ä" * (24 * 1024))
    backend.dead_letters.keep(long)
    assert list(backend.dead_letters.all()) == [long]
