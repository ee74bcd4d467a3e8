"""Access keys of Azure accounts: the contract of rotators, and what is special about services that draw the values."""

import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final, override

import pytest

from rotation.fields import Fields
from rotation.rotators.base import Change, Credential, Notice, Place, Rotator, Surroundings, fingerprint
from rotation.rotators.registry import ROTATORS
from rotation.rotators.two_keys import LONGEST_LOOK_S, filled
from shared.errors import AtpError, Integrity, MissingPackage, Rejected, Throttled, Transient
from shared.secret import Secret
from tests.jobs.secret_scene import NAME
from tests.rotators.azure_accounts import (
    GROUP,
    SUBSCRIPTION,
    Account,
    Answer,
    Asked,
    CosmosAccount,
    Identity,
    QueueRule,
    ServiceBusRule,
    StorageAccount,
    TopicRule,
    Transport,
    bus_error,
    error,
    storage_error,
)
from tests.rotators.contract import CLOCKS, Bench, Engine, Mode, RotatorContract
from tests.simulator import Killed

ROOT: Final = Path(__file__).parents[2]
WHERE: Final = {"subscription": SUBSCRIPTION, "resource_group": GROUP}
STORAGE: Final = WHERE | {"account": "atpstore"}
COSMOS: Final = WHERE | {"account": "atp-cosmos"}
BUS: Final = WHERE | {"namespace": "atp-bus", "rule": "all"}


def parameters(kind: str, table: Mapping[str, object]) -> Any:
    mistakes: list[str] = []
    fields = Fields("[it]", dict(table), mistakes)
    found = ROTATORS[kind].read(fields)
    fields.finish()
    assert mistakes == []
    return found


def mistakes_of(kind: str, table: Mapping[str, object]) -> list[str]:
    mistakes: list[str] = []
    fields = Fields("[it]", dict(table), mistakes)
    ROTATORS[kind].read(fields)
    fields.finish()
    return mistakes


def made(kind: str, table: Mapping[str, object], account: Account | None) -> Rotator:
    around = Surroundings(
        secret=lambda name: pytest.fail(f"no business with {name}"),
        credential=Identity(),
        entropy=lambda _: pytest.fail("the service draws the values"),
        clock=lambda: datetime(2026, 11, 21, 12, tzinfo=UTC),
        transport=Transport(account),
    )
    return ROTATORS[kind].make(NAME, parameters(kind, table), around)


class Noting(Rotator):
    """A rotator, and who has learned which value from it."""

    def __init__(self, rotator: Rotator, known: set[bytes]) -> None:
        self._rotator = rotator
        self._known = known

    @override
    def locate(self, value: Secret) -> str:
        return self._rotator.locate(value)

    @override
    def place(self, current: Credential | None, generation: int) -> Place:
        return self._rotator.place(current, generation)

    @override
    def obtain(self, change: Change) -> Credential:
        new = self._rotator.obtain(change)
        self._known.add(new.value.reveal())
        return new

    @override
    def install(self, change: Change, new: Credential) -> bool:
        return self._rotator.install(change, new)

    @override
    def test(self, credential: Credential) -> bool:
        return self._rotator.test(credential)

    @override
    def announce(self, notice: Notice) -> None:
        self._rotator.announce(notice)

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        self._rotator.revoke(old, current)

    @override
    def abandon(self, change: Change) -> None:
        self._rotator.abandon(change)


class AccountBench(Bench):
    """An account whose second key nobody has read: such a value is no working credential."""

    can_begin = False

    def __init__(self, kind: str, table: Mapping[str, object], account: Account, template: str) -> None:
        super().__init__()
        self.kind, self.table, self.account, self.template = kind, table, account, template
        self.faults = account.faults
        self.known: set[bytes] = set()

    @override
    def rotator(self) -> Rotator:
        return Noting(made(self.kind, self.table, self.account), self.known)

    @override
    def unreachable(self) -> Rotator:
        return made(self.kind, self.table, None)

    def pair(self) -> tuple[str, str]:
        slots = [slot for slot in self.account.slots if ("Readonly" in slot) == (self.table.get("keys") == "read-only")]
        first, second = slots
        return first, second

    def value(self, key: str) -> Secret:
        return filled(self.template, key)

    @override
    def adopt(self) -> Secret:
        self.account.renew()
        value = self.value(self.account.keys[self.pair()[0]])
        self.known.clear()
        self.known.add(value.reveal())
        return value

    @override
    def wrong(self) -> Secret:
        return self.value(self.account.key())

    @override
    def working(self) -> set[bytes]:
        return self.known & {self.value(key).reveal() for key in self.account.keys.values()}

    @override
    def hidden(self, value: Secret) -> list[bytes]:
        before, _, behind = self.template.partition("{key}")
        return [value.reveal()[len(before) : -len(behind) or None]]


STORE_TEMPLATE: Final = (
    "DefaultEndpointsProtocol=https;AccountName=atpstore;AccountKey={key};EndpointSuffix=core.windows.net"
)
COSMOS_TEMPLATE: Final = "AccountEndpoint=https://atp-cosmos.documents.azure.com:443/;AccountKey={key};"
BUS_TEMPLATE: Final = "Endpoint=sb://atp-bus.servicebus.windows.net/;SharedAccessKeyName=all;SharedAccessKey={key}"
TESTED_BY_LISTING: Final = {"test": "listed", "template": "{key}"}


def storage() -> AccountBench:
    return AccountBench("storage-account", STORAGE, StorageAccount(), STORE_TEMPLATE)


def cosmos() -> AccountBench:
    return AccountBench("cosmos-db", COSMOS, CosmosAccount(), COSMOS_TEMPLATE)


def bus() -> AccountBench:
    return AccountBench("service-bus", BUS, ServiceBusRule(), BUS_TEMPLATE)


BENCHES: Final[Mapping[str, Callable[[], AccountBench]]] = {
    "storage": storage,
    "storage, tested by its listing": lambda: AccountBench(
        "storage-account", STORAGE | TESTED_BY_LISTING, StorageAccount(), "{key}"
    ),
    "cosmos": cosmos,
    "cosmos, the keys that only read": lambda: AccountBench(
        "cosmos-db", COSMOS | {"keys": "read-only"}, CosmosAccount(), COSMOS_TEMPLATE
    ),
    "bus": bus,
    "queue": lambda: AccountBench(
        "service-bus", BUS | {"queue": "jobs"}, QueueRule(), f"{BUS_TEMPLATE};EntityPath=jobs"
    ),
}
PLAIN: Final = {"storage": storage, "cosmos": cosmos, "bus": bus}


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest) -> AccountBench:
    return BENCHES[request.param]()


@pytest.fixture(params=PLAIN)
def plain(request: pytest.FixtureRequest) -> AccountBench:
    return PLAIN[request.param]()


class TestContract(RotatorContract):
    """For every kind of account."""


def adopted(bench: AccountBench) -> Engine:
    engine = Engine(bench)
    engine.adopt()
    return engine


def test_the_rule_of_a_topic_rotates_as_that_of_a_queue() -> None:
    template = f"{BUS_TEMPLATE};EntityPath=events"
    engine = adopted(AccountBench("service-bus", BUS | {"topic": "events"}, TopicRule(), template))
    engine.rotate()
    engine.check()


def test_the_key_in_use_is_regenerated_by_nothing_but_its_revocation(bench: AccountBench) -> None:
    first, second = bench.pair()
    engine = adopted(bench)
    change = engine.up_to("tested")
    engine.abandon(change)
    assert bench.account.regenerated == [second, second]
    engine.rotate()
    assert bench.account.regenerated == [second, second, second, first]


def test_both_keys_of_a_pair_are_replaced_by_one_rotation(bench: AccountBench) -> None:
    engine = adopted(bench)
    before = dict(bench.account.keys)
    engine.rotate()
    changed = {slot for slot, key in bench.account.keys.items() if key != before[slot]}
    assert changed == set(bench.pair())


def test_without_a_current_key_the_second_one_goes_first(plain: AccountBench) -> None:
    engine = Engine(plain)
    change = engine.place()
    assert change.place.slot == plain.pair()[1]
    new = engine.install(change, engine.obtain(change))
    assert engine.test(new)


def test_a_request_of_a_killed_worker_that_arrives_late_makes_the_new_key_void_and_another_is_taken(
    bench: AccountBench,
) -> None:
    engine = adopted(bench)
    change = engine.place()
    new = engine.obtain(change)
    bench.account.keys[change.place.slot] = bench.account.key()
    regenerated = len(bench.account.regenerated)
    assert not bench.rotator().install(change, new)
    again = engine.install(change, engine.obtain(change))
    assert again.value.reveal() != new.value.reveal()
    assert len(bench.account.regenerated) == regenerated, "taken as it is"
    engine.publish(again)
    engine.revoke()
    engine.check()


def test_a_key_that_was_regenerated_by_a_killed_worker_is_taken_and_not_regenerated_again(bench: AccountBench) -> None:
    engine = adopted(bench)
    change = engine.place()
    listed = 2 if isinstance(bench.account, CosmosAccount) else 1
    bench.faults.arm(listed + 1, Mode.KILLED_AFTER)
    with pytest.raises(Killed):
        bench.rotator().obtain(change)
    assert bench.faults.struck
    engine.obtain(change)
    assert bench.account.regenerated == [change.place.slot]


def test_an_abandoned_rotation_that_regenerated_nothing_regenerates_nothing(bench: AccountBench) -> None:
    engine = adopted(bench)
    engine.abandon(engine.place())
    assert bench.account.regenerated == []


def test_a_slot_that_holds_the_key_in_use_is_never_regenerated(bench: AccountBench) -> None:
    value = bench.adopt()
    first, second = bench.pair()
    key = Secret(bench.account.keys[first].encode())
    misplaced = Credential(second, value)
    rotator = bench.rotator()
    for method in (
        lambda: rotator.place(misplaced, 1),
        lambda: rotator.obtain(Change(NAME, 1, Place(first, fingerprint(key)), misplaced)),
        lambda: rotator.obtain(Change(NAME, 1, Place(first, fingerprint(key)), Credential(first, value))),
        lambda: rotator.abandon(Change(NAME, 1, Place(first, "0" * 32), misplaced)),
        lambda: rotator.revoke(Credential(first, value), misplaced),
        lambda: rotator.revoke(Credential(first, value), Credential(first, bench.wrong())),
    ):
        with pytest.raises(Integrity):
            method()
    assert bench.account.regenerated == []


def test_a_slot_that_the_service_does_not_have_is_reported(plain: AccountBench) -> None:
    engine = adopted(plain)
    current = engine.current
    assert current is not None
    with pytest.raises(Integrity, match="lists no key in the slot"):
        plain.rotator().revoke(Credential("key7", current.value), current)


def test_a_key_that_was_replaced_already_is_not_regenerated_by_a_revocation(plain: AccountBench) -> None:
    engine = adopted(plain)
    current = engine.current
    assert current is not None
    plain.rotator().revoke(Credential(plain.pair()[1], plain.wrong()), current)
    assert plain.account.regenerated == []


def test_values_of_another_template_go_on_being_understood(plain: AccountBench) -> None:
    adopted_value = plain.adopt()
    key = plain.account.keys[plain.pair()[0]]
    for text in (key, f'{{"account": "atp", "secret": "{key}"}}', f"EntityPath=x;AccountKey={key};A=b", f"{key}\n"):
        value = Secret(text.encode())
        assert plain.rotator().locate(value) == plain.rotator().locate(adopted_value)
        assert plain.rotator().test(Credential(plain.pair()[0], value))


def test_a_value_that_is_no_text_or_holds_several_keys_is_refused(plain: AccountBench) -> None:
    two = f"{plain.account.key()};{plain.account.key()}".encode()
    for value in (b"", b"\xff\xfe" * 40, two):
        with pytest.raises(Rejected, match="no key of the service, or several"):
            plain.rotator().locate(Secret(value))


def test_a_key_of_another_account_is_not_adopted(plain: AccountBench) -> None:
    with pytest.raises(Rejected, match="the service lists no such key"):
        plain.rotator().locate(plain.wrong())


def is_listing(asked: Asked) -> bool:
    return asked.path.endswith("/listKeys")


def is_served(asked: Asked) -> bool:
    return asked.host != "management.azure.com"


# Of Resource Manager, whatever was asked.
ANSWERS: Final[Mapping[str, tuple[Answer, type[AtpError], dict[str, object]]]] = {
    "no role": (error(403, "AuthorizationFailed"), Transient, {"status": 403, "code": "AuthorizationFailed"}),
    "a lock": (error(409, "ScopeLocked"), Transient, {"status": 409, "code": "ScopeLocked"}),
    "another operation": (error(412, "PreconditionFailed"), Transient, {"status": 412, "code": "PreconditionFailed"}),
    "no such account": (error(404, "ResourceNotFound"), Rejected, {"code": "ResourceNotFound"}),
    "a bad request": (error(400, "BadRequest"), Rejected, {"status": 400, "code": "BadRequest"}),
    "too much": (error(429, "TooManyRequests"), Throttled, {"status": 429, "retry_after": None}),
    "too much, and until when": (
        error(429, "TooManyRequests", **{"Retry-After": "17"}),
        Throttled,
        {"status": 429, "retry_after": 17.0},
    ),
    "out of order": (error(503, "ServiceUnavailable"), Transient, {"status": 503, "code": "ServiceUnavailable"}),
    "a code that is none": (error(500, "key 1 is abc"), Transient, {"status": 500, "code": ""}),
    "no document": (Answer(502, "<html>"), Transient, {"status": 502, "code": ""}),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_resource_manager_answers_is_told_apart_by_whether_trying_again_helps(
    plain: AccountBench, case: str
) -> None:
    answer, kind, fields = ANSWERS[case]
    plain.account.instead = lambda _: answer
    with pytest.raises(AtpError) as caught:
        plain.rotator().place(None, 1)
    assert type(caught.value) is kind
    assert caught.value.fields == fields
    assert len(plain.account.asked) == 1, "tried once"


def test_a_regeneration_that_fails_is_not_repeated_by_itself(plain: AccountBench) -> None:
    engine = adopted(plain)
    change = engine.place()
    plain.account.instead = lambda asked: (
        error(503, "ServerBusy") if "regenerate" in asked.path else None  # though it may have been done
    )
    with pytest.raises(Transient):
        plain.rotator().obtain(change)
    assert len([asked for asked in plain.account.asked if "regenerate" in asked.path]) == 1


@pytest.mark.parametrize(("clock", "moment"), CLOCKS)
def test_a_worker_that_was_slow_to_look_regenerates_nothing(
    plain: AccountBench, clock: str, moment: Callable[[float], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = adopted(plain)
    given_up = engine.up_to("obtained")
    engine.abandon(given_up)
    change, current = engine.place(), engine.current
    assert current is not None
    regenerated = list(plain.account.regenerated)
    late = count(step=LONGEST_LOOK_S + 1)
    monkeypatch.setattr(f"shared.clock.{clock}", lambda: moment(next(late)))
    old = Credential(change.place.slot, plain.value(plain.account.keys[change.place.slot]))
    rotator = plain.rotator()
    for method in (
        lambda: rotator.obtain(change),
        lambda: rotator.abandon(given_up),
        lambda: rotator.revoke(old, current),
    ):
        with pytest.raises(Transient, match="too slow for a regeneration"):
            method()
    assert plain.account.regenerated == regenerated


def test_a_listing_that_is_not_as_documented_stops_everything(plain: AccountBench) -> None:
    plain.account.instead = lambda asked: (
        Answer(200, "{}", {"Content-Type": "application/json"}) if is_listing(asked) else None
    )
    with pytest.raises(Integrity, match="listing of keys is not as documented"):
        plain.rotator().place(None, 1)


REFUSALS: Final = (
    (storage, storage_error(403, "AuthenticationFailed")),
    (cosmos, Answer(401, '{"code": "Unauthorized"}')),
    (bus, bus_error("InvalidSignature: The token has an invalid signature.")),
)


@pytest.mark.parametrize(("make", "refusal"), REFUSALS)
def test_a_refused_key_is_refused_though_it_is_listed(make: Callable[[], AccountBench], refusal: Answer) -> None:
    bench = make()
    engine = adopted(bench)
    bench.account.instead = lambda asked: refusal if is_served(asked) else None
    assert engine.current is not None
    assert not bench.rotator().test(engine.current)


IN_THE_WAY: Final[tuple[tuple[Callable[[], AccountBench], Answer, dict[str, object]], ...]] = (
    (storage, storage_error(403, "AuthorizationFailure"), {"status": 403, "code": "AuthorizationFailure"}),
    (
        storage,
        storage_error(403, "KeyBasedAuthenticationNotPermitted"),
        {"status": 403, "code": "KeyBasedAuthenticationNotPermitted"},
    ),
    (storage, storage_error(503, "ServerBusy"), {"status": 503, "code": "ServerBusy"}),
    (cosmos, Answer(403, '{"code": "Forbidden"}'), {"status": 403}),
    (cosmos, Answer(302, "", {"Location": "https://elsewhere.example/"}), {"status": 302}),
    (cosmos, Answer(429), {"status": 429}),
    (bus, bus_error("claim is empty or token is invalid. TrackingId:1"), {"status": 401}),
    (bus, Answer(403, "<Error><Code>403</Code></Error>"), {"status": 403}),
    (bus, Answer(429), {"status": 429}),
    (bus, Answer(500), {"status": 500}),
)


@pytest.mark.parametrize(("make", "answer", "fields"), IN_THE_WAY)
def test_what_is_not_about_the_key_is_no_refusal_of_it(
    make: Callable[[], AccountBench], answer: Answer, fields: dict[str, object]
) -> None:
    bench = make()
    engine = adopted(bench)
    bench.account.instead = lambda asked: answer if is_served(asked) else None
    assert engine.current is not None
    with pytest.raises(Transient) as caught:
        bench.rotator().test(engine.current)
    assert caught.value.fields == fields


def test_tested_by_its_listing_the_service_itself_is_not_asked() -> None:
    bench = BENCHES["storage, tested by its listing"]()
    adopted(bench).rotate()
    assert [asked for asked in bench.account.asked if is_served(asked)] == []


class SlowCosmos(CosmosAccount):
    """Is at work on a key for longer than one call waits."""

    looks = 100


def slow() -> tuple[AccountBench, SlowCosmos]:
    account = SlowCosmos()
    return AccountBench("cosmos-db", COSMOS, account, COSMOS_TEMPLATE), account


def test_a_key_is_not_taken_before_cosmos_has_done_its_work() -> None:
    bench, account = slow()
    engine = adopted(bench)
    change = engine.place()
    for _ in range(3):
        with pytest.raises(Transient, match="is at work on the account"):
            bench.rotator().obtain(change)
    assert account.regenerated == []
    account.finish()
    engine.obtain(change)
    assert account.regenerated == ["secondary"], "begun once"


def test_a_revocation_waits_for_cosmos_and_begins_no_second_one() -> None:
    bench, account = slow()
    engine = adopted(bench)
    change = engine.place()
    with pytest.raises(Transient):
        bench.rotator().obtain(change)
    account.finish()
    new = engine.obtain(change)
    current = engine.current
    assert current is not None
    for _ in range(2):
        with pytest.raises(Transient, match="is at work on the account"):
            bench.rotator().revoke(current, new)
    account.finish()
    bench.rotator().revoke(current, new)
    assert account.regenerated == ["secondary", "primary"]
    assert account.under_way == []


def test_a_rotation_given_up_is_done_with_when_cosmos_has_agreed_to_replace_the_key() -> None:
    bench, account = slow()
    engine = adopted(bench)
    change = engine.place()
    with pytest.raises(Transient):
        bench.rotator().obtain(change)
    account.finish()
    engine.obtain(change)
    bench.rotator().abandon(change)
    with pytest.raises(Transient, match="is at work on the account"):
        bench.rotator().place(engine.current, 2)
    account.finish()
    engine.check()


def test_a_regeneration_that_cosmos_has_not_begun_yet_is_waited_for() -> None:
    account = CosmosAccount()
    bench = AccountBench("cosmos-db", COSMOS, account, COSMOS_TEMPLATE)
    engine = adopted(bench)
    change = engine.place()
    account.instead = lambda asked: (
        Answer(202, '{"status": "Enqueued"}') if asked.path.endswith("/regenerateKey") else None
    )
    with pytest.raises(Transient, match="has not made the new key yet"):
        bench.rotator().obtain(change)


def test_a_key_that_is_still_listed_after_its_revocation_is_not_revoked_yet() -> None:
    bench = storage()
    engine = adopted(bench)
    old = engine.current
    engine.until_published()
    assert old is not None
    assert engine.current is not None
    bench.account.instead = lambda asked: (
        bench.account.listing() if asked.path.endswith("/regenerateKey") else None  # as if it were done
    )
    with pytest.raises(Transient, match="has not replaced the old key yet"):
        bench.rotator().revoke(old, engine.current)


PACKAGES: Final = {
    "storage-account": (STORAGE, "azure.mgmt.storage", "azure-mgmt-storage"),
    "cosmos-db": (COSMOS, "azure.mgmt.cosmosdb", "azure-mgmt-cosmosdb"),
    "service-bus": (BUS, "azure.mgmt.servicebus", "azure-mgmt-servicebus"),
}


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_package_that_is_not_installed_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table, module, package = PACKAGES[kind]
    parameters(kind, table)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackage) as caught:
        made(kind, table, None)
    assert caught.value.fields == {"package": package}


MISTAKES: Final[Mapping[str, tuple[str, dict[str, object], str]]] = {
    "no subscription": ("storage-account", {"subscription": "mine"}, "[it] subscription: 'mine' is not the id of a"),
    "no group": ("storage-account", {"resource_group": "a/b"}, "[it] resource_group: 'a/b' is not the name of a"),
    "no account": ("storage-account", {"account": "ATP"}, "[it] account: 'ATP' is not the name of a storage account"),
    "no such account": ("cosmos-db", {"account": "-"}, "[it] account: '-' is not the name of a Cosmos DB account"),
    "no keys": ("cosmos-db", {"keys": "all"}, "[it] keys: 'all' is not one of 'read-write', 'read-only'"),
    "no namespace": ("service-bus", {"namespace": "a.b"}, "[it] namespace: 'a.b' is not the name of a Service Bus"),
    "no rule": ("service-bus", {"rule": "?"}, "[it] rule: '?' is not the name of an authorization rule"),
    "two entities": ("service-bus", {"queue": "a", "topic": "b"}, "[it] has queue and topic: a rule is of one of them"),
    "no key in it": ("storage-account", {"template": "key"}, "[it] template: must hold {key} once"),
    "two keys in it": ("storage-account", {"template": "{key}{key}"}, "[it] template: must hold {key} once"),
    "a longer key": ("storage-account", {"template": "x{key}"}, "[it] template: must hold {key} once"),
    "no test": ("service-bus", {"test": "no"}, "[it] test: 'no' is not one of 'service', 'listed'"),
    "unknown": ("service-bus", {"colour": "blue"}, "[it] colour is an unknown field"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_the_catalog_is_named(case: str) -> None:
    kind, change, text = MISTAKES[case]
    table = {"storage-account": STORAGE, "cosmos-db": COSMOS, "service-bus": BUS}[kind]
    (mistake,) = mistakes_of(kind, table | change)
    assert mistake.startswith(text)


def test_what_is_missing_is_named() -> None:
    assert len(mistakes_of("storage-account", {})) == 3
    assert len(mistakes_of("cosmos-db", {})) == 3
    assert len(mistakes_of("service-bus", {})) == 4


def test_the_examples_of_the_runbook_are_read_without_a_mistake() -> None:
    page = (ROOT / "docs" / "runbooks" / "secrets-azure-keys.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    entries = tomllib.loads(example)
    assert len(entries) == 3
    for entry in entries.values():
        assert mistakes_of(entry["rotator"], entry["parameters"]) == []


def test_the_runbook_knows_what_is_said_when_a_person_is_needed() -> None:
    page = " ".join((ROOT / "docs" / "runbooks" / "secrets-azure-keys.md").read_text().split())
    source = (ROOT / "rotation" / "rotators" / "two_keys.py").read_text()
    said = re.findall(r'(?:Rejected|Integrity|Transient)\(\s*"([^"]+)"', source)
    assert len(said) > 8
    assert [text for text in said if text not in page] == []
