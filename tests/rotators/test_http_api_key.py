"""API keys of services: the contract of rotators over real HTTP on loopback, and everything that a service can do."""

import asyncio
import contextlib
import logging
import re
import socket
import tomllib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final, override

import pytest
import requests
from aiohttp import ClientConnectionResetError, web
from hypothesis import given
from hypothesis import strategies as st

from rotation.fields import Fields
from rotation.rotators import http_api_key
from rotation.rotators.base import Change, Credential, Place, Rotator, Surroundings
from rotation.rotators.http_api_key import LONGEST_CALL_S, MAX_ANSWER, MAX_PAGES, HttpApiKeys, HttpApiParameters
from rotation.rotators.registry import ROTATORS
from shared.errors import AtpError, Integrity, Rejected, Throttled, Transient
from shared.secret import Secret
from tests.jobs.secret_scene import NAME
from tests.rotators.contract import CLOCKS, Bench, Faults, RotatorContract
from tests.rotators.key_service import ADMIN, KeyService

ROOT: Final = Path(__file__).parents[2]
EXISTING: Final = "by-hand.1"


def table(url: str) -> dict[str, Any]:
    """What the catalog says of the service."""
    return {
        "url": f"{url}/v1",
        "existing_id": EXISTING,
        "admin": {"secret": "vendor-admin", "header": "X-Admin", "template": "Token {token}"},
        "create": {
            "path": "/keys",
            "body": '{"name": "{label}", "scopes": ["read"]}',
            "id": "/data/id",
            "key": "/data/secret/0",
        },
        "list": {
            "path": "/keys?limit=100",
            "items": "/data",
            "id": "/id",
            "label": "/name",
            "state": "/status",
            "working": ["active"],
            "next": "/links/next",
        },
        "revoke": {"path": "/keys/{id}"},
        "test": {"path": "/me"},
    }


def read(given: Mapping[str, Any]) -> tuple[HttpApiParameters, list[str]]:
    mistakes: list[str] = []
    fields = Fields("[vendor]", dict(given), mistakes)
    found = ROTATORS["http-api-key"].read(fields)
    fields.finish()
    return found, mistakes


def made(port: int, *, patience_s: float = 10.0, change: Mapping[str, Mapping[str, Any]] | None = None) -> HttpApiKeys:
    given = table(f"http://127.0.0.1:{port}")
    for name, fields in (change or {}).items():
        given[name] = given[name] | fields
    parameters, mistakes = read(given)
    assert mistakes == []
    return HttpApiKeys(NAME, parameters, around(), patience_s=patience_s)


def around() -> Surroundings:
    def secret(name: str) -> Secret:
        assert name == "vendor-admin"
        return Secret(ADMIN.encode())

    return Surroundings(
        secret=secret,
        credential=None,  # type: ignore[arg-type]  # no business with Azure
        entropy=lambda _: pytest.fail("the service draws the values"),
        clock=lambda: datetime(2026, 11, 21, 12, tzinfo=UTC),
    )


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_what_two_entries_must_not_share_is_the_key_that_was_there_before() -> None:
    given = table("https://api.example")
    assert read(given)[0].targets == {f"key {EXISTING} at https://api.example/v1"}
    del given["existing_id"]
    assert read(given)[0].targets == frozenset()


class ServiceBench(Bench):
    """A service, and a fault around every request to it."""

    def __init__(self, service: KeyService) -> None:
        super().__init__()
        self.service = service
        self.faults = Faults(lost=lambda: requests.ConnectionError("no answer"))

    @override
    def rotator(self) -> Rotator:
        return made(self.service.port)

    @override
    def unreachable(self) -> Rotator:
        return made(closed_port())

    @override
    def clear(self) -> None:
        self.service.keys.clear()

    @override
    def adopt(self) -> Secret:
        self.clear()
        return Secret(self.service.add("by hand", EXISTING).value.encode())

    @override
    def wrong(self) -> Secret:
        return Secret(b"never-made")

    @override
    def working(self) -> set[bytes]:
        return self.service.working()


SERVICES: Final[Mapping[str, Mapping[str, Any]]] = {"keeps": {}, "forgets": {"forgets": True}, "pages": {"page": 1}}


@pytest.fixture(scope="module", params=SERVICES)
def any_service(request: pytest.FixtureRequest) -> Iterator[KeyService]:
    with KeyService(**SERVICES[request.param]).running() as service:
        yield service


@pytest.fixture
def bench(any_service: KeyService, monkeypatch: pytest.MonkeyPatch) -> ServiceBench:
    bench = ServiceBench(any_service)
    any_service.instead = {}

    class FaultySession(requests.Session):
        @override
        def request(self, *args: Any, **options: Any) -> requests.Response:
            return bench.faults.around(lambda: super(FaultySession, self).request(*args, **options))

    monkeypatch.setattr(http_api_key, "Session", FaultySession)
    return bench


class TestContract(RotatorContract):
    """For services that list what is revoked, that do not, and that list page by page."""


@pytest.fixture(scope="module")
def the_service() -> Iterator[KeyService]:
    with KeyService().running() as service:
        yield service


@pytest.fixture
def service(the_service: KeyService) -> Iterator[KeyService]:
    the_service.keys.clear()
    the_service.asked.clear()
    yield the_service
    the_service.instead = {}


def current_of(service: KeyService) -> Credential:
    key = service.add("by hand", EXISTING)
    return Credential(key.id, Secret(key.value.encode()))


def test_a_key_says_by_its_label_for_which_secret_and_rotation_it_was_made(service: KeyService) -> None:
    new = made(service.port).obtain(Change(NAME, 7, Place(""), current_of(service)))
    assert service.labels() == ["by hand", f"{NAME}-g7"]
    assert [key.id for key in service.keys if key.label == f"{NAME}-g7"] == [new.slot]


def test_what_a_killed_worker_has_made_goes_before_another_one_is_made(service: KeyService) -> None:
    change = Change(NAME, 7, Place(""), current_of(service))
    lost = service.add(f"{NAME}-g7")
    new = made(service.port).obtain(change)
    assert not lost.works
    assert service.asked == ["GET /v1/keys", "DELETE /v1/keys/", "POST /v1/keys"]
    assert made(service.port).install(change, new)


def test_a_key_that_was_made_late_for_a_rotation_given_up_goes_with_the_next_one(service: KeyService) -> None:
    current = current_of(service)
    late = service.add(f"{NAME}-g7")
    made(service.port).obtain(Change(NAME, 8, Place(""), current))
    assert not late.works


def test_a_key_that_was_made_late_for_this_rotation_goes_when_the_old_one_does(service: KeyService) -> None:
    current = current_of(service)
    new = made(service.port).obtain(Change(NAME, 7, Place(""), current))
    service.add(f"{NAME}-g7")
    made(service.port).revoke(current, new)
    assert service.working() == {new.value.reveal()}


def test_the_key_in_use_stays_whatever_its_label(service: KeyService) -> None:
    key = service.add(f"{NAME}-g7")
    current = Credential(key.id, Secret(key.value.encode()))
    rotator = made(service.port)
    new = rotator.obtain(Change(NAME, 8, Place(""), current))
    rotator.abandon(Change(NAME, 8, Place(""), current))
    rotator.revoke(new, current)
    assert service.working() == {current.value.reveal()}


@pytest.mark.parametrize(
    "label", ["by hand too", f"{NAME}-g8", f"other-{NAME}-g7", f"{NAME}-g7-g1", f"{NAME}-g07", f"{NAME}-g", "", NAME]
)
def test_keys_of_others_and_of_later_rotations_are_not_touched(service: KeyService, label: str) -> None:
    stranger = service.add(label)
    made(service.port).abandon(Change(NAME, 7, Place(""), None))
    assert stranger.works
    assert service.asked == ["GET /v1/keys"]


def test_a_service_that_does_not_list_our_labels_gets_no_second_chance_to_lose_a_key(service: KeyService) -> None:
    rotator = made(service.port, change={"list": {"label": "/title"}})
    current = current_of(service)
    new = rotator.obtain(Change(NAME, 7, Place(""), current))
    with pytest.raises(Rejected, match="does not list the label"):
        rotator.install(Change(NAME, 7, Place(""), current), new)
    rotator.abandon(Change(NAME, 7, Place(new.slot), current))
    assert service.working() == {current.value.reveal()}


# What the service says of a key's state, and which states the catalog calls working.
STATES: Final = (
    ('"active"', ["active"], True),
    ('"active"', ["live", "active"], True),
    ('"revoked"', ["active"], False),
    ("true", ["true"], True),
    ("false", ["true"], False),
    ("0", ["0"], True),
    ("null", ["null"], True),
    ('"2026-11-21"', ["null"], False),
    ('["active"]', ["active"], False),
)


@pytest.mark.parametrize(("state", "working", "answer"), STATES)
def test_the_declared_states_tell_what_works(service: KeyService, state: str, working: list[str], answer: bool) -> None:
    item = f'{{"id": "a", "name": "{NAME}-g1", "status": {state}}}'
    service.instead = {"GET /v1/keys": text(200, f'{{"data": [{item}]}}')}
    rotator = made(service.port, change={"list": {"working": working}})
    new = Credential("a", Secret(b"some-key"))
    assert rotator.install(Change(NAME, 1, Place(""), None), new) is answer


def test_a_key_whose_state_is_not_told_does_not_pass_for_revoked(service: KeyService) -> None:
    service.add(f"{NAME}-g1")
    with pytest.raises(Rejected, match="no state of a key"):
        made(service.port, change={"list": {"state": "/state"}}).abandon(Change(NAME, 1, Place(""), None))


def test_the_key_in_use_is_not_revoked(service: KeyService) -> None:
    current = current_of(service)
    with pytest.raises(Integrity, match="is the one in use"):
        made(service.port).revoke(current, current)
    assert service.asked == []


def test_a_key_that_somebody_else_has_revoked_is_void(service: KeyService) -> None:
    change = Change(NAME, 7, Place(""), current_of(service))
    rotator = made(service.port)
    new = rotator.obtain(change)
    next(key for key in service.keys if key.id == new.slot).works = False
    assert not rotator.install(change, new)


def test_a_key_that_was_made_before_is_adopted_only_by_the_id_in_the_catalog(service: KeyService) -> None:
    current = current_of(service)
    given = table(f"http://127.0.0.1:{service.port}")
    without = HttpApiKeys(NAME, read({**given, "existing_id": "another"})[0], around())
    with pytest.raises(Rejected, match="has no such key"):
        without.locate(current.value)
    del given["existing_id"]
    with pytest.raises(Rejected, match="found only by existing_id"):
        HttpApiKeys(NAME, read(given)[0], around()).locate(current.value)
    with pytest.raises(Rejected, match="has no such key"):
        made(service.port).locate(Secret(b"another-key"))


def test_a_value_that_cannot_stand_in_a_header_is_never_sent(service: KeyService) -> None:
    for value in (b"", b"a\r\nX-Admin: b", b"a b", "schlüssel".encode(), b"a" * 9000):
        with pytest.raises(Rejected, match="is no API key"):
            made(service.port).test(Credential("a", Secret(value)))
    assert service.asked == []


async def dropped(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)
    return web.Response()


async def trickling(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ClientConnectionResetError):
        for _ in range(50):
            await response.write(b" ")
            await asyncio.sleep(0.1)
    return response


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"[")
    assert request.transport is not None
    request.transport.close()
    return response


def text(status: int, body: str = "", **headers: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answered(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body, headers=headers)

    return answered


ELSEWHERE: Final = {"Location": "http://127.0.0.1:9/v1/keys"}
NOTHING_ELSE: Final[dict[str, object]] = {"name": NAME}
# What the service answers to the list, and what comes of it.
FAULTS: Final[
    Mapping[str, tuple[Callable[[web.Request], Awaitable[web.StreamResponse]], type[AtpError], str, dict[str, object]]]
] = {
    "no access": (text(401), Transient, "API: no success", {"method": "GET", "status": 401}),
    "forbidden": (text(403, "secret"), Transient, "API: no success", {"method": "GET", "status": 403}),
    "out of order": (text(503), Transient, "API: no success", {"method": "GET", "status": 503}),
    "too much": (text(429), Throttled, "API: too many requests", {"method": "GET", "status": 429}),
    "called wrong": (text(400), Rejected, "API: refused", {"method": "GET", "status": 400}),
    "moved": (text(307, **ELSEWHERE), Rejected, "API: refused", {"method": "GET", "status": 307}),
    "no JSON": (text(200, "<html>"), Rejected, "API: the answer is not JSON", {"method": "GET", "status": 200}),
    "deep": (text(200, "[" * 100_000), Rejected, "API: the answer is not JSON", {"method": "GET", "status": 200}),
    "empty": (text(200), Rejected, "the service's answer holds no list where the catalog says", {}),
    "no list": (text(200, '{"data": {}}'), Rejected, "the service's answer holds no list where the catalog says", {}),
    "dropped": (dropped, Transient, "API: no answer", {"cause": "ConnectionError"}),
    "cut": (cut, Transient, "API: no answer", {"cause": "ProtocolError"}),
    "silent": (silent, Transient, "API: no answer", {"cause": "ReadTimeout"}),
    "trickling": (trickling, Transient, "API: answer too slow", {}),
    "endless": (text(200, " " * (MAX_ANSWER + 1)), Rejected, "API: answer too long", {"limit": MAX_ANSWER}),
    "other host": (
        text(200, '{"data": [], "links": {"next": "http://127.0.0.1:9/v1/keys"}}'),
        Rejected,
        "the next page of the service's list is somewhere else",
        {},
    ),
    "other interface": (
        text(200, '{"data": [], "links": {"next": "/v2/keys"}}'),
        Rejected,
        "the next page of the service's list is somewhere else",
        {},
    ),
    "no page": (
        text(200, '{"data": [], "links": {"next": {"a": 1}}}'),
        Rejected,
        "the next page of the service's list is somewhere else",
        {},
    ),
    "pages without end": (
        text(200, '{"data": [], "links": {"next": "/v1/keys"}}'),
        Rejected,
        "the service lists too many keys",
        {"pages": MAX_PAGES},
    ),
}
IMPATIENT: Final = {"silent", "trickling"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_service_is_told_apart_by_whether_trying_again_helps(service: KeyService, fault: str) -> None:
    answer, kind, message, fields = FAULTS[fault]
    service.instead = {"GET /v1/keys": answer}
    patience_s = 0.3 if fault in IMPATIENT else 10.0
    with pytest.raises(AtpError) as caught:
        made(service.port, patience_s=patience_s).obtain(Change(NAME, 1, Place(""), None))
    assert type(caught.value) is kind
    assert caught.value.message == message
    assert caught.value.fields == {"name": NAME} | fields
    assert "POST /v1/keys" not in service.asked


@pytest.mark.parametrize("item", ['{"id": null}', '{"id": ".."}', '{"id": "a b"}', '{"id": true}', "7", "{}"])
def test_a_listed_key_without_a_usable_id_is_no_answer(service: KeyService, item: str) -> None:
    service.instead = {"GET /v1/keys": text(200, f'{{"data": [{item}]}}')}
    with pytest.raises(Rejected, match="no id of a key"):
        made(service.port).abandon(Change(NAME, 1, Place(""), None))


@pytest.mark.parametrize(
    "answer",
    [
        '{"data": {"id": "a", "secret": []}}',
        '{"data": {"id": "a", "secret": ["a b"]}}',
        '{"data": {"secret": ["k"]}}',
        "7",
    ],
)
def test_a_key_that_the_answer_does_not_hold_is_found_by_its_label_when_the_rotation_is_given_up(
    service: KeyService, answer: str
) -> None:
    change = Change(NAME, 1, Place(""), None)

    async def made_and_mumbled(request: web.Request) -> web.StreamResponse:
        await service.create(request)
        return web.Response(text=answer)

    service.instead = {"POST /v1/keys": made_and_mumbled}
    with pytest.raises(Rejected):
        made(service.port).obtain(change)
    assert service.labels() == [f"{NAME}-g1"]
    made(service.port).abandon(change)
    assert service.labels() == []


def test_a_key_whose_answer_was_lost_on_the_line_is_replaced(service: KeyService) -> None:
    change = Change(NAME, 1, Place(""), current_of(service))

    async def made_and_lost(request: web.Request) -> web.StreamResponse:
        await service.create(request)
        return await dropped(request)

    service.instead = {"POST /v1/keys": made_and_lost}
    with pytest.raises(Transient):
        made(service.port).obtain(change)
    assert len(service.working()) == 2
    service.instead = {}
    new = made(service.port).obtain(change)
    assert service.working() == {new.value.reveal(), change.current.value.reveal() if change.current else b""}


@pytest.mark.parametrize(("clock", "moment"), CLOCKS)
def test_what_was_listed_too_long_ago_is_not_acted_on(
    service: KeyService, clock: str, moment: Callable[[float], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.add(f"{NAME}-g1")
    late = count(step=LONGEST_CALL_S - 1)
    monkeypatch.setattr(f"shared.clock.{clock}", lambda: moment(next(late)))
    with pytest.raises(Transient, match="too slow"):
        made(service.port, patience_s=LONGEST_CALL_S * 2).abandon(Change(NAME, 1, Place(""), None))
    assert service.labels() == [f"{NAME}-g1"]


def test_a_number_may_be_an_id(service: KeyService) -> None:
    service.instead = {"POST /v1/keys": text(200, '{"data": {"id": 4711, "secret": ["k"]}}')}
    assert made(service.port).obtain(Change(NAME, 1, Place(""), None)).slot == "4711"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(204, Transient), (301, Transient), (404, Transient), (429, Throttled), (500, Transient), (503, Transient)],
)
def test_a_test_that_ends_otherwise_than_declared_is_no_refusal(
    service: KeyService, status: int, kind: type[AtpError]
) -> None:
    service.instead = {"GET /v1/me": text(status)}
    with pytest.raises(AtpError) as caught:
        made(service.port).test(Credential("a", Secret(b"some-key")))
    assert type(caught.value) is kind
    assert caught.value.fields == {"name": NAME, "status": status}


def test_the_declared_statuses_decide(service: KeyService) -> None:
    rotator = made(service.port, change={"test": {"accepted": [204], "refused": [404]}})
    for status, answer in ((204, True), (404, False)):
        service.instead = {"GET /v1/me": text(status)}
        assert rotator.test(Credential("a", Secret(b"some-key"))) is answer


def test_an_admin_token_that_cannot_stand_in_a_header_is_never_sent(service: KeyService) -> None:
    parameters, _ = read(table(f"http://127.0.0.1:{service.port}"))
    surroundings = Surroundings(
        secret=lambda _: Secret(b"two\r\nlines"),
        credential=None,  # type: ignore[arg-type]  # no business with Azure
        entropy=bytes,
        clock=lambda: datetime(2026, 11, 21, 12, tzinfo=UTC),
    )
    with pytest.raises(Rejected, match="token cannot be sent"):
        HttpApiKeys(NAME, parameters, surroundings).abandon(Change(NAME, 1, Place(""), None))
    assert service.asked == []


def test_the_admin_token_is_seen_nowhere(service: KeyService, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    service.instead = {"GET /v1/keys": text(403, f"wrong token: {ADMIN}")}
    with pytest.raises(Transient) as caught:
        made(service.port).abandon(Change(NAME, 1, Place(""), None))
    seen = f"{caught.value!r} {vars(caught.value)} {[vars(record) for record in caplog.records]}"
    assert ADMIN not in seen


MISTAKES: Final[Mapping[str, tuple[str, Mapping[str, Any], str]]] = {
    "no https": ("", {"url": "http://vendor.example"}, "url: must be https"),
    "no URL": ("", {"url": "ftp://vendor.example"}, "url: 'ftp://vendor.example' is not a URL"),
    "no id": ("", {"existing_id": ".."}, "existing_id: '..' is not the id of a key"),
    "no secret": ("admin", {"secret": "a/b"}, "admin: secret: 'a/b' is not the name of a secret in the vault"),
    "no header": ("admin", {"header": "X Admin"}, "admin: header: 'X Admin' is not the name of a header"),
    "no token": ("admin", {"template": "Bearer"}, "admin: template: must be ASCII and hold {token} once"),
    "no method": ("create", {"method": "HEAD"}, "create: method: 'HEAD' is not one of"),
    "no path": ("create", {"path": "keys"}, "create: path: 'keys' is not a path that begins with a slash"),
    "no label": ("create", {"body": "{}"}, "create: body: must hold {label}"),
    "no body": ("create", {"body": "{label}"}, "create: body: is not JSON"),
    "no pointer": ("create", {"key": "data"}, "create: key: 'data' is not a JSON pointer"),
    "a bad escape": ("list", {"label": "/a~2"}, "list: label: '/a~2' is not a JSON pointer"),
    "no state": ("list", {"working": []}, "list: state and working: one needs the other"),
    "no id in the path": ("revoke", {"path": "/keys"}, "revoke: path: must hold {id} once"),
    "no key": ("test", {"template": "a"}, "test: template: must be ASCII and hold {key} once"),
    "no status": ("test", {"accepted": []}, "test: accepted and refused: name at least one status each"),
    "a strange status": ("test", {"refused": [200]}, "test: refused: [200] is not a list of whole numbers"),
    "unknown": ("revoke", {"verb": "DELETE"}, "revoke: verb is an unknown field"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_the_catalog_is_named(case: str) -> None:
    where, change, text = MISTAKES[case]
    given = table("https://vendor.example")
    if where:
        given[where] = given[where] | change
    else:
        given |= change
    _, (mistake,) = read(given)
    assert mistake.startswith(f"[vendor] {text}")


def test_what_is_missing_is_named() -> None:
    _, mistakes = read({})
    tables = [f"[vendor] {name}: is missing (a table)" for name in ("admin", "create", "list", "revoke", "test")]
    assert [mistake for mistake in mistakes if not mistake.startswith("[vendor] url: is missing")] == tables


# RFC 6901 section 5.
DOCUMENT: Final = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8,
}  # fmt: skip
POINTERS: Final[Mapping[str, object]] = {
    "": DOCUMENT, "/foo": ["bar", "baz"], "/foo/0": "bar", "/": 0, "/a~1b": 1, "/c%d": 2, "/e^f": 3, "/g|h": 4,
    "/i\\j": 5, '/k"l': 6, "/ ": 7, "/m~0n": 8,
    "/foo/2": None, "/foo/-": None, "/foo/00": None, "/foo/0/x": None, "/nothing": None, "/a/b": None,
}  # fmt: skip


@pytest.mark.parametrize("pointer", POINTERS)
def test_pointers_lead_where_the_standard_says(pointer: str) -> None:
    assert http_api_key._at(DOCUMENT, pointer) == POINTERS[pointer]


@given(st.lists(st.text(max_size=5), max_size=4))
def test_any_name_can_be_pointed_to(names: list[str]) -> None:
    document: object = "here"
    for name in reversed(names):
        document = {name: document}
    pointer = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
    assert http_api_key._at(document, pointer) == "here"


def test_the_examples_of_the_runbook_are_read_without_a_mistake() -> None:
    page = (ROOT / "docs" / "runbooks" / "secrets-api-keys.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    entries = tomllib.loads(example)
    assert len(entries) == 1
    for entry in entries.values():
        assert read(entry["parameters"])[1] == []


def test_the_runbook_knows_what_is_said_when_a_person_is_needed() -> None:
    page = " ".join((ROOT / "docs" / "runbooks" / "secrets-api-keys.md").read_text().split())
    source = (ROOT / "rotation" / "rotators" / "http_api_key.py").read_text()
    said = re.findall(r'(?:Rejected|Integrity)\(\s*"([^"]+)"', source)
    assert len(said) > 10
    kinds = re.compile(r"no (?:list|id of a key|state of a key) where the catalog says")
    assert [text for text in said if text not in page and not kinds.search(text)] == []
