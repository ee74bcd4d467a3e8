"""Keys themselves: how they come into being, how they are kept, and what of them is public.

A key is kept as text: PKCS #8 in PEM, or base64url for a symmetric key.
"""

import os
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from local.key_vault.body import Body
from local.key_vault.errors import invalid_property
from local.key_vault.versions import KeyShape, KeyType
from local.key_vault.wire import from_base64url, to_base64url

type Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | bytes
"""A private key, or the bytes of a symmetric one."""

_PUBLIC_EXPONENT = 65537
_RSA_SIZES = (2048, 3072, 4096)
_OCT_SIZES = (256,)
_CACHED_KEYS = 1024


@dataclass(frozen=True, slots=True)
class Curve:
    """What goes with a curve in RFC 7518 section 3.4: the size of a coordinate and the one signature algorithm."""

    curve: ec.EllipticCurve
    coordinate_bytes: int
    algorithm: str
    digest: hashes.HashAlgorithm


CURVES = {
    "P-256": Curve(ec.SECP256R1(), 32, "ES256", hashes.SHA256()),
    "P-384": Curve(ec.SECP384R1(), 48, "ES384", hashes.SHA384()),
    "P-521": Curve(ec.SECP521R1(), 66, "ES512", hashes.SHA512()),
}


def requested_shape(body: Body) -> KeyShape:
    """What a create request asks for; raises a 400 where the vault makes no such keys."""
    kty = _key_type(body, "kty")
    if kty.family == "EC":
        return KeyShape(kty, curve=_curve_name(body.optional_text("crv") or "P-256", "crv"))
    sizes = _RSA_SIZES if kty.family == "RSA" else _OCT_SIZES
    size = body.optional_int("key_size") or sizes[0]
    if size not in sizes:
        raise invalid_property("key_size")
    return KeyShape(kty, size=size)


def generate(shape: KeyShape) -> str:
    """A new key of that shape, as it is kept. Slow for RSA, and lets other threads run."""
    if shape.kty.family == "oct":
        return to_base64url(os.urandom((shape.size or 0) // 8))
    if shape.curve is not None:
        return _to_text(ec.generate_private_key(CURVES[shape.curve].curve))
    return _to_text(rsa.generate_private_key(_PUBLIC_EXPONENT, shape.size or 0))


def imported(jwk: Body, *, to_hsm: bool) -> tuple[KeyShape, str]:
    """The shape of a key given as a private JWK (RFC 7518 section 6), and the key as it is kept.

    Raises a 400 on anything inconsistent.
    """
    kty = _key_type(jwk, "kty")
    if to_hsm and not kty.in_hsm:
        kty = KeyType(f"{kty}-HSM")
    if kty.family == "oct":
        octets = jwk.octets("k")
        if len(octets) * 8 not in _OCT_SIZES:
            raise invalid_property(jwk.path("k"))
        return KeyShape(kty, size=len(octets) * 8), to_base64url(octets)
    try:
        if kty.family == "EC":
            name = _curve_name(jwk.text("crv"), jwk.path("crv"))
            public = ec.EllipticCurvePublicNumbers(jwk.number("x"), jwk.number("y"), CURVES[name].curve)
            return KeyShape(kty, curve=name), _to_text(
                ec.EllipticCurvePrivateNumbers(jwk.number("d"), public).private_key()
            )
        p, q, d, dp, dq, qi = (jwk.number(part) for part in ("p", "q", "d", "dp", "dq", "qi"))
        public_numbers = rsa.RSAPublicNumbers(jwk.number("e"), jwk.number("n"))
        key = rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public_numbers).private_key()
    except ValueError:
        raise invalid_property("key") from None
    if key.key_size not in _RSA_SIZES:
        raise invalid_property(jwk.path("n"))
    return KeyShape(kty, size=key.key_size), _to_text(key)


@lru_cache(maxsize=_CACHED_KEYS)
def load(text: str) -> Key:
    """The key that `text` keeps. Cached, as loading costs more than using."""
    if not text.startswith("-----BEGIN"):
        return from_base64url(text)
    # The checks of an RSA key take 90 ms, and were made when it came in.
    key = serialization.load_pem_private_key(text.encode(), None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TypeError("the store holds a key of a type that no vault has")
    return key


def public_jwk(shape: KeyShape, text: str) -> dict[str, str]:
    """Type and public parts as RFC 7518 section 6 writes them; a symmetric key has none."""
    jwk = {"kty": shape.kty.value}
    key = load(text)
    if isinstance(key, rsa.RSAPrivateKey):
        rsa_numbers = key.public_key().public_numbers()
        jwk["n"] = to_base64url(_minimal_bytes(rsa_numbers.n))
        jwk["e"] = to_base64url(_minimal_bytes(rsa_numbers.e))
    elif isinstance(key, ec.EllipticCurvePrivateKey) and shape.curve is not None:
        ec_numbers = key.public_key().public_numbers()
        size = CURVES[shape.curve].coordinate_bytes
        jwk |= {
            "crv": shape.curve,
            "x": to_base64url(ec_numbers.x.to_bytes(size)),
            "y": to_base64url(ec_numbers.y.to_bytes(size)),
        }
    return jwk


def _key_type(body: Body, name: str) -> KeyType:
    try:
        return KeyType(body.text(name))
    except ValueError:
        raise invalid_property(body.path(name)) from None


def _curve_name(name: str, where: str) -> str:
    if name not in CURVES:
        raise invalid_property(where)
    return name


def _to_text(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _minimal_bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)
