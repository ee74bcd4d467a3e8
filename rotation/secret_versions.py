"""The versions of one secret in the vault: what consumers read, and what is set aside until it is published.

Consumers read the newest version; its tag `atp-previous` names the one that works until `atp-previous-until`. A new
value waits in another secret, `<name>-pending`, because the newest version of a secret is read at once. A write cannot
be made conditional there, so each names in its tags what it was made for, and is looked for before it is made.

Nothing here enables a version. One that a person has disabled stays so until a person enables it: who needs its value
meanwhile is told `Disabled`.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from rotation.catalog import PENDING_SUFFIX, Entry
from rotation.message import MAX_GENERATION
from rotation.rotators.base import Credential, fingerprint
from shared.clock import Clock
from shared.errors import Disabled, Integrity, Rejected
from shared.ports import Secrets
from shared.secret import Secret
from shared.values import PREVIOUS_TAG, PREVIOUS_UNTIL_TAG, SLOT_TAG, SecretVersion

STATE_TAG: Final = "atp-state"
GENERATION_TAG: Final = "atp-generation"
RESTORES_TAG: Final = "atp-restores"
"""Of a version that was published again when the rotation of that generation was rolled back."""

EXPIRES_BEHIND_DUE: Final = timedelta(days=31)
"""How much later than it is due a version expires: Key Vault reports 30 days ahead, when it should be done already."""


class VersionState(StrEnum):
    """What a version is, as its tag says it."""

    PENDING = "pending"  # set aside, not published yet
    CURRENT = "current"
    PREVIOUS = "previous"  # works until the end of dual running
    RESTORED = "restored"  # a rollback has published its value again, as a newer version
    REVOKED = "revoked"  # works no more; disabled
    VOID = "void"  # no longer set aside; disabled


_GENERATION: Final = re.compile(r"[1-9][0-9]{0,6}")
_PUBLISHED: Final = (VersionState.CURRENT, VersionState.PREVIOUS, VersionState.RESTORED)


class Versions:
    """The versions of the secret of one catalog entry."""

    def __init__(self, secrets: Secrets, entry: Entry, clock: Clock) -> None:
        self._secrets = secrets
        self._entry = entry
        self._clock = clock
        self._name = entry.object
        self._aside = entry.object + PENDING_SUFFIX
        self._vault = entry.vault

    def newest(self) -> SecretVersion | None:
        """What consumers read, None if there is none. Disabled if a person has disabled it."""
        try:
            return self._secrets.newest(self._name, self._vault)
        except Rejected as error:
            versions = self._secrets.versions(self._name, self._vault)
            raise self._because(error, versions[-1] if versions else None) from error

    def all(self) -> Sequence[SecretVersion]:
        """Every version, oldest first; the last one is what consumers read, also of two made in one second.

        Where that is disabled and consumers read nothing, those of one second are in any order.
        """
        try:
            newest = self.newest()
        except Disabled:
            newest = None
        versions = self._secrets.versions(self._name, self._vault)
        last = [] if newest is None else [newest]
        return [each for each in versions if newest is None or each.version != newest.version] + last

    def newest_generation(self) -> int:
        """The highest generation that any version was made for, 0 if none was.

        A tag that says more than an order can is none of ours. One is not counted for which a value is still set aside:
        it goes on with that.
        """
        published = self._secrets.versions(self._name, self._vault)
        void = [each for each in self._secrets.versions(self._aside, self._vault) if not each.enabled]
        tags = [each.tags.get(GENERATION_TAG, "") for each in (*published, *void)]
        return max((int(tag) for tag in tags if _GENERATION.fullmatch(tag) and int(tag) < MAX_GENERATION), default=0)

    def before(self, version: SecretVersion) -> tuple[SecretVersion, datetime] | None:
        """The version that works beside a published one, and until when. None if it was revoked, or there is none."""
        named = self._found(version.tags.get(PREVIOUS_TAG, ""))
        if named is not None:
            try:
                said = datetime.strptime(version.tags.get(PREVIOUS_UNTIL_TAG, ""), "%Y-%m-%dT%H:%M:%S%z")
                until = said.astimezone(UTC)
            except (ValueError, OverflowError):
                raise Integrity("a tag of a secret is not a moment", name=self._name, version=version.version) from None
            return None if self.is_revoked(named.version) else (named, until)
        versions = self._secrets.versions(self._name, self._vault)[::-1]
        if version.tags.get(STATE_TAG) != VersionState.CURRENT:
            published = (each for each in versions if each.tags.get(STATE_TAG) == VersionState.CURRENT)
            twin = next((each for each in published if self.are_same(each.version, version.version)), None)
            return self.before(twin) if twin is not None else None  # its value was stored again by hand
        for each in versions:
            is_left = each.tags.get(STATE_TAG) == VersionState.PREVIOUS  # enabled, or disabled by a person
            if is_left and not self.are_same(each.version, version.version):
                return each, version.created  # its revocation was begun: it is named no more
        return None

    def value(self, version: str) -> Secret:
        """The value of that version. Disabled if a person has disabled it, Rejected if we have, or there is none."""
        try:
            return self._secrets.value(self._name, version, self._vault)
        except Rejected as error:
            raise self._because(error, self._found(version)) from error

    def are_same(self, version: str, other: str) -> bool:
        """Whether two versions are known to have the same value: what cannot be read may have any."""
        if version == other:
            return True
        try:
            return fingerprint(self.value(version)) == fingerprint(self.value(other))
        except Rejected:
            return False

    def value_aside(self, version: str) -> Secret:
        """The value of that version of what was set aside."""
        return self._secrets.value(self._aside, version, self._vault)

    def aside(self, generation: int) -> SecretVersion | None:
        """What is set aside for that rotation, None if nothing is: the newest, because obtaining voids the earlier."""
        found = [
            each
            for each in self._secrets.versions(self._aside, self._vault)
            if each.enabled and each.tags.get(GENERATION_TAG) == str(generation)
        ]
        return found[-1] if found else None

    def set_aside(self, generation: int, new: Credential) -> SecretVersion:
        """Keep a new value where no consumer looks."""
        tags = _tags(VersionState.PENDING, new.slot) | {GENERATION_TAG: str(generation)}
        return self._secrets.put(self._aside, new.value, tags, None, self._vault)

    def clear_aside(self, generation: int) -> None:
        """Nobody needs any more what is set aside for that rotation, or was for one before it."""
        for each in self._secrets.versions(self._aside, self._vault):
            tag = each.tags.get(GENERATION_TAG, "")
            is_later = _GENERATION.fullmatch(tag) is not None and generation < int(tag) < MAX_GENERATION
            if each.enabled and not is_later:
                self._change(self._aside, each, VersionState.VOID, enabled=False)

    def published(self, generation: int) -> SecretVersion | None:
        """The version that was published by that rotation; the first one, should there be several of the same value."""
        return self._tagged(GENERATION_TAG, generation)

    def publish(self, generation: int, new: Credential, previous: str, until: datetime) -> SecretVersion:
        """Give consumers the credential; `previous`, if it is not empty, works until then."""
        return self._put(new, {GENERATION_TAG: str(generation)}, previous, until)

    def restored(self, generation: int) -> SecretVersion | None:
        """The version that was published to undo that rotation."""
        return self._tagged(RESTORES_TAG, generation)

    def restore(self, generation: int, old: Credential, previous: str, until: datetime) -> SecretVersion:
        """Give consumers the credential from before that rotation again; `previous` works until then."""
        return self._put(old, {RESTORES_TAG: str(generation)}, previous, until)

    def mark_previous(self, version: str, current: str) -> None:
        """Tag a version as the one that is used no more and still works; it is the only one that has this tag then.

        Not one that was revoked meanwhile: it would look as if a person had disabled it, and be waited for.
        """
        for each in self._secrets.versions(self._name, self._vault):
            if each.version == version and (each.enabled or each.tags.get(STATE_TAG) != VersionState.REVOKED):
                self._change(self._name, each, VersionState.PREVIOUS, enabled=None)
            elif each.tags.get(STATE_TAG) == VersionState.PREVIOUS and self.are_same(each.version, current):
                self._change(self._name, each, VersionState.RESTORED, enabled=None)

    def end_dual_running(self) -> None:
        """Take the name of the previous version off the newest one: who uses both by its tags uses one from now on."""
        newest = self.newest()
        if newest is not None and PREVIOUS_TAG in newest.tags:
            tags = {tag: text for tag, text in newest.tags.items() if tag not in (PREVIOUS_TAG, PREVIOUS_UNTIL_TAG)}
            self._secrets.change(self._name, newest.version, tags, enabled=None, vault=self._vault)

    def mark_revoked(self, version: str, current: str) -> None:
        """Tag a version as one that works no more, and disable it; whatever else is left of its rotation before it.

        Nothing newer than `current`: that is of another worker, whose rotation has come after ours.
        """
        versions = self._secrets.versions(self._name, self._vault)
        latest = next((each.created for each in versions if each.version == current), None)
        for each in sorted(versions, key=lambda each: each.version == version):
            is_earlier = latest is not None and each.created <= latest
            is_left = is_earlier and each.enabled and each.tags.get(STATE_TAG) in _PUBLISHED
            if each.version != current and (is_left or each.version == version):
                self._change(self._name, each, VersionState.REVOKED, enabled=False)

    def is_revoked(self, version: str) -> bool:
        """Whether we have revoked it, and said so. One that somebody else has disabled was not revoked."""
        found = self._found(version)
        return found is not None and not found.enabled and found.tags.get(STATE_TAG) == VersionState.REVOKED

    def _put(self, credential: Credential, made_for: dict[str, str], previous: str, until: datetime) -> SecretVersion:
        tags = _tags(VersionState.CURRENT, credential.slot) | made_for
        if previous:
            tags |= {PREVIOUS_TAG: previous, PREVIOUS_UNTIL_TAG: f"{until:%Y-%m-%dT%H:%M:%SZ}"}
        expires = self._entry.schedule.next_after(self._clock()) + EXPIRES_BEHIND_DUE
        return self._secrets.put(self._name, credential.value, tags, expires, self._vault)

    def _tagged(self, tag: str, generation: int) -> SecretVersion | None:
        versions = self._secrets.versions(self._name, self._vault)
        return next((each for each in versions if each.tags.get(tag) == str(generation)), None)

    def _found(self, version: str) -> SecretVersion | None:
        versions = self._secrets.versions(self._name, self._vault)
        return next((each for each in versions if each.version == version), None)

    def _because(self, error: Rejected, version: SecretVersion | None) -> Rejected:
        """The error, or Disabled if a person has disabled that version."""
        if version is None or version.enabled or version.tags.get(STATE_TAG) == VersionState.REVOKED:
            return error
        return Disabled("somebody has disabled a version of the secret", name=self._name, version=version.version)

    def _change(self, name: str, version: SecretVersion, state: VersionState, *, enabled: bool | None) -> None:
        tags = {**version.tags, STATE_TAG: state.value}
        self._secrets.change(name, version.version, tags, enabled=enabled, vault=self._vault)


def current_value(secrets: Secrets, name: str, vault: str | None = None) -> Secret:
    """The value that consumers of that secret read. Rejected if there is none."""
    newest = secrets.newest(name, vault)
    if newest is None:
        raise Rejected("there is no such secret in the vault", name=name)
    return secrets.value(name, newest.version, vault)


def _tags(state: VersionState, slot: str) -> dict[str, str]:
    return {STATE_TAG: state.value, SLOT_TAG: slot}
