"""The messages on the job queues: JSON objects with a `schema`, parsed once, strictly.

Whatever does not follow its schema raises InvalidMessage with the reason and without quoting the message, which could
hold anything.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Final, Self

from rotation.audit import MAX_REASON
from shared.errors import AtpError, InvalidMessage, Rejected
from shared.redact import mask
from shared.redact.gate import fitting
from shared.values import SHARDS, KeyKind, KeyShape, Kid, TenantId, tenant_id

PLAN_SHARDS: Final = "plan-shards"
ROTATION_JOBS: Final = "rotation-jobs"
KEK_ORDERS: Final = "kek-orders"
REWRAP_BATCHES: Final = "rewrap-batches"
SECRET_JOBS: Final = "secret-jobs"  # noqa: S105 - the name of a queue
POISON_SUFFIX: Final = "-poison"  # as the Functions host names them

MAX_GENERATION: Final = 10**6
_MAX_BYTES: Final = 8 * 1024
_MAX_BECAUSE: Final = 400
_FREE_TEXT: Final = {"reason": MAX_REASON, "because": _MAX_BECAUSE}
_MAX_KEPT: Final = 16_000
"""Characters kept of a message that is not one of ours: what fits into a table row in any encoding."""
_MAX_WRITTEN: Final = 48_000  # of these characters, as JSON writes them: a queue takes 64 KiB
_REQUEST: Final = re.compile(r"[A-Za-z0-9._:+-]{1,80}")
_ACTOR: Final = re.compile(r"[A-Za-z0-9._:@/+-]{1,80}")
_KEY_NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")
_KID: Final = re.compile(r"https://[A-Za-z0-9.:-]{1,150}/keys/[A-Za-z0-9-]{1,127}/[0-9a-f]{32}")
_VAULT: Final = re.compile(r"https://[A-Za-z0-9.:-]{1,150}")
_MAX_DEADLINE_H: Final = 24 * 365
_SIZES: Final[Mapping[KeyKind, Sequence[int]]] = {
    KeyKind.RSA: (2048, 3072, 4096),
    KeyKind.RSA_HSM: (2048, 3072, 4096),
    KeyKind.OCT_HSM: (256,),
}
PLANNED: Final = re.compile(r"v[0-9]+")
"""The planner's name for the job that makes that version."""
_FAILURE: Final = re.compile(r"[A-Za-z]{1,40}")
_HALF: Final = re.compile("[\ud800-\udfff]")  # what JSON can escape and is no character
_DIGEST: Final = re.compile(r"[0-9a-f]{32}")


class Action(StrEnum):
    """What a rotation job does to one tenant."""

    ADD_TENANT = "tenant.add"  # first DEK included
    OFFBOARD_TENANT = "tenant.offboard"  # reads only from now on
    REINSTATE_TENANT = "tenant.reinstate"  # undoes an off-boarding, until the DEKs are destroyed
    DESTROY_TENANT = "tenant.destroy"  # crypto-shredding after the retention period
    ROTATE_DEK = "dek.rotate"  # new primary DEK
    RETIRE_DEK = "dek.retire"  # end of dual running


class Trigger(StrEnum):
    """What made a job start."""

    SCHEDULE = "schedule"  # the planner found it due
    MANUAL = "manual"  # an operator asked
    VAULT = "vault"  # the vault has said so: a new version, or one that is near its end


class KekAction(StrEnum):
    """What an order does to the rotation of a KEK."""

    ROTATE = "kek.rotate"  # begin one
    PAUSE = "kek.pause"
    RESUME = "kek.resume"  # go on after a pause, after a stop, or with a part that was rolled back
    ROLLBACK = "kek.rollback"  # all of it, one shard or one tenant


class SecretAction(StrEnum):
    """What an order does to the rotation of a secret."""

    ROTATE = "secret.rotate"  # begin one
    ROLLBACK = "secret.rollback"  # undo the newest one, as long as the credential before works
    CONFIRM = "secret.confirm"  # a person has revoked the credential before
    DRIVE = "secret.drive"  # bring the one under way as far as it gets


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivered:
    """What every message says of its own way through the queues."""

    attempt: int = 0  # how often it was put back because something did not answer
    failure: str | None = None  # name of the error that sent it to the poison queue
    because: str | None = None  # and its text
    resent: int = 0  # how often an operator has sent it again

    def again(self) -> Self:
        """The same message, one attempt later."""
        return replace(self, attempt=self.attempt + 1)

    def _body(self, schema: str, **fields: object) -> str:
        """The message body: these fields and its own, those without a value left out."""
        way = {"attempt": self.attempt, "failure": self.failure, "because": self.because, "resent": self.resent}
        named = {name: value for name, value in {"schema": schema, **fields, **way}.items() if value is not None}
        for name, longest in _FREE_TEXT.items():
            if name in named:
                # What a queue masks beyond the text itself would make another message of it.
                whole = partial(_with, named, name)
                named[name] = fitting(str(named[name]), whole, longest)
        return json.dumps(named)


def _with(fields: Mapping[str, object], name: str, value: object) -> str:
    return json.dumps({**fields, name: value})


@dataclass(frozen=True, slots=True)
class Job(_Delivered):
    """One asked-for change of one tenant's keys.

    Two messages with the same `id` are the same job, and only one of them has an effect.
    """

    action: Action
    tenant: TenantId
    request: str  # tells two asks for the same action apart
    trigger: Trigger
    actor: str
    reason: str
    target: int | None = None  # dek.rotate: the version to create; None: one more than there is

    SCHEMA = "rotation-job/1"

    @property
    def id(self) -> str:
        """Deterministic: the same for every delivery and every retry."""
        return f"{self.action}/{self.tenant}/{self.request}"

    def to_json(self) -> str:
        """The message body."""
        return self._body(
            self.SCHEMA,
            action=self.action,
            tenant=self.tenant,
            request=self.request,
            trigger=self.trigger,
            actor=self.actor,
            reason=self.reason,
            target=self.target,
        )

    @staticmethod
    def parse(body: bytes, message_id: str) -> "Job":
        """The job in a message body. A message without `request` is identified by its queue message id.

        By hand, `{"schema": "rotation-job/1", "action": "dek.rotate", "tenant": "acme", "reason": "..."}` is enough.
        """
        fields = _Fields(body, Job.SCHEMA)
        action = fields.one_of("action", Action)
        job = Job(
            action=action,
            tenant=fields.tenant("tenant"),
            request=fields.matching("request", _REQUEST, default=message_id),
            trigger=fields.one_of("trigger", Trigger, default=Trigger.MANUAL),
            actor=fields.matching("actor", _ACTOR, default="operator"),
            reason=mask(fields.text("reason", MAX_REASON))[:MAX_REASON],  # a mask can be longer than its secret
            target=fields.integer("target", 1, 2**32 - 1) if action is Action.ROTATE_DEK else None,
            **fields.way(),
        )
        fields.finish()
        if job.action is Action.ROTATE_DEK and PLANNED.fullmatch(job.request) and job.request != f"v{job.target}":
            # The planner's own name for another version: its job would be taken for done.
            raise InvalidMessage("a request may be named v and a number only if that is its target", field="request")
        return job


@dataclass(frozen=True, slots=True)
class ShardPlan(_Delivered):
    """Ask for the planning of one shard, from behind the tenant `after`."""

    shard: int
    after: TenantId | None = None

    SCHEMA = "plan-shard/1"

    @property
    def id(self) -> str:
        """The same for every delivery and every retry."""
        return f"plan/{self.shard}/{self.after or 'start'}"

    def to_json(self) -> str:
        """The message body."""
        return self._body(
            self.SCHEMA,
            shard=self.shard,
            after=self.after,
        )

    @staticmethod
    def parse(body: bytes, message_id: str) -> "ShardPlan":  # noqa: ARG004 - one signature for all messages
        """The plan in a message body."""
        fields = _Fields(body, ShardPlan.SCHEMA)
        shard = fields.integer("shard", 0, SHARDS - 1)
        if shard is None:
            raise InvalidMessage("a message has no shard")
        plan = ShardPlan(
            shard=shard,
            after=fields.tenant("after") if "after" in fields.left else None,
            **fields.way(),
        )
        fields.finish()
        return plan


@dataclass(frozen=True, slots=True)
class KekOrder(_Delivered):
    """One asked-for change of the rotation of a KEK."""

    action: KekAction
    kek: str  # name of the catalog entry
    request: str  # tells two asks for the same action apart
    trigger: Trigger
    actor: str
    reason: str
    kid: Kid | None = None  # kek.rotate: a version that exists already
    shape: KeyShape | None = None  # kek.rotate: what to make; None: like the old one
    vault: str | None = None  # kek.rotate: where to make it; None: where the old one is
    deadline_hours: int | None = None  # kek.rotate: refuse if the quota does not allow it in that time
    compromised: bool = False  # kek.rotate: the old version is in wrong hands
    shard: int | None = None  # kek.rollback, kek.resume: this part alone
    tenant: TenantId | None = None
    generation: int | None = None  # but for kek.rotate: the rotation that is meant; None: whichever there is

    SCHEMA = "kek-order/1"

    @property
    def id(self) -> str:
        """Deterministic: the same for every delivery and every retry."""
        return f"{self.action}/{self.kek}/{self.request}"

    def to_json(self) -> str:
        """The message body."""
        return self._body(
            self.SCHEMA,
            action=self.action,
            kek=self.kek,
            request=self.request,
            trigger=self.trigger,
            actor=self.actor,
            reason=self.reason,
            kid=self.kid,
            kind=self.shape.kind if self.shape else None,
            bits=self.shape.bits if self.shape else None,
            vault=self.vault,
            deadline_hours=self.deadline_hours,
            compromised=self.compromised or None,
            shard=self.shard,
            tenant=self.tenant,
            generation=self.generation,
        )

    @staticmethod
    def parse(body: bytes, message_id: str) -> "KekOrder":
        """The order in a message body. A message without `request` is identified by its queue message id.

        By hand, `{"schema": "kek-order/1", "action": "kek.pause", "kek": "master-kek", "reason": "..."}` is enough.
        """
        fields = _Fields(body, KekOrder.SCHEMA)
        action = fields.one_of("action", KekAction)
        rotates, has_part = action is KekAction.ROTATE, action in (KekAction.ROLLBACK, KekAction.RESUME)
        order = KekOrder(
            action=action,
            kek=fields.matching("kek", _KEY_NAME),
            request=fields.matching("request", _REQUEST, default=message_id),
            trigger=fields.one_of("trigger", Trigger, default=Trigger.MANUAL),
            actor=fields.matching("actor", _ACTOR, default="operator"),
            reason=mask(fields.text("reason", MAX_REASON))[:MAX_REASON],
            kid=Kid(fields.matching("kid", _KID)) if rotates and "kid" in fields.left else None,
            shape=_shape(fields) if rotates else None,
            vault=fields.matching("vault", _VAULT) if rotates and "vault" in fields.left else None,
            deadline_hours=fields.integer("deadline_hours", 1, _MAX_DEADLINE_H) if rotates else None,
            compromised=fields.flag("compromised") if rotates else False,
            shard=fields.integer("shard", 0, SHARDS - 1) if has_part else None,
            tenant=fields.tenant("tenant") if has_part and "tenant" in fields.left else None,
            generation=None if rotates else fields.integer("generation", 1, MAX_GENERATION),
            **fields.way(),
        )
        fields.finish()
        if order.kid and (order.shape or order.vault):
            raise InvalidMessage("a version that exists cannot be made: give kid, or kind, bits and vault", field="kid")
        if order.shard is not None and order.tenant is not None:
            raise InvalidMessage("a part is one shard or one tenant", field="tenant")
        return order


@dataclass(frozen=True, slots=True)
class RewrapBatch(_Delivered):
    """Ask for the next batch of one pass over one shard; where it stands is in the shard's checkpoint."""

    kek: str
    generation: int
    pass_number: int
    shard: int

    SCHEMA = "rewrap-batch/1"

    @property
    def id(self) -> str:
        """The same for every delivery and every retry."""
        return f"rewrap/{self.kek}/{self.generation}/{self.pass_number}/{self.shard}"

    def to_json(self) -> str:
        """The message body."""
        return self._body(
            self.SCHEMA,
            kek=self.kek,
            generation=self.generation,
            shard=self.shard,
            **{"pass": self.pass_number},
        )

    @staticmethod
    def parse(body: bytes, message_id: str) -> "RewrapBatch":  # noqa: ARG004 - one signature for all messages
        """The batch in a message body."""
        fields = _Fields(body, RewrapBatch.SCHEMA)
        kek = fields.matching("kek", _KEY_NAME)
        generation = fields.integer("generation", 1, MAX_GENERATION)
        pass_number = fields.integer("pass", 1, 10**6)
        shard = fields.integer("shard", 0, SHARDS - 1)
        if generation is None or pass_number is None or shard is None:
            raise InvalidMessage("a batch names its generation, pass and shard")
        batch = RewrapBatch(
            kek,
            generation,
            pass_number,
            shard,
            **fields.way(),
        )
        fields.finish()
        return batch


@dataclass(frozen=True, slots=True)
class SecretOrder(_Delivered):
    """Something ordered of the rotation of one secret.

    Two messages with the same `id` are the same order, and only one of them has an effect.
    """

    action: SecretAction
    secret: str  # name in the catalog
    request: str  # tells two orders of the same kind apart
    trigger: Trigger
    actor: str
    reason: str
    generation: int | None = None  # secret.rotate: the one to begin, None: one more than there is; else the one meant
    compromised: bool = False  # secret.rotate: the credential in use is in wrong hands, no dual running

    SCHEMA = "secret-order/1"

    @property
    def id(self) -> str:
        """Deterministic: the same for every delivery and every retry."""
        return f"{self.action}/{self.secret}/{self.request}"

    def to_json(self) -> str:
        """The message body."""
        return self._body(
            self.SCHEMA,
            action=self.action,
            entry=self.secret,
            request=self.request,
            trigger=self.trigger,
            actor=self.actor,
            reason=self.reason,
            generation=self.generation,
            compromised=self.compromised or None,
        )

    @staticmethod
    def parse(body: bytes, message_id: str) -> "SecretOrder":
        """The order in a message body. A message without `request` is identified by its queue message id.

        By hand, `{"schema": "secret-order/1", "action": "secret.rotate", "entry": "orders-database", "reason": "..."}`
        is enough; every other action also names the generation of the rotation that it means.
        """
        fields = _Fields(body, SecretOrder.SCHEMA)
        action = fields.one_of("action", SecretAction)
        rotates = action is SecretAction.ROTATE
        order = SecretOrder(
            action=action,
            secret=fields.matching("entry", _KEY_NAME),
            request=fields.matching("request", _REQUEST, default=message_id),
            trigger=fields.one_of("trigger", Trigger, default=Trigger.MANUAL),
            actor=fields.matching("actor", _ACTOR, default="operator"),
            reason=mask(fields.text("reason", MAX_REASON))[:MAX_REASON],
            generation=fields.integer("generation", 1 if rotates else 0, MAX_GENERATION),
            compromised=fields.flag("compromised") if rotates else False,
            **fields.way(),
        )
        fields.finish()
        if order.generation is None and not rotates:
            raise InvalidMessage("the order names no rotation", field="generation")
        return order


def _shape(fields: "_Fields") -> KeyShape | None:
    kind = fields.one_of("kind", KeyKind) if "kind" in fields.left else None
    bits = fields.integer("bits", 256, 4096)
    if kind is None and bits is None:
        return None
    if kind is None or bits is None or bits not in _SIZES[kind]:
        known = ", ".join(f"{each} {' '.join(map(str, sizes))}" for each, sizes in _SIZES.items())
        raise InvalidMessage("a new version is given by kind and bits that go together", field="bits", known=known)
    return KeyShape(kind, bits)


type Message = Job | ShardPlan | KekOrder | RewrapBatch | SecretOrder

PARSERS: Final[Mapping[str, Callable[[bytes, str], Message]]] = {
    PLAN_SHARDS: ShardPlan.parse,
    ROTATION_JOBS: Job.parse,
    KEK_ORDERS: KekOrder.parse,
    REWRAP_BATCHES: RewrapBatch.parse,
    SECRET_JOBS: SecretOrder.parse,
}
"""What each queue carries."""


def refused[M: Message](message: M, error: AtpError) -> M:
    """The message as it goes to the poison queue: with the error that it met, fit to be shown."""
    text = "".join(character if character.isprintable() else "?" for character in mask(str(error)))
    return replace(message, failure=type(error).__name__, because=text[:_MAX_BECAUSE].strip() or None)


@dataclass(frozen=True, slots=True)
class Misfit:
    """A message that is none of ours, as it goes to the poison queue: masked, and with what is wrong with it.

    Once a secret in it was masked, it may be something else that is wrong.
    """

    reason: str
    digest: str  # names it: of what is left when it is masked, so that nobody can try guesses of a secret with it
    text: str

    SCHEMA = "misfit/1"

    @classmethod
    def of(cls, body: bytes, error: InvalidMessage) -> Self:
        """Of a message that was refused. Decoded, because in base64 no shape of a secret can be seen."""
        read = decoded(body).decode(errors="replace")
        text = mask(read)
        digest = hashlib.sha256(body if text == read else text.encode(errors="replace")).hexdigest()[:32]
        return cls(mask(str(error)), digest, text[:_MAX_KEPT])

    @classmethod
    def parse(cls, body: bytes) -> Self | None:
        """What `to_json` has written; None for anything else."""
        try:
            found = json.loads(body.decode(), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or found.keys() != {"schema", "reason", "digest", "text"}:
            return None
        reason, digest, text = found["reason"], found["digest"], found["text"]
        if found["schema"] != cls.SCHEMA or not isinstance(reason, str) or not isinstance(text, str):
            return None
        if not reason.isprintable() or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            return None
        if _HALF.search(text):
            return None  # no table takes it
        return cls(mask(reason)[:_MAX_BECAUSE], digest, mask(text)[:_MAX_KEPT])

    def to_json(self) -> str:
        """The message body."""
        text = self.text
        while len(json.dumps(text)) > _MAX_WRITTEN:
            text = text[: len(text) * 3 // 4]
        named = {"schema": self.SCHEMA, "reason": self.reason, "digest": self.digest}
        return _with(named, "text", fitting(text, partial(_with, named, "text")))


def retry_delay(message: Message) -> timedelta:
    """How long a message waits when it is put back: 5 s doubling to 15 minutes by its attempts.

    Plus up to a quarter, by a hash, so that what failed together does not come back together.
    """
    fraction = hashlib.sha256(f"{message.id}/{message.attempt}".encode()).digest()[0] / 256
    return timedelta(seconds=min(5 * 2 ** min(message.attempt, 10), 900) * (1 + fraction / 4))


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """ValueError for a name that stands twice: two readers could take a different one."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("duplicate name")
    return fields


def decoded(body: bytes) -> bytes:
    """`body` without the base64 in which many tools put what is dropped on a queue."""
    if body.lstrip().startswith(b"{"):
        return body
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        return body


class _Fields:
    """Takes fields out of a message one by one and refuses what is left."""

    def __init__(self, body: bytes, schema: str) -> None:
        if len(body) > _MAX_BYTES:
            raise InvalidMessage("a message is too large", bytes=len(body), limit=_MAX_BYTES)
        try:
            parsed = json.loads(decoded(body).decode(), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError):
            raise InvalidMessage("a message is not JSON in UTF-8") from None
        if not isinstance(parsed, dict):
            raise InvalidMessage("a message is not a JSON object")
        self.left: dict[str, Any] = parsed
        if self.left.pop("schema", None) != schema:
            raise InvalidMessage("a message has no schema that this queue knows", expected=schema)

    def text(self, name: str, limit: int) -> str:
        value = self.left.pop(name, None)
        if not isinstance(value, str) or not value.strip() or len(value) > limit or not value.isprintable():
            raise InvalidMessage("a field must be printable text of limited length", field=name, limit=limit)
        return value

    def matching(self, name: str, grammar: re.Pattern[str], default: str | None = None) -> str:
        value = self.left.pop(name, default)
        if not isinstance(value, str) or not grammar.fullmatch(value):
            raise InvalidMessage("a field does not follow its grammar", field=name, grammar=grammar.pattern)
        if mask(value) != value:
            raise InvalidMessage("a field looks like a secret", field=name)
        return value

    def one_of[E: StrEnum](self, name: str, choices: type[E], default: E | None = None) -> E:
        value = self.left.pop(name, default)
        if not isinstance(value, str) or value not in set(choices):
            raise InvalidMessage("a field has an unknown value", field=name, known=", ".join(choices))
        return choices(value)

    def integer(self, name: str, least: int, most: int) -> int | None:
        value = self.left.pop(name, None)
        if value is not None and (type(value) is not int or not least <= value <= most):
            raise InvalidMessage("a field must be a whole number in its range", field=name, least=least, most=most)
        return value

    def way(self) -> dict[str, Any]:
        """The fields of `_Delivered`."""
        return {
            "attempt": self.integer("attempt", 0, 10**6) or 0,
            "failure": self.matching("failure", _FAILURE) if "failure" in self.left else None,
            "because": self.text("because", _MAX_BECAUSE) if "because" in self.left else None,
            "resent": self.integer("resent", 0, 10**6) or 0,
        }

    def flag(self, name: str) -> bool:
        value = self.left.pop(name, False)
        if not isinstance(value, bool):
            raise InvalidMessage("a field must be true or false", field=name)
        return value

    def tenant(self, name: str) -> TenantId:
        try:
            tenant = tenant_id(self.left.pop(name, None))
        except Rejected as error:
            raise InvalidMessage(error.message, field=name) from None
        if mask(tenant) != tenant:
            raise InvalidMessage("not a tenant id: it looks like a secret", field=name)
        return tenant

    def finish(self) -> None:
        if self.left:
            raise InvalidMessage("a message has unknown fields", count=len(self.left))
