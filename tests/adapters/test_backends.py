"""The contract suite misses no port."""

import inspect
from typing import get_protocol_members, get_type_hints, is_protocol

from shared import ports
from tests.adapters.backends import Backend

NO_TWIN = {ports.TimestampAuthority, ports.AlertSink}
"""Ports that the simulator leaves out, with tests of their own."""


def test_every_port_has_its_place_in_the_contract() -> None:
    all_ports = {value for _, value in inspect.getmembers(ports, inspect.isclass) if is_protocol(value)}
    assert {hint for hint in get_type_hints(Backend).values() if is_protocol(hint)} == all_ports - NO_TWIN
    assert all(get_protocol_members(port) for port in all_ports)
