"""Secrets planted wherever text can enter are found nowhere afterwards: not in a log, a table, a queue or a blob."""

import base64
import io
import itertools
import json
import logging
import random
import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rotation.message import KEK_ORDERS, PLAN_SHARDS, REWRAP_BATCHES, ROTATION_JOBS, SECRET_JOBS
from shared import log
from tests.local.scene import Scene, scene_in
from tests.local.test_end_to_end import NEAR_EXPIRY, WEBHOOK, call

_CHANCE = random.Random(4711)


def drawn(count: int, letters: str = string.ascii_letters + string.digits) -> str:
    return "".join(_CHANCE.choices(letters, k=count))


SHAPES: dict[str, Callable[[], tuple[str, str]]] = {
    "storage key": lambda: (key := base64.b64encode(_CHANCE.randbytes(64)).decode(), f"AccountName=a;AccountKey={key}"),
    "token in a header": lambda: (token := drawn(40), f"Authorization: Bearer {token}"),
    "signature of a SAS": lambda: (sig := drawn(43), f"https://a.blob.core.windows.net/c?sv=2025&sig={sig}%3D"),
    "password in a URL": lambda: (word := drawn(16), f"postgres://atp:{word}@db.example/atp"),
    "password": lambda: (word := drawn(16), f"dbPassword: '{word}'"),
    "token of a vendor": lambda: (token := "glpat-" + drawn(20), token),
}
"""Makes a secret and a text that it stands in."""
MESSAGES: dict[str, dict[str, Any]] = {
    ROTATION_JOBS: {"schema": "rotation-job/1", "action": "dek.rotate", "tenant": "planted", "reason": "none"},
    KEK_ORDERS: {"schema": "kek-order/1", "action": "kek.pause", "kek": "master-kek", "reason": "none"},
    SECRET_JOBS: {"schema": "secret-order/1", "action": "secret.rotate", "entry": "planted", "reason": "none"},
    PLAN_SHARDS: {"schema": "plan-shard/1", "shard": 1},
    REWRAP_BATCHES: {"schema": "rewrap-batch/1", "kek": "master-kek", "generation": 1, "pass": 1, "shard": 1},
}
FIELDS = (
    "reason",
    "actor",
    "tenant",
    "request",
    "target",
    "failure",
    "because",
    "schema",
    "action",
    "trigger",
    "kek",
    "entry",
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A host that logs all it can."""
    with scene_in(tmp_path_factory.mktemp("planted"), ATP_LOG_LEVEL="DEBUG") as scene:
        scene.new_host()
        yield scene


class Planting:
    """Makes secrets and remembers them."""

    def __init__(self) -> None:
        self.secrets: list[str] = []
        self._shapes = itertools.cycle(SHAPES.values())

    def __call__(self) -> str:
        """A text with a new secret in it."""
        secret, text = next(self._shapes)()
        self.secrets.append(secret)
        return text


def test_what_is_planted_anywhere_is_found_nowhere(scene: Scene) -> None:
    planted = Planting()
    scene.add("planted")
    host = scene.stack.hosts[0]

    for queue, message in MESSAGES.items():
        for number, field in enumerate(FIELDS * 2):
            unique = {"request": f"{queue}-{number}"} if "action" in message else {}
            scene.send(json.dumps(message | unique | {field: planted()}), queue)
        scene.send(planted(), queue)
        scene.send(base64.b64encode(planted().encode()).decode(), queue)
        scene.send(json.dumps({planted(): "as a name"}), queue)
        scene.send(json.dumps(planted()), queue)
    for _ in range(3):
        name = "glpat-" + drawn(20, string.ascii_lowercase + string.digits)
        planted.secrets.append(name)
        scene.send(json.dumps(MESSAGES[ROTATION_JOBS] | {"tenant": name, "request": f"tenant-{name[6:9]}"}))

    (event,) = NEAR_EXPIRY
    event = event | {"data": event["data"] | {"VaultName": "localhost"}}
    for field in ("id", "topic", "subject", "eventType", "eventTime"):
        call(host, WEBHOOK, json.dumps([event | {field: planted()}]))
    for field in event["data"]:
        call(host, WEBHOOK, json.dumps([event | {"data": event["data"] | {field: planted()}}]))
    call(host, WEBHOOK, planted())
    call(host, f"/api/health?{drawn(4)}={planted().replace(' ', '%20')}")

    said = [
        scene.operate("tenant", "rotate", "planted", "--reason", planted()),
        scene.operate("tenant", "rotate", planted()),
        scene.operate("kek", "pause", "master-kek", "--reason", planted(), "--actor", "tester"),
        scene.operate("secret", "rotate", planted(), "--reason", planted()),
        scene.operate("secret", "status", planted()),
        scene.operate("letters", "drop", planted()),
        scene.operate("audit", "list", "--tenant", planted()),
    ]

    scene.settle()
    scene.sign()
    scene.check_no_secrets(*planted.secrets)
    for done in said:
        output = done.stdout + done.stderr
        assert scene.known.mask(output) == output
    assert len(planted.secrets) > 120
    assert any("[REDACTED:" in record["reason"] for record in scene.audit()), "they did get that far"


def test_the_sdks_log_no_secret_however_much_they_log(scene: Scene) -> None:
    """Requests with the account's key, and the vault's answers, at DEBUG, through the app's own logging."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    sdk = logging.getLogger("azure")
    before = sdk.level
    sdk.addHandler(handler)
    try:
        log.configure("DEBUG")
        sdk.setLevel(logging.DEBUG)
        scene.learn("planted")
        list(scene.tenants())
        sdk.debug("headers %s", {"Authorization": f"SharedKey a:{scene.stack.azurite.connection_string}"})
    finally:
        sdk.removeHandler(handler)
        sdk.setLevel(before)
        log.configure("WARNING")
    text = stream.getvalue()
    key = scene.stack.azurite.connection_string.split("AccountKey=")[1].split(";")[0]
    assert "Request" in text
    assert key not in text
    scene.known.add(key.encode())
    assert scene.known.mask(text) == text
