"""Makes audit trails up, or verifies one: two processes of the benchmark `audit`.

`python -m bench.audit_worker make RECORDS` writes an export of that many records to standard output, its public key to
the file KEY. `... verify KEY` reads one from standard input and says what it took, as JSON.
"""

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from bench.made_up import peak_kib
from rotation.audit import STREAMS, event_id, parsed, stream_of, time_text
from rotation.bundle import Signed, anchor_line, line_of
from rotation.checkpoint import Statement, signed, streams_root
from rotation.streams import heads_of, no_records, to_texts
from rotation.verification import Expectations, Verification
from shared.values import Kid

PER_CHECKPOINT: Final = 1_000
"""Records of a busy minute; with fewer, the time goes into signatures."""
_TENANTS: Final = 1_000
_KID: Final = Kid(f"https://bench.vault.azure.net/keys/audit-signing/{'0' * 32}")
_WRAPPED_BY: Final = f"https://bench.vault.azure.net/keys/master-kek/{'1' * 32}"
_RECORD: Final = (
    '{{"action":"dek.rotate","actor":"planner","details":{{"check_value":"{check}","kid":"'
    + _WRAPPED_BY
    + '"}},"event":"{event}","job":"{job}","new_version":2,"old_version":1,"outcome":"succeeded","prev":"{prev}",'
    '"reason":"the rotation interval is over","schema":"atp-audit/1","seq":{seq},"stream":{stream},'
    '"subject":"dek/{tenant}","time":"{time}","trigger":"schedule"}}'
)


def make(records: int, key_file: Path) -> None:
    """Write an export; the public key first."""
    key = ec.derive_private_key(4711, ec.SECP256R1())
    key_file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    out = sys.stdout.buffer
    streams = no_records()
    out.write(anchor_line(0, "", to_texts(streams), ()))
    names = [f"tenant-{number:06d}" for number in range(_TENANTS)]
    by_stream = [(name, stream_of(f"dek/{name}")) for name in names]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for number, first in enumerate(range(0, records, PER_CHECKPOINT), 1):
        sizes = {stream: state.size for stream, state in streams.items()}
        lines: list[list[bytes]] = [[] for _ in range(STREAMS)]
        now += timedelta(minutes=1)
        moment = time_text(now)
        stream = 0
        for index in range(first, min(first + PER_CHECKPOINT, records)):
            tenant, stream = by_stream[index % _TENANTS]
            state = streams[stream]
            job = f"dek.rotate/{tenant}/r{index}"
            canonical = _RECORD.format(
                check=f"{index:064x}",
                event=event_id(job, "succeeded"),
                job=job,
                prev=state.prev,
                seq=state.size + 1,
                stream=stream,
                tenant=tenant,
                time=moment,
            ).encode()
            state.add(canonical)
            lines[stream].append(canonical)
        if number == 1 and parsed(lines[stream][-1]) is None:
            raise RuntimeError("the records that were made up are none")
        for each in lines:
            out.writelines(line + b"\n" for line in each)
        heads = heads_of(streams)
        grown = {stream: head for stream, head in heads.items() if head.size > sizes[stream]}
        size = sum(head.size for head in heads.values())
        statement = Statement("bench", size, streams_root(heads), number, now, _KID, 0, grown)
        signature = key.sign(statement.to_text().encode(), ec.ECDSA(hashes.SHA256()))
        out.write(line_of(Signed(number, signed(statement, [(key.public_key(), signature)]))))
    out.flush()


def verify(key_file: Path) -> None:
    """Verify the export on standard input, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    key = load_pem_public_key(key_file.read_bytes())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("not the key that was written")
    began, used = time.perf_counter(), time.process_time()
    with Verification(Expectations([key])) as verification:
        verification.feed(sys.stdin.buffer)
        report = verification.conclude()
    print(
        json.dumps(
            {
                "records": report.records,
                "sound": report.sound,
                "seconds": time.perf_counter() - began,
                "processor_seconds": time.process_time() - used,
                "peak_kib": peak_kib(),
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        verify(Path(sys.argv[2]))
