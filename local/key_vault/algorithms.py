"""The algorithms of the vault, by their names in RFC 7518 and in the service's documentation.

Every function raises a 400 when the algorithm does not fit the key or the data does not fit the algorithm. All are
plain computation, and the ones on private keys let other threads run.
Source: https://learn.microsoft.com/azure/key-vault/keys/about-keys-details
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from local.key_vault.errors import VaultError, bad_parameter
from local.key_vault.key_material import CURVES, Curve, Key

_RSA_ENCRYPTION: dict[str, padding.AsymmetricPadding] = {
    "RSA1_5": padding.PKCS1v15(),
    "RSA-OAEP": padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),  # noqa: S303 - RFC 7518 section 4.3
    "RSA-OAEP-256": padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
}
_RSA_SIGNATURES: dict[str, tuple[padding.AsymmetricPadding, hashes.HashAlgorithm]] = {
    f"{family}{bits}": (pad, digest)
    for bits, digest in ((256, hashes.SHA256()), (384, hashes.SHA384()), (512, hashes.SHA512()))
    for family, pad in (
        ("RS", padding.PKCS1v15()),
        ("PS", padding.PSS(padding.MGF1(digest), digest.digest_size)),
    )
}
_KEY_WRAP = "A256KW"  # RFC 3394
_CURVE_OF = {curve.curve.name: curve for curve in CURVES.values()}


def encrypt(key: Key, algorithm: str, plaintext: bytes) -> bytes:
    """Protect a few bytes; wrapKey is the same under another permission."""
    try:
        if isinstance(key, bytes):
            _check(algorithm == _KEY_WRAP, algorithm)
            return keywrap.aes_key_wrap(key, plaintext)
        private, pad = _rsa_encryption(key, algorithm)
        return private.public_key().encrypt(plaintext, pad)
    except ValueError:
        raise _incorrect() from None


def decrypt(key: Key, algorithm: str, ciphertext: bytes) -> bytes:
    """Undo `encrypt`; a 400 for the ciphertext of another key."""
    try:
        if isinstance(key, bytes):
            _check(algorithm == _KEY_WRAP, algorithm)
            return keywrap.aes_key_unwrap(key, ciphertext)
        private, pad = _rsa_encryption(key, algorithm)
        return private.decrypt(ciphertext, pad)
    except (ValueError, keywrap.InvalidUnwrap):
        raise _incorrect() from None


def sign(key: Key, algorithm: str, digest: bytes) -> bytes:
    """Sign a digest. An EC signature is r and s side by side, as in RFC 7518 section 3.4."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        curve = _ec_curve(key, algorithm)
        _check_digest(digest, curve.digest)
        r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(curve.digest))))
        return r.to_bytes(curve.coordinate_bytes) + s.to_bytes(curve.coordinate_bytes)
    private, pad, hash_algorithm = _rsa_signature(key, algorithm)
    _check_digest(digest, hash_algorithm)
    return private.sign(digest, pad, utils.Prehashed(hash_algorithm))


def verify(key: Key, algorithm: str, digest: bytes, signature: bytes) -> bool:
    """Whether `signature` is one of `digest` by this key."""
    try:
        if isinstance(key, ec.EllipticCurvePrivateKey):
            curve = _ec_curve(key, algorithm)
            _check_digest(digest, curve.digest)
            size = curve.coordinate_bytes
            if len(signature) != 2 * size:
                return False
            der = utils.encode_dss_signature(int.from_bytes(signature[:size]), int.from_bytes(signature[size:]))
            key.public_key().verify(der, digest, ec.ECDSA(utils.Prehashed(curve.digest)))
        else:
            private, pad, hash_algorithm = _rsa_signature(key, algorithm)
            _check_digest(digest, hash_algorithm)
            private.public_key().verify(signature, digest, pad, utils.Prehashed(hash_algorithm))
    except InvalidSignature:
        return False
    return True


def _rsa_encryption(key: Key, algorithm: str) -> tuple[rsa.RSAPrivateKey, padding.AsymmetricPadding]:
    pad = _RSA_ENCRYPTION.get(algorithm)
    if pad is None or not isinstance(key, rsa.RSAPrivateKey):
        raise _unsupported(algorithm)
    return key, pad


def _rsa_signature(
    key: Key, algorithm: str
) -> tuple[rsa.RSAPrivateKey, padding.AsymmetricPadding, hashes.HashAlgorithm]:
    signature = _RSA_SIGNATURES.get(algorithm)
    if signature is None or not isinstance(key, rsa.RSAPrivateKey):
        raise _unsupported(algorithm)
    return key, *signature


def _ec_curve(key: ec.EllipticCurvePrivateKey, algorithm: str) -> Curve:
    curve = _CURVE_OF[key.curve.name]
    _check(algorithm == curve.algorithm, algorithm)
    return curve


def _check(supported: bool, algorithm: str) -> None:
    if not supported:
        raise _unsupported(algorithm)


def _check_digest(digest: bytes, hash_algorithm: hashes.HashAlgorithm) -> None:
    if len(digest) != hash_algorithm.digest_size:
        raise bad_parameter(f"Invalid length of 'value': {len(digest)} bytes.")


def _unsupported(algorithm: str) -> VaultError:
    return bad_parameter(f"Key and algorithm '{algorithm}' do not go together")


def _incorrect() -> VaultError:
    return bad_parameter("The parameter is incorrect.")
