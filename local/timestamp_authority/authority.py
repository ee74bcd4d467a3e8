"""Keys and certificates of a time-stamp authority, and its answer to one request. No I/O but for its state folder.

Source of the formats: RFC 3161 section 2.4, RFC 5816 (SigningCertificateV2), RFC 5652 section 5 (SignedData).
"""

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final, Self

from asn1crypto import algos, cms, tsp
from asn1crypto import x509 as asn1_x509
from asn1crypto.core import GeneralizedTime, Sequence
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

POLICY: Final = "1.3.6.1.4.1.32473.1"
"""Under the number that RFC 5612 sets aside for documentation: a promise of nothing."""
ROOTS: Final = "roots.pem"
_SIGNER: Final = "signer.pem"
# The clock of a local stack may be moved by years in either direction.
VALID: Final = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
TIME_STAMPING: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
_DIGEST_BYTES: Final = {"sha256": 32, "sha384": 48, "sha512": 64}


class _Response(Sequence):  # type: ignore[misc]  # asn1crypto has no types
    """TimeStampResp; asn1crypto's own cannot be without a token."""

    _fields: ClassVar = [("status", tsp.PKIStatusInfo), ("time_stamp_token", cms.ContentInfo, {"optional": True})]


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate authority: what it signs with, and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def root(cls, name: str = "Local time-stamp root", valid: tuple[datetime, datetime] = VALID) -> Self:
        """A new one, signed by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = _builder(subject, subject, key.public_key(), valid)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        return cls(key, builder.sign(key, hashes.SHA256()))

    def issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        *,
        name: str = "Local time-stamp authority",
        valid: tuple[datetime, datetime] = VALID,
        extended_key_usage: x509.ExtendedKeyUsage | None = TIME_STAMPING,
        critical: bool = True,
        ca: bool = False,
        serial: int | None = None,
    ) -> x509.Certificate:
        """A certificate; what is not said is as RFC 3161 section 2.3 wants it for an authority's key."""
        builder = _builder(_name(name), self.certificate.subject, public_key, valid, serial)
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=ca), critical=True)
        if extended_key_usage is not None:
            builder = builder.add_extension(extended_key_usage, critical=critical)
        return builder.sign(self.key, hashes.SHA256())


class Authority:
    """Signs time-stamps with one key; thread-safe."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, chain: tuple[x509.Certificate, ...]) -> None:
        self._key = key
        self._chain = chain

    @classmethod
    def new(cls, root: Issuer) -> Self:
        """An authority with a new key, under a root."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, (root.issue(key.public_key()),))

    @classmethod
    def kept(cls, state: Path) -> Self:
        """The authority of a state folder, made at the first call.

        The root's own key is never written down, so that nothing else can be issued under it. The signer's file comes
        last: dying before it is there makes the next start begin again.
        """
        signer = state / _SIGNER
        if not signer.exists():
            root = Issuer.root()
            new = ec.generate_private_key(ec.SECP256R1())
            _write(state / ROOTS, root.certificate.public_bytes(Encoding.PEM))
            secret = new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            _write(signer, secret + root.issue(new.public_key()).public_bytes(Encoding.PEM))
        pem = signer.read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{signer} holds a key that was not made here")
        return cls(key, tuple(x509.load_pem_x509_certificates(pem)))

    def reply(self, request: bytes, now: datetime) -> bytes:
        """The DER of the answer: a token, or a refusal that says what is wrong with the request."""
        try:
            asked = tsp.TimeStampReq.load(request, strict=True)
            imprint = asked["message_imprint"]
            algorithm, digest = imprint["hash_algorithm"]["algorithm"].native, imprint["hashed_message"].native
            nonce, with_chain = asked["nonce"].native, asked["cert_req"].native
            policy, extensions = asked["req_policy"].native, asked["extensions"].native
        except ValueError:
            return refusal("bad_data_format")
        if _DIGEST_BYTES.get(algorithm) != len(digest):
            return refusal("bad_alg")
        if policy not in (None, POLICY):
            return refusal("unaccepted_policy")
        if extensions:
            return refusal("unaccepted_extensions")
        return self.granted(digest, now, nonce=nonce, algorithm=algorithm, with_chain=with_chain)

    def granted(
        self,
        digest: bytes,
        now: datetime,
        *,
        nonce: int | None = None,
        algorithm: str = "sha256",
        with_chain: bool = True,
        names_signer: bool = True,
        signed_over: str = "sha256",
    ) -> bytes:
        """The DER of an answer with a token over that digest; the last two make tokens that nobody should accept."""
        info = tsp.TSTInfo(
            {
                "version": "v1",
                "policy": POLICY,
                "message_imprint": {"hash_algorithm": {"algorithm": algorithm}, "hashed_message": digest},
                "serial_number": int.from_bytes(os.urandom(16)),
                "gen_time": GeneralizedTime(now.astimezone(UTC)),
                "accuracy": {"seconds": 1},
                **({} if nonce is None else {"nonce": nonce}),
            }
        ).dump()
        signer = _in_asn1crypto(self._chain[0])
        attributes = [
            _attribute("content_type", "tst_info"),
            _attribute("message_digest", hashlib.new(signed_over, info).digest()),
        ]
        if names_signer:
            attributes.append(_attribute("signing_certificate_v2", _signing_certificate(signer)))
        signed = cms.CMSAttributes(attributes)
        hashing = {"sha256": hashes.SHA256(), "sha1": hashes.SHA1()}[signed_over]  # noqa: S303 - to be refused
        signer_info = cms.SignerInfo(
            {
                "version": "v1",
                "sid": cms.IssuerAndSerialNumber({"issuer": signer.issuer, "serial_number": signer.serial_number}),
                "digest_algorithm": {"algorithm": signed_over},
                "signed_attrs": signed,
                "signature_algorithm": {"algorithm": f"{signed_over}_ecdsa"},
                "signature": self._key.sign(signed.dump(), ec.ECDSA(hashing)),
            }
        )
        content: dict[str, object] = {
            "version": "v3",
            "digest_algorithms": [algos.DigestAlgorithm({"algorithm": signed_over})],
            "encap_content_info": {"content_type": "tst_info", "content": cms.ParsableOctetString(info)},
            "signer_infos": [signer_info],
        }
        if with_chain:
            content["certificates"] = [_in_asn1crypto(each) for each in self._chain]
        token = cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(content)})
        return _response({"status": {"status": "granted"}, "time_stamp_token": token})


def refusal(why: str, status: str = "rejection") -> bytes:
    """The DER of an answer without a token; `why` is a name of RFC 3161's PKIFailureInfo, as asn1crypto spells it."""
    return _response({"status": {"status": status, "status_string": ["not today"], "fail_info": {why}}})


def _response(fields: dict[str, object]) -> bytes:
    encoded: bytes = _Response(fields).dump()
    return encoded


def _in_asn1crypto(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))


def _attribute(kind: str, value: object) -> cms.CMSAttribute:
    return cms.CMSAttribute({"type": kind, "values": [value]})


def _signing_certificate(signer: asn1_x509.Certificate) -> tsp.SigningCertificateV2:
    """RFC 5816 section 2.2.1: which certificate the signature is by. SHA-256 is the default, and so is not named."""
    return tsp.SigningCertificateV2({"certs": [{"cert_hash": hashlib.sha256(signer.dump()).digest()}]})


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    valid: tuple[datetime, datetime],
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(issuer, subject, key, serial or x509.random_serial_number(), *valid)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, readable by the owner only."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)
