"""JSON objects of requests, read strictly: a wrong type is the client's error, never a crash of ours."""

import json

from local.key_vault.errors import bad_parameter, invalid_property
from local.key_vault.wire import Json, JsonObject, from_base64url


class Body:
    """One JSON object of a request; `where` is its place in the body, for error messages.

    A property that is null counts as absent, as the service has it. Every method raises a 400 on a wrong type.
    """

    def __init__(self, properties: JsonObject, where: str = "") -> None:
        self._properties = properties
        self._where = where

    @classmethod
    def parse(cls, text: str | bytes) -> "Body":
        """Read a request's body, which must be a JSON object."""
        try:
            properties = json.loads(text)
        except ValueError:
            raise bad_parameter("Request body is not valid JSON") from None
        if not isinstance(properties, dict):
            raise bad_parameter("Request body is not a JSON object")
        return cls(properties)

    def path(self, name: str) -> str:
        """Where in the body a property stands."""
        return self._where + name

    def optional_text(self, name: str) -> str | None:
        """A string, or None where it is absent."""
        value = self._properties.get(name)
        if value is None or isinstance(value, str):
            return value
        raise invalid_property(self.path(name))

    def text(self, name: str) -> str:
        """A string that must be there."""
        value = self.optional_text(name)
        if value is None:
            raise invalid_property(self.path(name))
        return value

    def octets(self, name: str) -> bytes:
        """Bytes in base64url that must be there."""
        text = self.text(name)
        try:
            return from_base64url(text)
        except ValueError:
            raise invalid_property(self.path(name)) from None

    def number(self, name: str) -> int:
        """A big-endian unsigned integer in base64url, as RFC 7518 section 2 writes the parts of keys."""
        return int.from_bytes(self.octets(name))

    def optional_int(self, name: str) -> int | None:
        """An integer, or None where it is absent."""
        value = self._properties.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise invalid_property(self.path(name))

    def optional_text_or_int(self, name: str) -> str | int | None:
        """A string or an integer, or None where it is absent."""
        value = self._properties.get(name)
        return value if isinstance(value, str) else self.optional_int(name)

    def optional_float(self, name: str) -> float | None:
        """A number, or None where it is absent."""
        value = self._properties.get(name)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise invalid_property(self.path(name))

    def optional_bool(self, name: str) -> bool | None:
        """A truth value, or None where it is absent."""
        value = self._properties.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise invalid_property(self.path(name))

    def optional_texts(self, name: str) -> tuple[str, ...] | None:
        """A list of strings, or None where it is absent."""
        value = self._properties.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise invalid_property(self.path(name))
        texts = tuple(item for item in value if isinstance(item, str))
        if len(texts) != len(value):
            raise invalid_property(self.path(name))
        return texts

    def optional_text_map(self, name: str) -> dict[str, str] | None:
        """An object whose values are all strings, or None where it is absent."""
        value = self._properties.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise invalid_property(self.path(name))
        texts = {key: item for key, item in value.items() if isinstance(item, str)}
        if len(texts) != len(value):
            raise invalid_property(self.path(name))
        return texts

    def present(self) -> dict[str, Json]:
        """All properties that are not null, unread."""
        return {name: value for name, value in self._properties.items() if value is not None}

    def part(self, name: str) -> "Body":
        """An object within; an empty one where it is absent."""
        value = self._properties.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise invalid_property(self.path(name))
        return Body(value, f"{self.path(name)}.")

    def parts(self, name: str) -> tuple["Body", ...]:
        """A list of objects; an empty one where it is absent."""
        value = self._properties.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise invalid_property(self.path(name))
        objects = tuple(Body(item, f"{self.path(name)}[].") for item in value if isinstance(item, dict))
        if len(objects) != len(value):
            raise invalid_property(self.path(name))
        return objects
