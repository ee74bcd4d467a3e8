"""The audit trail: recording it from many workers at once, and verifying it alone.

Recording, measured: events a second that 16 writers record, each behind the other, and the time that 99 of 100 take;
each writer has an `AuditTrail` of its own, as 16 processes have, on one store in memory that takes 10 ms for every call
and refuses what is taken. The subjects are random, so that the writers meet on the streams; each has written to every
stream before. Then the same with 64 events at a time, which share transactions. At the end every stream is verified: no
fork, nothing lost. Floors: what policy asks for.

Verifying, measured: records a second of `Verification`, on one core, over an export of a million records that was made
up by another process, with a checkpoint for every thousand; and the peak memory of that process over ten million
against ten thousand. Floors: what policy asks for, and the same process with few records.

Proof: bytes on the way from a record to the checkpoint, for one of a million records. Floor: a kilobyte.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, override

import msgspec

from bench.result import Result
from rotation.audit import GENESIS, STREAMS, AuditEvent, Outcome, chained, verify_chain
from rotation.audit_job import AuditTrail
from rotation.merkle import leaf_hash
from rotation.proof import made
from rotation.streams import no_records
from shared.clock import system_clock
from shared.errors import Conflict
from shared.ports import Records
from shared.values import StoredRecord

_LATENCY_S: Final = 0.01
_WRITERS: Final = 16
_GROUP: Final = 64
_TENANTS: Final = 10_000
_LEAST_EVENTS: Final = 200
_LEAST_GROUPED: Final = 1_500
_MOST_MS: Final = 300
_LEAST_VERIFIED: Final = 150_000
_MOST_MEMORY: Final = 1.2
_KILOBYTE: Final = 1_000
_ROOT: Final = Path(__file__).parent.parent


def measure(quick: bool) -> Sequence[Result]:
    """Record, verify, prove."""
    return [*_recording(3 if quick else 9), *_verifying(quick=quick), _proof()]


class _SlowRecords(Records):
    """Streams in memory, each call of which takes its time, half of it before it has its effect."""

    def __init__(self) -> None:
        self.streams: dict[int, list[StoredRecord]] = {stream: [] for stream in range(STREAMS)}
        self._events: dict[tuple[int, str], int] = {}
        self._lock = threading.Lock()

    @override
    def read(self, stream: int, first_seq: int, limit: int) -> Sequence[StoredRecord]:
        time.sleep(_LATENCY_S / 2)
        found = self.streams[stream][first_seq - 1 : first_seq - 1 + limit]
        time.sleep(_LATENCY_S / 2)
        return found

    @override
    def find(self, stream: int, event_id: str) -> int | None:
        time.sleep(_LATENCY_S)
        return self._events.get((stream, event_id))

    @override
    def append(self, records: Sequence[StoredRecord]) -> None:
        time.sleep(_LATENCY_S / 2)
        with self._lock:
            stream = self.streams[records[0].stream]
            is_taken = records[0].seq != len(stream) + 1
            is_taken |= any((record.stream, record.event_id) in self._events for record in records)
            if not is_taken:
                stream.extend(records)
                self._events |= {(record.stream, record.event_id): record.seq for record in records}
        time.sleep(_LATENCY_S / 2)
        if is_taken:
            raise Conflict("taken")


def _recording(runs: int) -> Sequence[Result]:
    alone = [_recorded(calls=60, group=1) for _ in range(runs)]
    grouped = [_recorded(calls=6, group=_GROUP) for _ in range(runs)]
    rate, slowest = (statistics.median(values) for values in zip(*alone, strict=True))
    together = statistics.median(rate for rate, _ in grouped)
    return [
        _at_least(f"{_WRITERS} writers", rate, _LEAST_EVENTS, "events/s"),
        Result(
            "audit",
            f"{_WRITERS} writers, 99 of 100 take",
            f"{slowest * 1000:.0f} ms",
            f"{_MOST_MS} ms",
            slowest * 1000 / _MOST_MS,
            1,
            at_least=False,
        ),
        _at_least(f"{_WRITERS} writers, {_GROUP} events at a time", together, _LEAST_GROUPED, "events/s"),
    ]


def _recorded(calls: int, group: int) -> tuple[float, float]:
    """Events a second, and the seconds that 99 of 100 calls take at most. RuntimeError if events forked or are lost."""
    records = _SlowRecords()
    took: list[float] = []
    chance = random.Random(4711)
    plans = [
        [
            [_event(f"tenant-{chance.randrange(_TENANTS)}", f"w{writer}-{call}-{number}") for number in range(group)]
            for call in range(calls)
        ]
        for writer in range(_WRITERS)
    ]

    ready = threading.Barrier(_WRITERS + 1)

    def write(number: int, plan: Sequence[Sequence[AuditEvent]]) -> None:
        trail = AuditTrail(records, system_clock)
        trail.record(*_of_every_stream(f"start-{number}"))
        ready.wait()
        for events in plan:
            began = time.perf_counter()
            trail.record(*events)
            took.append(time.perf_counter() - began)

    writers = [threading.Thread(target=write, args=each) for each in enumerate(plans)]
    for writer in writers:
        writer.start()
    ready.wait()
    began = time.perf_counter()
    for writer in writers:
        writer.join()
    seconds = time.perf_counter() - began
    written = _WRITERS * (calls * group + STREAMS)
    if sum(verify_chain(stream)[0] for stream in records.streams.values()) != written:
        raise RuntimeError("events were lost")
    return _WRITERS * calls * group / seconds, statistics.quantiles(took, n=100)[-1]


def _of_every_stream(request: str) -> list[AuditEvent]:
    """An event for each stream, by which a writer learns where the streams end."""
    events = {event.stream: event for event in (_event(f"tenant-{number}", request) for number in range(_TENANTS))}
    return list(events.values())


def _event(tenant: str, request: str) -> AuditEvent:
    job = f"dek.rotate/{tenant}/{request}"
    return AuditEvent(job, Outcome.SUCCEEDED, "dek.rotate", f"dek/{tenant}", "planner", "schedule", "it was due")


def _verifying(*, quick: bool) -> Sequence[Result]:
    many = 100_000 if quick else 1_000_000
    huge = 100_000 if quick else 10_000_000
    with tempfile.TemporaryDirectory() as folder:
        key, export = Path(folder, "key.pem"), Path(folder, "trail.jsonl")
        with export.open("wb") as out:
            subprocess.run([*_WORKER, "make", str(many), str(key)], cwd=_ROOT, stdout=out, check=True)
        rates = []
        for _ in range(3 if quick else 5):
            with export.open("rb") as lines:
                rates.append(many / _verified(key, lines)["seconds"])
        little = _piped(key, 10_000)["peak_kib"]
        much = _piped(key, huge)["peak_kib"]
    return [
        _at_least("verified on one core", statistics.median(rates), _LEAST_VERIFIED, "records/s"),
        Result(
            "audit",
            f"peak memory, {huge:,} records to 10,000",
            f"{much / 1024:.1f} MiB",
            f"{little / 1024:.1f} MiB",
            much / little,
            _MOST_MEMORY,
            at_least=False,
        ),
    ]


_WORKER: Final = [sys.executable, "-m", "bench.audit_worker"]


def _piped(key: Path, records: int) -> dict[str, Any]:
    """Verify that many records as they are made."""
    with subprocess.Popen([*_WORKER, "make", str(records), str(key)], cwd=_ROOT, stdout=subprocess.PIPE) as maker:
        done = _verified(key, maker.stdout)
    if maker.returncode:
        raise RuntimeError("the records could not be made up")
    return done


def _verified(key: Path, lines: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a process reads from
    """What the verifying process says; RuntimeError if it found anything."""
    ended = subprocess.run([*_WORKER, "verify", str(key)], cwd=_ROOT, stdin=lines, stdout=subprocess.PIPE, check=True)
    done: dict[str, Any] = json.loads(ended.stdout)
    if not done["sound"]:
        raise RuntimeError("the export does not verify")
    return done


def _proof() -> Result:
    """Of a record in the midst of a stream with its part of a million records."""
    size = 1_000_000 // STREAMS
    (record,) = chained([_event("acme", "v1")], size // 3, GENESIS, system_clock())
    lines = [record.canonical if number == record.seq else str(number).encode() for number in range(1, size + 1)]
    streams = no_records()
    for line in lines:
        streams[record.stream].add(line)
    path = made(record.canonical, [leaf_hash(line) for line in lines], streams, "", ()).path
    octets = len(msgspec.json.encode(path))
    return Result(
        "audit",
        "proof of one of a million",
        f"{octets} bytes",
        f"{_KILOBYTE:,} bytes",
        octets / _KILOBYTE,
        1,
        at_least=False,
    )


def _at_least(what: str, rate: float, least: int, unit: str) -> Result:
    return Result("audit", what, f"{rate:,.0f} {unit}", f"{least:,} {unit}", rate / least, 1, at_least=True)
