"""Certificate policies: what the vault accepts as one, and the certificate that it signs by one.

Every certificate is self-signed; the lifetime actions are kept and answered, and nothing renews by itself here.
Source: https://learn.microsoft.com/rest/api/keyvault/certificates/create-certificate/create-certificate
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from local.key_vault import key_material
from local.key_vault.body import Body
from local.key_vault.errors import bad_parameter, invalid_property
from local.key_vault.rotation_policy import later
from local.key_vault.versions import KeyShape
from local.key_vault.wire import Json, JsonObject

_ACTIONS = ("AutoRenew", "EmailContacts")
_PEM = "application/x-pem-file"
_CONTENT_TYPES = ("application/x-pkcs12", _PEM)
_DAYS_PER_MONTH = 27  # days_before_expiry is at most so many for each month of validity
_VALID_BEFORE = timedelta(minutes=10)
_DEFAULT_ACTION: JsonObject = {"trigger": {"lifetime_percentage": 80}, "action": {"action_type": "EmailContacts"}}


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key, as they are kept."""

    cer: str
    """DER in base64."""
    key: str
    """As key_material keeps it."""
    bundle: str
    """Both, as the secret has them."""
    nbf: datetime
    exp: datetime


def checked(body: Body, now: int, previous: JsonObject | None) -> JsonObject:
    """The policy to keep, from a request and the policy that it changes. Raises a 400."""
    old = Body(previous or {})
    x509_props = _merged(old, body, "x509_props", {"validity_months": 12})
    months = Body(x509_props, "x509_props.").optional_int("validity_months") or 0
    if not 1 <= months <= 1200:
        raise invalid_property("x509_props.validity_months")
    _subject(Body(x509_props, "x509_props."))
    issuer = _merged(old, body, "issuer", {"name": "Self"})
    if issuer["name"] != "Self":
        raise bad_parameter("Issuers other than Self are not emulated")
    secret_props = _merged(old, body, "secret_props", {"contentType": _CONTENT_TYPES[0]})
    if secret_props["contentType"] not in _CONTENT_TYPES:
        raise invalid_property("secret_props.contentType")
    key_props = _merged(old, body, "key_props", {"exportable": True, "kty": "RSA", "reuse_key": False})
    key_material.requested_shape(Body(key_props, "key_props."))
    wanted = body.parts("lifetime_actions") or old.parts("lifetime_actions")
    actions: list[Json] = [_checked_action(action, months) for action in wanted]
    created = old.part("attributes").optional_int("created")
    return {
        "key_props": key_props,
        "secret_props": secret_props,
        "x509_props": x509_props,
        "issuer": issuer,
        "lifetime_actions": actions or [_DEFAULT_ACTION],
        "attributes": {"enabled": True, "created": now if created is None else created, "updated": now},
    }


def key_shape(policy: JsonObject) -> KeyShape:
    """What the key of a certificate of that policy is."""
    return key_material.requested_shape(Body(policy).part("key_props"))


def issue(policy: JsonObject, now: datetime) -> Issued:
    """Make a key and sign a certificate with it. Slow for RSA, and lets other threads run."""
    properties = Body(policy).part("x509_props")
    text = key_material.generate(key_shape(policy))
    key = key_material.load(text)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise invalid_property("key_props.kty")
    subject = _subject(properties)
    nbf = now.replace(microsecond=0) - _VALID_BEFORE
    exp = later(now.replace(microsecond=0), f"P{properties.optional_int('validity_months')}M")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(nbf)
        .not_valid_after(exp)
    )
    names = properties.part("sans").optional_texts("dns_names")
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    encoding, plain = serialization.Encoding, serialization.NoEncryption()
    if Body(policy).part("secret_props").text("contentType") == _PEM:
        bundle = text + certificate.public_bytes(encoding.PEM).decode()
    else:
        bundle = base64.b64encode(pkcs12.serialize_key_and_certificates(None, key, certificate, None, plain)).decode()
    return Issued(base64.b64encode(certificate.public_bytes(encoding.DER)).decode(), text, bundle, nbf, exp)


def _subject(properties: Body) -> x509.Name:
    try:
        return x509.Name.from_rfc4514_string(properties.optional_text("subject") or "")
    except ValueError:
        raise invalid_property(properties.path("subject")) from None


def _merged(old: Body, new: Body, name: str, defaults: Mapping[str, Json]) -> dict[str, Any]:
    """One part of a policy: what the request says, else what was there, else the default."""
    return {**defaults, **old.part(name).present(), **new.part(name).present()}


def _checked_action(action: Body, months: int) -> dict[str, Json]:
    kind = action.part("action").text("action_type")
    if kind not in _ACTIONS:
        raise invalid_property("lifetime_actions[].action.action_type")
    trigger = action.part("trigger")
    limits = {"lifetime_percentage": 99, "days_before_expiry": months * _DAYS_PER_MONTH}
    given = {name: value for name in limits if (value := trigger.optional_int(name)) is not None}
    if len(given) != 1 or not all(1 <= value <= limits[name] for name, value in given.items()):
        raise invalid_property("lifetime_actions[].trigger")
    return {"trigger": {**given}, "action": {"action_type": kind}}
