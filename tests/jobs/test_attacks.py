"""Every attack on the audit trail is mounted, and the verdict that must name it does."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, override

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from rotation import verification
from rotation.audit import STREAMS, event_id, parse_time, time_text
from rotation.bundle import Signed, anchor_line, is_record, line_of
from rotation.checkpoint import Statement, from_der, parse, signed, streams_root
from rotation.merkle import leaf_hash
from rotation.streams import heads_of, no_records, to_texts
from rotation.trail import BEGINNING
from rotation.verification import Expectations, Report, Verdict, Verification
from shared.errors import AtpError, Integrity, Rejected
from shared.ports import TimestampAuthority
from shared.values import Kid
from tests.jobs.auditing import AuditProcess, Platform, event, verified
from tests.jobs.forging import FORGER, Forgery
from tests.pure.test_audit import STRANGE_TIMES
from tests.simulator import SIGNING_KEY, START, VAULT_URL, signing_secret

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


@pytest.fixture(scope="module")
def busy() -> Platform:
    """A trail with many records under each of three checkpoints."""
    platform = Platform()
    for _ in range(3):
        platform.record(30)
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


NOTHING = "\u2014 atp.example/audit AAAAAAAAAAA=\n"


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


# What is under no signature, and what nobody would write


@pytest.mark.parametrize("time", STRANGE_TIMES)
def test_a_record_that_bears_no_time_is_named_by_the_time_even_with_the_stolen_key(victim: Platform, time: str) -> None:
    forgery = Forgery.of(victim.export())
    records, at = place_of(forgery)
    records[at]["time"] = time
    report = verified([forgery.resigned(STOLEN)], victim.keys)
    ensure_named(report, {TIME: "no time of ours"})
    assert [(each.stream, each.seq) for each in report.findings] == [(STREAM, AT)]


@pytest.mark.parametrize("end", ["+23:00", " or any other time you like"])
def test_a_time_with_another_end_is_no_time(victim: Platform, end: str) -> None:
    forgery = Forgery.of(victim.export())
    for each in forgery.rounds:
        for record in each.records:
            record["time"] = str(record["time"])[:-1] + end
    report = verified([forgery.resigned(STOLEN)], victim.keys)
    assert report.counts == {TIME: victim.recorded}


@pytest.fixture(scope="module")
def heirs() -> Platform:
    """A trail over three signing keys, with time-stamps."""
    platform = Platform()
    platform.authority = Authority(platform)
    platform.restart()
    for _ in range(3):
        platform.live(64, each=1)
        platform.world.add_signing_key()
    platform.live(70, each=1)
    return platform


def middle(platform: Platform) -> list[bytes]:
    """An export that begins behind two handovers, with a third one in it."""
    return platform.export(behind=190)


def changed_text(line: bytes, name: str, change: Callable[[Any], Any]) -> bytes:
    """An anchor or a checkpoint with another value."""
    fields = json.loads(line)
    fields[name] = change(fields[name])
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def first(change: Callable[[str], str]) -> Callable[[list[str]], list[str]]:
    """The change of the first text of several that is not empty."""

    def done(texts: list[str]) -> list[str]:
        at = next(number for number, text in enumerate(texts) if text)
        return [*texts[:at], change(texts[at]), *texts[at + 1 :]]

    return done


def doubled(note: str) -> str:
    return note + note.partition("\n\n")[2]


NOBODY = "\u2014 atp.example/audit AAAAAAAAAAAA\n"
WITNESS = "\u2014 witness.example AAAAAAAAAAAA\n"
NOTES: dict[str, Callable[[str], str]] = {
    "its signatures twice": doubled,
    "a line of nobody's": lambda note: note + NOBODY,
    "a line of a witness's": lambda note: note + WITNESS,
    "a line feed more": lambda note: f"{note}\n",
}
ANCHORS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a leading zero": ("streams", first(lambda text: f"0{text}")),
    "large letters": ("streams", first(str.upper)),
    "a blank behind": ("streams", first(lambda text: f"{text} ")),
    "a size that cannot be printed": (
        "streams",
        first(lambda _: f"{10**4300 - 2}{('.' + '00' * 32) * (10**4300 - 2).bit_count()}/{'00' * 32}"),
    ),
    "a time of another form": ("since", lambda _: "2026-01-01T00:00:00Z"),
    "a time before all times": ("since", lambda _: "0001-01-01T00:00:00+14:00"),
    "an end behind all times": ("until", lambda _: "9999-12-31T23:59:59.9-12:00"),
    "a handover twice": ("handovers", lambda notes: [notes[0], *notes]),
    "a handover less": ("handovers", lambda notes: notes[:-1]),
    "no handover": ("handovers", lambda _: []),
    "handovers in another order": ("handovers", lambda notes: notes[::-1]),
    "two handovers in one": ("handovers", lambda notes: ["".join(notes)]),
    **{f"a handover with {name}": ("handovers", first(change)) for name, change in NOTES.items()},
    **{f"a note with {name}": ("note", change) for name, change in NOTES.items()},
}


def found(files: Sequence[Sequence[bytes]], keys: Sequence[ec.EllipticCurvePublicKey], **asked: Any) -> bool:
    """Whether a verification finds something, or refuses to go on."""
    try:
        return not verified(files, keys, **asked).sound
    except Integrity:
        return True


@pytest.mark.parametrize("asked", [None, START])
@pytest.mark.parametrize("name", ANCHORS)
def test_an_anchor_that_was_changed_is_found_whatever_is_asked_for(
    heirs: Platform, name: str, asked: datetime | None
) -> None:
    lines = middle(heirs)
    assert len(json.loads(lines[0])["handovers"]) == 2
    assert verified([lines], heirs.keys).sound
    changed = [changed_text(lines[0], *ANCHORS[name]), *lines[1:]]
    assert changed != lines
    assert found([changed], heirs.keys, since=heirs.world.now if asked else None, until=asked)


@pytest.mark.parametrize("name", ANCHORS)
def test_an_anchor_of_a_later_file_that_was_changed_is_found(heirs: Platform, name: str) -> None:
    lines = middle(heirs)
    number = json.loads(lines[0])["number"]
    files = [heirs.export(upto=number), lines]
    assert verified(files, heirs.keys).sound
    assert found([files[0], [changed_text(lines[0], *ANCHORS[name]), *lines[1:]]], heirs.keys)


@pytest.mark.parametrize("name", NOTES)
def test_a_note_that_was_changed_is_found_wherever_it_stands(heirs: Platform, name: str) -> None:
    lines = middle(heirs)
    places = [at for at, line in enumerate(lines) if line.startswith(b'{"line":"checkpoint"')]
    handover = next(at for at in places if b"next-kid" in lines[at])
    for at in (places[0], handover, places[-1]):
        changed = [*lines[:at], changed_text(lines[at], "note", NOTES[name]), *lines[at + 1 :]]
        assert found([changed], heirs.keys)
    with pytest.raises(Integrity):
        verified([lines], heirs.keys, held=[NOTES[name](heirs.notes[-1])])


def test_each_signature_of_a_handover_counts_if_its_key_is_trusted(heirs: Platform) -> None:
    """Also where the other one would be enough: who has pinned both keys has asked for both."""
    lines = heirs.export()
    pinned = [key.public_key for key in heirs.world.signing_keys.values()]
    at = next(at for at, line in enumerate(lines) if b"next-kid" in line)
    assert verified([lines], pinned).sound
    for signer in range(2):

        def other(note: str, signer: int = signer) -> str:
            checkpoint = parse(note)
            keys = [pinned[0], from_der(checkpoint.statement.next_key)]
            signatures = [value for _, value in checkpoint.signatures]
            signatures[signer] = FORGER.sign(checkpoint.text, ec.ECDSA(SHA256()))
            return signed(checkpoint.statement, list(zip(keys, signatures, strict=True)))

        report = verified([[*lines[:at], changed_text(lines[at], "note", other), *lines[at + 1 :]]], pinned)
        ensure_named(report, {INTEGRITY: "sign"})


@pytest.mark.parametrize("behind", [0, 190])
def test_a_file_without_its_last_line_feed_was_cut_off(heirs: Platform, behind: int) -> None:
    lines = heirs.export(behind)
    for upto in (1, len(lines) - 1, len(lines)):
        cut = [*lines[: upto - 1], lines[upto - 1][:-1]]
        assert found([cut], heirs.keys)
    last = max(at for at, line in enumerate(lines) if is_record(line))
    whole = verified([lines[: last + 1]], heirs.keys)
    report = verified([[*lines[:last], lines[last][:-1]]], heirs.keys)
    ensure_named(report, {COMPLETENESS: "cut off", INTEGRITY: "under no checkpoint"})
    assert report.records == whole.records


def test_a_dropped_checkpoint_is_named_and_nothing_else_is_said_of_what_the_next_one_proves(victim: Platform) -> None:
    forgery = Forgery.of(victim.export())
    drop_checkpoints(forgery)
    report = verified([forgery.lines()], victim.keys)
    assert [(each.verdict, each.what) for each in report.findings] == [(COMPLETENESS, "checkpoints are missing")]
    records, at = place_of(forgery)
    records[at]["reason"] = "it never happened"
    report = verified([forgery.lines()], victim.keys)
    ensure_named(report, {COMPLETENESS: "checkpoints are missing", INTEGRITY: "altered"})
    report = verified([forgery.relinked()], victim.keys)
    ensure_named(report, {COMPLETENESS: "checkpoints are missing", INTEGRITY: "root of its streams"})


def test_records_behind_the_last_checkpoint_are_neither_proven_nor_the_whole_of_it(victim: Platform) -> None:
    lines = victim.export()
    last = max(at for at, line in enumerate(lines) if is_record(line))
    report = verified([lines[: last + 1]], victim.keys)
    ensure_named(
        report, {INTEGRITY: "under no checkpoint", COMPLETENESS: "without the checkpoint of their last records"}
    )


def relinked_behind(forgery: Forgery, seq: int) -> list[bytes]:
    """Put together with the hashes of the attacked stream behind that record computed anew, and every number kept."""
    prev = ""
    for record in (record for each in forgery.rounds for record in each.records if record["stream"] == STREAM):
        if record["seq"] > seq:
            record["prev"] = prev
        prev = leaf_hash(rfc8785.dumps(record)).hex()
    return forgery.lines()


def of_stream(forgery: Forgery, *numbers: int) -> list[dict[str, Any]]:
    """These records of the attacked stream."""
    records = [record for each in forgery.rounds for record in each.records]
    return [record for record in records if record["stream"] == STREAM and record["seq"] in numbers]


def without(forgery: Forgery, *numbers: int) -> Forgery:
    """Lacking these records of the attacked stream."""
    gone = of_stream(forgery, *numbers)
    for each in forgery.rounds:
        each.records = [record for record in each.records if record not in gone]
    return forgery


@pytest.mark.parametrize("missing", [[AT], [AT, AT + 1], [1], [1, 2, 3], [AT, AT + 4]])
@pytest.mark.parametrize("behind", [1, 2, 40])
def test_a_record_that_was_altered_behind_missing_ones_is_not_proven(
    victim: Platform, missing: list[int], behind: int
) -> None:
    """Its hash and all behind it computed anew: nothing but the signed roots can say so, and they need every record."""
    forgery = Forgery.of(victim.export())
    for record in of_stream(forgery, max(missing) + behind):
        record["reason"] = "it never happened"
    lines = relinked_behind(without(forgery, *missing), max(missing) + behind)
    report = verified([lines], victim.keys)
    ensure_named(report, {COMPLETENESS: "missing", INTEGRITY: ""})
    assert all(each.stream == STREAM for each in report.findings)


@pytest.mark.parametrize("cut", range(AT - 2, AT + 8))
def test_a_record_that_was_altered_before_its_stream_was_cut_off_is_not_proven(victim: Platform, cut: int) -> None:
    forgery = Forgery.of(victim.export())
    assert len(of_stream(forgery, *range(1, 100))) > AT + 8
    for record in of_stream(forgery, cut):
        record["reason"] = "it never happened"
    report = verified([relinked_behind(without(forgery, *range(cut + 1, 999)), cut)], victim.keys)
    assert not report.holds(COMPLETENESS)
    assert not report.holds(INTEGRITY)


@pytest.mark.parametrize("number", range(1, AT + 8))
def test_one_missing_record_is_known_by_its_hash_and_all_others_are_proven(victim: Platform, number: int) -> None:
    """Also the last one that a checkpoint signs, as soon as the next record of its stream names it."""
    report = verified([without(Forgery.of(victim.export()), number).lines()], victim.keys)
    assert report.holds(INTEGRITY)
    assert {(each.verdict, each.stream, each.seq, each.upto) for each in report.findings} == {
        (COMPLETENESS, STREAM, number, number)
    }


@pytest.mark.parametrize("prev", ["", "x" * 64, "AB" * 32, "ab" * 31, " " + "ab" * 32])
def test_what_is_no_hash_stands_for_no_missing_record(victim: Platform, prev: str) -> None:
    forgery = Forgery.of(victim.export())
    (behind,) = of_stream(forgery, AT + 1)
    behind["prev"] = prev
    report = verified([without(forgery, AT).lines()], victim.keys)
    ensure_named(report, {COMPLETENESS: "missing", INTEGRITY: "nothing proves"})


def test_behind_a_file_that_is_missing_every_record_is_proven_by_the_anchor(heirs: Platform) -> None:
    files = [heirs.export(upto=60), middle(heirs)]
    report = verified(files, heirs.keys)
    assert [(each.verdict, each.what) for each in report.findings] == [
        (COMPLETENESS, "checkpoints are missing between two files"),
        (COMPLETENESS, "no checkpoint was signed for longer than accepted"),
    ]
    at = next(at for at, line in enumerate(files[1]) if is_record(line))
    files[1][at] = changed_text(files[1][at], "reason", lambda _: "it never happened")
    assert not verified(files, heirs.keys).holds(INTEGRITY)
    files = [[*heirs.export(upto=60), heirs.export()[1]], middle(heirs)]
    ensure_named(verified(files, heirs.keys), {INTEGRITY: "there again"})


def test_what_is_missing_in_one_file_leaves_the_next_one_proven(heirs: Platform) -> None:
    lines = middle(heirs)
    number = json.loads(lines[0])["number"]
    records = [at for at, line in enumerate(heirs.export(upto=number)) if is_record(line)]
    first = [line for at, line in enumerate(heirs.export(upto=number)) if at not in records[:9]]
    report = verified([first, lines], heirs.keys)
    ensure_named(report, {COMPLETENESS: "missing", INTEGRITY: "nothing proves"})
    once = len(report.findings)
    at = next(at for at, line in enumerate(lines) if is_record(line))
    changed = [*lines[:at], changed_text(lines[at], "reason", lambda _: "it never happened"), *lines[at + 1 :]]
    assert len(verified([first, changed], heirs.keys).findings) > once


def test_what_one_file_leaves_unproven_no_later_file_proves(victim: Platform) -> None:
    """In the later one a single record is missing, so that the hash that the next names stands for it."""
    behind = next(number for number in range(61, 300) if victim.world.checkpoints[number].trees)
    files = [Forgery.of(victim.export(upto=behind)), Forgery.of(victim.export(behind))]
    records = [record["seq"] for each in files[0].rounds for record in each.records if record["stream"] == STREAM]
    last = max(records)
    for record in of_stream(files[0], last - 2):
        record["reason"] = "it never happened"
    later = without(files[1], last + 2).lines()
    report = verified([without(files[0], last - 1, last).lines(), later], victim.keys)
    ensure_named(report, {COMPLETENESS: "missing", INTEGRITY: "nothing proves"})
    assert verified([later], victim.keys).holds(INTEGRITY)


def test_records_of_two_streams_that_changed_places_are_named(victim: Platform) -> None:
    lines = victim.export()
    streams = [json.loads(line)["stream"] if is_record(line) else None for line in lines]
    at = next(n for n, (one, two) in enumerate(pairwise(streams)) if one != two and one and two)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    report = verified([lines], victim.keys)
    assert [(each.verdict, each.stream) for each in report.findings] == [(INTEGRITY, streams[at])]


def test_a_checkpoint_that_is_held_and_was_dropped_is_not_still_there(victim: Platform) -> None:
    """Whoever has the stolen key and has forked the trail before it would drop it, too."""
    forgery = Forgery.of(victim.export())
    drop_checkpoints(forgery)
    held = victim.notes[round_of(Forgery.of(victim.export()))]
    report = verified([forgery.lines()], victim.keys, held=[held])
    ensure_named(report, {COMPLETENESS: "checkpoints are missing", INTEGRITY: "lacks the checkpoint that is held"})


def stamped(lines: Sequence[bytes]) -> list[int]:
    """Where the lines have time-stamps."""
    return [at for at, line in enumerate(lines) if b'"stamped":' in line and b'"stamped":0' not in line]


def with_stamp(lines: Sequence[bytes], at: int, about: int, token: str) -> list[bytes]:
    """The lines with that time-stamp in one of them."""
    line = changed_text(changed_text(lines[at], "stamped", lambda _: about), "token", lambda _: token)
    return [*lines[:at], line, *lines[at + 1 :]]


def test_a_time_stamp_that_covers_nothing_is_named(heirs: Platform) -> None:
    lines = middle(heirs)
    assert verified([lines], heirs.keys, stamps=stamps(heirs)).sound
    at = stamped(lines)[-1]
    about, token = (json.loads(lines[at])[name] for name in ("stamped", "token"))
    number = json.loads(lines[0])["number"]
    for wrong in (about, 1, number - 1, about - 1):
        twice = with_stamp(lines, len(lines) - 1, wrong, token)
        ensure_named(verified([twice], heirs.keys, stamps=stamps(heirs)), {TIME: "time-stamp"})
    for wrong, junk in ((about, ""), (0, token), (about, "AB=="), (about, f"{token} "), (10**6, token), (-1, token)):
        assert found([with_stamp(lines, at, wrong, junk)], heirs.keys)


# What is read together


def whole_report(lines: Iterable[bytes], platform: Platform) -> tuple[Report, str]:
    """All that comes of the lines, and what they were broken off for."""
    why = ""
    with Verification(Expectations(platform.keys)) as verifying:
        try:
            verifying.feed(lines)
        except Integrity as error:
            why = error.message
        return verifying.conclude(), why


def cut_short(lines: Sequence[bytes]) -> Iterator[bytes]:
    """The lines, and then one that nobody can read."""
    yield from lines
    raise Integrity("a line is longer than any of an audit trail")


MISCHIEF: list[Callable[[bytes], list[bytes]]] = [
    lambda _: [],  # gone
    lambda line: [line, line],
    lambda line: [line[:-1]],
    lambda line: [line[:-1] + b"\r\n"],
    lambda line: [line.replace(b":", b": ", 1)],
    lambda line: [b" " + line],
    lambda line: [line + line],
    lambda line: [line, b"\n"],
    lambda line: [line[: len(line) // 2] + b"\n", line[len(line) // 2 :]],
    lambda line: [line.replace(b'"seq":', b'"seq":9')],
    lambda line: [line.replace(b'"stream":5', b'"stream":6')],
    lambda line: [line.replace(b'"prev":"', b'"prev":"0')],
    lambda line: [line.replace(b'"event":"', b'"event":"0')],
    lambda line: [line.replace(b'"schema":"a', b'"schema":"b')],
    lambda line: [line.replace(b'"time":"20', b'"time":"19')],
    lambda line: [line.replace(b'"time":"20', b'"time":"x')],
    lambda line: [line.replace(b'"reason":"', b'"reason":"\\u0041')],
    lambda line: [line.replace(b'"reason":"', b'"reason":"\xff')],
]


@given(st.lists(st.tuples(st.integers(1, 90), st.sampled_from(MISCHIEF)), max_size=4), st.none() | st.integers(1, 90))
def test_records_that_are_read_together_are_reported_as_if_one_by_one(
    busy: Platform, done: list[tuple[int, Callable[[bytes], list[bytes]]]], cut: int | None
) -> None:
    lines = busy.export()
    for at, mischief in sorted(done, key=lambda each: -each[0]):
        lines[at : at + 1] = mischief(lines[at])
    reports = []
    for octets in (1, 2_000, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(verification, "_BATCH_BYTES", octets)
            reports.append(whole_report(cut_short(lines[:cut]) if cut else lines, busy))
    assert reports[0] == reports[1] == reports[2]
    assert reports[0][1] or not cut
    assert reports[0][0].sound or done or cut


# What is large


def test_keys_of_strangers_are_counted_and_not_all_kept(victim: Platform) -> None:
    forgery = Forgery.of(victim.export())
    for number, each in enumerate(forgery.rounds):
        kid = Kid(f"https://mallory.vault.azure.net/keys/signing/{number:x}")
        statement = replace(parse(each.checkpoint.note).statement, kid=kid)
        each.checkpoint = Signed(statement.number, signed(statement, []) + NOTHING)
    with Verification(Expectations(victim.keys)) as verification:
        verification.feed(forgery.resigned(FORGER))
        assert verification.conclude().counts[INTEGRITY] == len(forgery.rounds)
        assert len(verification._strangers) == 100


def test_checkpoints_that_bear_one_time_do_not_pile_up() -> None:
    """Nor does what they cost: the stretch without a time-stamp is never summed up anew."""
    platform = Platform()
    streams, kid = no_records(), Kid(f"{VAULT_URL}/keys/{SIGNING_KEY}/{1:032x}")
    lines = [anchor_line(0, "", to_texts(streams), [])]
    for number in range(1, 2101):
        statement = Statement(
            "a", 0, streams_root(heads_of(streams)), number, platform.world.now, kid, handover=0, grown={}
        )
        signature = STOLEN.sign(statement.to_text().encode(), ec.ECDSA(SHA256()))
        lines.append(line_of(Signed(number, signed(statement, [(STOLEN.public_key(), signature)]))))
    with Verification(Expectations(platform.keys, stamps=Authority(platform).verified)) as verification:
        verification.feed(lines)
        report = verification.conclude()
        assert len(verification._unstamped) == 98
    assert report.counts == {TIME: 2}
    ensure_named(report, {TIME: "no time-stamp"})


def test_keys_that_have_handed_over_are_not_kept(heirs: Platform) -> None:
    held = heirs.notes[10]
    with Verification(Expectations(heirs.keys, [held])) as verification:
        verification.feed(heirs.export())
        assert verification.conclude().sound
        assert list(verification._trusted.values()) == [list(heirs.world.signing_keys.values())[-1].public_key]


# Whatever it is, the answer is a verdict or a refusal

STRANGE_VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 2**53 - 1, 2**53, 2**63, 2**64, 10**30, 1.5, 1e300, "", "x", "\0", "\u2028", "0" * 27),
    *([], {}, [[]], ["x"], "9" * 5000, "A" * 100_000, [""] * STREAMS, ["0/" + "00" * 32] * STREAMS, *STRANGE_TIMES),
]


@given(st.data())
def test_strange_values_end_in_a_verdict_or_a_refusal(heirs: Platform, data: st.DataObject) -> None:
    lines = data.draw(st.sampled_from([middle(heirs)[:9], heirs.export(upto=2)]))
    at = data.draw(st.sampled_from([0, *range(len(lines))]))
    fields = json.loads(lines[at])
    name = data.draw(st.sampled_from(list(fields)))
    value = data.draw(st.sampled_from(STRANGE_VALUES) | st.text(max_size=20) | st.integers())
    if isinstance(fields[name], list) and fields[name] and data.draw(st.booleans()):
        fields[name][data.draw(st.integers(0, len(fields[name]) - 1))] = value
    else:
        fields[name] = value
    changed = [*lines[:at], json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"]
    try:
        report = verified([[*changed, *lines[at + 1 :]]], heirs.keys, stamps=stamps(heirs))
    except AtpError:
        return
    assert isinstance(report, Report)
    str(report)
