"""Time-stamps: which are believed, and that nothing can be changed about one that is."""

import hashlib
import json
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import tsp
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import Certificate, ExtendedKeyUsage, load_der_x509_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given
from hypothesis import strategies as st
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from local.timestamp_authority.authority import Authority, Issuer, refusal
from rotation import timestamp
from rotation.timestamp import roots_from_pem, verified
from shared.errors import Integrity, Rejected
from tests.conftest import TALLY

MESSAGE = b"atp.example/audit\n42\nroot\n"
DIGEST = hashlib.sha256(MESSAGE).digest()
NOW = datetime(2026, 11, 21, 14, 39, 12, tzinfo=UTC)
YEAR = timedelta(days=365)
ROOT = Issuer.root()
ROOTS = (ROOT.certificate,)
AUTHORITY = Authority.new(ROOT)
TOKEN = AUTHORITY.granted(DIGEST, NOW, nonce=1)
GRANTED = b"\x30\x03\x02\x01\x00"
TIME_STAMPING, SERVER_AUTH = ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH
UNTRUSTED = "time-stamp is not signed under a root that is trusted"
WRONG_PURPOSE = "certificate of the time-stamp authority is not one for time-stamps"
TOO_EARLY_OR_LATE = "certificate of the time-stamp authority was not valid at that time"
WEAK = "time-stamp is signed with a weak algorithm"
ODD_SERIAL = "ignore:Parsed a serial number which wasn't positive"


@dataclass(frozen=True)
class Bad:
    """A time-stamp that is not to be believed."""

    response: bytes
    reason: str
    roots: tuple[Certificate, ...] = ROOTS
    message: bytes = MESSAGE
    openssl_minds: bool | None = True  # None: depends on which of them it meets first


def certified(
    issuer: Issuer = ROOT,
    *,
    valid: tuple[datetime, datetime] = (NOW - YEAR, NOW + YEAR),
    usage: ExtendedKeyUsage | None = ExtendedKeyUsage([TIME_STAMPING]),  # noqa: B008 - a value
    critical: bool = True,
    curve: ec.EllipticCurve = ec.SECP256R1(),  # noqa: B008 - a value
    chain: tuple[Certificate, ...] = (),
) -> Authority:
    """An authority whose certificate says what it is told to say."""
    key = ec.generate_private_key(curve)
    own = issuer.issue(key.public_key(), valid=valid, extended_key_usage=usage, critical=critical)
    return Authority(key, (own, *chain))


def intermediate(*, ca: bool = True, valid: tuple[datetime, datetime] = (NOW - YEAR, NOW + YEAR)) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Issuer(key, ROOT.issue(key.public_key(), name="Between", ca=ca, valid=valid, extended_key_usage=None))


def under(between: Issuer, *, with_chain: bool = True) -> bytes:
    """A token by an authority that the root does not know itself."""
    return certified(between, chain=(between.certificate,) if with_chain else ()).granted(DIGEST, NOW)


def in_sha1(certificate: Certificate, issuer: Issuer) -> Certificate:
    """The same certificate with the kind of signature that cryptography no longer makes."""
    rewritten = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
    rewritten["tbs_certificate"]["signature"] = rewritten["signature_algorithm"] = {"algorithm": "sha1_ecdsa"}
    body = rewritten["tbs_certificate"].dump(force=True)
    rewritten["signature_value"] = issuer.key.sign(body, ec.ECDSA(hashes.SHA1()))
    return load_der_x509_certificate(rewritten.dump(force=True))


def certified_in_sha1() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(key, (in_sha1(ROOT.issue(key.public_key()), ROOT),)).granted(DIGEST, NOW)


def under_sha1() -> bytes:
    between = intermediate()
    return certified(between, chain=(in_sha1(between.certificate, ROOT),)).granted(DIGEST, NOW)


def twins() -> bytes:
    """A token with two certificates that both answer to the signer's name and number."""
    key, serial = ec.generate_private_key(ec.SECP256R1()), 7
    first, second = (ROOT.issue(each.public_key(), serial=serial) for each in (key, ec.generate_private_key(key.curve)))
    return Authority(key, (first, second)).granted(DIGEST, NOW)


def signed_by(signers: int) -> bytes:
    """The token, with its one signer so many times."""
    response = tsp.TimeStampResp.load(TOKEN)
    content = response["time_stamp_token"]["content"]
    content["signer_infos"] = list(content["signer_infos"]) * signers
    changed: bytes = response.dump(force=True)
    return changed


def over(digest: bytes, algorithm: str) -> bytes:
    return AUTHORITY.granted(digest, NOW, algorithm=algorithm)


OTHER_ROOT = Issuer.root()
BAD = {
    "another message": Bad(TOKEN, "time-stamp is about something else", message=MESSAGE + b" "),
    "another digest": Bad(AUTHORITY.granted(bytes(32), NOW), "time-stamp is about something else"),
    "the right digest, said to be another": Bad(over(DIGEST, "sha512"), "time-stamp is about something else"),
    "SHA-512 of the message": Bad(
        over(hashlib.sha512(MESSAGE).digest(), "sha512"), "time-stamp is about something else", openssl_minds=False
    ),
    "another root": Bad(TOKEN, UNTRUSTED, roots=(Issuer.root("Somebody else").certificate,)),
    "another root of the same name": Bad(TOKEN, UNTRUSTED, roots=(OTHER_ROOT.certificate,)),
    "another authority": Bad(Authority.new(OTHER_ROOT).granted(DIGEST, NOW), UNTRUSTED),
    "an authority that was one before": Bad(
        certified(valid=(NOW - YEAR, NOW - timedelta(seconds=1))).granted(DIGEST, NOW), TOO_EARLY_OR_LATE
    ),
    "an authority that will be one": Bad(
        certified(valid=(NOW + timedelta(seconds=1), NOW + YEAR)).granted(DIGEST, NOW), TOO_EARLY_OR_LATE
    ),
    "a root that has expired": Bad(
        certified(old := Issuer.root(valid=(NOW - YEAR, NOW - timedelta(seconds=1)))).granted(DIGEST, NOW),
        UNTRUSTED,
        roots=(old.certificate,),
    ),
    "an intermediate that has expired": Bad(
        under(intermediate(valid=(NOW - YEAR, NOW - timedelta(seconds=1)))), UNTRUSTED
    ),
    "an intermediate that is no authority": Bad(under(intermediate(ca=False)), UNTRUSTED),
    "an intermediate that is missing": Bad(under(intermediate(), with_chain=False), UNTRUSTED),
    "a certificate for nothing in particular": Bad(certified(usage=None).granted(DIGEST, NOW), WRONG_PURPOSE),
    "a certificate for time-stamps that may be overlooked": Bad(
        certified(critical=False).granted(DIGEST, NOW), WRONG_PURPOSE
    ),
    "a certificate for web servers": Bad(
        certified(usage=ExtendedKeyUsage([SERVER_AUTH])).granted(DIGEST, NOW), WRONG_PURPOSE
    ),
    "a certificate for time-stamps and web servers": Bad(
        certified(usage=ExtendedKeyUsage([TIME_STAMPING, SERVER_AUTH])).granted(DIGEST, NOW), WRONG_PURPOSE
    ),
    "a signature that does not say by which certificate": Bad(
        AUTHORITY.granted(DIGEST, NOW, names_signer=False), "time-stamp does not name the certificate that signed it"
    ),
    "no certificate": Bad(
        AUTHORITY.granted(DIGEST, NOW, with_chain=False),
        "time-stamp does not hold exactly one certificate of its signer",
    ),
    "two certificates of the signer's name and number": Bad(
        twins(), "time-stamp does not hold exactly one certificate of its signer", openssl_minds=None
    ),
    "no signer": Bad(signed_by(0), "time-stamp does not have exactly one signer"),
    "a signer who signs twice": Bad(signed_by(2), "time-stamp does not have exactly one signer"),
    "a signature over SHA-1": Bad(AUTHORITY.granted(DIGEST, NOW, signed_over="sha1"), WEAK, openssl_minds=False),
    "a certificate signed over SHA-1": Bad(certified_in_sha1(), WEAK, openssl_minds=False),
    "an intermediate signed over SHA-1": Bad(under_sha1(), WEAK, openssl_minds=False),
    "a key that is too short": Bad(certified(curve=ec.SECP192R1()).granted(DIGEST, NOW), WEAK, openssl_minds=False),
    "a refusal": Bad(refusal("bad_request"), "time-stamp was refused by the authority"),
    "a promise for later": Bad(refusal("add_info_not_available", "waiting"), "time-stamp was refused by the authority"),
    "a token that is granted with modifications": Bad(
        TOKEN.replace(GRANTED, b"\x30\x03\x02\x01\x01", 1),
        "time-stamp was refused by the authority",
        openssl_minds=False,
    ),
    "nothing": Bad(b"", "time-stamp cannot be read"),
    "a web page": Bad(b"<html></html>", "time-stamp cannot be read"),
    "names of an odd type": Bad(TOKEN.replace(b"\x0c\x15L", b"\x03\x15\0"), "time-stamp cannot be read"),
    "a token and more": Bad(TOKEN + b"\0", "time-stamp cannot be read", openssl_minds=False),
    "a token that is cut": Bad(TOKEN[:-1], "time-stamp cannot be read"),
}


def test_a_token_says_when_its_message_was_seen() -> None:
    assert verified(TOKEN, MESSAGE, ROOTS) == NOW
    assert verified(TOKEN, MESSAGE, ROOTS).tzinfo is UTC


def test_the_fraction_of_a_second_counts() -> None:
    later = NOW + timedelta(microseconds=123_400)
    assert verified(AUTHORITY.granted(DIGEST, later), MESSAGE, ROOTS) == later


def test_of_two_roots_of_one_name_either_may_have_signed() -> None:
    both = (OTHER_ROOT.certificate, ROOT.certificate)
    for root in (ROOT, OTHER_ROOT):
        token = Authority.new(root).granted(DIGEST, NOW)
        assert [verified(token, MESSAGE, roots) for roots in (both, both[::-1])] == [NOW, NOW]


def test_an_authority_under_an_intermediate_is_believed() -> None:
    assert verified(under(intermediate()), MESSAGE, ROOTS) == NOW


def test_how_a_root_signed_itself_does_not_matter() -> None:
    root = Issuer.root("As old as the hills")
    old = Issuer(root.key, in_sha1(root.certificate, root))
    token = certified(old, chain=(old.certificate,)).granted(DIGEST, NOW)
    assert verified(token, MESSAGE, (old.certificate,)) == NOW


def test_a_token_outlives_the_certificate_that_signed_it() -> None:
    authority = certified(valid=(NOW - 9 * YEAR, NOW - 8 * YEAR))
    then = NOW - 8 * YEAR - timedelta(days=1)
    assert verified(authority.granted(DIGEST, then), MESSAGE, ROOTS) == then


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_time_stamp_is_refused_and_the_reason_is_said(bad: Bad) -> None:
    with pytest.raises(Integrity) as caught:
        verified(bad.response, bad.message, bad.roots)
    assert caught.value.message == bad.reason
    assert caught.value.fields.keys() <= {"cause", "status"}


def test_a_certificate_that_is_named_by_an_unknown_hash_is_refused_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timestamp, "_HASHES", {})
    with pytest.raises(Integrity, match="cannot be read"):
        verified(AUTHORITY.granted(DIGEST, NOW), MESSAGE, [ROOT.certificate])


def test_without_a_root_nothing_can_be_believed() -> None:
    with pytest.raises(ValueError, match="no roots"):
        verified(TOKEN, MESSAGE, ())


def still_holds(response: bytes) -> bool:
    """Whether it is believed; if it is, it says the same."""
    try:
        time = verified(response, MESSAGE, ROOTS)
    except Integrity:
        return False
    assert time == NOW
    return True


@pytest.mark.filterwarnings(ODD_SERIAL)
@given(place=st.integers(0, len(TOKEN) - 1), change=st.integers(1, 255))
def test_a_changed_byte_never_leads_to_another_time(place: int, change: int) -> None:
    changed = bytearray(TOKEN)
    changed[place] ^= change
    still_holds(bytes(changed))
    TALLY.count("changed bytes in a time-stamp that led to no other time")


@pytest.mark.filterwarnings(ODD_SERIAL)
def test_only_what_nobody_has_signed_may_have_a_flipped_bit() -> None:
    """Version numbers of the envelope, and the signature's algorithm, which must match the key anyway."""
    held = []
    for place in range(len(TOKEN)):
        changed = bytearray(TOKEN)
        changed[place] ^= 1
        if still_holds(bytes(changed)):
            held.append(place)
    algorithm = TOKEN.rindex(bytes.fromhex("2a8648ce3d040302"))  # ecdsa-with-SHA256, in the SignerInfo
    versions = [TOKEN.index(bytes.fromhex("020103")) + 2, TOKEN.rindex(bytes.fromhex("02010130")) + 2]
    assert set(held) <= {*versions, *range(algorithm, algorithm + 8)}
    TALLY.count("flipped bits in a time-stamp that led to no other time", len(TOKEN))


@given(st.binary(max_size=300))
@example(b"")
@example(TOKEN[:-1])
@example(GRANTED)
def test_any_bytes_at_all_are_no_time_stamp(data: bytes) -> None:
    assert not still_holds(data)


@given(start=st.integers(0, len(TOKEN)), end=st.integers(0, len(TOKEN)), between=st.binary(max_size=8))
def test_a_token_with_a_part_replaced_never_says_another_time(start: int, end: int, between: bytes) -> None:
    still_holds(TOKEN[: min(start, end)] + between + TOKEN[max(start, end) :])


@given(st.binary(min_size=1, max_size=300), st.datetimes(datetime(2001, 1, 1), datetime(2099, 1, 1)))  # noqa: DTZ001
def test_a_token_verifies_for_its_message_and_for_no_other(message: bytes, moment: datetime) -> None:
    time = moment.replace(tzinfo=UTC)
    token = AUTHORITY.granted(hashlib.sha256(message).digest(), time)
    assert verified(token, message, ROOTS) == time
    with pytest.raises(Integrity):
        verified(token, message + b"\0", ROOTS)


def test_a_token_of_a_public_authority_verifies() -> None:
    """One of sigstore's, from the tests of rfc3161-client: written by other software than ours."""
    vector = json.loads((Path(__file__).parents[1] / "vectors" / "timestamp.json").read_text())
    response, message = b64decode(vector["response"]), vector["message"].encode()
    roots = roots_from_pem(vector["root"].encode())
    assert verified(response, message, roots) == datetime.fromisoformat(vector["time"])
    with pytest.raises(Integrity):
        verified(response, message, ROOTS)


# OpenSSL, as a second opinion in both directions.

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command on this machine")


def openssl_believes(folder: Path, response: bytes, message: bytes, roots: Sequence[Certificate]) -> bool:
    (folder / "response.tsr").write_bytes(response)
    (folder / "message").write_bytes(message)
    (folder / "roots.pem").write_bytes(b"".join(root.public_bytes(Encoding.PEM) for root in roots))
    arguments = [
        "-in",
        "response.tsr",
        "-data",
        "message",
        "-CAfile",
        "roots.pem",
        "-attime",
        str(int(NOW.timestamp())),
    ]
    done = subprocess.run(["openssl", "ts", "-verify", *arguments], cwd=folder, capture_output=True, timeout=60)
    return done.returncode == 0


@needs_openssl
def test_openssl_believes_what_we_believe(tmp_path: Path) -> None:
    for response in (TOKEN, under(intermediate()), certified().granted(DIGEST, NOW)):
        assert verified(response, MESSAGE, ROOTS) == NOW
        assert openssl_believes(tmp_path, response, MESSAGE, ROOTS)


@needs_openssl
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_we_believe_nothing_that_openssl_does_not_believe(bad: Bad, tmp_path: Path) -> None:
    believed = openssl_believes(tmp_path, bad.response, bad.message, bad.roots)
    assert bad.openssl_minds in (None, not believed)


@needs_openssl
def test_what_openssl_signs_as_an_authority_is_believed(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "own.pem").write_bytes(ROOT.issue(key.public_key()).public_bytes(Encoding.PEM))
    (tmp_path / "serial").write_text("01")
    (tmp_path / "openssl.cnf").write_text(
        "[tsa]\ndefault_tsa = one\n[one]\nserial = serial\ncrypto_device = builtin\nsigner_cert = own.pem\n"
        "signer_key = key.pem\nsigner_digest = sha256\ndefault_policy = 1.2.3.4\ndigests = sha256\n"
        "ess_cert_id_alg = sha256\naccuracy = secs:1\nclock_precision_digits = 3\n"
    )
    request = TimestampRequestBuilder().data(MESSAGE).hash_algorithm(HashAlgorithm.SHA256).build()
    (tmp_path / "request.tsq").write_bytes(request.as_bytes())
    for digest in ("sha256", "sha1"):  # of the certificate: SigningCertificateV2, and the older SigningCertificate
        config = (
            (tmp_path / "openssl.cnf").read_text().replace("ess_cert_id_alg = sha256", f"ess_cert_id_alg = {digest}")
        )
        (tmp_path / "openssl.cnf").write_text(config)
        arguments = ["-config", "openssl.cnf", "-section", "one", "-queryfile", "request.tsq", "-out", "out.tsr"]
        subprocess.run(
            ["openssl", "ts", "-reply", *arguments], cwd=tmp_path, check=True, capture_output=True, timeout=60
        )
        response = (tmp_path / "out.tsr").read_bytes()
        assert abs(verified(response, MESSAGE, ROOTS) - datetime.now(UTC)) < timedelta(hours=1)


def pem(*certificates: Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def test_roots_are_read_from_pem_each_once_and_text_between_them_is_skipped() -> None:
    both = (ROOT.certificate, OTHER_ROOT.certificate)
    assert roots_from_pem(pem(ROOT.certificate)) == (ROOT.certificate,)
    assert roots_from_pem(b"the old one\n" + pem(*both) + b"and again\n" + pem(*both)) == both


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        ROOT.certificate.public_bytes(Encoding.DER),
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        pem(ROOT.certificate) + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ROOT.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
    ids=["nothing", "text", "binary", "DER", "broken", "one of two broken", "a key"],
)
def test_a_file_that_does_not_hold_certificates_is_rejected_and_not_quoted(data: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        roots_from_pem(data)
    assert str(caught.value) == "not a file of root certificates in PEM"


def test_a_certificate_that_is_no_root_is_rejected_by_its_place_in_the_file() -> None:
    with pytest.raises(Rejected, match=r"not a root.*\(number=2\)"):
        roots_from_pem(pem(ROOT.certificate, intermediate().certificate))
