"""What a vault keeps: versions of keys, secrets and certificates, and when a version may be used."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from local.key_vault.body import Body
from local.key_vault.errors import forbidden, invalid_property

RECOVERABLE_DAYS = 90
_MAX_TAGS = 15


class Operation(StrEnum):
    """What a key can be asked to do, in the spelling of `key_ops` (RFC 7517 section 4.3)."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    SIGN = "sign"
    VERIFY = "verify"
    WRAP = "wrapKey"
    UNWRAP = "unwrapKey"


# What protects new data; the rest only opens or checks old data, which must stay possible for ever.
# Source: https://learn.microsoft.com/azure/key-vault/keys/about-keys-details#date-time-controlled-operations
_NEEDS_VALIDITY = {Operation.ENCRYPT, Operation.SIGN, Operation.WRAP}


class KeyType(StrEnum):
    """Key types, in the protocol's spelling."""

    RSA = "RSA"
    RSA_HSM = "RSA-HSM"
    EC = "EC"
    EC_HSM = "EC-HSM"
    OCT_HSM = "oct-HSM"  # a symmetric key; the real service has them in managed HSMs only

    @property
    def in_hsm(self) -> bool:
        """Whether the key is one of the HSM kinds, which weigh double in the quotas."""
        return self.value.endswith("-HSM")

    @property
    def family(self) -> str:
        """The type without regard to where the key lives: RSA, EC or oct."""
        return self.value.removesuffix("-HSM")


@dataclass(frozen=True, slots=True)
class KeyShape:
    """What a key is, apart from its value: rotation repeats it."""

    kty: KeyType
    size: int | None = None
    """Bits, of RSA and oct keys."""
    curve: str | None = None
    """Of EC keys."""


@dataclass(frozen=True, slots=True)
class Change:
    """The attributes and tags that a request names; None is as before, or the default of a new version."""

    enabled: bool | None
    nbf: int | None
    exp: int | None
    tags: Mapping[str, str] | None

    @classmethod
    def parse(cls, body: Body) -> "Change":
        """Read `attributes` and `tags` of a request."""
        attributes = body.part("attributes")
        tags = body.optional_text_map("tags")
        if tags is not None and (
            len(tags) > _MAX_TAGS or any(len(key) > 256 or len(value) > 256 for key, value in tags.items())
        ):
            raise invalid_property("tags")
        return cls(
            attributes.optional_bool("enabled"), attributes.optional_int("nbf"), attributes.optional_int("exp"), tags
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an object. Times are Unix seconds, as in the protocol."""

    id: str
    created: int
    updated: int
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    managed: bool = False
    """Whether it belongs to a certificate, which was made together with it."""

    def changed(self, change: Change, now: int) -> Self:
        """The same version with what `change` names."""
        return dataclasses.replace(
            self,
            updated=now,
            enabled=self.enabled if change.enabled is None else change.enabled,
            nbf=self.nbf if change.nbf is None else change.nbf,
            exp=self.exp if change.exp is None else change.exp,
            tags=self.tags if change.tags is None else change.tags,
        )

    def to_record(self) -> dict[str, Any]:
        """All fields as JSON values; `from_record` of the same class reads them."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion(Version):
    """One version of a key. `secret` is the key itself, as key_material writes it: in no repr, in no answer."""

    shape: KeyShape
    key_ops: tuple[str, ...]
    secret: str = field(repr=False)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Undo `to_record`."""
        shape = record.pop("shape")
        key_ops = tuple(record.pop("key_ops"))
        return cls(shape=KeyShape(KeyType(shape["kty"]), shape["size"], shape["curve"]), key_ops=key_ops, **record)

    def check_use(self, operation: Operation, now: int) -> None:
        """Raise a 403 unless this version may be used for `operation` at `now`."""
        if not self.enabled:
            raise forbidden(f"Operation {operation} is not allowed on a disabled key.", "KeyDisabled")
        if operation not in self.key_ops:
            raise forbidden(f"Operation {operation} is not permitted on this key.", "KeyOperationForbidden")
        if operation in _NEEDS_VALIDITY:
            if self.exp is not None and now >= self.exp:
                raise forbidden(f"Operation {operation} is not allowed on an expired key.", "KeyExpired")
            if self.nbf is not None and now < self.nbf:
                raise forbidden(f"Operation {operation} is not allowed on a key not yet valid.", "KeyNotYetValid")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersion(Version):
    """One version of a secret."""

    value: str = field(repr=False)
    content_type: str | None = None

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Undo `to_record`."""
        return cls(**record)

    def check_read(self) -> None:
        """Raise a 403 when disabled. Dates do not matter to reading: they inform."""
        if not self.enabled:
            raise forbidden("Operation get is not allowed on a disabled secret.", "SecretDisabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateVersion(Version):
    """One version of a certificate. Its private key is the key of the same name and version."""

    cer: str
    """X.509 in DER, in base64."""

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Undo `to_record`."""
        return cls(**record)
