"""Credentials as their issuers make them, drawn when they are needed: none stands in a file."""

import base64
import random
import string
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

_ALPHANUMERIC: Final = string.ascii_letters + string.digits
_STANDARD: Final = _ALPHANUMERIC + "+/"
_URLSAFE: Final = _ALPHANUMERIC + "-_"


def _text(draw: random.Random, alphabet: str, length: int) -> str:
    return "".join(draw.choices(alphabet, k=length))


def _signed(
    before: int, signature: str, checksum: str, behind: int, padding: str = "", alphabet: str = _STANDARD
) -> Callable[[random.Random], str]:
    """A key with its issuer's signature at a fixed place; what is random around it."""

    def make(draw: random.Random) -> str:
        last = draw.choice("AQgw") if padding == "==" else ""
        middle = draw.choice(checksum) if checksum else ""
        return _text(draw, alphabet, before) + signature + middle + _text(draw, alphabet, behind) + last + padding

    return make


def _bytes_of(size: int) -> Callable[[random.Random], str]:
    return lambda draw: base64.b64encode(draw.randbytes(size)).decode()


def _annotated(draw: random.Random) -> str:
    return (
        f"{_text(draw, _ALPHANUMERIC, 52)}JQQJ99{draw.choice('ABCD')}{draw.choice('ABCDEFGHIJKL')}"
        f"{_text(draw, _ALPHANUMERIC, 16)}{draw.choice(string.ascii_letters)}{_text(draw, _ALPHANUMERIC, 7)}"
    )


def _devops(draw: random.Random) -> str:
    return (
        f"{_text(draw, _ALPHANUMERIC, 52)}JQQJ99BC{_text(draw, _ALPHANUMERIC, 16)}AZDO{_text(draw, _ALPHANUMERIC, 4)}"
    )


_KEYS: Final[dict[str, Callable[[random.Random], str]]] = {
    "storage": _signed(76, "+ASt", "", 5, "=="),
    "cosmos": _signed(76, "ACDb", "", 5, "=="),
    "batch": _signed(76, "+ABa", "", 5, "=="),
    "ml": _signed(76, "+AMC", "", 5, "=="),
    "api management": _signed(76, "APIM", "", 5, "=="),
    "redis": _signed(33, "AzCa", "ABCDEFGHIJKLMNOP", 5, "="),
    "iot": _signed(33, "AIoT", "ABCDEFGHIJKLMNOP", 5, "="),
    "event grid": _signed(33, "AZEG", "ABCDEFGHIJKLMNOP", 5, "="),
    "service bus": _signed(33, "+ASb", "ABCDEFGHIJKLMNOP", 5, "="),
    "event hubs": _signed(33, "+AEh", "ABCDEFGHIJKLMNOP", 5, "="),
    "relay": _signed(33, "+ARm", "ABCDEFGHIJKLMNOP", 5, "="),
    "registry": _signed(42, "+ACR", "ABCD", 5),
    "search": _signed(42, "AzSe", "ABCD", 5, alphabet=_ALPHANUMERIC),
    "function": _signed(44, "AzFu", "", 5, "==", alphabet=_URLSAFE),
    "entra": lambda draw: _text(draw, _ALPHANUMERIC + "_-.~", 3) + "8Q~" + _text(draw, _ALPHANUMERIC + "_-.~", 34),
    "annotated": _annotated,
    "devops": _devops,
}
_IN_TEXT: Final[dict[str, str]] = {
    "alone": "*",
    "in a sentence": "the key * does not work",
    "in JSON": '{"value": "*", "a": 1}',
    "in JSON in JSON": r'{"event": "{\"value\": \"*\"}"}',
    "as an argument": "tool --endpoint https://acc --value * --verbose",
    "in a list": "['*', 'b']",
}
_SIGNATURES: Final = {
    "sas": "https://acc.blob.core.windows.net/c/b?sv=2024-11-04&sp=r&sig=*&se=2027-01-01",
    "sas in a log": '{"url": "https://acc.queue.core.windows.net/q?sv=2024-11-04\\u0026sig=*\\u0026se=1"}',
    "sas of a bus": "SharedAccessSignature sr=sb%3A%2F%2Fatp&sig=*&se=1767225600&skn=all",
    "sas in a parameter": "?next=https%3A%2F%2Facc%3Fsv%3D1%26sig%3D*%26se%3D1",
}
_CONNECTIONS: Final[dict[str, tuple[str, Callable[[random.Random], str]]]] = {
    "storage": (
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=*;EndpointSuffix=core.windows.net",
        _bytes_of(64),
    ),
    "cosmos": ("AccountEndpoint=https://a.documents.azure.com:443/;AccountKey=*;", _bytes_of(64)),
    "bus": ("Endpoint=sb://a.servicebus.windows.net/;SharedAccessKeyName=all;SharedAccessKey=*", _bytes_of(32)),
    "iot": ("HostName=a.azure-devices.net;SharedAccessKeyName=owner;SharedAccessKey=*", _bytes_of(32)),
    "sql": (
        "Server=tcp:a.database.windows.net,1433;User ID=atp;Password=*;Encrypt=True",
        lambda draw: _text(draw, _ALPHANUMERIC + " !,#%*-", 8) + _text(draw, _ALPHANUMERIC, 8),
    ),
    "sql, short": ("Server=a;Uid=atp;Pwd=*;Database=d", lambda draw: _text(draw, _ALPHANUMERIC, 12)),
    "redis": ("a.redis.cache.windows.net:6380,password=*,ssl=True", _bytes_of(32)),
    "web pub sub": ("Endpoint=https://a.webpubsub.azure.com;AccessKey=*;Version=1.0;", _bytes_of(32)),
    "function in a URL": ("https://a.azurewebsites.net/api/f?code=*", _KEYS["function"]),
    "function in a header": ("x-functions-key: *", lambda draw: _text(draw, _URLSAFE, 54)),
    "subscription": ("Ocp-Apim-Subscription-Key: *", lambda draw: draw.randbytes(16).hex()),
    "client": ('{"clientSecret": "*"}', lambda draw: _text(draw, _ALPHANUMERIC + "._-", 34)),
    "environment": ("AZURE_CLIENT_SECRET=*", lambda draw: _text(draw, _ALPHANUMERIC + "._-", 34)),
}


def azure(rounds: int, seed: int = 7) -> list[tuple[str, str, str]]:
    """(kind of case, secret, text with it), for every shape in every surrounding."""
    draw = random.Random(seed)
    cases = []
    for _ in range(rounds):
        for name, make in _KEYS.items():
            for where, around in _IN_TEXT.items():
                secret = make(draw)
                cases.append((f"{name} key {where}", secret, around.replace("*", secret)))
            secret = quote(make(draw), safe="")
            cases.append((f"{name} key in a URL", secret, f"https://acc/x?a=1&value={secret}&b=2"))
        for name, around in _SIGNATURES.items():
            secret = quote(base64.b64encode(draw.randbytes(32)).decode(), safe="")
            cases.append((name, secret, around.replace("*", secret)))
        for name, (around, make) in _CONNECTIONS.items():
            secret = make(draw)
            cases.append((f"{name} connection", secret, around.replace("*", secret)))
    return cases


def vendors(seed: int = 7) -> list[tuple[str, str]]:
    """(kind of mask, secret) of other issuers."""
    draw = random.Random(seed)

    def text(length: int, alphabet: str = _ALPHANUMERIC) -> str:
        return _text(draw, alphabet, length)

    hexadecimal = "0123456789abcdef"
    return [
        ("aws-key", "AKIA" + text(16, string.ascii_uppercase + "234567")),
        ("github-token", "ghp_" + text(36)),
        ("github-token", "github_pat_" + text(82, _ALPHANUMERIC + "_")),
        ("gitlab-token", "glpat-" + text(20, _URLSAFE)),
        ("slack-token", "xoxb-" + text(12, string.digits) + "-" + text(24)),
        ("stripe-key", "sk_live_" + text(24)),
        ("sendgrid-key", "SG." + text(22, _URLSAFE) + "." + text(43, _URLSAFE)),
        ("npm-token", "npm_" + text(36)),
        ("pypi-token", "pypi-AgEIcHlwaS5vcmc" + text(60, _URLSAFE)),
        ("nuget-key", "oy2" + text(43, string.ascii_lowercase + "234567")),
        ("docker-token", "dckr_pat_" + text(27)),
        ("google-key", "AIza" + text(35, _URLSAFE)),
        ("anthropic-key", "sk-ant-api03-" + text(93, _URLSAFE) + "AA"),
        ("openai-key", "sk-proj-" + text(60, _URLSAFE)),
        ("openai-key", "sk-" + text(48)),
        ("hashicorp-token", "hvs." + text(90, _URLSAFE)),
        ("twilio-key", "SK" + text(32, hexadecimal)),
        ("digitalocean-token", "dop_v1_" + text(64, hexadecimal)),
        ("age-key", "AGE-SECRET-KEY-1" + text(58, string.ascii_uppercase + string.digits)),
        ("databricks-token", "dapi" + text(32, hexadecimal)),
        ("hugging-face-token", "hf_" + text(34, string.ascii_letters)),
        ("grafana-token", "glsa_" + text(32) + "_" + text(8, hexadecimal)),
        ("doppler-token", "dp.pt." + text(43)),
        ("atlassian-token", "ATATT3" + text(180, _URLSAFE)),
        ("postman-key", "PMAK-" + text(24, hexadecimal) + "-" + text(34, hexadecimal)),
        ("shopify-token", "shpat_" + text(32, hexadecimal)),
        ("pulumi-token", "pul-" + text(40, hexadecimal)),
        ("mailgun-key", "key-" + text(32, hexadecimal)),
        ("square-token", "sq0atp-" + text(22, _URLSAFE)),
    ]


def harmless(seed: int = 7) -> list[str]:
    """What is as random as a secret and is none."""
    draw = random.Random(seed)

    def encoded(size: int) -> str:
        return base64.b64encode(draw.randbytes(size)).decode()

    digits = draw.randbytes(16).hex()
    return [
        f"https://atp.vault.azure.net/keys/master-kek/{digits}",
        f"sha256:{draw.randbytes(32).hex()}",
        f'"integrity": "sha512-{encoded(64)}"',
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-9{digits[17:20]}-{digits[20:]}",
        f"atp/audit/s07\n4711\n{encoded(32)}\n\n— atp/audit/s07 {encoded(68)}\n",
        f"wrapped={encoded(384)}",
        f'"wrapped_key": "{encoded(40)}"',
        f'{{"kty":"RSA","n":"{base64.urlsafe_b64encode(draw.randbytes(256)).decode().rstrip("=")}","e":"AQAB"}}',
        f"public_key: {encoded(91)}",
        f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{encoded(39)} host",
        f"-----BEGIN PUBLIC KEY-----\n{encoded(48)}\n-----END PUBLIC KEY-----",
        f"-----BEGIN CERTIFICATE-----\n{encoded(48)}\n-----END CERTIFICATE-----",
        f"signature: {encoded(64)}",
        f'"key_version": "{digits}"',
        f"kid={digits}",
        f"traceparent: 00-{digits}-{digits[:16]}-01",
        f"W/\"datetime'2026-11-20T12%3A30%3A15.25Z'\" {digits}",
        'WWW-Authenticate: Bearer authorization="https://login.microsoftonline.com/x", resource="https://vault.azure.net"',
        "basic understanding of a bearer of tokens: none",
        "the token of the service was renewed; the secret is out",
        "password: none, secret=null, token=None",
    ]
