"""What rotators are told of their own secret, by the app's own wiring, from a vault and a table."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from local.stack import Stack, running
from rotation.calendar import Every
from rotation.catalog import Entry, EntryKind, SecretPolicy
from rotation.rotators.base import Surroundings
from rotation.secret import unknown
from rotation.secret_versions import GENERATION_TAG
from shared.errors import Rejected
from shared.secret import Secret
from shared.values import SecretPhase

POLICY = SecretPolicy(
    Entry("bank", EntryKind.SECRET, "payments", Every(timedelta(days=90)), "bank-token"), "manual", None
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Storage and vault."""
    with running(tmp_path_factory.mktemp("surroundings"), quota=False) as stack:
        yield stack


@pytest.fixture
def around(stack: Stack) -> Surroundings:
    """Those of the entry `bank`, whose secret is `bank-token`."""
    return stack.adapters.surroundings(POLICY)


def test_the_last_version_is_the_one_that_consumers_read_though_all_were_made_in_one_second(
    stack: Stack, around: Surroundings
) -> None:
    assert around.versions() == []
    for number in range(8):
        made = stack.adapters.secrets.put("bank-token", Secret(b"%d" % number), {"number": f"{number}"}, None)
        versions = around.versions()
        assert versions[-1] == made
        assert sorted(each.tags["number"] for each in versions) == [f"{each}" for each in range(number + 1)]
    first = next(each for each in around.versions() if each.tags["number"] == "0")
    assert around.value(first.version).reveal() == b"0"
    stack.adapters.secrets.change("bank-token", first.version, {}, enabled=False)
    with pytest.raises(Rejected):
        around.value(first.version)


def test_what_a_person_has_put_aside_is_found_by_its_generation(stack: Stack, around: Surroundings) -> None:
    assert around.dropped(1) is None
    for generation, value in ((1, b"first"), (2, b"second")):
        stack.adapters.secrets.put("bank-token-pending", Secret(value), {GENERATION_TAG: f"{generation}"}, None)
    found = [around.dropped(generation) for generation in (1, 2, 3)]
    assert [each and each.reveal() for each in found] == [b"first", b"second", None]


def test_the_word_of_a_person_is_about_the_credential_that_is_being_revoked(stack: Stack, around: Surroundings) -> None:
    assert not around.confirmed("g1")
    row = replace(unknown("bank", stack.clock()), phase=SecretPhase.REVOKING, previous_slot="g1", pending_slot="g2")
    row = stack.adapters.secret_rotations.put(row)
    assert not around.confirmed("g1")
    row = stack.adapters.secret_rotations.put(replace(row, confirmed=True))
    assert [around.confirmed(slot) for slot in ("g1", "g2", "")] == [True, False, False]
    stack.adapters.secret_rotations.put(replace(row, phase=SecretPhase.ABANDONING))
    assert [around.confirmed(slot) for slot in ("g1", "g2", "")] == [False, True, False]
