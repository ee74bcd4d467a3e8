"""What credentials look like: one visible list, Azure's first.

The shapes are what issuers publish of their keys, so that these can be found: fixed lengths with a signature at a fixed
place. There is no rule about entropy: hashes, ids, signatures, wrapped keys and public keys are as random as secrets.
Everything is written so that RE2 and `re` read it alike, without looking around and without nested repetition.
"""

from binascii import a2b_base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# One character of standard base64, and what URLs and .NET's JSON make of `+` and `/`.
_C: Final = r"(?:[A-Za-z0-9+/]|%2[BbFf]|\\{1,9}u002[BbFf]|\\{1,9}/)"
_PLUS: Final = r"(?:\+|%2[Bb]|\\{1,9}u002[Bb])"
_EQUALS: Final = r"(?:=|%3[Dd]|\\{1,9}u003[Dd])"
# What may stand in front: nothing, an escape whose last letter is no part of the secret, or what cannot be in one.
_ESCAPE: Final = r"\\{1,9}(?:[nrtbf]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})|%[0-9A-Fa-f]{2}"
_BEFORE: Final = rf"(?:^|{_ESCAPE}|[^A-Za-z0-9+/_-])"
_BEFORE_WORD: Final = rf"(?:^|{_ESCAPE}|[^A-Za-z0-9_-])"
_START: Final = rf"(?:^|{_ESCAPE}|[^A-Za-z0-9_])"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One shape. The secret is group 1 of `shape`, or all of it where it has no group."""

    kind: str
    trigger: str  # what every text has in which `shape` can be; cheap, all of them are looked for at once
    shape: str
    is_one: Callable[[str], bool] | None = None  # what a shape cannot say of the secret


def _is_user_and_password(found: str) -> bool:
    """RFC 7617: base64 of a user, a colon and a password; `Basic` is a word of English, too."""
    try:
        return b":" in a2b_base64(found.rstrip("=") + "=" * (-len(found.rstrip("=")) % 4))
    except ValueError:
        return False


def _is_token(found: str) -> bool:
    """Not a parameter of a challenge, as in `Bearer authorization_uri=`."""
    return any(character.isdigit() or character.isupper() for character in found) or not found.endswith("=")


AZURE: Final = (
    Pattern(
        "azure-storage-key",  # of Storage, Cosmos DB, Batch, ML and API Management: 64 bytes
        r"\+ASt|2[Bb]ASt|ACDb|\+ABa|2[Bb]ABa|\+AMC|2[Bb]AMC|APIM",
        rf"{_BEFORE}({_C}{{76}}(?:{_PLUS}(?:ASt|ABa|AMC)|ACDb|APIM){_C}{{5}}[AQgw]{_EQUALS}{{2}})",
    ),
    Pattern(
        "azure-key",  # of Redis, IoT, Event Grid, Service Bus, Event Hubs and Relay: 32 bytes
        r"AzCa|AIoT|AZEG|\+ASb|2[Bb]ASb|\+AEh|2[Bb]AEh|\+ARm|2[Bb]ARm",
        rf"{_BEFORE}({_C}{{33}}(?:AzCa|AIoT|AZEG|{_PLUS}(?:ASb|AEh|ARm))[A-P]{_C}{{5}}{_EQUALS})",
    ),
    Pattern("azure-registry-key", r"\+ACR|2[Bb]ACR", rf"{_BEFORE}({_C}{{42}}{_PLUS}ACR[A-D]{_C}{{5}})"),
    Pattern("azure-search-key", "AzSe", rf"{_BEFORE}([A-Za-z0-9]{{42}}AzSe[A-D][A-Za-z0-9]{{5}})"),
    Pattern(
        "azure-function-key",
        "AzFu",
        rf"{_BEFORE_WORD}([A-Za-z0-9_-]{{44}}AzFu[A-Za-z0-9_-]{{5}}[AQgw]{_EQUALS}{{0,2}})",
    ),
    Pattern(
        "azure-devops-token",
        "AZDO",
        rf"{_BEFORE}([A-Za-z0-9]{{76}}AZDO[A-Za-z0-9]{{4}})",
    ),
    Pattern(
        "azure-annotated-key",  # of AI services, OpenAI, Maps, Communication Services and most newer ones
        "JQQJ",
        rf"{_BEFORE}([A-Za-z0-9+/_-]{{20,88}}JQQJ[A-Za-z0-9+/_-]{{16,88}}={{0,2}})",
    ),
    Pattern(
        "entra-secret",
        r"[78]Q~",
        rf"(?:^|{_ESCAPE}|[^A-Za-z0-9~._-])([A-Za-z0-9~._-]{{3}}[78]Q~[A-Za-z0-9~._-]{{31,34}})",
    ),
    Pattern(
        "sas",
        r"(?i)sig(?:=|%3d|\\{1,9}u003d)",
        r"(?i)(?:\b|%26|%3f|u0026)sig(?:=|%3d|\\{1,9}u003d)((?:[A-Za-z0-9+/=_-]|%(?:25)?(?:2[bf]|3d)|\\{1,9}u00(?:2[bf]|3d)){16,})",
    ),
    Pattern("function-code", r"[?&]code=", r"[?&]code=([A-Za-z0-9%/_=+-]{40,})"),
    Pattern(
        "certificate-bundle",
        "IBAzCC",
        r"(MI[I-L][A-Za-z0-9+/]{2}[AQgw]IBAzCC[A-Za-z0-9+/=\s]*)",
    ),
)
"""Shapes of Azure's own keys, tokens and signatures."""

GENERAL: Final = (
    Pattern(
        "private-key",  # PKCS #8 in base64, without its armour: RSA, elliptic curves
        "ANBgkqhkiG9w0BAQEFAASC|AMBMGByqGSM49AgEG|AgEAMBAGByqGSM49AgEG",
        r"(MI[GHI][A-Za-z0-9+/]{1,8}(?:ANBgkqhkiG9w0BAQEFAASC|AgEAM[BD]A?M?GByqGSM49AgEG)[A-Za-z0-9+/=]*)",
    ),
    Pattern("jwk", r'\\{0,9}"kty\\{0,9}"', r'\\{0,9}"(?:d|p|q|dp|dq|qi|k)\\{0,9}"\s?:\s?\\{0,9}"([A-Za-z0-9_-]{40,})'),
    Pattern("jwt", "eyJ", rf"{_START}(eyJ[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{8,}}(?:\.[A-Za-z0-9_-]*){{1,3}})"),
    Pattern("bearer", r"(?i)bearer\s", r"(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{16,})", _is_token),
    Pattern("basic", r"(?i)basic\s", r"(?i)\bbasic\s+([A-Za-z0-9+/=]{8,})", _is_user_and_password),
    Pattern(
        "url-password",
        r"""(?:://|:\\{1,9}/\\{1,9}/)[^\s/"'<>\\\[\]@]*@""",
        r"""(?:://|:\\{1,9}/\\{1,9}/)([^\s:/@"'<>\\\[\]]{0,100}:[^\s/"'<>\\\[\]]{1,200})@""",
    ),
    Pattern("credential", r"login\s", r"\blogin\s+\S+\s+password\s+([^\s\"'`\[\\]+)"),  # .netrc
    Pattern(
        "xml-password", r"(?i)password>|pwd>|secret>", r"(?i)<[a-z:]{0,40}(?:password|pwd|secret)>([^<\[]{1,200})</"
    ),
)
"""Shapes that many issuers share."""

VENDORS: Final = (
    Pattern("aws-key", r"A(?:KIA|SIA|BIA|CCA)", rf"{_START}(A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{{16}})\b"),
    Pattern(
        "github-token",
        "gh[pousr]_|github_pat_",
        rf"{_START}(gh[pousr]_[A-Za-z0-9]{{36,}}|github_pat_[A-Za-z0-9_]{{22,}})",
    ),
    Pattern(
        "gitlab-token",
        "gl[a-z]{2,5}-",
        rf"{_BEFORE_WORD}(gl(?:pat|ptt|dt|rt|cbt|ft|imt|agent|soat|oas|ffct)-[A-Za-z0-9_.-]{{20,}})",
    ),
    Pattern("slack-token", "xox[abeoprs]-|xapp-", rf"{_BEFORE_WORD}((?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{{10,}})"),
    Pattern(
        "slack-webhook",
        r"hooks\.slack\.com",
        r"hooks\.slack\.com/services/(T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,})",
    ),
    Pattern(
        "stripe-key",
        "k_live_|k_test_|whsec_",
        rf"{_START}([rsp]k_(?:live|test)_[A-Za-z0-9]{{16,}}|whsec_[A-Za-z0-9+/=]{{24,}})",
    ),
    Pattern("sendgrid-key", r"SG\.", rf"{_START}(SG\.[A-Za-z0-9_-]{{16,32}}\.[A-Za-z0-9_-]{{16,64}})"),
    Pattern("npm-token", "npm_", rf"{_START}(npm_[A-Za-z0-9]{{36}})\b"),
    Pattern("pypi-token", "pypi-A", rf"{_START}(pypi-A[A-Za-z0-9_-]{{50,}})"),
    Pattern("nuget-key", "oy2", rf"{_START}(oy2[a-z2-7]{{43}})\b"),
    Pattern("docker-token", "dckr_", rf"{_START}(dckr_(?:pat|oat)_[A-Za-z0-9_-]{{27,}})"),
    Pattern(
        "google-key",
        "AIza|GOCSPX-|ya29",
        rf"{_START}(AIza[A-Za-z0-9_-]{{35}}|GOCSPX-[A-Za-z0-9_-]{{28}}|ya29\.[A-Za-z0-9_-]{{20,}})",
    ),
    Pattern("anthropic-key", "sk-ant-", rf"{_BEFORE_WORD}(sk-ant-[A-Za-z0-9_-]{{20,}})"),
    Pattern("openai-key", "sk-[A-Za-z0-9]", rf"{_BEFORE_WORD}(sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{{32,}})"),
    Pattern(
        "hashicorp-token",
        r"hv[sbr]\.|atlasv1",
        rf"{_START}(hv[sbr]\.[A-Za-z0-9_-]{{24,}}|[A-Za-z0-9]{{14}}\.atlasv1\.[A-Za-z0-9_=-]{{60,}})",
    ),
    Pattern("twilio-key", "SK[0-9a-f]{8}", rf"{_START}(SK[0-9a-f]{{32}})\b"),
    Pattern("digitalocean-token", "do[opr]_v1_", rf"{_START}(do[opr]_v1_[0-9a-f]{{64}})"),
    Pattern("age-key", "AGE-SECRET-KEY-1", r"(AGE-SECRET-KEY-1[A-Z0-9]{58})"),
    Pattern("databricks-token", "dapi[0-9a-f]{8}", rf"{_START}(dapi[0-9a-f]{{32}}(?:-[0-9])?)"),
    Pattern("hugging-face-token", "hf_", rf"{_START}(hf_[A-Za-z]{{34}})\b"),
    Pattern("grafana-token", "gl(?:sa|c)_", rf"{_START}(gl(?:sa|c)_[A-Za-z0-9_+/=-]{{32,}})"),
    Pattern("doppler-token", r"dp\.", rf"{_START}(dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{{40,}})"),
    Pattern("atlassian-token", "ATATT3|ATCTT3", rf"{_START}(AT[AC]TT3[A-Za-z0-9_=-]{{60,}})"),
    Pattern("postman-key", "PMAK-", rf"{_START}(PMAK-[0-9a-f]{{24}}-[0-9a-f]{{34}})"),
    Pattern("shopify-token", "shp[a-z]{2}_", rf"{_START}(shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{{32}})"),
    Pattern("pulumi-token", "pul-", rf"{_START}(pul-[0-9a-f]{{40}})"),
    Pattern("mailgun-key", "key-[0-9a-f]{8}", rf"{_START}(key-[0-9a-f]{{32}})\b"),
    Pattern("telegram-token", ":AA", rf"{_START}([0-9]{{8,10}}:AA[A-Za-z0-9_-]{{33}})"),
    Pattern("square-token", "sq0", rf"{_START}(sq0(?:atp|csp)-[A-Za-z0-9_-]{{22,43}})"),
)
"""Shapes of other issuers' tokens, most with a prefix of their own."""

NAME_ENDS: Final = (
    r"password|passwd|passphrase|passcode|passwort|[_-]pass|pwd|secret|token|key|credential"
    r"|connection[_-]?string|access[_-]?signature|identified\s{1,4}by"
)
"""How names of secrets end: `dbPassword`, `DB_PASS`, `x-api-key`; in small letters; the last one is SQL."""
KEY_OWNERS: Final = (
    r"(?:api|account|access|shared|private|auth|secret|client|app|functions?|storage|subscription|master|host|primary"
    r"|secondary|admin|cosmos|redis|sas)[_-]?"
)
"""What stands in front of `key` where that is a secret; other keys are names of things."""
NAME_TAILS: Final = r"(?:[_-]?(?:access[_-]?)?key|[_-]?(?:value|string|text|bytes))?s?"
"""What may follow the end of a name: `secretAccessKey`, `token_value`."""
