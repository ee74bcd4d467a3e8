"""The messages about secrets: read strictly, and the same after a journey."""

import json
from dataclasses import replace
from typing import Any

import pytest

from rotation.message import SecretAction, SecretOrder, Trigger
from shared.errors import InvalidMessage

ROTATE = SecretOrder(SecretAction.ROTATE, "orders-database", "r1", Trigger.MANUAL, "alice@atp", "a ticket")

ORDERS: dict[str, SecretOrder] = {
    "a rotation": ROTATE,
    "a rotation that was planned": replace(ROTATE, generation=7, trigger=Trigger.SCHEDULE),
    "a rotation upon an event": replace(ROTATE, generation=7, trigger=Trigger.VAULT),
    "after a compromise": replace(ROTATE, compromised=True),
    "a rollback": replace(ROTATE, action=SecretAction.ROLLBACK, generation=7),
    "a confirmation": replace(ROTATE, action=SecretAction.CONFIRM, generation=7),
    "a look at a secret that was never rotated": replace(ROTATE, action=SecretAction.DRIVE, generation=0),
    "one that was put back": replace(ROTATE, attempt=3, failure="Transient", because="no answer", resent=1),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=list(ORDERS))
def test_an_order_is_the_same_after_a_journey(order: SecretOrder) -> None:
    assert SecretOrder.parse(order.to_json().encode(), "another") == order
    assert SecretOrder.parse(order.again().to_json().encode(), "another").id == order.id


def test_by_hand_few_fields_are_enough() -> None:
    body = {"schema": "secret-order/1", "action": "secret.rotate", "entry": "orders-database", "reason": "a ticket"}
    order = SecretOrder.parse(json.dumps(body).encode(), "message-1")
    assert (order.request, order.trigger, order.actor) == ("message-1", Trigger.MANUAL, "operator")
    assert (order.generation, order.compromised) == (None, False)


WRONG: dict[str, dict[str, Any]] = {
    "another schema": {"schema": "secret-order/2"},
    "an unknown action": {"action": "secret.delete"},
    "no entry": {"entry": None},
    "an entry that is no name": {"entry": "orders/database"},
    "no reason": {"reason": " "},
    "a reason on two lines": {"reason": "a\nb"},
    "the generation before the first": {"generation": 0},
    "a generation that is no number": {"generation": "7"},
    "a compromise that is text": {"compromised": "no"},
    "a rollback of no rotation": {"action": "secret.rollback"},
    "a confirmation of no rotation": {"action": "secret.confirm"},
    "a drive of no rotation": {"action": "secret.drive"},
    "a compromise of a rollback": {"action": "secret.rollback", "generation": 1, "compromised": True},
    "a value": {"value": "never"},
    "an actor with a blank": {"actor": "Alice Smith"},
    "an unknown field": {"colour": "red"},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=list(WRONG))
def test_an_order_that_does_not_follow_its_schema_is_refused(changes: dict[str, Any]) -> None:
    fields = {"schema": "secret-order/1", "action": "secret.rotate", "entry": "orders-database", "reason": "a ticket"}
    with pytest.raises(InvalidMessage):
        SecretOrder.parse(json.dumps(fields | changes).encode(), "message-1")
