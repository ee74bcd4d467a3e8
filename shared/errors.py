"""The errors of this app: each says whose fault it is and what to do next.

Messages are constant and the data is in fields, so that an error's class name can be a metric label and its text never
carries more than what was put there on purpose. Adapters translate SDK errors into these. `ValueError` and
`RuntimeError` stay what they are in Python: our own bugs.
"""

from shared.redact import mask


class AtpError(Exception):
    """Base of all. `fields` are identifiers (tenant, version, key id); key material never goes into them."""

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    def __str__(self) -> str:
        details = ", ".join(f"{name}={value}" for name, value in self.fields.items())
        return mask(f"{self.message} ({details})" if details else self.message)


class Transient(AtpError):
    """The outside world did not answer or said "not now". Try the same again later."""


class Throttled(Transient):
    """The service has had too many requests (HTTP 429); `retry_after` in the fields, in seconds, if it said so."""


class Conflict(AtpError):
    """Somebody else changed it first. Re-read, decide again; never repeat the write."""


class Rejected(AtpError):
    """The request cannot be granted as it stands, now or later. Its sender has to change it."""


class Integrity(AtpError):
    """What was read contradicts what must hold. Stop, touch nothing, page a person."""


class InvalidMessage(Rejected):
    """A queue message that does not follow its schema."""


class InvalidCatalog(Rejected):
    """The catalog file has mistakes; the text lists every one of them with its entry."""


class InvalidSettings(Rejected):
    """An app setting is missing or malformed; the text lists every one of them."""


class MissingPackage(Rejected):
    """An optional package is not installed; the text names it."""


class Waiting(AtpError):
    """A person has to do something first; the text says what. Nothing has failed."""


class Different(AtpError):
    """What was compared on request is not the same. Nothing has failed."""


class Disabled(Rejected):
    """A version of a secret that is needed was disabled by a person, and only a person enables it again."""


class UnusableKey(Rejected):
    """A Key Vault key version that must not be used for what was asked: disabled, outside nbf/exp, wrong operation."""


class UnknownTenant(Rejected):
    """No tenant of that name was ever added."""


class TenantOffboarded(Rejected):
    """The tenant was off-boarded: its data can still be read until its DEKs are destroyed, nothing new is written."""


class TenantDestroyed(Rejected):
    """The tenant's DEKs were destroyed after its retention period; its data is unreadable for ever, on purpose."""
