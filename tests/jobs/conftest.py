"""A small world, for tests that walk it often."""

import pytest

import rotation.kek
import rotation.kek_job
import rotation.planner_job
import shared.values

SHARDS = 2


@pytest.fixture
def few_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shards instead of 64: a rotation makes most of its calls per shard, and shards do not know of each other."""
    for module in (shared.values, rotation.kek, rotation.kek_job, rotation.planner_job):
        monkeypatch.setattr(module, "SHARDS", SHARDS)
