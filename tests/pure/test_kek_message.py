"""The messages of KEK rotation: read strictly, and the same after a journey."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.message import KekAction, KekOrder, RewrapBatch, Trigger
from shared.errors import InvalidMessage
from shared.values import SHARDS, KeyKind, KeyShape, Kid, TenantId
from tests.pure.keyrings import KID

ROTATE = KekOrder(KekAction.ROTATE, "master-kek", "r1", Trigger.MANUAL, "alice@atp", "yearly")
BATCH = RewrapBatch("master-kek", 3, 7, 17)

ORDERS: dict[str, KekOrder] = {
    "a rotation": ROTATE,
    "to a version that exists": replace(ROTATE, kid=Kid(KID), trigger=Trigger.VAULT),
    "to another kind, size and vault": replace(
        ROTATE, shape=KeyShape(KeyKind.RSA_HSM, 4096), vault="https://other.vault.azure.net", deadline_hours=24
    ),
    "after a compromise": replace(ROTATE, compromised=True),
    "a pause": replace(ROTATE, action=KekAction.PAUSE),
    "a rollback": replace(ROTATE, action=KekAction.ROLLBACK),
    "a rollback of a shard": replace(ROTATE, action=KekAction.ROLLBACK, shard=0),
    "a resumption of a tenant": replace(ROTATE, action=KekAction.RESUME, tenant=TenantId("acme")),
    "one that was put back": replace(ROTATE, attempt=3, failure="Transient", resent=1),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=list(ORDERS))
def test_an_order_is_the_same_after_a_journey(order: KekOrder) -> None:
    assert KekOrder.parse(order.to_json().encode(), "another") == order
    assert KekOrder.parse(order.again().to_json().encode(), "another").id == order.id


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, SHARDS - 1), st.integers(0, 300))
def test_a_batch_is_the_same_after_a_journey(generation: int, pass_number: int, shard: int, attempt: int) -> None:
    batch = RewrapBatch("master-kek", generation, pass_number, shard, attempt=attempt)
    assert RewrapBatch.parse(batch.to_json().encode(), "another") == batch
    assert batch.again().id == batch.id


def test_by_hand_few_fields_are_enough() -> None:
    body = {"schema": "kek-order/1", "action": "kek.pause", "kek": "master-kek", "reason": "lunch"}
    order = KekOrder.parse(json.dumps(body).encode(), "message-1")
    assert (order.request, order.trigger, order.actor) == ("message-1", Trigger.MANUAL, "operator")


WRONG_ORDERS: dict[str, dict[str, Any]] = {
    "another schema": {"schema": "kek-order/2"},
    "an unknown action": {"action": "kek.delete"},
    "no KEK": {"kek": None},
    "a KEK that is no name": {"kek": "master/kek"},
    "no reason": {"reason": ""},
    "a version that is no key id": {"kid": "https://atp.vault.azure.net/keys/master-kek"},
    "a version of another scheme": {"kid": KID.replace("https", "http")},
    "a kind without a size": {"kind": "RSA"},
    "a size without a kind": {"bits": 2048},
    "a kind and a size that do not go together": {"kind": "oct-HSM", "bits": 2048},
    "a short key": {"kind": "RSA", "bits": 1024},
    "a version that exists, and its kind": {"kid": KID, "kind": "RSA", "bits": 2048},
    "a version that exists, and a vault": {"kid": KID, "vault": "https://other.vault.azure.net"},
    "a vault with a path": {"vault": "https://other.vault.azure.net/keys"},
    "a deadline of nothing": {"deadline_hours": 0},
    "a deadline in minutes": {"deadline_hours": 0.5},
    "a compromise that is text": {"compromised": "no"},
    "a part of a rotation": {"shard": 3},
    "a compromise of a pause": {"action": "kek.pause", "compromised": True},
    "a version of a rollback": {"action": "kek.rollback", "kid": KID},
    "a part of a pause": {"action": "kek.pause", "shard": 3},
    "a shard that there is not": {"action": "kek.rollback", "shard": SHARDS},
    "two parts": {"action": "kek.rollback", "shard": 3, "tenant": "acme"},
    "a part that is no tenant": {"action": "kek.rollback", "tenant": "Acme Corp."},
    "an unknown field": {"colour": "red"},
}


@pytest.mark.parametrize("changes", WRONG_ORDERS.values(), ids=list(WRONG_ORDERS))
def test_an_order_that_does_not_follow_its_schema_is_refused(changes: dict[str, Any]) -> None:
    fields = json.loads(ROTATE.to_json()) | changes
    with pytest.raises(InvalidMessage):
        KekOrder.parse(json.dumps(fields).encode(), "another")


WRONG_BATCHES: dict[str, dict[str, Any]] = {
    "another schema": {"schema": "kek-order/1"},
    "no KEK": {"kek": None},
    "no generation": {"generation": None},
    "no pass": {"pass": None},
    "no shard": {"shard": None},
    "a shard that there is not": {"shard": SHARDS},
    "a pass of nothing": {"pass": 0},
    "an unknown field": {"after": "acme"},
}


@pytest.mark.parametrize("changes", WRONG_BATCHES.values(), ids=list(WRONG_BATCHES))
def test_a_batch_that_does_not_follow_its_schema_is_refused(changes: dict[str, Any]) -> None:
    fields = json.loads(BATCH.to_json()) | changes
    with pytest.raises(InvalidMessage):
        RewrapBatch.parse(json.dumps(fields).encode(), "another")
