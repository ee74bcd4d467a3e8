"""Every attack on the audit trail is mounted, and the verdict that must name it does."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, override

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from rotation.audit import event_id, parse_time, time_text
from rotation.bundle import Signed
from rotation.checkpoint import parse, signed
from rotation.trail import BEGINNING
from rotation.verification import Report, Verdict
from shared.errors import Integrity, Rejected
from shared.ports import TimestampAuthority
from tests.jobs.auditing import AuditProcess, Platform, event, verified
from tests.jobs.forging import FORGER, Forgery
from tests.simulator import signing_secret

INTEGRITY, COMPLETENESS, TIME = Verdict.INTEGRITY, Verdict.COMPLETENESS, Verdict.TIME
STREAM = 5
"""Of what the attacker changes; the platform below has many records in it."""
AT = 9
"""Number of that record in its stream."""


class Authority(TimestampAuthority):
    """A time-stamp authority by a very simple scheme, that the attacker cannot speak for."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._seen: dict[bytes, Any] = {}

    @override
    def stamp(self, message: bytes) -> bytes:
        token = f"stamp {len(self._seen)}".encode()
        self._seen[token] = (message, self._platform.world.now)
        return token

    def verified(self, token: bytes, message: bytes) -> Any:
        seen, when = self._seen.get(token, (None, None))
        if seen != message:
            raise Integrity("the token is of another message")
        return when


@pytest.fixture(scope="module")
def victim() -> Platform:
    """A trail of five hours, with time-stamps."""
    platform = Platform()
    platform.authority = Authority(platform)
    platform.restart()
    tenant = next(f"tenant-{n}" for n in range(999) if _stream(f"tenant-{n}") == STREAM)
    for minute in range(300):
        platform.record(1)
        if minute % 10 == 0:
            platform.record(3, tenant)
        platform.sign()
    return platform


def _stream(tenant: str) -> int:
    return event(1, tenant).stream


def round_of(forgery: Forgery) -> int:
    """Index of the checkpoint that signs the record under attack."""
    return next(
        index
        for index, each in enumerate(forgery.rounds)
        if any((record["stream"], record["seq"]) == (STREAM, AT) for record in each.records)
    )


def place_of(forgery: Forgery) -> tuple[list[dict[str, Any]], int]:
    """Its list, and where it is in it."""
    records: Any = forgery.rounds[round_of(forgery)].records
    return records, next(i for i, r in enumerate(records) if (r["stream"], r["seq"]) == (STREAM, AT))


def edit(forgery: Forgery) -> None:
    records, at = place_of(forgery)
    records[at]["reason"] = "it never happened"


def delete(forgery: Forgery) -> None:
    records, at = place_of(forgery)
    del records[at]


def insert(forgery: Forgery) -> None:
    records, at = place_of(forgery)
    job = "dek.rotate/mallory/v1"
    records.insert(at, records[at] | {"job": job, "event": event_id(job, str(records[at]["outcome"]))})


def reorder(forgery: Forgery) -> None:
    records, at = place_of(forgery)
    other = at + 1 if records[at + 1]["stream"] == STREAM else at - 1
    assert records[other]["stream"] == STREAM
    records[at], records[other] = records[other], records[at]


def replay(forgery: Forgery) -> None:
    records, at = place_of(forgery)
    again = copy.deepcopy(records[at])
    forgery.rounds[round_of(forgery) + 20].records.append(again)


def cut_records(forgery: Forgery) -> None:
    """The end of a stream goes, the checkpoints stay."""
    for each in forgery.rounds[-15:]:
        each.records = [record for record in each.records if record["stream"] != STREAM]


def cut_everything(forgery: Forgery) -> None:
    """The last half hour goes, checkpoints and all."""
    del forgery.rounds[-30:]


def backdate(forgery: Forgery) -> None:
    records, at = place_of(forgery)
    records[at]["time"] = time_text(parse_time(str(records[at]["time"])) - timedelta(days=30))


def drop_checkpoints(forgery: Forgery) -> None:
    """Checkpoints go, the records that they signed move to the next one."""
    at = round_of(forgery)
    dropped = forgery.rounds[at]
    forgery.rounds[at + 1].records = dropped.records + forgery.rounds[at + 1].records
    del forgery.rounds[at]


@dataclass(frozen=True)
class Attack:
    """An attack, and what must be found."""

    change: Callable[[Forgery], None]
    plain: dict[Verdict, str]
    relinked: dict[Verdict, str]
    resigned: dict[Verdict, str] = field(default_factory=lambda: {INTEGRITY: "forked or rewritten"})
    place: bool = True  # whether the record is named exactly when nothing was computed anew


ATTACKS = {
    "edit": Attack(edit, {INTEGRITY: "altered"}, {INTEGRITY: "not the ones that were signed"}),
    "delete": Attack(delete, {COMPLETENESS: "missing"}, {COMPLETENESS: "fewer than were signed"}),
    "insert": Attack(insert, {INTEGRITY: "out of its place"}, {INTEGRITY: "more than were signed"}, place=False),
    "reorder": Attack(
        reorder, {INTEGRITY: "out of its place"}, {INTEGRITY: "not the ones that were signed"}, place=False
    ),
    "replay": Attack(replay, {INTEGRITY: "there again"}, {INTEGRITY: "recorded twice"}),
    "truncate": Attack(
        cut_records, {COMPLETENESS: "fewer than were signed"}, {COMPLETENESS: "fewer than were signed"}, place=False
    ),
    "backdate": Attack(backdate, {TIME: "backdated"}, {TIME: "backdated", INTEGRITY: "not the ones that were signed"}),
    "checkpoint dropped": Attack(
        drop_checkpoints,
        {COMPLETENESS: "checkpoints are missing"},
        {COMPLETENESS: "checkpoints are missing"},
        {COMPLETENESS: "checkpoints are missing"},
        place=False,
    ),
}


def ensure_named(report: Report, named: dict[Verdict, str]) -> None:
    """Each verdict must fail, by a finding of that name."""
    for verdict, what in named.items():
        assert not report.holds(verdict)
        assert any(each.verdict is verdict and what in each.what for each in report.findings), report.findings


def test_the_victim_is_sound_before_it_is_attacked(victim: Platform) -> None:
    forgery = Forgery.of(victim.export())
    assert forgery.lines() == victim.export()
    assert forgery.relinked() == victim.export()
    report = verified([victim.export()], victim.keys, held=victim.notes[::50], stamps=stamps(victim))
    assert report.findings == []
    assert report.stamps == 5, "one an hour; the last is yet to come"


def stamps(victim: Platform) -> Any:
    assert isinstance(victim.authority, Authority)
    return victim.authority.verified


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_an_attack_without_new_hashes_is_named(victim: Platform, attack: Attack) -> None:
    forgery = Forgery.of(victim.export())
    attack.change(forgery)
    report = verified([forgery.lines()], victim.keys)
    ensure_named(report, attack.plain)
    if attack.place:
        first = report.first_bad
        assert first is not None
        assert (first.stream, first.seq) == (STREAM, AT)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_an_attack_with_all_hashes_computed_anew_is_named(victim: Platform, attack: Attack) -> None:
    forgery = Forgery.of(victim.export())
    attack.change(forgery)
    report = verified([forgery.relinked()], victim.keys)
    ensure_named(report, attack.relinked)
    if attack.place or attack.change in (insert, reorder):
        first = report.first_bad
        assert first is not None
        assert first.stream == STREAM


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_an_attack_signed_by_the_attackers_own_key_is_named(victim: Platform, attack: Attack) -> None:
    forgery = Forgery.of(victim.export())
    attack.change(forgery)
    report = verified([forgery.resigned(FORGER)], victim.keys)
    ensure_named(report, {INTEGRITY: "signed by a key that is not trusted"})


STOLEN = signing_secret(1)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_a_full_rewrite_with_the_stolen_key_is_named_by_a_checkpoint_that_is_held(
    victim: Platform, attack: Attack
) -> None:
    forgery = Forgery.of(victim.export())
    attack.change(forgery)
    report = verified([forgery.resigned(STOLEN)], victim.keys, held=victim.notes[-1:])
    ensure_named(report, attack.resigned)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_a_full_rewrite_with_the_stolen_key_is_named_by_its_time_stamps(victim: Platform, attack: Attack) -> None:
    forgery = Forgery.of(victim.export())
    attack.change(forgery)
    report = verified([forgery.resigned(STOLEN)], victim.keys, stamps=stamps(victim))
    ensure_named(report, {TIME: "time-stamp is not valid"})
    without = Forgery.of(victim.export())
    attack.change(without)
    for each in without.rounds:
        each.checkpoint = Signed(each.checkpoint.number, each.checkpoint.note)
    report = verified([without.resigned(STOLEN)], victim.keys, stamps=stamps(victim))
    ensure_named(report, {TIME: "have no time-stamp"})


def test_a_full_rewrite_with_the_stolen_key_is_not_seen_by_who_holds_nothing(victim: Platform) -> None:
    """The residual window: docs/audit-trail.md says so, and what closes it."""
    forgery = Forgery.of(victim.export())
    edit(forgery)
    assert verified([forgery.resigned(STOLEN)], victim.keys).sound


def test_an_end_that_was_cut_off_with_its_checkpoints_is_named_by_what_is_held_or_asked_for(victim: Platform) -> None:
    forgery = Forgery.of(victim.export())
    cut_everything(forgery)
    assert verified([forgery.lines()], victim.keys).sound
    report = verified([forgery.lines()], victim.keys, held=[victim.notes[-1]])
    ensure_named(report, {COMPLETENESS: "ends before the checkpoint that is held"})
    report = verified([forgery.lines()], victim.keys, until=victim.world.now)
    ensure_named(report, {COMPLETENESS: "ends before the time asked for"})


def test_of_two_branches_of_a_fork_each_is_sound_and_a_checkpoint_of_the_other_names_it(victim: Platform) -> None:
    forgery = Forgery.of(victim.export())
    insert(forgery)
    branch = forgery.resigned(STOLEN)
    note = forgery.rounds[-1].checkpoint.note
    assert verified([branch], victim.keys).sound
    report = verified([victim.export()], victim.keys, held=[note])
    ensure_named(report, {INTEGRITY: "forked or rewritten"})


def test_a_substituted_key_is_named_even_when_it_is_handed_over_to(victim: Platform) -> None:
    """The attacker signs a handover to a key of their own, which the pinned key never signed."""
    forgery = Forgery.of(victim.export())
    at = round_of(forgery)
    statement = parse(forgery.rounds[at].checkpoint.note).statement
    forgery.resigned(FORGER)
    lines = forgery.lines()
    assert statement.number == at + 1
    report = verified([lines], victim.keys)
    ensure_named(report, {INTEGRITY: "not trusted"})


def test_a_record_dated_ahead_of_its_checkpoint_is_named(victim: Platform) -> None:
    forgery = Forgery.of(victim.export())
    records, at = place_of(forgery)
    records[at]["time"] = time_text(parse_time(str(records[at]["time"])) + timedelta(days=1))
    ensure_named(verified([forgery.resigned(STOLEN)], victim.keys), {TIME: "dated after the checkpoint"})


@pytest.mark.parametrize("seed", range(40))
def test_any_byte_of_an_export_that_is_flipped_is_found(victim: Platform, seed: int) -> None:
    lines = victim.export(upto=20)
    whole = bytearray(b"".join(lines))
    at = seed * 7919 * 31 % len(whole)
    whole[at] ^= 1
    try:
        report = verified([bytes(whole).splitlines(keepends=True)], victim.keys)
    except Integrity:
        return
    assert not report.sound, whole[max(at - 40, 0) : at + 40]


def test_the_right_keys_are_needed(victim: Platform) -> None:
    stranger = ec.derive_private_key(1, ec.SECP256R1()).public_key()
    assert not verified([victim.export()], [stranger]).holds(INTEGRITY)
    assert verified([victim.export()], [stranger, *victim.keys]).sound


def test_a_record_with_a_number_beyond_all_numbers_is_named_like_any_other(victim: Platform) -> None:
    forgery = Forgery.of(victim.export())
    records, at = place_of(forgery)
    records[at]["seq"] = 2**53 - 1
    lines = [line.replace(b'"seq":9007199254740991,', b'"seq":%d,' % 10**30) for line in forgery.lines()]
    ensure_named(verified([lines], victim.keys), {INTEGRITY: "no record of ours", COMPLETENESS: "missing"})


# What only looks like a trail


def test_an_export_of_nothing_but_its_beginning_is_not_complete(victim: Platform) -> None:
    ensure_named(verified([victim.export()[:1]], victim.keys), {COMPLETENESS: "nothing is signed"})


def test_a_rewrite_with_few_checkpoints_is_named_by_the_gaps_between_them(victim: Platform) -> None:
    forgery = Forgery.of(victim.export())
    sparse = [forgery.rounds[0], *forgery.rounds[29::30]]
    rest = iter(forgery.rounds)
    for number, each in enumerate(sparse, 1):
        records: list[dict[str, Any]] = []
        while (taken := next(rest)) is not each:
            records += taken.records
        each.records = records + each.records
        statement = replace(parse(each.checkpoint.note).statement, number=number)
        each.checkpoint = Signed(number, signed(statement, []) + NOTHING)
    forgery.rounds = sparse
    report = verified([forgery.resigned(STOLEN)], victim.keys, stamps=stamps(victim))
    ensure_named(report, {COMPLETENESS: "longer than accepted"})


NOTHING = "\u2014 nobody AAAAAAAAAAA=\n"


def test_history_that_was_put_into_one_checkpoint_of_today_is_backdated(victim: Platform) -> None:
    forgery = Forgery.of(victim.export())
    last = forgery.rounds[-1]
    last.records = [record for each in forgery.rounds for record in each.records]
    statement = replace(parse(last.checkpoint.note).statement, number=1)
    last.checkpoint = Signed(1, signed(statement, []) + NOTHING)
    forgery.rounds = [last]
    ensure_named(verified([forgery.resigned(STOLEN)], victim.keys), {TIME: "backdated"})


@pytest.mark.parametrize("turned", [1, -1])
def test_of_two_checkpoints_of_one_number_that_are_held_neither_hides_the_other(victim: Platform, turned: int) -> None:
    forgery = Forgery.of(victim.export())
    insert(forgery)
    forgery.resigned(STOLEN)
    held = [victim.notes[-1], forgery.rounds[-1].checkpoint.note][::turned]
    ensure_named(verified([victim.export()], victim.keys, held=held), {INTEGRITY: "forked or rewritten"})


def test_a_held_checkpoint_that_nobody_trusted_signed_is_refused_and_blames_nobody(victim: Platform) -> None:
    forgery = Forgery.of(victim.export())
    insert(forgery)
    forgery.resigned(FORGER)
    with pytest.raises(Rejected, match="no trusted key"):
        verified([victim.export()], victim.keys, held=[forgery.rounds[-1].checkpoint.note])


def test_another_trail_of_the_same_key_is_told_by_its_name(victim: Platform) -> None:
    report = verified([victim.export()], victim.keys, origin="production.example/audit")
    ensure_named(report, {INTEGRITY: "of another trail"})
    assert report.origin == "atp.example/audit"
    assert verified([victim.export()], victim.keys, origin="atp.example/audit").sound


def test_an_export_that_was_asked_for_more_than_there_is_says_so(victim: Platform) -> None:
    process = AuditProcess(victim.world)
    tomorrow = time_text(victim.world.now + timedelta(days=1))
    lines = [process.trail.anchor(BEGINNING, until=tomorrow), *victim.export()[1:]]
    ensure_named(verified([lines], victim.keys), {COMPLETENESS: "ends before the time asked for"})


def test_a_gap_that_is_accepted_is_no_lack_of_time_stamps() -> None:
    """In an outage there is nothing to be stamped."""
    platform = Platform()
    platform.authority = Authority(platform)
    platform.restart()
    platform.live(70, each=1)
    platform.world.now += timedelta(days=3)
    platform.live(70, each=1)
    lines = [platform.export()]
    assert not verified(lines, platform.keys, stamps=stamps(platform)).holds(COMPLETENESS)
    assert verified(lines, platform.keys, stamps=stamps(platform), max_gap=timedelta(days=4)).findings == []
