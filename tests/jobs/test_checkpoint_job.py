"""Checkpoints: one each minute, each continuing the last, and none that contradicts it."""

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
import rfc8785
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from rotation import checkpoint_job
from rotation.audit_job import AuditTrail
from rotation.bundle import part_in
from rotation.checkpoint import parse, signed, to_der
from rotation.merkle import leaf_hash
from rotation.streams import no_records
from rotation.verification import Verdict
from shared.errors import Transient, UnusableKey
from shared.ports import TimestampAuthority
from shared.values import Kid, SigningKey, StoredRecord
from tests.jobs.auditing import AuditProcess, Platform, event, stream_with, verified
from tests.jobs.forging import FORGER
from tests.simulator import SimRecords, SimSigner, signing_secret


def test_a_trail_that_lived_verifies() -> None:
    platform = Platform()
    platform.live(130)
    report = verified([platform.export()], platform.keys)
    assert report.findings == []
    assert (report.records, report.checkpoints) == (390, 130)
    assert verified(platform.copies(), platform.keys).findings == []


def test_a_minute_in_which_nothing_happened_has_a_checkpoint_too() -> None:
    platform = Platform()
    platform.sign(3)
    statements = [parse(note).statement for note in platform.notes]
    assert [statement.number for statement in statements] == [1, 2, 3]
    assert [statement.size for statement in statements] == [0, 0, 0]
    assert len({statement.root for statement in statements}) == 1
    assert len({statement.time for statement in statements}) == 3
    assert verified([platform.export()], platform.keys).sound


def test_a_restarted_checkpointer_goes_on_from_what_is_signed() -> None:
    platform = Platform()
    for _ in range(70):
        platform.live(1)
        platform.restart()
    report = verified([platform.export()], platform.keys)
    assert report.findings == []
    assert report.checkpoints == 70


def test_of_two_checkpointers_at_once_one_signs_each_number() -> None:
    platform = Platform()
    other = AuditProcess(platform.world)
    for number in range(9):
        platform.record(2)
        first, second = (platform.process, other)[:: 1 if number % 2 else -1]
        first.checkpointer.run()
        second.checkpointer.run()
    assert len(platform.notes) == 18
    assert verified([platform.export()], platform.keys).sound


def test_two_calls_of_one_checkpointer_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Platform()
    platform.live(2)
    read, checkpointer, entered = SimRecords.read, platform.process.checkpointer, []
    second = threading.Thread(target=checkpointer.run)

    def interrupted(self: SimRecords, stream: int, first_seq: int, limit: int) -> Sequence[StoredRecord]:
        entered.append(threading.current_thread())
        if len(entered) == 1:
            second.start()
            second.join(0.2)
        return read(self, stream, first_seq, limit)

    monkeypatch.setattr(SimRecords, "read", interrupted)
    platform.world.now += timedelta(minutes=1)
    checkpointer.run()
    second.join(20)
    order = [thread is second for thread in entered]
    assert (order[0], order[-1], order) == (False, True, sorted(order))
    assert len(platform.notes) == 4
    assert platform.world.alerts == {}


def test_a_checkpointer_that_comes_too_late_with_a_number_is_told_so_and_signs_the_next() -> None:
    platform = Platform()
    platform.live(2)
    other = AuditProcess(platform.world)
    calls = platform.world.calls
    AuditProcess(platform.world).checkpointer.run()
    length = platform.world.calls - calls  # the last call is the insertion
    platform.world.interruptions[platform.world.calls + length] = other.checkpointer.run
    platform.restart()
    platform.world.now += timedelta(minutes=1)
    with pytest.raises(Exception, match="taken"):
        platform.process.checkpointer.run()
    platform.process.checkpointer.run()
    assert len(platform.notes) == 5
    assert verified([platform.export()], platform.keys).sound


@pytest.mark.parametrize("restarted", [False, True])
def test_a_signed_record_that_was_changed_is_refused_recorded_and_alerted(restarted: bool) -> None:
    platform = Platform()
    platform.live(5, each=20)
    stream = stream_with(platform.world, 3)
    records = platform.world.streams[stream]
    other = SimRecords(platform.world)
    assert other.read(stream, 1, 1)
    last = records[-1]
    records[-1] = replace(last, canonical=last.canonical.replace(b"it was due", b"it was fun"))
    if restarted:
        platform.restart()
    signed = len(platform.notes)
    platform.sign(3)
    assert len(platform.notes) == signed
    (alert,) = [each for each in platform.world.alerts.values() if each.subject == "audit/trail"]
    assert alert.what == "the audit trail cannot be signed"
    assert str(stream) in alert.details["reason"]
    failed = [job for job, outcomes in platform.world.outcomes().items() if "failed" in outcomes]
    assert failed == [f"audit.checkpoint/{signed + 1}"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_signed_end_that_was_cut_off_is_refused(restarted: bool) -> None:
    platform = Platform()
    platform.live(5, each=20)
    stream = stream_with(platform.world, 3)
    platform.world.streams[stream].pop()
    if restarted:
        platform.restart()
    signed = len(platform.notes)
    platform.sign(2)
    assert len(platform.notes) == signed
    assert platform.world.alerts


def test_a_hole_in_what_is_not_signed_yet_is_refused() -> None:
    platform = Platform()
    platform.live(2)
    platform.record(30, tenant="acme")
    stream = event(0, "acme").stream

    class Holed(SimRecords):
        """One row was deleted."""

        def read(self, stream_: int, first_seq: int, limit: int):  # type: ignore[no-untyped-def] # noqa: ANN202
            return [r for r in super().read(stream_, first_seq, limit) if (r.stream, r.seq) != (stream, 20)]

    platform.process.checkpointer._records = Holed(platform.world)
    platform.sign()
    assert len(platform.notes) == 2
    assert "seq=20" in next(iter(platform.world.alerts.values())).details["reason"]


def test_a_forged_checkpoint_in_the_table_is_refused() -> None:
    platform = Platform()
    platform.live(3)
    forged = platform.world.checkpoints[3]
    statement = parse(forged.note).statement
    platform.world.checkpoints[3] = replace(forged, note=forged.note.replace(f"\n{statement.size}\n", "\n7\n"))
    platform.world.evidence.clear()
    platform.restart()
    platform.sign()
    assert len(platform.notes) == 3
    assert "not signed by the audit signing key" in next(iter(platform.world.alerts.values())).details["reason"]


def test_the_signing_key_rotates_and_verification_crosses_the_change() -> None:
    platform = Platform()
    platform.live(3)
    for _ in range(3):
        platform.world.add_signing_key()
        platform.live(65, each=1)
        platform.restart()
    report = verified([platform.export()], platform.keys)
    assert report.findings == []
    assert report.handovers == 3
    assert len({parse(note).statement.kid for note in platform.notes}) == 4
    later = verified([platform.export(behind=190)], platform.keys)
    assert later.findings == []
    assert later.from_number > 130


def test_a_new_signing_key_that_is_not_signed_in_is_not_trusted() -> None:
    platform = Platform()
    platform.live(3)
    (old,) = platform.world.signing_keys.values()
    kid = platform.world.add_signing_key()
    new = platform.world.signing_keys[kid]
    platform.live(3)
    (handover,) = [note for note in platform.notes if parse(note).statement.next_key]
    assert parse(handover).is_signed_by(old.public_key)
    assert parse(handover).is_signed_by(new.public_key)
    lines = [line for line in platform.export() if b"next-kid" not in line]
    report = verified([lines], platform.keys)
    assert not report.holds(Verdict.INTEGRITY)
    assert not report.holds(Verdict.COMPLETENESS)


def test_a_disabled_signing_key_stops_signing_with_an_alert_until_it_is_enabled() -> None:
    platform = Platform()
    platform.live(2)
    ((kid, key),) = platform.world.signing_keys.items()
    platform.world.signing_keys[kid] = replace(key, enabled=False)
    platform.live(2)
    assert len(platform.notes) == 2
    assert [alert.what for alert in platform.world.alerts.values()] == ["the audit trail cannot be signed"] * 1
    platform.world.signing_keys[kid] = key
    platform.live(2)
    assert len(platform.notes) == 4
    assert verified([platform.export()], platform.keys).sound


def test_an_outage_delays_a_checkpoint_and_nothing_more() -> None:
    platform = Platform()
    platform.live(2)
    platform.record(5)
    platform.world.outage = frozenset({"signer"})
    with pytest.raises(Transient):
        platform.sign()
    platform.world.outage = frozenset()
    platform.live(1)
    assert verified([platform.export()], platform.keys).sound
    assert platform.world.alerts == {}


def test_what_has_come_together_in_an_outage_is_under_the_first_checkpoint_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint_job, "_PAGE", 10)
    monkeypatch.setattr(checkpoint_job, "_MANY", 20)
    platform = Platform()
    platform.live(3)
    for _ in range(8):
        platform.record(100)
        platform.world.now += timedelta(minutes=1)
    platform.sign(2)
    report = verified([platform.export()], platform.keys)
    assert (report.findings, report.records, platform.world.alerts) == ([], 809, {})


def test_a_checkpoint_that_cannot_take_in_everything_in_time_leaves_the_rest_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint_job, "_PAGE", 10)
    platform = Platform()
    platform.record(1_000)
    read = SimRecords.read

    def slow(self: SimRecords, stream: int, first_seq: int, limit: int) -> Sequence[StoredRecord]:
        platform.world.now += timedelta(seconds=10)
        return read(self, stream, first_seq, limit)

    monkeypatch.setattr(SimRecords, "read", slow)
    platform.process.checkpointer.run()
    sizes = [parse(note).statement.size for note in platform.notes]
    while sizes[-1] < 1_000:
        assert len(sizes) < 10
        platform.process.checkpointer.run()
        sizes = [parse(note).statement.size for note in platform.notes]
    assert 0 < sizes[0] < 1_000
    monkeypatch.undo()
    report = verified([platform.export()], platform.keys)
    assert (report.records, report.holds(Verdict.INTEGRITY)) == (1_000, True)


def test_a_clock_that_is_put_back_makes_no_checkpoint_older_than_the_one_before() -> None:
    platform = Platform()
    platform.live(2)
    platform.world.now -= timedelta(minutes=4)
    platform.live(2)
    assert verified([platform.export()], platform.keys).sound


def test_checkpoints_that_were_deleted_are_missed() -> None:
    platform = Platform()
    platform.live(5)
    del platform.world.checkpoints[5]
    platform.sign()
    assert "a checkpoint is missing" in next(iter(platform.world.alerts.values())).details["reason"]
    assert 5 not in platform.world.checkpoints


# What the table says is not all that is known


def cut(platform: Platform, behind: int) -> None:
    """Every checkpoint behind that one goes, with the records that it signs."""
    streams = platform.process.trail.streams_at(behind) if behind else no_records()
    for number in [each for each in platform.world.checkpoints if each > behind]:
        del platform.world.checkpoints[number]
    for stream, state in streams.items():
        del platform.world.streams.setdefault(stream, [])[state.size :]
    # The writers begin anew: in this world nobody can write behind an end that is gone.
    platform.process.audit = platform.process.checkpointer._audit = AuditTrail(
        SimRecords(platform.world), platform.world.clock, sleep=lambda _: None
    )


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("behind", [0, 40, 59])
def test_tables_that_were_cut_back_are_never_signed_anew(restarted: bool, behind: int) -> None:
    platform = Platform()
    platform.live(60)
    cut(platform, behind)
    if restarted:
        platform.restart()
    platform.live(5)
    assert max(platform.world.checkpoints, default=0) == behind
    assert "the audit trail cannot be signed" in [alert.what for alert in platform.world.alerts.values()]
    assert verified(platform.copies(), platform.keys, held=[verified_note(platform)]).sound


def verified_note(platform: Platform) -> str:
    """The last checkpoint in the evidence copy."""
    part = part_in(platform.copies()[-1][-1])
    assert part.number == 60
    return part.note


def test_a_trail_that_was_restored_is_signed_on() -> None:
    platform = Platform()
    platform.live(60)
    checkpoints, streams = dict(platform.world.checkpoints), {s: list(r) for s, r in platform.world.streams.items()}
    cut(platform, 40)
    platform.sign(3)
    platform.world.checkpoints, platform.world.streams = checkpoints, streams
    platform.live(3)
    assert verified([platform.export()], platform.keys).sound
    assert verified(platform.copies(), platform.keys).checkpoints == 63


def test_a_clock_that_jumps_is_alerted_and_signed_as_it_is_and_costs_one_finding() -> None:
    platform = Platform()
    platform.live(70)
    platform.world.now += timedelta(days=1)
    platform.live(2)
    platform.world.now -= timedelta(days=1)
    platform.live(200)
    assert len(platform.notes) == 272
    assert "the clock of the audit trail was put back" in [alert.what for alert in platform.world.alerts.values()]
    report = verified([platform.export()], platform.keys, max_gap=timedelta(days=2))
    assert [finding.what for finding in report.findings] == ["a checkpoint is dated before the one in front of it"]


def test_the_state_of_the_streams_is_kept_every_sixty_checkpoints_at_least() -> None:
    platform = Platform()
    for _ in range(200):
        platform.record(1)
        platform.world.now += timedelta(seconds=10)
        platform.process.checkpointer.run()
    anchors = [number for number, stored in platform.world.checkpoints.items() if stored.trees]
    assert max(after - before for before, after in pairwise([*anchors, 200])) <= 60


def test_a_worker_whose_clock_is_wrong_is_told_of() -> None:
    platform = Platform()
    platform.live(3)
    platform.world.now -= timedelta(minutes=30)
    platform.record(1)
    platform.world.now += timedelta(minutes=30)
    platform.sign()
    assert [alert.what for alert in platform.world.alerts.values()] == ["an audit record was dated by a wrong clock"]


WRONG_TIMES = ["not a time", "9999-12-31T23:59:59.9-12:00", "0001-01-01T00:00:00.000000+14:00", "2026-02-30T00:00Z", ""]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("time", WRONG_TIMES)
def test_a_record_that_bears_no_time_is_refused_recorded_and_alerted(time: str, restarted: bool) -> None:
    platform = Platform()
    platform.live(3)
    platform.record(1, "acme")
    stream = event(0, "acme").stream
    last = platform.world.streams[stream].pop()
    canonical = rfc8785.dumps(json.loads(last.canonical) | {"time": time})
    platform.world.streams[stream].append(replace(last, canonical=canonical, leaf_hash=leaf_hash(canonical)))
    if restarted:
        platform.restart()
    platform.sign(2)
    assert len(platform.notes) == 3
    assert [alert.what for alert in platform.world.alerts.values()] == ["the audit trail cannot be signed"]
    assert platform.world.outcomes()["audit.checkpoint/4"] == {"failed"}


def test_a_bug_that_a_record_brings_out_is_alerted_and_not_hidden() -> None:
    platform = Platform()
    platform.live(2)

    class Odd(SimRecords):
        """Says what nobody has thought of."""

        def read(self, stream: int, first_seq: int, limit: int) -> list[StoredRecord]:
            raise OverflowError(f"record {stream}/{first_seq + limit} has a number that somebody chose")

    platform.process.checkpointer._records = Odd(platform.world)
    with pytest.raises(OverflowError):
        platform.process.checkpointer.run()
    (alert,) = platform.world.alerts.values()
    assert alert.what == "the audit trail cannot be signed"
    assert alert.details["reason"] == "an error of our own (cause=OverflowError)"


def test_a_new_signing_key_that_cannot_sign_is_alerted_and_the_old_one_signs_on() -> None:
    platform = Platform()
    platform.live(2)
    platform.world.add_signing_key()

    class Refusing(SimSigner):
        """The newest version is not valid yet."""

        def sign(self, kid: Kid, text: bytes) -> bytes:
            if kid.endswith("2"):
                raise UnusableKey("the vault refuses to sign with this version", kid=kid)
            return super().sign(kid, text)

    platform.process.checkpointer._signer = Refusing(platform.world)
    platform.live(3)
    assert len(platform.notes) == 5
    assert [alert.what for alert in platform.world.alerts.values()] == ["the audit signing key cannot be rotated"]
    platform.restart()
    platform.live(2)
    assert verified([platform.export()], platform.keys).handovers == 1


def test_a_vault_whose_newest_version_is_no_signing_key_does_not_stop_the_old_one() -> None:
    platform = Platform()
    platform.live(2)

    class Odd(SimSigner):
        """Somebody has put an RSA key there."""

        def newest(self) -> SigningKey:
            raise UnusableKey("not a P-256 key")

    platform.process.checkpointer._signer = Odd(platform.world)
    platform.live(3)
    assert len(platform.notes) == 5
    assert platform.world.alerts


def test_an_authority_that_breaks_does_not_stop_the_signing() -> None:
    class Broken(TimestampAuthority):
        """Raises what nobody expects."""

        def stamp(self, message: bytes) -> bytes:
            raise RuntimeError(f"a bug over {len(message)} bytes")

    platform = Platform(authority=Broken())
    platform.live(5)
    assert len(platform.notes) == 5


def test_a_handover_that_names_another_key_than_the_vault_has_is_refused() -> None:
    platform = Platform()
    platform.live(2)
    platform.world.add_signing_key()
    platform.live(1)
    statement = parse(platform.notes[-1]).statement
    stolen = signing_secret(1)
    forged = replace(statement, next_key=to_der(FORGER.public_key()))
    text = forged.to_text().encode()
    signatures = [(key.public_key(), key.sign(text, ec.ECDSA(hashes.SHA256()))) for key in (stolen, FORGER)]
    platform.world.checkpoints[3] = replace(platform.world.checkpoints[3], note=signed(forged, signatures))
    platform.world.evidence.clear()
    platform.restart()
    platform.live(2)
    assert len(platform.notes) == 3
    assert platform.world.alerts
