"""One secret of a vault without a network: its versions, as the engine publishes and revokes them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import override

from rotation.webhook_secrets import ReadableSecrets
from shared.errors import Rejected
from shared.secret import Secret
from shared.values import PREVIOUS_TAG, PREVIOUS_UNTIL_TAG, SLOT_TAG, SecretVersion
from tests.pure.keyrings import NOW


class Published(ReadableSecrets):
    """The secret `hook`; `failure`, where there is one, is what every call raises."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.calls = 0
        self._versions: list[SecretVersion] = []
        self._values: dict[str, Secret] = {}

    def put(self, value: Secret, tags: dict[str, str]) -> str:
        """A new version, the newest from now on."""
        version = f"{len(self._versions):032x}"
        self._versions.append(SecretVersion(version, enabled=True, created=NOW, expires=None, tags=tags))
        self._values[version] = value
        return version

    def publish(self, slot: str, value: Secret, until: datetime | None) -> str:
        """Give it to consumers; the one before is valid until then, or at once no more."""
        tags = {SLOT_TAG: slot}
        if until is not None and self._versions:
            tags |= {PREVIOUS_TAG: self._versions[-1].version, PREVIOUS_UNTIL_TAG: until.isoformat()}
        return self.put(value, tags)

    def end_dual_running(self) -> None:
        """Take the word of the version before off the newest one."""
        newest = self._versions[-1]
        tags = {name: value for name, value in newest.tags.items() if name not in (PREVIOUS_TAG, PREVIOUS_UNTIL_TAG)}
        self._versions[-1] = replace(newest, tags=tags)

    def disable(self, version: str) -> None:
        """Give it to nobody any more."""
        self._versions = [replace(each, enabled=False) if each.version == version else each for each in self._versions]

    def versions(self) -> Sequence[SecretVersion]:
        """All of them, oldest first."""
        self._call()
        return tuple(self._versions)

    def value_of(self, version: str) -> Secret:
        """The value of that version."""
        self._call()
        found = next((each for each in self._versions if each.version == version), None)
        if found is None or not found.enabled:
            raise Rejected("the vault does not give that version", version=version)
        return self._values[version]

    def stored(self, version: str) -> Secret:
        """The value of that version, though it be disabled."""
        return self._values[version]

    @override
    def newest(self, name: str, vault: str | None = None) -> SecretVersion | None:
        versions = self.versions()
        return versions[-1] if name == "hook" and versions else None

    @override
    def value(self, name: str, version: str, vault: str | None = None) -> Secret:
        assert name == "hook"
        return self.value_of(version)

    def _call(self) -> None:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
