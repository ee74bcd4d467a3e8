"""The contracts of the small ports: Consumers, KekUses, Alerts, DeadLetters."""

from dataclasses import replace
from datetime import timedelta

from shared.values import Alert, ConsumerReport, DeadLetter, KekUse, Kid, Severity, TenantId
from tests.adapters.backends import Backend
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
    backend.alerts.raise_alert(replace(ALERT, raised=NOW + SECOND, what="again"))
    assert list(backend.alerts.all()) == [ALERT]


def test_alerts_are_listed_oldest_first(backend: Backend) -> None:
    alerts = [replace(ALERT, id=f"alert/{number}", raised=NOW + number * SECOND) for number in range(6)]
    for number in (3, 0, 5, 1, 4, 2):
        backend.alerts.raise_alert(alerts[number])
    assert list(backend.alerts.all()) == alerts


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
