"""The vault's certificate authority and certificate: made once, reused by every later start on the same folder."""

import os
import ssl
from pathlib import Path

import trustme

_CA = "ca.pem"
_SERVER = "server.pem"


def ca_path(state: Path) -> Path:
    """What clients trust."""
    return state / _CA


def server_context(state: Path) -> ssl.SSLContext:
    """A context for `localhost` and the loopback addresses.

    The authority's own key is never written down, so that nothing else can be issued under it. The server's file comes
    last: dying before it is there makes the next start begin again.
    """
    server = state / _SERVER
    if not server.exists():
        authority = trustme.CA(organization_name="Local Key Vault")
        certificate = authority.issue_cert("localhost", "127.0.0.1", "::1")
        _write(ca_path(state), authority.cert_pem.bytes())
        _write(server, certificate.private_key_and_cert_chain_pem.bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server)
    return context


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, readable by the owner only."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)
