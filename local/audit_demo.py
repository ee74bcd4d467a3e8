"""The last part of the demo: the platform's own audit trail, exported, and verified by somebody who has nothing of us.

1. wait until a checkpoint signs every record, with a time-stamp on an earlier one
2. pin the public key, hold a checkpoint, export the trail, prove one record of it
3. verify export, evidence copy and proof in processes that have no Azure package on their path, no settings, no network
4. change one byte of the export: it must not verify
5. compare the tables with the evidence copy
"""

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from local.progress import Steps, Unfinished
from local.stack import ROOT, Stack
from rotation.audit import STREAMS
from rotation.trail import Trail

_TIME_OUT_S: Final = 120
_NOT_THERE: Final = ("azure", "msal", "requests", "aiohttp")
"""Packages that the verifying processes do not have, by the beginnings of their names."""


@dataclass(slots=True)
class AuditReport:
    """What became of the audit trail."""

    records: int = 0  # verified from the export
    checkpoints: int = 0
    time_stamps: int = 0
    verified: bool = False  # all verdicts held
    evidence_verified: bool = False  # for the evidence copy likewise
    proven: bool = False  # one record, by its own proof
    proof_bytes: int = 0
    forgery_found: bool = False
    same: bool = False  # tables and evidence copy
    azure_packages: bool = True  # whether the verifying processes had any
    failures: list[str] = field(default_factory=list)

    def promises(self) -> dict[str, bool]:
        """Every promise of the audit trail, and whether it held."""
        return {
            "the audit trail was exported and verified offline, without Azure": self.verified
            and not self.azure_packages
            and self.records > 0 < self.time_stamps,
            "its evidence copy is the same, and verifies too": self.same and self.evidence_verified,
            "one record was proven by a file of its own": self.proven,
            "a changed byte was found": self.forgery_found,
        }

    def to_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        fields = asdict(self)
        del fields["failures"]
        return fields

    def rows_told(self) -> list[tuple[str, str]]:
        """The same for people."""
        what = f"{self.records} records under {self.checkpoints} checkpoints, {self.time_stamps} time-stamps"
        return [("verified offline", f"{what}; the proof of one record has {self.proof_bytes:,} bytes")]


def play(stack: Stack, report: AuditReport, show: Steps) -> None:
    """Export and verify."""
    trail = Trail(stack.adapters.records, stack.adapters.checkpoints)
    _have_everything_signed(stack, trail, show)
    demo = _Demo(stack, report)
    pinned, held, bundle, proof = (stack.folder / name for name in ("pin.pem", "held.note", "trail.jsonl", "one.proof"))
    pinned.write_text(demo.ours("audit", "key"))
    held.write_text(demo.ours("audit", "checkpoint"))
    demo.ours("audit", "export", str(bundle))
    records = demo.ours("audit", "list", "--tenant", "tenant-0000", "--outcome", "succeeded", "--json").splitlines()
    demo.ours("audit", "prove", json.loads(records[-1])["place"], str(proof))
    report.proof_bytes = proof.stat().st_size
    report.azure_packages = demo.theirs("-c", "import azure") == 0
    verify = ["-m", "rotation", "audit", "verify", "--key", str(pinned), "--held", str(held), "--json"]
    verify += ["--tsa-roots", str(stack.authority.roots)]
    verify += ["--max-gap", "999999"]  # minutes: the demo's clock jumps
    report.verified = demo.theirs(*verify, str(bundle)) == 0
    said = json.loads(demo.said)
    report.records, report.checkpoints = said["records"], said["checkpoints"]
    report.time_stamps = said["time_stamps"]
    report.failures += [str(finding) for finding in said["findings"]]
    report.evidence_verified = demo.theirs(*verify, *map(str, _copies(stack))) == 0
    report.proven = demo.theirs("-m", "rotation", "audit", "check", str(proof), "--key", str(pinned)) == 0
    _flip_a_byte(bundle)
    report.forgery_found = demo.theirs(*verify, str(bundle)) != 0
    report.same = "none" in demo.ours("audit", "compare")


def _have_everything_signed(stack: Stack, trail: Trail, show: Steps) -> None:
    """The timer signs each minute; the clock is moved, so that nobody waits for it."""
    stack.clock.move(timedelta(hours=1))

    def is_signed() -> int:
        stack.clock.move(timedelta(minutes=1))
        newest = trail.newest()
        if not newest or not any(stored.stamped for stored in trail.checkpoints(max(newest - 3, 0), newest)):
            return 0
        signed = trail.streams_at(newest)
        return int(not any(stack.adapters.records.read(s, signed[s].size + 1, 1) for s in range(STREAMS)))

    show.until("signing the audit trail", 1, is_signed)
    if stack.adapters.evidence is None:
        raise Unfinished("there is no evidence copy")


def _copies(stack: Stack) -> list[Path]:
    """The files of the evidence copy, fetched."""
    evidence = stack.adapters.evidence
    fetched = []
    for number, file in enumerate(evidence.files() if evidence else ()):
        path = stack.folder / f"evidence-{number}.jsonl"
        path.write_bytes(evidence.read(file.name, 0, file.size) if evidence else b"")
        fetched.append(path)
    return fetched


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class _Demo:
    """Runs commands as ours, with the settings of the stack, and as somebody else's."""

    def __init__(self, stack: Stack, report: AuditReport) -> None:
        self._stack = stack
        self._report = report
        self._elsewhere = _without_azure(stack.folder / "auditor")
        self.said = ""

    def ours(self, *arguments: str) -> str:
        """What one of our commands says; Unfinished if it fails."""
        command = [sys.executable, "-m", "rotation", "--settings", str(self._stack.settings_file), *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_TIME_OUT_S, check=False)
        if done.returncode:
            raise Unfinished(f"`{' '.join(arguments[:2])}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def theirs(self, *arguments: str) -> int:
        """How a command ends in a Python that has no site-packages but those linked, and no environment of ours."""
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(self._elsewhere)}
        command = [sys.executable, "-S", *arguments]
        done = subprocess.run(
            command,
            cwd=self._elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIME_OUT_S,
            check=False,
        )
        self.said = done.stdout
        return done.returncode


def _without_azure(folder: Path) -> Path:
    """A folder with our code, and every package installed here but those of Azure and of the network."""
    folder.mkdir()
    for package in ("rotation", "shared"):
        (folder / package).symlink_to(ROOT / package)
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(_NOT_THERE) and not path.name.startswith("__"):
            (folder / path.name).symlink_to(path)
    return folder
