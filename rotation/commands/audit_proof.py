"""The commands `audit export`, `verify`, `prove`, `check`, `checkpoint`, `key`, `compare`: evidence, and checking it.

`verify` and `check` need no settings, no network and no Azure package: an auditor runs them years later, alone.
"""

import argparse
import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import Certificate
from rich.console import Console

from rotation import proof, timestamp
from rotation.audit import STREAMS, time_text
from rotation.bundle import is_anchor, is_record, lines_in
from rotation.checkpoint import parse
from rotation.commands.grammar import (
    Commands,
    add_command,
    add_json,
    add_offline,
    ensure_order,
    matching,
    moment,
    number,
)
from rotation.commands.ports import Ports
from rotation.commands.tables import Row, printable, rendered
from rotation.comparison import Difference, differences
from rotation.evidence_files import last_place
from rotation.trail import Trail
from rotation.verification import MAX_GAP, Expectations, Finding, Report, Verdict, Verification
from shared.errors import Integrity, Rejected
from shared.ports import Evidence
from shared.settings import Settings

_SHOW_EVERY: Final = 10_000  # lines
_MAX_BEHIND: Final = 10
"""Checkpoints that the evidence copy may lag behind: there is one a minute."""
_PLACE: Final = re.compile(r"(?P<stream>[0-9]{1,2})/(?P<seq>[1-9][0-9]{0,15})")
_SECOND: Final = timedelta(seconds=1)
_NOTE_EVERY: Final = timedelta(minutes=2)
"""Without a checkpoint for longer, the report says so: there is one a minute."""


def add_to(audit: Commands) -> None:
    """Put the commands into the command line."""
    export = add_command(
        audit,
        "export",
        "write the signed audit trail to a file that anybody can verify alone",
        _export,
        sample="audit export --from 2026-10-01 --to 2026-11-01 october.jsonl",
    )
    export.add_argument("--from", dest="since", type=moment, metavar="TIME", help="default: from the very beginning")
    export.add_argument("--to", dest="until", type=moment, metavar="TIME", help="default: as far as it is signed")
    export.add_argument("out", type=Path, metavar="OUT", help="the file; it must not exist")

    verify = add_offline(
        audit,
        "verify",
        "check an export, or files of the evidence copy, with nothing but the pinned key",
        _verify,
        sample="audit verify october.jsonl --key audit-signing.pem --held october-1.note",
    )
    verify.add_argument("bundle", nargs="+", type=Path, metavar="BUNDLE", help="several files in their order")
    _add_key(verify)
    verify.add_argument(
        "--held", action="append", default=[], type=Path, metavar="NOTE", help="a checkpoint received earlier"
    )
    verify.add_argument("--tsa-roots", type=Path, metavar="PEM", help="check time-stamps under these root certificates")
    verify.add_argument("--from", dest="since", type=moment, metavar="TIME", help="records must be there from then on")
    verify.add_argument("--to", dest="until", type=moment, metavar="TIME", help="records must be there up to then")
    verify.add_argument(
        "--origin",
        type=matching(r"[!-*,-~]{1,100}", "1 to 100 ASCII characters without blanks and plus signs"),
        metavar="NAME",
        help="it must be the trail of that name, as its checkpoints say",
    )
    minutes = MAX_GAP // timedelta(minutes=1)
    verify.add_argument(
        "--max-gap",
        type=number("a number of minutes", least=2),
        default=minutes,
        metavar="MINUTES",
        help=f"the longest time without a checkpoint that you accept; default: {minutes}",
    )
    add_json(verify, "one JSON object")

    purpose = "write the proof that one record is in the trail"
    prove = add_command(audit, "prove", purpose, _prove, sample="audit prove 3/1712 acme.proof")
    prove.add_argument("place", metavar="PLACE", help="stream and number, as `audit list` shows it")
    prove.add_argument("out", type=Path, metavar="OUT", help="the file; it must not exist")

    check = add_offline(
        audit,
        "check",
        "check the proof of one record with nothing but the pinned key",
        _check,
        sample="audit check acme.proof --key audit-signing.pem",
    )
    check.add_argument("proof", type=Path, metavar="PROOF", help="the file that `audit prove` has written")
    _add_key(check)
    add_json(check, "one JSON object")

    purpose = "the newest checkpoint: keep it, to hold the trail to it later"
    add_command(audit, "checkpoint", purpose, _checkpoint, sample="audit checkpoint > november-1.note")
    purpose = "the public key that signs checkpoints now, in PEM: pin it"
    add_command(audit, "key", purpose, _key, sample="audit key > audit-signing.pem")
    purpose = "compare the tables with the whole evidence copy"
    compare = add_command(audit, "compare", purpose, _compare, sample="audit compare --file 2026/11/21/0000.jsonl")
    compare.add_argument("--file", metavar="NAME", help="only with this file of it, as 2026/11/21/0000.jsonl")
    add_json(compare)


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key", action="append", required=True, type=Path, metavar="PEM", help="a public key that you trust"
    )


def _export(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    ensure_order(options.since, options.until, "--from must be before --to")
    trail = Trail(ports.records, ports.checkpoints)
    newest = _newest(trail)
    upto = newest
    if options.until is not None:
        upto = min(trail.number_at(options.until) + 1, newest)
    behind = trail.number_at(options.since) if options.since else 0
    if behind >= newest:
        ended = parse(trail.checkpoint(newest).note).statement.time
        raise Rejected("nothing is signed yet of that time", newest=f"{ended:%Y-%m-%d %H:%M} UTC")
    point = trail.point_before(behind)
    texts = [time_text(each) if each else "" for each in (options.since, options.until)]
    records = checkpoints = 0
    with _created(options.out) as file, _progress("exporting", "records") as show:
        file.write(trail.anchor(point, *texts))
        for line in trail.lines(point.sizes, point.number, upto):
            file.write(line)
            if is_record(line):
                records += 1
                show(records)
            else:
                checkpoints += 1
    ended = parse(trail.checkpoint(upto).note).statement.time
    under = _counted(records, checkpoints)
    yield f"exported {under}, signed up to {ended:%Y-%m-%d %H:%M} UTC"
    if options.until is not None and ended < options.until:
        yield f"nothing later is signed yet: it does not reach {options.until:%Y-%m-%d %H:%M} UTC"


def _verify(options: argparse.Namespace) -> Iterator[str]:
    ensure_order(options.since, options.until, "--from must be before --to")
    roots = _roots(options.tsa_roots) if options.tsa_roots else ()
    expected = Expectations(
        keys=[_pinned(path) for path in options.key],
        held=[_held(path) for path in options.held],
        stamps=partial(timestamp.verified, roots=roots) if roots else None,
        since=options.since,
        until=options.until,
        origin=options.origin,
        max_gap=timedelta(minutes=options.max_gap),
    )
    with Verification(expected) as verification, _progress("verifying", "lines") as show:
        for path in options.bundle:
            with _opened(path) as file:
                lines = _Lines(path, file, show)
                try:
                    verification.feed(lines)
                except Integrity as error:
                    _break_off(verification.report, f"{error}: {path}, line {lines.number}")
                    break
        report = verification.conclude()
    yield from (
        _in_json(report)
        if options.json
        else _told(report, with_stamps=bool(roots), bounded=bool(options.until or options.held))
    )
    if not report.sound:
        failed = ", ".join(verdict.value for verdict in Verdict if not report.holds(verdict))
        raise Integrity("not every verdict holds", failed=failed)


def _break_off(report: Report, why: str) -> None:
    """A line that nobody can read ends the verification: what comes behind it may say anything, or nothing."""
    report.note(Finding(Verdict.INTEGRITY, why, checkpoint=report.to_number))
    report.note(Finding(Verdict.COMPLETENESS, "what comes behind that line was not read", checkpoint=report.to_number))


class _Lines:
    """The lines of a file, counted. Rejected if they can be none of ours."""

    def __init__(self, path: Path, file: BinaryIO, show: Callable[[int], None]) -> None:
        self.number = 0
        self._path = path
        self._file = file
        self._show = show

    def __iter__(self) -> Iterator[bytes]:
        try:
            for line in lines_in(self._file):
                self.number += 1
                if self.number == 1 and not is_anchor(line):
                    is_gzip = line.startswith(b"\x1f\x8b")
                    what = "it is compressed: unpack it first" if is_gzip else "the first line is no anchor"
                    raise _no_trail(what, self._path)
                self._show(self.number)
                yield line
        except OSError as error:
            raise Rejected(f"cannot be read: {error.strerror}", file=self._path) from None
        except Integrity:
            if not self.number:
                raise _no_trail("the first line is too long", self._path) from None
            self.number += 1
            raise
        if not self.number:
            raise _no_trail("it is empty: fetch it again, or leave it out if it is the newest", self._path)


def _no_trail(why: str, path: Path) -> Rejected:
    return Rejected(f"not an export, nor a file of the evidence copy: {why}", file=path, line=1)


def _told(report: Report, *, with_stamps: bool, bounded: bool) -> Iterator[str]:
    began = f"{report.began:%Y-%m-%d %H:%M}" if report.began else "its beginning"
    ended = f"{report.ended:%Y-%m-%d %H:%M}" if report.ended else "no checkpoint"
    yield f"{_counted(report.records, report.checkpoints)} of {report.origin or 'no trail'}"
    yield f"from {began} to {ended} (UTC)"
    told = {
        Verdict.INTEGRITY: "every record is the one that was signed",
        Verdict.COMPLETENESS: "nothing is missing up to then",
        Verdict.TIME: f"records agree with their checkpoints, and {report.stamps:,} time-stamps with those"
        if with_stamps
        else "records agree with their checkpoints; time-stamps were not checked",
    }
    for verdict in Verdict:
        holds = report.holds(verdict)
        what = told[verdict] if holds else _plural(report.counts[verdict], "finding")
        if _is_unknown(report, verdict):
            yield f"{verdict.value:<12}  unknown  there is no checkpoint to hold anything to"
        else:
            yield f"{verdict.value:<12}  {'holds' if holds else 'FAILS'}  {what}"
    if report.handovers:
        yield f"{'note':<12}  the signing key has handed over {report.handovers} times"
    if not bounded:
        yield f"{'note':<12}  whether anything came later is not known: say --to, or give --held a later checkpoint"
    if report.longest_gap > _NOTE_EVERY:
        yield f"{'note':<12}  the longest time without a checkpoint was {report.longest_gap // _SECOND * _SECOND}"
    width = max((len(_place(finding)) for finding in report.findings), default=0)
    for finding in report.findings:
        yield f"{finding.verdict.value:<12}  {_place(finding):<{width}}  {printable(finding.what)}".rstrip()
    more = report.counts.total() - len(report.findings)
    if more:
        yield f"and {more:,} findings more"


def _counted(records: int, checkpoints: int) -> str:
    return f"{_plural(records, 'record')} under {_plural(checkpoints, 'checkpoint')}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _place(finding: Finding) -> str:
    parts = []
    if finding.seq is not None:
        upto = f"-{finding.upto}" if finding.upto not in (None, finding.seq) else ""
        parts.append(f"record {finding.stream}/{finding.seq}{upto}")
    if finding.checkpoint is not None:
        parts.append(f"checkpoint {finding.checkpoint}")
    return ", ".join(parts)


def _is_unknown(report: Report, verdict: Verdict) -> bool:
    """Whether nothing speaks against it and nothing for it."""
    return report.holds(verdict) and not report.checkpoints


def _in_json(report: Report) -> Iterator[str]:
    first = report.first_bad
    verdicts = {each.value: None if _is_unknown(report, each) else report.holds(each) for each in Verdict}
    yield json.dumps(
        {
            "sound": report.sound,
            "verdicts": verdicts,
            "origin": report.origin,
            "records": report.records,
            "checkpoints": report.checkpoints,
            "from_checkpoint": report.from_number,
            "to_checkpoint": report.to_number,
            "from": time_text(report.began) if report.began else None,
            "to": time_text(report.ended) if report.ended else None,
            "longest_gap_s": report.longest_gap.total_seconds(),
            "handovers": report.handovers,
            "time_stamps": report.stamps,
            "counts": {verdict.value: report.counts[verdict] for verdict in Verdict},
            "first_bad": {"stream": first.stream, "seq": first.seq} if first else None,
            "findings": [
                {
                    "verdict": finding.verdict.value,
                    "what": finding.what,
                    "stream": finding.stream,
                    "seq": finding.seq,
                    "upto": finding.upto,
                    "checkpoint": finding.checkpoint,
                }
                for finding in report.findings
            ],
        }
    )


def _prove(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    matched = _PLACE.fullmatch(options.place)
    if matched is None or int(matched["stream"]) >= STREAMS:
        raise Rejected("a place is a stream and a number, as `audit list` shows it: 3/1712", place=options.place)
    stream, seq = int(matched["stream"]), int(matched["seq"])
    if not ports.records.read(stream, seq, 1):
        raise Rejected("there is no record at that place; `audit list` shows places", place=options.place)
    trail = Trail(ports.records, ports.checkpoints)
    made = trail.proof(stream, seq)
    with _created(options.out) as file:
        file.write(proof.to_text(made).encode())
    signed = parse(made.checkpoint).statement.number
    yield f"record {options.place} is signed by checkpoint {signed}; the proof is in {options.out}"


def _check(options: argparse.Namespace) -> Iterator[str]:
    keys = [_pinned(path) for path in options.key]
    try:
        with _about(options.proof):
            record, checkpoint = proof.verified(proof.from_text(_content(options.proof)), keys)
    except Integrity as error:
        if options.json:
            yield json.dumps({"proven": False, "because": str(error)})
        raise
    statement = checkpoint.statement
    if options.json:
        signed = {"number": statement.number, "time": time_text(statement.time), "origin": statement.origin}
        yield json.dumps({"proven": True, "checkpoint": signed, "record": proof.fields(record)})
        return
    yield f"proven: the record is in the trail {statement.origin}, signed at {statement.time:%Y-%m-%d %H:%M:%S} UTC"
    for name, value in proof.fields(record).items():
        text = json.dumps(value) if isinstance(value, dict) else "" if value is None else str(value)
        yield f"{name:<12}  {printable(text)}".rstrip()


def _checkpoint(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    trail = Trail(ports.records, ports.checkpoints)
    yield trail.checkpoint(_newest(trail)).note.removesuffix("\n")


def _newest(trail: Trail) -> int:
    """Number of the last checkpoint. Rejected if there is none."""
    newest = trail.newest()
    if not newest:
        raise Rejected("nothing is signed yet: the first checkpoint comes within a minute")
    return newest


def _key(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    trail = Trail(ports.records, ports.checkpoints)
    newest = trail.newest()
    signing = ports.audit_signer.newest()
    if newest:
        last = parse(trail.checkpoint(newest).note).statement
        signing = ports.audit_signer.version(last.next_kid or last.kid)
    yield signing.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode().removesuffix("\n")


def _compare(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    if ports.evidence is None:
        raise Rejected("there is no evidence copy: set ATP_EVIDENCE_URL to the URL of its container")
    files = [file for file in ports.evidence.files() if options.file in (None, file.name)]
    if options.file is not None and not files:
        raise Rejected("the evidence copy has no such file; names are like 2026/11/21/0000.jsonl", file=options.file)
    trail = Trail(ports.records, ports.checkpoints)
    found = list(differences(ports.records, trail, ports.evidence, files))
    if options.file is None:
        found += _behind(trail, ports.evidence)
    if found or options.json:
        yield from _differences(found, as_json=options.json)
    if found:
        raise Integrity("audit trail and evidence copy differ", differences=len(found), files=len(files))
    if not options.json:
        yield f"files compared with the tables: {len(files)}; differences: none"


def _differences(found: Iterable[Difference], *, as_json: bool) -> Iterator[str]:
    rows: Iterator[Row] = (
        {
            "what": each.what,
            "file": each.file,
            "checkpoint": each.checkpoint or None,
            "stream": each.stream,
            "seq": each.seq,
            "upto": each.upto,
        }
        for each in found
    )
    return rendered(rows, as_json=as_json)


def _behind(trail: Trail, evidence: Evidence) -> Iterator[Difference]:
    """What the copy does not have yet, if that is more than it may lag."""
    end = last_place(evidence)
    number = end.number if end else 0
    if trail.newest() - number > _MAX_BEHIND:
        what = "the evidence copy is behind: it has no checkpoint from this one on"
        yield Difference(what, end.file.name if end else "", number + 1)


def _pinned(path: Path) -> EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(_content(path))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise Rejected("not a P-256 public key in PEM; `audit key` prints the one in use", file=path)
    return key


def _roots(path: Path) -> Sequence[Certificate]:
    with _about(path):
        return timestamp.roots_from_pem(_content(path))


def _held(path: Path) -> str:
    try:
        note = _content(path).decode().replace("\r\n", "\n")  # as some systems redirect it
        parse(note)
    except (UnicodeDecodeError, Integrity):
        raise Rejected("not a checkpoint; `audit checkpoint` prints the newest one", file=path) from None
    return note


def _content(path: Path) -> bytes:
    with _opened(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise Rejected(f"cannot be read: {error.strerror}", file=path) from None


@contextlib.contextmanager
def _about(path: Path) -> Iterator[None]:
    """Errors within name the file."""
    try:
        yield
    except (Rejected, Integrity) as error:
        raise type(error)(error.message, **error.fields | {"file": path}) from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise Rejected(f"cannot be read: {error.strerror}", file=path) from None
    with file:
        yield file


@contextlib.contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """A new file, written under another name until it is whole: whoever finds it under its own finds all of it."""
    _ensure_free(path)
    part = path.with_name(f"{path.name}.part")
    try:
        file = part.open("xb")
    except FileExistsError:
        raise Rejected("it is being written, or that was broken off: then delete this file", file=part) from None
    except OSError as error:
        raise Rejected(f"cannot be written: {error.strerror}", file=path) from None
    try:
        with file:
            yield file
        _ensure_free(path)
        part.rename(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise Rejected(f"cannot be written: {error.strerror}", file=path) from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _ensure_free(path: Path) -> None:
    if path.exists():
        raise Rejected("the file exists already; nothing was written", file=path)


@contextlib.contextmanager
def _progress(doing: str, what: str) -> Iterator[Callable[[int], None]]:
    """Tells how far a long work is, on a terminal and nowhere else."""
    with Console(stderr=True).status(f"{doing} ...") as status:

        def show(count: int) -> None:
            if count % _SHOW_EVERY == 0:
                status.update(f"{doing} ... {count:,} {what}")

        yield show
