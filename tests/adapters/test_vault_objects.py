"""The contract of the port `VaultObjects`, and what only a real listing can show."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from azure.keyvault.certificates import CertificatePolicy, CertificatePolicyAction, LifetimeAction
from azure.keyvault.keys import KeyProperties, KeyRotationLifetimeAction, KeyRotationPolicy, KeyRotationPolicyAction

from local.stack import Stack
from shared.azure.vault_objects import AzureVaultObjects
from shared.errors import Rejected, Throttled, Transient
from shared.values import ObjectKind, RenewalPolicy, VaultObject
from tests.adapters.backends import AzureBackend, Backend

EXPIRES = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
DAY = timedelta(days=1)
RENEWED = (ObjectKind.KEY, ObjectKind.CERTIFICATE)


def listed(backend: Backend, kind: ObjectKind, name: str) -> VaultObject:
    (found,) = (each for each in backend.vault_objects.of(kind) if each.name == name)
    return found


def test_the_vaults_are_the_configured_ones_the_first_one_first(backend: Backend) -> None:
    assert tuple(backend.vault_objects.vaults) == backend.vaults


@pytest.mark.parametrize("kind", ObjectKind)
def test_an_object_is_listed_once_with_the_attributes_of_its_newest_version(backend: Backend, kind: ObjectKind) -> None:
    backend.new_object(kind, "thing")
    name = backend.new_object(kind, "thing", EXPIRES)
    found = listed(backend, kind, name)
    old, new = backend.vault_objects.versions(kind, name)
    assert old.created <= new.created
    assert (found.kind, found.vault, found.version) == (kind, backend.vaults[0], "")
    assert (found.enabled, found.tags, found.managed) == (True, {"made": "here"}, False)
    assert found.expires is not None
    assert found.expires == EXPIRES or kind is ObjectKind.CERTIFICATE
    assert {old.version, new.version} == {each.version for each in (old, new) if len(each.version) == 32}
    if old.created < new.created:  # the vault counts in seconds
        assert replace(new, version="") == found


@pytest.mark.parametrize("kind", [ObjectKind.KEY, ObjectKind.SECRET])
def test_what_belongs_to_a_certificate_says_so(backend: Backend, kind: ObjectKind) -> None:
    name = backend.new_object(ObjectKind.CERTIFICATE, "tls")
    assert listed(backend, kind, name).managed
    assert not listed(backend, ObjectKind.CERTIFICATE, name).managed


@pytest.mark.parametrize("kind", ObjectKind)
def test_one_vault_does_not_list_what_is_in_another(backend: Backend, kind: ObjectKind) -> None:
    name = backend.new_object(kind, "thing")
    assert name not in {each.name for each in backend.vault_objects.of(kind, backend.vaults[1])}
    assert backend.vault_objects.versions(kind, name, backend.vaults[1]) in ((), [])


@pytest.mark.parametrize("kind", ObjectKind)
def test_an_object_that_is_not_there_has_no_versions(backend: Backend, kind: ObjectKind) -> None:
    assert not backend.vault_objects.versions(kind, backend.key_name("nothing"))


def test_a_vault_that_is_not_configured_is_refused(backend: Backend) -> None:
    with pytest.raises(Rejected):
        list(backend.vault_objects.of(ObjectKind.KEY, "https://evil.example"))
    with pytest.raises(Rejected):
        backend.vault_objects.versions(ObjectKind.KEY, "thing", "https://evil.example")
    with pytest.raises(Rejected):
        backend.vault_objects.renewal(ObjectKind.KEY, "thing", "https://evil.example")
    with pytest.raises(Rejected):
        backend.vault_objects.set_renewal(ObjectKind.KEY, "thing", RenewalPolicy(), "https://evil.example")


@pytest.mark.parametrize(
    "policy",
    [
        RenewalPolicy(rotates_after=90 * DAY),
        RenewalPolicy(lifetime=130 * DAY, rotates_after=90 * DAY, notifies_before=30 * DAY),
        RenewalPolicy(lifetime=130 * DAY, rotates_before=40 * DAY),
        RenewalPolicy(notifies_before=7 * DAY),
        RenewalPolicy(),
    ],
)
def test_the_policy_of_a_key_is_kept(backend: Backend, policy: RenewalPolicy) -> None:
    name = backend.new_object(ObjectKind.KEY, "signing")
    assert backend.vault_objects.renewal(ObjectKind.KEY, name) == RenewalPolicy(notifies_before=30 * DAY)
    backend.vault_objects.set_renewal(ObjectKind.KEY, name, policy)
    assert backend.vault_objects.renewal(ObjectKind.KEY, name) == policy


def test_of_a_certificates_policy_only_the_day_of_renewal_changes(backend: Backend) -> None:
    name = backend.new_object(ObjectKind.CERTIFICATE, "tls")
    before = backend.vault_objects.renewal(ObjectKind.CERTIFICATE, name)
    assert before == RenewalPolicy(lifetime=366 * DAY, rotates_before=30 * DAY)
    backend.vault_objects.set_renewal(ObjectKind.CERTIFICATE, name, RenewalPolicy(rotates_before=276 * DAY))
    assert backend.vault_objects.renewal(ObjectKind.CERTIFICATE, name) == replace(before, rotates_before=276 * DAY)


def test_a_policy_that_the_vault_does_not_take_is_refused(backend: Backend) -> None:
    name = backend.new_object(ObjectKind.KEY, "signing")
    with pytest.raises(Rejected):
        backend.vault_objects.set_renewal(ObjectKind.KEY, name, RenewalPolicy(rotates_after=6 * DAY))
    assert backend.vault_objects.renewal(ObjectKind.KEY, name).rotates_after is None


@pytest.mark.parametrize("kind", RENEWED)
def test_what_is_not_there_has_no_policy(backend: Backend, kind: ObjectKind) -> None:
    name = backend.key_name("nothing")
    with pytest.raises(Rejected):
        backend.vault_objects.renewal(kind, name)
    with pytest.raises(Rejected):
        backend.vault_objects.set_renewal(kind, name, RenewalPolicy(rotates_before=30 * DAY))


def test_a_listing_of_many_pages_is_complete(azure: AzureBackend) -> None:
    made = {azure.new_object(ObjectKind.SECRET, f"many-{number}") for number in range(60)}
    assert made <= {each.name for each in azure.vault_objects.of(ObjectKind.SECRET)}


def test_a_disabled_secret_is_listed_as_such(azure: AzureBackend) -> None:
    name = azure.new_object(ObjectKind.SECRET, "thing")
    azure.clients[azure.vaults[0]].secrets.update_secret_properties(name, enabled=False)
    assert not listed(azure, ObjectKind.SECRET, name).enabled


def test_a_date_behind_all_dates_is_the_last_one(azure: AzureBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    name = azure.new_object(ObjectKind.KEY, "eternal")
    monkeypatch.setattr(KeyProperties, "expires_on", 253402300800)
    assert listed(azure, ObjectKind.KEY, name).expires == datetime.max.replace(tzinfo=UTC)


def test_years_and_months_count_as_long_as_they_can_be(azure: AzureBackend) -> None:
    name = azure.new_object(ObjectKind.KEY, "signing")
    actions = [
        KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_before_expiry="P1M"),
        KeyRotationLifetimeAction(KeyRotationPolicyAction.notify, time_before_expiry="P1M3D"),
    ]
    keys = azure.clients[azure.vaults[0]].keys
    keys.update_key_rotation_policy(name, KeyRotationPolicy(), lifetime_actions=actions, expires_in="P1Y2M")
    policy = azure.vault_objects.renewal(ObjectKind.KEY, name)
    assert policy == RenewalPolicy(428 * DAY, rotates_before=28 * DAY, notifies_before=31 * DAY)
    assert policy.longest == 400 * DAY


@pytest.mark.parametrize(
    ("action", "policy"),
    [
        (CertificatePolicyAction.auto_renew, RenewalPolicy(lifetime=366 * DAY, rotates_after=366 * DAY / 2)),
        (CertificatePolicyAction.email_contacts, RenewalPolicy(lifetime=366 * DAY, notifies_before=366 * DAY / 2)),
    ],
)
def test_a_share_of_a_certificates_life_is_read_as_days(
    azure: AzureBackend, action: CertificatePolicyAction, policy: RenewalPolicy
) -> None:
    name = azure.new_object(ObjectKind.CERTIFICATE, "tls")
    actions = [LifetimeAction(action, lifetime_percentage=50)]
    certificates = azure.clients[azure.vaults[0]].certificates
    certificates.update_certificate_policy(name, CertificatePolicy(lifetime_actions=actions))
    assert azure.vault_objects.renewal(ObjectKind.CERTIFICATE, name) == policy


def test_a_managed_hsm_is_asked_for_keys_only(azure: AzureBackend) -> None:
    objects = AzureVaultObjects({"https://atp.managedhsm.azure.net": azure.clients[azure.vaults[1]]})
    assert not list(objects.of(ObjectKind.SECRET))
    assert not list(objects.of(ObjectKind.CERTIFICATE))


@pytest.mark.parametrize(("status", "error"), [(403, Transient), (429, Throttled), (500, Transient)])
def test_a_vault_that_does_not_answer_is_no_empty_vault(
    azure: AzureBackend, stack: Stack, status: int, error: type[Exception]
) -> None:
    stack.vault.inject("GET /secrets", status=status, times=None)
    with pytest.raises(error):
        list(azure.vault_objects.of(ObjectKind.SECRET))
    with pytest.raises(error):
        azure.vault_objects.versions(ObjectKind.SECRET, "thing")
