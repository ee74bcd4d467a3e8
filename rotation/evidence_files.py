"""Reads the files of the evidence copy: their lines, and how far they go."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rotation.bundle import part_in
from shared.errors import Integrity
from shared.ports import Evidence
from shared.values import EvidenceFile

_CHUNK: Final = 1024 * 1024
_CHECKPOINT: Final = b'{"line":"checkpoint",'
_ANCHOR: Final = b'{"line":"anchor",'


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file goes."""

    file: EvidenceFile
    number: int  # the last checkpoint in it, or the one that it begins behind
    note: str  # of that one
    end: int  # where that one's line ends; behind it stands a part of the next one's lines, or nothing


def last_place(evidence: Evidence) -> Place | None:
    """How far the copy goes; None where it has not begun."""
    file = evidence.newest()
    return end_of(evidence, file) if file is not None else None


def end_of(evidence: Evidence, file: EvidenceFile) -> Place:
    """How far a file goes. One that its maker died over, without an anchor, goes as far as the one before.

    Integrity if it is no file of the copy.
    """
    if file.size == 0:
        earlier = [each for each in evidence.files() if each.name < file.name]
        before = end_of(evidence, earlier[-1]) if earlier else None
        return Place(file, before.number if before else 0, before.note if before else "", 0)
    end = file.size
    while end > 0:
        start = max(end - _CHUNK, 0)
        found = _last_mark(evidence, file, start, min(end + len(_CHECKPOINT), file.size))
        if found is not None:
            return found
        end = start
    raise Integrity("a file of the evidence copy has no anchor", file=file.name)


def lines_of(evidence: Evidence, file: EvidenceFile) -> Iterator[bytes]:
    """The whole lines of a file: the last one may still be being written."""
    left, start = b"", 0
    while part := evidence.read(file.name, start, _CHUNK):
        start += len(part)
        *whole, left = (left + part).split(b"\n")
        yield from (line + b"\n" for line in whole)


def _last_mark(evidence: Evidence, file: EvidenceFile, start: int, end: int) -> Place | None:
    """The last checkpoint or anchor whose line begins in that part of the file and is whole."""
    part = evidence.read(file.name, start, end - start)
    at = len(part)
    while (at := max(part.rfind(_CHECKPOINT, 0, at), part.rfind(_ANCHOR, 0, at))) >= 0:
        line = _line(evidence, file, start + at)
        if line.endswith(b"\n"):
            mark = part_in(line)
            return Place(file, mark.number, mark.note, start + at + len(line))
    return None


def _line(evidence: Evidence, file: EvidenceFile, start: int) -> bytes:
    """The line that begins there, with its line feed if it is whole."""
    line = b""
    while b"\n" not in line and (more := evidence.read(file.name, start + len(line), _CHUNK)):
        line += more
    return line[: line.find(b"\n") + 1] if b"\n" in line else line
