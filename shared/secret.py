"""`Secret`: bytes that can be used but not shown."""

from typing import NoReturn

from shared.redact import KNOWN_SECRETS


class Secret:
    """Secret bytes (a DEK, a password) that do not print, format, serialise or pickle.

    `reveal()` is the only way to the value and easy to search for. Every secret is made known to the log masking, so
    that even a revealed value that ends up in a message is masked there.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)
        KNOWN_SECRETS.add(self._value)

    def reveal(self) -> bytes:
        """The value itself. Keep it in the narrowest scope; never store, log or send it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        """Secrets are not compared; compare their key check values."""
        return self is other

    __hash__ = object.__hash__

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")
