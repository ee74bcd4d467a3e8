"""The commands `audit export`, `verify`, `prove`, `check`, `checkpoint`, `key`, `compare`: evidence, and checking it.

`verify` and `check` need no settings, no network and no Azure package: an auditor runs them years later, alone.
"""

import argparse
import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from rich.console import Console

from rotation import proof, timestamp
from rotation.audit import STREAMS, time_text
from rotation.checkpoint import parse
from rotation.commands.grammar import Commands, add_command, add_json, add_offline, moment
from rotation.commands.ports import Ports
from rotation.commands.tables import rendered
from rotation.comparison import differences
from rotation.trail import Trail
from rotation.verification import Expectations, Finding, Report, Verdict, Verification
from shared.errors import Integrity, Rejected
from shared.settings import Settings

_SHOW_EVERY: Final = 100_000  # records


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
    add_json(verify, "one JSON object")

    purpose = "write the proof that one record is in the trail"
    prove = add_command(audit, "prove", purpose, _prove, sample="audit prove 3/1712 acme.proof")
    prove.add_argument("place", help="stream and number, as `audit list` shows it")
    prove.add_argument("out", type=Path, metavar="OUT", help="the file; it must not exist")

    check = add_offline(
        audit,
        "check",
        "check the proof of one record with nothing but the pinned key",
        _check,
        sample="audit check acme.proof --key audit-signing.pem",
    )
    check.add_argument("proof", type=Path)
    _add_key(check)
    add_json(check, "one JSON object")

    add_command(audit, "checkpoint", "the newest checkpoint: keep it, to hold the trail to it later", _checkpoint)
    add_command(audit, "key", "the public key that signs checkpoints now, in PEM: pin it", _key)
    compare = add_command(audit, "compare", "compare the tables with the whole evidence copy", _compare)
    compare.add_argument("--file", help="only with this file of it, as 2026/11/21/0000.jsonl")
    add_json(compare)


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key", action="append", required=True, type=Path, metavar="PEM", help="a public key that you trust"
    )


def _export(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    trail = Trail(ports.records, ports.checkpoints)
    newest = trail.newest()
    if not newest:
        raise Rejected("nothing is signed yet: the first checkpoint comes within a minute")
    upto = newest
    if options.until is not None:
        upto = min(trail.number_at(options.until) + 1, newest)
    point = trail.point_before(trail.number_at(options.since) if options.since else 0)
    texts = [time_text(each) if each else "" for each in (options.since, options.until)]
    records = checkpoints = 0
    with _created(options.out) as file, Console(stderr=True).status("exporting ...") as status:
        file.write(trail.anchor(point, *texts))
        for line in trail.lines(point.sizes, point.number, upto):
            file.write(line)
            if line.startswith(b'{"action"'):
                records += 1
                if records % _SHOW_EVERY == 0:
                    status.update(f"exporting ... {records:,} records")
            else:
                checkpoints += 1
    ended = parse(trail.checkpoint(upto).note).statement.time
    yield f"exported {records:,} records under {checkpoints:,} checkpoints, signed up to {ended:%Y-%m-%d %H:%M} UTC"


def _verify(options: argparse.Namespace) -> Iterator[str]:
    roots = timestamp.roots_from_pem(_content(options.tsa_roots)) if options.tsa_roots else ()
    expected = Expectations(
        keys=[_pinned(path) for path in options.key],
        held=[_text(path) for path in options.held],
        stamps=partial(timestamp.verified, roots=roots) if roots else None,
        since=options.since,
        until=options.until,
    )
    with Verification(expected) as verification:
        for path in options.bundle:
            with _opened(path) as file:
                verification.feed(file)
        report = verification.conclude()
    yield from _in_json(report) if options.json else _told(report, with_stamps=bool(roots))
    if not report.sound:
        failed = ", ".join(verdict.value for verdict in Verdict if not report.holds(verdict))
        raise Integrity("the audit trail does not hold", failed=failed)


def _told(report: Report, *, with_stamps: bool) -> Iterator[str]:
    began = f"{report.began:%Y-%m-%d %H:%M}" if report.began else "its beginning"
    ended = f"{report.ended:%Y-%m-%d %H:%M}" if report.ended else "no checkpoint"
    yield f"{report.records:,} records under {report.checkpoints:,} checkpoints, from {began} to {ended} (UTC)"
    told = {
        Verdict.INTEGRITY: "every record is the one that was signed",
        Verdict.COMPLETENESS: "nothing is missing in between",
        Verdict.TIME: f"records agree with their checkpoints, and {report.stamps:,} time-stamps with those"
        if with_stamps
        else "records agree with their checkpoints; time-stamps were not checked",
    }
    for verdict in Verdict:
        holds = report.holds(verdict)
        what = told[verdict] if holds else f"{report.counts[verdict]:,} findings"
        yield f"{verdict.value:<12}  {'holds' if holds else 'FAILS'}  {what}"
    if report.longest_gap.total_seconds() > 120:
        yield f"{'note':<12}  the longest time without a checkpoint was {report.longest_gap}"
    for finding in report.findings:
        yield f"{finding.verdict.value:<12}  {_place(finding):<28}  {finding.what}"


def _place(finding: Finding) -> str:
    parts = []
    if finding.seq is not None:
        upto = f"-{finding.upto}" if finding.upto not in (None, finding.seq) else ""
        parts.append(f"record {finding.stream}/{finding.seq}{upto}")
    if finding.checkpoint is not None:
        parts.append(f"checkpoint {finding.checkpoint}")
    return ", ".join(parts)


def _in_json(report: Report) -> Iterator[str]:
    first = report.first_bad
    yield json.dumps(
        {
            "sound": report.sound,
            "verdicts": {verdict.value: report.holds(verdict) for verdict in Verdict},
            "records": report.records,
            "checkpoints": report.checkpoints,
            "from_checkpoint": report.from_number,
            "to_checkpoint": report.to_number,
            "from": time_text(report.began) if report.began else None,
            "to": time_text(report.ended) if report.ended else None,
            "longest_gap_s": report.longest_gap.total_seconds(),
            "handovers": report.handovers,
            "time_stamps": report.stamps,
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
    stream, _, seq = options.place.partition("/")
    if not (stream.isdecimal() and seq.isdecimal() and int(stream) < STREAMS and int(seq) >= 1):
        raise Rejected("a place is a stream and a number, as `audit list` shows it: 3/1712", place=options.place)
    trail = Trail(ports.records, ports.checkpoints)
    made = trail.proof(int(stream), int(seq))
    with _created(options.out) as file:
        file.write(proof.to_text(made).encode())
    number = parse(made.checkpoint).statement.number
    yield f"record {options.place} is signed by checkpoint {number}; the proof is in {options.out}"


def _check(options: argparse.Namespace) -> Iterator[str]:
    given, keys = proof.from_text(_content(options.proof)), [_pinned(path) for path in options.key]
    record, checkpoint = proof.verified(given, keys)
    statement = checkpoint.statement
    if options.json:
        signed = {"number": statement.number, "time": time_text(statement.time), "origin": statement.origin}
        yield json.dumps({"proven": True, "checkpoint": signed, "record": proof.fields(record)})
        return
    yield f"proven: the record is in the trail {statement.origin}, signed at {statement.time:%Y-%m-%d %H:%M:%S} UTC"
    for name, value in proof.fields(record).items():
        yield f"{name:<12}  {value}"


def _checkpoint(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    trail = Trail(ports.records, ports.checkpoints)
    newest = trail.newest()
    if not newest:
        raise Rejected("nothing is signed yet: the first checkpoint comes within a minute")
    yield trail.checkpoint(newest).note.removesuffix("\n")


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
        raise Rejected("there is no evidence copy: ATP_EVIDENCE_URL is not set")
    files = [file for file in ports.evidence.files() if options.file in (None, file.name)]
    if options.file and not files:
        raise Rejected("the evidence copy has no such file", file=options.file)
    trail = Trail(ports.records, ports.checkpoints)
    found = list(differences(ports.records, trail, ports.evidence, files))
    yield from rendered(
        (
            {
                "what": each.what,
                "file": each.file,
                "checkpoint": each.checkpoint,
                "stream": each.stream,
                "seq": each.seq,
            }
            for each in found
        ),
        as_json=options.json,
    )
    if found:
        raise Integrity("audit trail and evidence copy differ", differences=len(found), files=len(files))


def _pinned(path: Path) -> EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(_content(path))
    except ValueError:
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise Rejected("not a P-256 public key in PEM; `audit key` prints the one in use", file=path)
    return key


def _text(path: Path) -> str:
    try:
        return _content(path).decode()
    except UnicodeDecodeError:
        raise Rejected("not a checkpoint: not UTF-8", file=path) from None


def _content(path: Path) -> bytes:
    with _opened(path) as file:
        return file.read()


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
    """A new file, written under another name until it is whole."""
    if path.exists():
        raise Rejected("the file exists; nothing was written", file=path)
    part = path.with_name(f"{path.name}.part")
    try:
        file = part.open("xb")
    except OSError as error:
        raise Rejected(f"cannot be written: {error.strerror}", file=part) from None
    try:
        with file:
            yield file
        part.rename(path)
    except BaseException:
        part.unlink()
        raise
