"""Vectors of the standards that our formats are built on, run through the very functions that the app uses."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode
from hypothesis import given
from hypothesis import strategies as st

from rotation import wrapping
from rotation.merkle import leaf_hash
from rotation.wrapping import WriteTarget, check_value, new_dek
from rotation.xaes import PREFIX_BYTES, derive
from shared.secret import Secret
from shared.values import KekVersion, TenantId
from tests.pure.keyrings import ACME, KID, NOW, no_vault


@dataclass(frozen=True)
class Gcm:
    """One test case of AES-256-GCM, all in hexadecimal."""

    key: str
    nonce: str
    plaintext: str
    associated: str
    ciphertext: str
    tag: str


_KEY = "feffe9928665731c6d6a8f9467308308" * 2
_TEXT = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
_CIPHER = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)
# McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test cases 13 to 16.
GCM = {
    "13": Gcm("00" * 32, "00" * 12, "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    "14": Gcm(
        "00" * 32, "00" * 12, "00" * 16, "", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"
    ),
    "15": Gcm(_KEY, "cafebabefacedbaddecaf888", _TEXT, "", _CIPHER, "b094dac5d93471bdec1a502270e3cc6c"),
    "16": Gcm(
        _KEY,
        "cafebabefacedbaddecaf888",
        _TEXT[:120],
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        _CIPHER[:120],
        "76fc6ece0f4e1768cddf8853bb2d551b",
    ),
}


@pytest.mark.parametrize("case", GCM.values(), ids=list(GCM))
def test_aes_256_gcm_gives_the_designers_own_results(case: Gcm) -> None:
    sealed = AESGCM(bytes.fromhex(case.key)).encrypt(
        bytes.fromhex(case.nonce), bytes.fromhex(case.plaintext), bytes.fromhex(case.associated)
    )
    assert sealed.hex() == case.ciphertext + case.tag


# C2SP XAES-256-GCM, "Test vectors": the most significant bit of L is 0 in the first and 1 in the second.
XAES = {
    "MSB 0": (b"\x01", b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
    "MSB 1": (b"\x03", b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
}


@pytest.mark.parametrize(("key_byte", "associated", "sealed"), XAES.values(), ids=list(XAES))
def test_xaes_256_gcm_gives_the_specifications_results(key_byte: bytes, associated: bytes, sealed: str) -> None:
    aes = derive(key_byte * 32, b"ABCDEFGHIJKL")
    assert aes.encrypt(b"MNOPQRSTUVWX", b"XAES-256-GCM", associated).hex() == sealed


def test_ten_thousand_random_xaes_messages_accumulate_to_the_specifications_hash() -> None:
    # C2SP XAES-256-GCM, "Accumulated randomized tests".
    rounds = 10_000
    stream = memoryview(hashlib.shake_128().digest(rounds * (32 + 24 + 2 * (1 + 255))))
    assert stream[:16].hex() == "7f9c2ba4e88f827d616045507605853e"
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return bytes(stream[at - size : at])

    accumulated = hashlib.shake_128()
    for _ in range(rounds):
        key, nonce = take(32), take(24)
        plaintext = take(take(1)[0])
        associated = take(take(1)[0])
        aes = derive(key, nonce[:PREFIX_BYTES])
        accumulated.update(aes.encrypt(nonce[PREFIX_BYTES:], plaintext, associated))
    assert accumulated.hexdigest(32) == "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"


@given(key=st.binary(min_size=32, max_size=32), prefix=st.binary(min_size=12, max_size=12))
def test_xaes_derives_what_a_library_derives_by_nist_sp_800_108_with_cmac(key: bytes, prefix: bytes) -> None:
    kdf = KBKDFCMAC(
        algorithms.AES, Mode.CounterMode, 32, 2, None, CounterLocation.BeforeFixed, None, None, b"X\0" + prefix
    )
    expected = AESGCM(kdf.derive(key)).encrypt(bytes(12), b"text", b"context")
    assert derive(key, prefix).encrypt(bytes(12), b"text", b"context") == expected


@pytest.mark.parametrize(("key", "prefix"), [(31, 12), (33, 12), (16, 12), (32, 11), (32, 24), (0, 0)])
def test_xaes_takes_no_key_or_prefix_of_another_size(key: int, prefix: int) -> None:
    with pytest.raises(ValueError, match="32-byte key"):
        derive(bytes(key), bytes(prefix))


# RFC 4231 section 4, HMAC-SHA-256; case 5 is truncated to 128 bits there.
HMAC = {
    "4.2": (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    "4.3": (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    "4.4": (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    "4.5": (
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    "4.6": (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    "4.7": (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    "4.8": (
        b"\xaa" * 131,
        (
            b"This is a test using a larger than block-size key and a larger than block-size data. "
            b"The key needs to be hashed before being used by the HMAC algorithm."
        ),
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
}


@pytest.mark.parametrize(("key", "message", "digest"), HMAC.values(), ids=list(HMAC))
def test_hmac_sha_256_gives_the_results_of_rfc_4231(key: bytes, message: bytes, digest: str) -> None:
    assert hmac.digest(key, message, hashlib.sha256).hex().startswith(digest)


def test_a_check_value_is_the_hmac_of_label_tenant_and_version_under_the_dek() -> None:
    dek = bytes(range(100, 132))
    expected = hmac.new(dek, b"atp-dek-check-value/1\0acme\x007", "sha256").digest()
    assert check_value(Secret(dek), TenantId("acme"), 7) == expected


# RFC 6962 section 2.1; the leaves of the Certificate Transparency reference implementation's tests.
LEAVES = {
    b"": "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    b"L123456": "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56",
}


@pytest.mark.parametrize(("leaf", "digest"), LEAVES.items())
def test_a_leaf_hash_is_that_of_certificate_transparency(leaf: bytes, digest: str) -> None:
    assert leaf_hash(leaf).hex() == digest


def test_canonical_json_gives_the_example_of_rfc_8785() -> None:
    # RFC 8785 section 3.2.2 and 3.2.3.
    value: dict[str, Any] = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert rfc8785.dumps(value) == (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        b'"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_canonical_json_sorts_names_by_utf_16_code_units() -> None:
    # RFC 8785 section 3.2.3.
    names = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    ordered = ["Carriage Return", "One", "Control", "Latin", "Euro Sign", "Emoji", "Hebrew"]
    canonical = rfc8785.dumps(names)
    found = [canonical.index(text.encode()) for text in ordered]
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        (0, b"0"),
        (-1, b"-1"),
        (2**53 - 1, b"9007199254740991"),
        (1 - 2**53, b"-9007199254740991"),
        (None, b"null"),
        ("", b'""'),
        ("\b\t\n\f\r\x00\x1f\x7f", b'"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f"'),
        ("é\u2028😀", '"é\u2028😀"'.encode()),
        ({}, b"{}"),
        ({"b": "2", "a": "1"}, b'{"a":"1","b":"2"}'),
    ],
)
def test_canonical_json_of_what_a_record_can_hold(value: Any, canonical: bytes) -> None:
    assert rfc8785.dumps(value) == canonical


@pytest.mark.parametrize("value", [2**53, -(2**53), "\ud800", float("nan")])
def test_canonical_json_refuses_what_other_readers_would_read_differently(value: Any) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        rfc8785.dumps(value)


# Wycheproof, rsa_oaep_2048_sha256_mgf1sha256_test.json, test 7: a message of the size of a DEK.
OAEP_N = int(
    "a2b451a07d0aa5f96e455671513550514a8a5b462ebef717094fa1fee82224e637f9746d3f7cafd31878d80325b6ef5a"
    "1700f65903b469429e89d6eac8845097b5ab393189db92512ed8a7711a1253facd20f79c15e8247f3d3e42e46e48c98e"
    "254a2fe9765313a03eff8f17e1a029397a1fa26a8dce26f490ed81299615d9814c22da610428e09c7d9658594266f5c0"
    "21d0fceca08d945a12be82de4d1ece6b4c03145b5d3495d4ed5411eb878daf05fd7afc3e09ada0f1126422f590975a19"
    "69816f48698bcbba1b4d9cae79d460d8f9f85e7975005d9bc22c4e5ac0f7c1a45d12569a62807d3b9a02e5a530e77306"
    "6f453d1f5b4c2e9cf7820283f742b9d5",
    16,
)
OAEP_D = int(
    "7627eef3567b2a27268e52053ecd31c3a7172ccb9ddcee819b306a5b3c66b7573ca4fa88efc6f3c4a00bfa0ae7139f64"
    "543a4dac3d05823f6ff477cfcec84fe2ac7a68b17204b390232e110310c4e899c4e7c10967db4acde042dbbf19dbe00b"
    "4b4741de1020aaaaffb5054c797c9f136f7d93ac3fc8caff6654242d7821ebee517bf537f44366a0fdd45ae05b9909c2"
    "e6cc1ed9281eff4399f76c96b96233ec29ae0bbf0d752b234fc197389f51050aa1acd01c074c3ac8fbdb9ea8b651a959"
    "95e8db4ad5c43b6c8673e5a126e7ee94b8dff4c5afc01259bc8da76950bae6f8bae715f50985b0d6f66d04c6fef3b700"
    "720eecdcdf171bb7b1ecbe7289c467c1",
    16,
)
OAEP_MESSAGE = bytes(range(0xE0, 0x100))
OAEP_CIPHERTEXT = bytes.fromhex(
    "096958786ee7972050d67a9e4b69d6c6af7db7cc674386df725770dd29129b826e39552330104c8d71e6cc3a3014dd2f"
    "61b54153af51b0438d447ee939f9e3c13bb8b00a37dea6a068f6c9d27e848b1be7a1eeeb3ee50b78036fba95ae46948c"
    "a5b13f356ea24db10f60dc09e4b8bad8f766b668ef72524432080a0ce00ed676d6d5e354984b1078520412525848156d"
    "06f0652469f95791baa3d9a798ae537094f76f976faecd5c9ce0c930a75910c63dacf63485cb4b5e7bdbcf4d80e74037"
    "eaa1a8fe4b52930bec6be99cf6ac88cf5878dbf6859d456a95dbc34654eec425de84ca2a535d517403a9aada827e7d00"
    "93ecfc97ed056a7652825e9a45cb2dcb"
)


@pytest.fixture(scope="module")
def oaep_key() -> rsa.RSAPrivateKey:
    p, q = rsa.rsa_recover_prime_factors(OAEP_N, 65537, OAEP_D)
    numbers = rsa.RSAPrivateNumbers(
        p,
        q,
        OAEP_D,
        rsa.rsa_crt_dmp1(OAEP_D, p),
        rsa.rsa_crt_dmq1(OAEP_D, q),
        rsa.rsa_crt_iqmp(p, q),
        rsa.RSAPublicNumbers(65537, OAEP_N),
    )
    return numbers.private_key()


def test_rsa_oaep_256_opens_the_vector_of_wycheproof(oaep_key: rsa.RSAPrivateKey) -> None:
    assert oaep_key.decrypt(OAEP_CIPHERTEXT, wrapping._OAEP_SHA256) == OAEP_MESSAGE


def test_a_new_dek_is_wrapped_so_that_the_same_padding_opens_it(oaep_key: rsa.RSAPrivateKey) -> None:
    kek = KekVersion(KID, oaep_key.public_key(), True, None, None, frozenset({"wrapKey", "unwrapKey"}))
    made = new_dek(ACME, 3, WriteTarget(kek), NOW, "dek.rotate/acme/v3", lambda size: OAEP_MESSAGE[:size], no_vault)
    opened = oaep_key.decrypt(made.wrapped, wrapping._OAEP_SHA256)
    assert opened == OAEP_MESSAGE
    assert made.check_value == check_value(Secret(OAEP_MESSAGE), ACME, 3)
    assert (made.version, made.kid, made.algorithm, made.created) == (3, KID, "RSA-OAEP-256", NOW)
