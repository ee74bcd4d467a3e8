"""Whether a time-stamp holds: RFC 3161, checked with nothing but the bytes, the message and the roots that one trusts.

The signature, the chain of certificates and their validity at the stated time are left to rfc3161-client, which asks
the OpenSSL that it brings along. What it does not look at is checked here, on what cryptography's own DER parser reads:

- That the digest is SHA-256 of the message. It would take SHA-384 and SHA-512 too.
- Which certificate signed. The signer's name and number in a token are not signed; the hash of its certificate in the
  signed attributes is (RFC 3161 section 2.4.2, RFC 5816), and rfc3161-client never reads it.
- How strong it is. It accepts SHA-1, and keys and certificates of any strength.
- The fraction of the second, which it drops.

Left out on purpose: revocation, which cannot be known offline; the policy and the accuracy that a token states, which
are between the auditor and the authority; the nonce, which only the one who asked can check.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import Certificate, ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID
from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

from shared.errors import Integrity, Rejected

_GRANTED: Final = 0
_SHA256: Final = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
_HASHES: Final = {
    _SHA256: "sha256",
    ObjectIdentifier("2.16.840.1.101.3.4.2.2"): "sha384",
    ObjectIdentifier("2.16.840.1.101.3.4.2.3"): "sha512",
}
_SIGNING_CERTIFICATE: Final = ObjectIdentifier("1.2.840.113549.1.9.16.2.12")
_SIGNING_CERTIFICATE_V2: Final = ObjectIdentifier("1.2.840.113549.1.9.16.2.47")
_MIN_RSA_BITS: Final = 2048
_MIN_CURVE_BITS: Final = 256
_UNREADABLE: Final = (
    ValueError,
    TypeError,  # cryptography, at names whose parts are of odd types
    KeyError,  # at a hash of the signer's certificate that is none of `_HASHES`
    VerificationError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the parsers raise at bytes that they do not like."""


def verified(response: bytes, message: bytes, roots: Sequence[Certificate]) -> datetime:
    """The time at which an authority under one of the roots saw the message, in UTC; the message is not younger.

    `response` is a TimeStampResp in DER. Raises Integrity, saying what is wrong, if anything is.
    """
    if not roots:
        raise ValueError("there are no roots to trust")
    try:
        return _verified(response, message, roots)
    except _UNREADABLE as error:
        raise Integrity("time-stamp cannot be read", cause=type(error).__name__) from None


def roots_from_pem(pem: bytes) -> tuple[Certificate, ...]:
    """The root certificates in a PEM file, at least one. Rejected if it holds none, a broken one, or another kind."""
    try:
        found = tuple(dict.fromkeys(x509.load_pem_x509_certificates(pem)))
        strangers = [number for number, each in enumerate(found, 1) if each.issuer != each.subject]
    except _UNREADABLE:
        raise Rejected("not a file of root certificates in PEM") from None
    if strangers:
        # OpenSSL would never end a chain there, and every time-stamp would look forged.
        raise Rejected("not a root: somebody else has issued this certificate", number=strangers[0])
    return found


def _verified(response: bytes, message: bytes, roots: Sequence[Certificate]) -> datetime:
    # 1. Read it, strictly: DER, known fields, nothing behind the end.
    answer = asn1.decode_der(_Response, response)
    if answer.status.status != _GRANTED or answer.token is None:
        raise Integrity("time-stamp was refused by the authority", status=answer.status.status)
    signed = answer.token.content
    info = asn1.decode_der(_Info, signed.content.content)
    time = info.time.as_datetime().astimezone(UTC)
    # 2. It is about this message.
    if info.imprint.algorithm.oid != _SHA256 or info.imprint.digest != hashlib.sha256(message).digest():
        raise Integrity("time-stamp is about something else")
    # 3. One certificate is the signer's, and it is the one that the signed attributes name.
    certificates = signed.certificates.as_list() if signed.certificates else []
    signer = _signer(signed.signers.as_list(), certificates)
    # 4. It may sign time-stamps and nothing else, at that time, with algorithms that hold.
    _ensure_for_timestamps(signer)
    if not signer.not_valid_before_utc <= time <= signer.not_valid_after_utc:
        raise Integrity("certificate of the time-stamp authority was not valid at that time")
    if any(each.oid not in _HASHES for each in signed.digests.as_list()):  # OpenSSL takes the signer's from these
        raise Integrity("time-stamp is signed with a weak algorithm")
    _ensure_strong(signer, certificates)
    # 5. The signature is its own, and the chain leads to a root, every certificate valid at that time.
    if not any(_signed_under(root, response, message) for root in roots):
        raise Integrity("time-stamp is not signed under a root that is trusted")
    return time


def _signer(signers: "Sequence[_Signer]", certificates: Sequence[Certificate]) -> Certificate:
    """The signer's certificate. Only one may have its name and number: OpenSSL takes the first that it meets."""
    if len(signers) != 1:
        raise Integrity("time-stamp does not have exactly one signer")
    signer = signers[0]
    issuer = asn1.encode_der(signer.name.issuer)
    named = [
        each
        for each in certificates
        if each.serial_number == signer.name.serial and each.issuer.public_bytes() == issuer
    ]
    if len(named) != 1:
        raise Integrity("time-stamp does not hold exactly one certificate of its signer")
    encoded = asn1.encode_der(named[0])
    attributes = signer.attributes.as_list() if signer.attributes else []
    stated = [(each.oid, value) for each in attributes for value in each.values.as_list()]
    # RFC 5035 section 3: the first one that is listed is the signer's, the others are those of its chain.
    names = [
        value.parse(_SigningCertificateV2).certificates[0] for oid, value in stated if oid == _SIGNING_CERTIFICATE_V2
    ]
    old_names = [
        value.parse(_SigningCertificate).certificates[0] for oid, value in stated if oid == _SIGNING_CERTIFICATE
    ]
    digests = [
        each.digest == hashlib.new(_HASHES[each.algorithm.oid if each.algorithm else _SHA256], encoded).digest()
        for each in names
    ]
    # SHA-1 is what RFC 3161 knew; a second certificate with the same hash is still out of reach.
    digests += [each.digest == hashlib.sha1(encoded, usedforsecurity=False).digest() for each in old_names]
    if not digests or not all(digests):
        raise Integrity("time-stamp does not name the certificate that signed it")
    return named[0]


def _signed_under(root: Certificate, response: bytes, message: bytes) -> bool:
    """One root at a time: of two that bear the same name OpenSSL tries one, and which one would be left to chance."""
    try:
        return VerifierBuilder(roots=[root]).build().verify_message(decode_timestamp_response(response), message)
    except VerificationError:
        return False


def _ensure_for_timestamps(signer: Certificate) -> None:
    """RFC 3161 section 2.3: the extended key usage is there, critical, and time-stamping alone."""
    try:
        usage = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        usage = None
    if usage is None or not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise Integrity("certificate of the time-stamp authority is not one for time-stamps")


def _ensure_strong(signer: Certificate, certificates: Sequence[Certificate]) -> None:
    """No short key signs the token, and no weak hash any certificate in it; a root's own signature proves nothing."""
    match signer.public_key():
        case rsa.RSAPublicKey(key_size=bits):
            strong = bits >= _MIN_RSA_BITS
        case ec.EllipticCurvePublicKey(key_size=bits):
            strong = bits >= _MIN_CURVE_BITS
        case _:
            strong = False
    for each in certificates:
        algorithm = each.signature_hash_algorithm
        strong &= each.issuer == each.subject or (algorithm is not None and algorithm.name in _HASHES.values())
    if not strong:
        raise Integrity("time-stamp is signed with a weak algorithm")


# The formats, as far as they are looked into. A [0] EXPLICIT of anything looks like a [0] IMPLICIT SEQUENCE of it.


@asn1.sequence
class _Algorithm:
    oid: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _Imprint:
    algorithm: _Algorithm
    digest: bytes


@asn1.sequence
class _Info:
    """TSTInfo, RFC 3161 section 2.4.2."""

    version: int
    policy: ObjectIdentifier
    imprint: _Imprint
    serial: int
    time: asn1.GeneralizedTime
    accuracy: list[asn1.TLV] | None
    ordering: Annotated[bool, asn1.Default(value=False)]
    nonce: int | None
    authority: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    extensions: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class _IssuerSerial:
    issuer: list[asn1.TLV]
    serial: int


@asn1.sequence
class _CertificateId:
    """ESSCertID, RFC 5035 section 5.4.1.1."""

    digest: bytes
    issuer_serial: _IssuerSerial | None


@asn1.sequence
class _CertificateIdV2:
    """ESSCertIDv2, RFC 5035 section 4; without an algorithm it is SHA-256."""

    algorithm: _Algorithm | None
    digest: bytes
    issuer_serial: _IssuerSerial | None


@asn1.sequence
class _SigningCertificate:
    certificates: Annotated[list[_CertificateId], asn1.Size(min=1, max=None)]
    policies: list[asn1.TLV] | None


@asn1.sequence
class _SigningCertificateV2:
    certificates: Annotated[list[_CertificateIdV2], asn1.Size(min=1, max=None)]
    policies: list[asn1.TLV] | None


@asn1.sequence
class _Attribute:
    oid: ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class _SignerName:
    issuer: asn1.TLV
    serial: int


@asn1.sequence
class _Signer:
    """SignerInfo, RFC 5652 section 5.3."""

    version: int
    name: _SignerName
    digest: _Algorithm
    attributes: Annotated[asn1.SetOf[_Attribute] | None, asn1.Implicit(0)]
    algorithm: asn1.TLV
    signature: bytes
    unsigned: Annotated[asn1.SetOf[_Attribute] | None, asn1.Implicit(1)]


@asn1.sequence
class _Content:
    oid: ObjectIdentifier
    content: Annotated[bytes, asn1.Explicit(0)]


@asn1.sequence
class _SignedData:
    """RFC 5652 section 5.1."""

    version: int
    digests: asn1.SetOf[_Algorithm]
    content: _Content
    certificates: Annotated[asn1.SetOf[Certificate] | None, asn1.Implicit(0)]
    revoked: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    signers: asn1.SetOf[_Signer]


@asn1.sequence
class _Token:
    oid: ObjectIdentifier
    content: Annotated[_SignedData, asn1.Explicit(0)]


@asn1.sequence
class _Status:
    status: int
    text: list[asn1.TLV] | None
    failure: asn1.BitString | None


@asn1.sequence
class _Response:
    status: _Status
    token: _Token | None
