"""What the vaults hold and by which policies they renew it, read page by page through the SDK, never with a value."""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, override

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.certificates import (
    CertificateClient,
    CertificatePolicy,
    CertificatePolicyAction,
    CertificateProperties,
    LifetimeAction,
)
from azure.keyvault.keys import (
    KeyClient,
    KeyProperties,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
)
from azure.keyvault.secrets import SecretClient, SecretProperties

from shared.azure.translate import date_of, translated
from shared.errors import Integrity, Rejected
from shared.ports import VaultObjects
from shared.values import ObjectKind, RenewalPolicy, VaultObject

# https://learn.microsoft.com/azure/key-vault/keys/how-to-configure-key-rotation#key-rotation-policy: ISO 8601 durations
_DURATION: Final = re.compile(r"P(?=\d)(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,5})D)?", re.ASCII)
_LONGEST: Final = (366, 31)  # days of a year and of a month
_SHORTEST: Final = (365, 28)
_ROTATE: Final = KeyRotationPolicyAction.rotate.value.lower()
_MANAGED_HSM: Final = ".managedhsm."

type _Properties = KeyProperties | SecretProperties | CertificateProperties


@dataclass(frozen=True, slots=True)
class VaultClients:
    """The SDK's clients for one vault."""

    keys: KeyClient
    secrets: SecretClient
    certificates: CertificateClient


class AzureVaultObjects(VaultObjects):
    """The port `VaultObjects` on Key Vaults and Managed HSMs, by their URLs without a slash, the default one first."""

    def __init__(self, clients: Mapping[str, VaultClients]) -> None:
        self._clients = dict(clients)

    @property
    @override
    def vaults(self) -> Sequence[str]:
        return tuple(self._clients)

    @override
    def of(self, kind: ObjectKind, vault: str | None = None) -> Iterator[VaultObject]:
        url, clients = self._located(vault)
        if _MANAGED_HSM in url and kind is not ObjectKind.KEY:
            return  # it holds keys only
        with translated("listing what a vault holds"):
            for properties in _newest(kind, clients):
                yield _described(kind, url, properties)

    @override
    def versions(self, kind: ObjectKind, name: str, vault: str | None = None) -> Sequence[VaultObject]:
        url, clients = self._located(vault)
        with translated("listing the versions of an object"):
            try:
                found = [_described(kind, url, properties) for properties in _versions(kind, name, clients)]
            except ResourceNotFoundError:
                return ()
        return sorted(found, key=lambda version: (version.created, version.version))

    @override
    def renewal(self, kind: ObjectKind, name: str, vault: str | None = None) -> RenewalPolicy:
        _, clients = self._located(vault)
        with _refusals("reading a policy", kind, name):
            if kind is ObjectKind.KEY:
                return _of_key(clients.keys.get_key_rotation_policy(name))
            return _of_certificate(_certificates(kind, clients).get_certificate_policy(name))

    @override
    def set_renewal(self, kind: ObjectKind, name: str, policy: RenewalPolicy, vault: str | None = None) -> None:
        _, clients = self._located(vault)
        with _refusals("writing a policy", kind, name):
            if kind is ObjectKind.KEY:
                clients.keys.update_key_rotation_policy(name, _for_key(policy))
            else:
                _certificates(kind, clients).update_certificate_policy(name, _for_certificate(policy))

    def _located(self, vault: str | None) -> tuple[str, VaultClients]:
        url = vault or next(iter(self._clients))
        if url not in self._clients:
            raise Rejected("the vault is not one of the configured ones", vault=url)
        return url, self._clients[url]


@contextmanager
def _refusals(what: str, kind: ObjectKind, name: str) -> Generator[None]:
    """SDK errors as ours: Rejected where the vault has no such object or takes no such policy."""
    with translated(what):
        try:
            yield
        except ResourceNotFoundError as error:
            raise Rejected("there is no such object in the vault", kind=kind, name=name) from error
        except HttpResponseError as error:
            if error.status_code == 400:
                raise Rejected("the vault takes no such policy", kind=kind, name=name) from error
            raise


def _newest(kind: ObjectKind, clients: VaultClients) -> Iterable[_Properties]:
    match kind:
        case ObjectKind.KEY:
            return clients.keys.list_properties_of_keys()
        case ObjectKind.SECRET:
            return clients.secrets.list_properties_of_secrets()
        case ObjectKind.CERTIFICATE:
            return clients.certificates.list_properties_of_certificates()


def _versions(kind: ObjectKind, name: str, clients: VaultClients) -> Iterable[_Properties]:
    match kind:
        case ObjectKind.KEY:
            return clients.keys.list_properties_of_key_versions(name)
        case ObjectKind.SECRET:
            return clients.secrets.list_properties_of_secret_versions(name)
        case ObjectKind.CERTIFICATE:
            return clients.certificates.list_properties_of_certificate_versions(name)


def _certificates(kind: ObjectKind, clients: VaultClients) -> CertificateClient:
    if kind is not ObjectKind.CERTIFICATE:
        raise ValueError("only keys and certificates have policies")
    return clients.certificates


def _described(kind: ObjectKind, vault: str, properties: _Properties) -> VaultObject:
    name, created = properties.name, properties.created_on  # each look at a property decodes it anew
    if created is None or not name:
        raise Integrity("a vault lists an object without name or date", vault=vault, kind=kind)
    return VaultObject(
        kind=kind,
        vault=vault,
        name=name,
        enabled=properties.enabled is True,
        created=created,
        updated=properties.updated_on,
        not_before=date_of(properties.not_before),
        expires=date_of(properties.expires_on),
        tags=properties.tags or {},
        managed=not isinstance(properties, CertificateProperties) and properties.managed is True,
        version=properties.version or "",
    )


def _of_key(policy: KeyRotationPolicy) -> RenewalPolicy:
    rotates_after = rotates_before = notifies_before = None
    for action in policy.lifetime_actions:
        if str(getattr(action.action, "value", action.action)).lower() == _ROTATE:
            rotates_after = _parsed(action.time_after_create, _LONGEST)
            rotates_before = _parsed(action.time_before_expiry, _SHORTEST)
        else:
            notifies_before = _parsed(action.time_before_expiry, _SHORTEST)
    return RenewalPolicy(_parsed(policy.expires_in, _LONGEST), rotates_after, rotates_before, notifies_before)


def _for_key(policy: RenewalPolicy) -> KeyRotationPolicy:
    actions = []
    if policy.rotates_after is not None or policy.rotates_before is not None:
        after, before = _written(policy.rotates_after), _written(policy.rotates_before)
        rotate = KeyRotationPolicyAction.rotate
        actions.append(KeyRotationLifetimeAction(rotate, time_after_create=after, time_before_expiry=before))
    if policy.notifies_before is not None:
        notify, before = KeyRotationPolicyAction.notify, _written(policy.notifies_before)
        actions.append(KeyRotationLifetimeAction(notify, time_before_expiry=before))
    return KeyRotationPolicy(lifetime_actions=actions, expires_in=_written(policy.lifetime))


def _of_certificate(policy: CertificatePolicy) -> RenewalPolicy:
    years, months = divmod(policy.validity_in_months or 0, 12)
    lifetime = _parsed(f"P{years}Y{months}M", _LONGEST) if policy.validity_in_months else None
    rotates_after = rotates_before = notifies_before = None
    for action in policy.lifetime_actions or ():
        before = None if action.days_before_expiry is None else timedelta(days=action.days_before_expiry)
        after = None
        if lifetime is not None and action.lifetime_percentage is not None:
            after = lifetime * action.lifetime_percentage / 100
        if action.action is CertificatePolicyAction.auto_renew:
            rotates_after, rotates_before = after, before
        else:
            notifies_before = lifetime - after if lifetime is not None and after is not None else before
    return RenewalPolicy(lifetime, rotates_after, rotates_before, notifies_before)


def _for_certificate(policy: RenewalPolicy) -> CertificatePolicy:
    if policy.rotates_before is None:
        raise ValueError("a certificate renews some days before it expires")
    action = LifetimeAction(CertificatePolicyAction.auto_renew, days_before_expiry=policy.rotates_before.days)
    return CertificatePolicy(lifetime_actions=[action])


def _parsed(duration: str | None, days: tuple[int, int]) -> timedelta | None:
    """An ISO 8601 duration, its years and months as so many days; None where there is none, or a time of less."""
    matched = _DURATION.fullmatch(duration or "")
    if matched is None:
        return None
    years, months, rest = (int(part or 0) for part in matched.groups())
    return timedelta(days=years * days[0] + months * days[1] + rest)


def _written(duration: timedelta | None) -> str | None:
    return None if duration is None else f"P{duration.days}D"
