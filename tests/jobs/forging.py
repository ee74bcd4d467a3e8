"""What an attacker can do to an audit trail, at three levels of power.

As they are: changes the stored lines and nothing else. Relinked: computes every hash and number anew, so that the chain
of records holds; only signatures are out of reach. Resigned: has a signing key, too, and signs every checkpoint anew.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import rfc8785
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from rotation.bundle import Signed, is_record, line_of, part_in
from rotation.checkpoint import parse, signed, streams_root
from rotation.streams import heads_of, no_records

FORGER = ec.derive_private_key(4711, ec.SECP256R1())
"""A key of the attacker's own."""


@dataclass
class Round:
    """A checkpoint with the records that it signs."""

    records: list[dict[str, Any]]
    checkpoint: Signed


@dataclass
class Forgery:
    """A trail from its very beginning, taken apart."""

    anchor: bytes
    rounds: list[Round] = field(default_factory=list)

    @staticmethod
    def of(lines: Sequence[bytes]) -> "Forgery":
        """The lines, taken apart."""
        forgery = Forgery(lines[0])
        records: list[dict[str, Any]] = []
        for line in lines[1:]:
            if is_record(line):
                records.append(json.loads(line))
                continue
            part = part_in(line)
            assert isinstance(part, Signed)
            forgery.rounds.append(Round(records, part))
            records = []
        return forgery

    def lines(self) -> list[bytes]:
        """Put together again as it is."""
        lines = [self.anchor]
        for each in self.rounds:
            lines += [rfc8785.dumps(record) + b"\n" for record in each.records]
            lines.append(line_of(each.checkpoint))
        return lines

    def relinked(self) -> list[bytes]:
        """Put together with every number and hash computed anew."""
        self._relink(None)
        return self.lines()

    def resigned(self, key: ec.EllipticCurvePrivateKey) -> list[bytes]:
        """The same, with every checkpoint stated anew and signed."""
        self._relink(key)
        return self.lines()

    def _relink(self, key: ec.EllipticCurvePrivateKey | None) -> None:
        streams = no_records()
        for each in self.rounds:
            sizes = {stream: state.size for stream, state in streams.items()}
            for record in each.records:
                state = streams[int(record["stream"])]
                record |= {"seq": state.size + 1, "prev": state.prev}
                state.add(rfc8785.dumps(record))
            if key is not None:
                heads = heads_of(streams)
                statement = replace(
                    parse(each.checkpoint.note).statement,
                    size=sum(head.size for head in heads.values()),
                    root=streams_root(heads),
                    grown={stream: head for stream, head in heads.items() if head.size > sizes[stream]},
                    next_kid=None,
                    next_key=b"",
                    handover=0,
                )
                signature = key.sign(statement.to_text().encode(), ec.ECDSA(hashes.SHA256()))
                note = signed(statement, [(key.public_key(), signature)])
                each.checkpoint = Signed(statement.number, note, each.checkpoint.stamped, each.checkpoint.token)
