"""API keys of a service that somebody else runs, by an HTTP interface that the catalog declares.

The service makes the keys, as many as are asked for, and shows a value once, in the answer that says it was made. That
answer can be lost. So every key is made with a label that names the secret and the rotation, `<name>-g<generation>`:

1. `obtain` revokes what carries the label of this rotation or of one before it, but for the key in use, and then makes
   one. Killed behind that, it is called again, and the key that nobody knows goes first.
2. `install` has nothing to do: it looks whether the key is still there.
3. `revoke` and `abandon` revoke everything of that kind once more: a request of a killed worker can arrive late.

A key without such a label is never touched, but for one that was in use. The service must list keys with their labels;
two secrets, or two environments, that make keys in one account must not have the same name.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, override
from urllib.parse import quote, urljoin, urlsplit

from requests import RequestException, Response, Session
from urllib3.exceptions import HTTPError

from rotation.fields import NAME, Fields
from rotation.rotators.base import Change, Credential, Parameters, Place, Rotator, Surroundings
from rotation.rotators.http_request import host_of, in_time
from shared.clock import Stopwatch
from shared.errors import Integrity, Rejected, Throttled, Transient
from shared.secret import Secret

MAX_ANSWER: Final = 1024 * 1024
"""Bytes."""
MAX_PAGES: Final = 50
"""Of a list."""
LONGEST_CALL_S: Final = 60.0
"""Behind that no further request is sent within one call: it could meet what another worker does by then."""
_PATIENCE_S: Final = 20.0
_MAX_KEY: Final = 8 * 1024
_MAX_BODY: Final = 4_000

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PATH: Final = re.compile(r"/[!-~]{0,499}")
_PATH_IN_WORDS: Final = "a path that begins with a slash"
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,60}")
_POINTER: Final = re.compile(r"(?:/(?:[^/~]|~[01]){0,100}){0,10}")  # RFC 6901 section 3
_POINTER_IN_WORDS: Final = "a JSON pointer (RFC 6901) like '/data/id'"
_STATE: Final = re.compile(r"[ -~]{1,60}")
_ID: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:@/+-]{1,120}")  # a dot or two would be another path
_TOKEN: Final = re.compile(rb"[!-~]{1,8192}")
_TEXT: Final = re.compile(rf"[!-~]{{1,{_MAX_KEY}}}")

_IN_THE_WAY: Final = frozenset({401, 403, 408, 423, 425})  # gets repaired, or passes
_GONE: Final = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the declared interface."""

    method: str
    path: str  # with {id} where a key is meant


@dataclass(frozen=True, slots=True)
class HttpApiParameters:
    """The declared interface."""

    url: str  # what every path is appended to
    admin_secret: str  # name in the vault of what may make and revoke keys
    admin_header: str
    admin_template: str  # with {token}
    create: Request
    create_body: str  # JSON, with {label}
    created_id: str  # JSON pointers into the answer
    created_key: str
    list: Request
    items: str  # JSON pointer to the list in the answer
    item_id: str  # JSON pointers into one item
    item_label: str
    item_state: str | None  # None: what is listed works
    working: tuple[str, ...]  # what the state of a key that works may be: a text, or JSON's true, false, null, a number
    next: str | None  # JSON pointer to the URL of the next page
    revoke: Request
    test: Request
    test_header: str
    test_template: str  # with {key}
    accepted: tuple[int, ...]
    refused: tuple[int, ...]
    existing_id: str  # of the key that was in use before the app took over

    @property
    def targets(self) -> frozenset[str]:
        """The key that was in use. Of those made here, each bears the name of its own secret."""
        return frozenset({f"key {self.existing_id} at {self.url}"} if self.existing_id else ())


def read(fields: Fields) -> HttpApiParameters:
    """Reads `url` and `existing_id`, and the tables `admin`, `create`, `list`, `revoke` and `test`."""
    url = fields.url("url", schemes=("https", "http"))
    if url.startswith("http:") and urlsplit(url).hostname not in _LOOPBACK:
        fields.mistake("url: must be https")
    existing_id = fields.matching("existing_id", _ID, "the id of a key", default="")
    admin = fields.table("admin", required=True)
    create = fields.table("create", required=True)
    listing = fields.table("list", required=True)
    revoke = fields.table("revoke", required=True)
    test = fields.table("test", required=True)
    parameters = HttpApiParameters(
        url=url,
        existing_id=existing_id,
        admin_secret=admin.matching("secret", NAME, "the name of a secret in the vault"),
        admin_header=admin.matching("header", _HEADER, "the name of a header", default="Authorization"),
        admin_template=_template(admin, "{token}"),
        create=_request(create, "POST"),
        create_body=_body(create),
        created_id=_pointer(create, "id"),
        created_key=_pointer(create, "key"),
        list=_request(listing, "GET"),
        items=listing.matching("items", _POINTER, _POINTER_IN_WORDS, default=""),
        item_id=_pointer(listing, "id"),
        item_label=_pointer(listing, "label"),
        item_state=_pointer(listing, "state") if listing.has("state") else None,
        working=listing.texts("working", _STATE, "printable texts"),
        next=_pointer(listing, "next") if listing.has("next") else None,
        revoke=_request(revoke, "DELETE", names_id=True),
        test=_request(test, "GET"),
        test_header=test.matching("header", _HEADER, "the name of a header", default="Authorization"),
        test_template=_template(test, "{key}"),
        accepted=test.integers("accepted", 200, 299, (200,)),
        refused=test.integers("refused", 400, 499, (401, 403)),
    )
    if (parameters.item_state is None) != (not parameters.working):
        listing.mistake("state and working: one needs the other")
    if not parameters.accepted or not parameters.refused:
        test.mistake("accepted and refused: name at least one status each")
    for table in (admin, create, listing, revoke, test):
        table.finish()
    return parameters


def _request(fields: Fields, method: str, *, names_id: bool = False) -> Request:
    request = Request(fields.one_of("method", _METHODS, default=method), fields.matching("path", _PATH, _PATH_IN_WORDS))
    if names_id and request.path and request.path.count("{id}") != 1:
        fields.mistake("path: must hold {id} once")
    return request


def _template(fields: Fields, placeholder: str) -> str:
    template = fields.text("template", default=f"Bearer {placeholder}", most=200)
    if template and (template.count(placeholder) != 1 or not template.isascii()):
        fields.mistake(f"template: must be ASCII and hold {placeholder} once")
    return template


def _pointer(fields: Fields, field: str) -> str:
    return fields.matching(field, _POINTER, _POINTER_IN_WORDS)


def _body(fields: Fields) -> str:
    body = fields.text("body", most=_MAX_BODY)
    try:
        json.loads(body or "{}")
    except ValueError:
        fields.mistake("body: is not JSON")
    if body and "{label}" not in body:
        fields.mistake("body: must hold {label}")
    return body


def make(name: str, parameters: Parameters, around: Surroundings) -> Rotator:
    """The rotator of the keys that one service gives out for that secret."""
    return HttpApiKeys(name, parameters, around)


class HttpApiKeys(Rotator):
    """Rotates the API keys of one service."""

    def __init__(
        self, name: str, parameters: HttpApiParameters, around: Surroundings, *, patience_s: float = _PATIENCE_S
    ) -> None:
        """`patience_s` is how long to wait for a connection, for a sign of life, and for the whole of an answer."""
        self._name = name
        self._interface = parameters
        self._around = around
        self._patience_s = patience_s
        self._label = re.compile(re.escape(name) + r"-g([1-9][0-9]{0,8})")

    @override
    def locate(self, value: Secret) -> str:
        existing = self._interface.existing_id
        if not existing:
            raise Rejected("a key that was made before is found only by existing_id in the catalog", name=self._name)
        service = self._service()
        if not service.lists(existing) or not service.accepts(value):
            raise Rejected("the service has no such key", name=self._name, id=existing)
        return existing

    @override
    def place(self, current: Credential | None, generation: int) -> Place:
        return Place("")

    @override
    def rehearse(self, slot: str, current: Credential | None) -> None:
        self._service().listed()

    @override
    def obtain(self, change: Change) -> Credential:
        service = self._service()
        self._revoke_strays(service, change.generation, change.current)
        return service.create(self._label_of(change))
        # Killed behind it: the next call finds the key by its label and revokes it.

    @override
    def install(self, change: Change, new: Credential) -> bool:
        label = self._label_of(change)
        for key in self._service().listed():
            if key.id == new.slot:
                if key.label != label:  # a key whose answer is lost would not be found
                    raise Rejected("the service does not list the label of a key", name=self._name, label=label)
                return True
        return False

    @override
    def test(self, credential: Credential) -> bool:
        return self._service().accepts(credential.value)

    @override
    def revoke(self, old: Credential, current: Credential) -> None:
        if old.slot == current.slot:
            raise Integrity("the key to be revoked is the one in use", name=self._name, slot=old.slot)
        service = self._service()
        service.revoke(old.slot)
        self._revoke_strays(service, None, current)

    @override
    def abandon(self, change: Change) -> None:
        service = self._service()
        slot = change.place.slot  # on record once there is a key
        if slot and not (change.current and slot == change.current.slot):
            service.revoke(slot)
        self._revoke_strays(service, change.generation, change.current)

    def _label_of(self, change: Change) -> str:
        return f"{self._name}-g{change.generation}"

    def _revoke_strays(self, service: "_Service", generation: int | None, current: Credential | None) -> None:
        """Revoke our keys up to that rotation, all of them without one, but for the current key."""
        for key in service.listed():
            made = self._label.fullmatch(key.label)
            is_ours = made is not None and (generation is None or int(made[1]) <= generation)
            if is_ours and not (current and key.id == current.slot):
                service.revoke(key.id)

    def _service(self) -> "_Service":
        token = self._around.secret(self._interface.admin_secret)
        return _Service(self._name, self._interface, token, self._patience_s)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A key as the service lists it."""

    id: str
    label: str


class _Service:
    """The service during one call of a method, which must not outlast the claim on the secret."""

    def __init__(self, name: str, interface: HttpApiParameters, token: Secret, patience_s: float) -> None:
        self._name = name
        self._interface = interface
        self._token = token
        self._patience_s = patience_s
        self._begun = Stopwatch()

    def listed(self) -> Sequence[_Listed]:
        """All that work."""
        return [key for page in self._pages() for key in self._on(page)]

    def lists(self, key_id: str) -> bool:
        """Whether that key is one of them."""
        return any(key.id == key_id for key in self.listed())

    def create(self, label: str) -> Credential:
        """A new key."""
        interface = self._interface
        body = interface.create_body.replace("{label}", label).encode()
        document = self._asked(interface.create, interface.create.path, body)
        key = _at(document, interface.created_key)
        if not isinstance(key, str) or not _TEXT.fullmatch(key):
            raise Rejected("the service's answer holds no key where the catalog says", name=self._name)
        value = Secret(key.encode())
        return Credential(self._id(_at(document, interface.created_id)), value)

    def revoke(self, key_id: str) -> None:
        """Have that key refused from now on; no error if it is gone."""
        path = self._interface.revoke.path.replace("{id}", quote(key_id, safe=""))
        self._asked(self._interface.revoke, path, gone_is_fine=True)

    def accepts(self, value: Secret) -> bool:
        """Whether the service serves who comes with that key."""
        key = value.reveal()
        if not _TOKEN.fullmatch(key):
            raise Rejected("the value is no API key", name=self._name)
        interface = self._interface
        headers = {interface.test_header: interface.test_template.replace("{key}", key.decode())}
        status, _ = self._send(interface.test, interface.test.path, headers)
        if status in interface.accepted:
            return True
        if status in interface.refused:
            return False
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Throttled("API: too many requests", name=self._name, status=status)
        raise Transient("API: neither accepts nor refuses the key", name=self._name, status=status)

    def _pages(self) -> Iterator[object]:
        interface = self._interface
        path = interface.list.path
        for _ in range(MAX_PAGES):
            document = self._asked(interface.list, path)
            yield document
            following = _at(document, interface.next) if interface.next is not None else None
            if not following:
                return
            path = self._path_of(following)
        raise Rejected("the service lists too many keys", name=self._name, pages=MAX_PAGES)

    def _path_of(self, following: object) -> str:
        """The next page, which must be of the same interface."""
        base = self._interface.url
        url = urljoin(f"{base}/", following) if isinstance(following, str) else ""
        if not url.startswith(f"{base}/") or not _PATH.fullmatch(url.removeprefix(base)):
            raise Rejected("the next page of the service's list is somewhere else", name=self._name)
        return url.removeprefix(base)

    def _on(self, page: object) -> Iterator[_Listed]:
        interface = self._interface
        items = _at(page, interface.items)
        if not isinstance(items, list):
            raise Rejected("the service's answer holds no list where the catalog says", name=self._name)
        for item in items:
            key_id, label = self._id(_at(item, interface.item_id)), _at(item, interface.item_label)
            if self._works(item):
                yield _Listed(key_id, label if isinstance(label, str) else "")

    def _works(self, item: object) -> bool:
        interface = self._interface
        if interface.item_state is None:
            return True
        found = _at(item, interface.item_state)
        state = found if isinstance(found, str) else json.dumps(found)
        if found is None and state not in interface.working:  # what is not understood must not pass for revoked
            raise Rejected("the service's answer holds no state of a key where the catalog says", name=self._name)
        return state in interface.working

    def _id(self, found: object) -> str:
        text = str(found) if type(found) is int else found
        if not isinstance(text, str) or not _ID.fullmatch(text):
            raise Rejected("the service's answer holds no id of a key where the catalog says", name=self._name)
        return text

    def _asked(self, request: Request, path: str, body: bytes | None = None, *, gone_is_fine: bool = False) -> object:
        """The document of a successful answer to the admin; None if it has none, or is about what is gone."""
        interface = self._interface
        token = self._token.reveal()
        if not _TOKEN.fullmatch(token):
            raise Rejected("the admin's token cannot be sent", name=self._name, secret=interface.admin_secret)
        headers = {interface.admin_header: interface.admin_template.replace("{token}", token.decode())}
        status, content = self._send(request, path, headers, body)
        if gone_is_fine and status in _GONE:
            return None
        fields = {"name": self._name, "method": request.method, "status": status}
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Throttled("API: too many requests", **fields)
        if status in _IN_THE_WAY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Transient("API: no success", **fields)
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise Rejected("API: refused", **fields)
        if not content:
            return None
        try:
            document: object = json.loads(content)
        except (ValueError, RecursionError):
            raise Rejected("API: the answer is not JSON", **fields) from None
        return document

    def _send(
        self, request: Request, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Status and content of the answer. Transient if there is none."""
        now = time.monotonic()
        if self._begun.seconds() > LONGEST_CALL_S:
            raise Transient("API: all answers together too slow", name=self._name)
        # Not compressed, so that the limit is one of what it says.
        extra = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if body is not None:
            extra["Content-Type"] = "application/json"
        url = self._interface.url + path
        return in_time(
            host_of(url),
            2 * self._patience_s,
            lambda: self._sent(request.method, url, {**extra, **headers}, body, now + self._patience_s),
        )

    def _sent(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, deadline: float
    ) -> tuple[int, bytes]:
        try:
            with Session() as session:
                # Neither a proxy nor a password is taken from the environment or from ~/.netrc.
                session.trust_env = False
                # A redirect would take the token to somebody whom nobody has chosen.
                with session.request(
                    method,
                    url,
                    data=body,
                    headers=headers,
                    timeout=self._patience_s,
                    stream=True,
                    allow_redirects=False,
                ) as response:
                    return response.status_code, self._content(response, deadline)
        except (RequestException, HTTPError, OSError) as error:  # the last two: while the content is read
            raise Transient("API: no answer", name=self._name, cause=type(error).__name__) from None

    def _content(self, response: Response, deadline: float) -> bytes:
        """All of it; neither longer than allowed nor later."""
        content = b""
        while chunk := response.raw.read1(MAX_ANSWER, decode_content=False):
            content += chunk
            if len(content) > MAX_ANSWER:
                raise Rejected("API: answer too long", name=self._name, limit=MAX_ANSWER)
            if time.monotonic() > deadline:
                raise Transient("API: answer too slow", name=self._name)
        return content


def _at(document: object, pointer: str) -> object:
    """What a JSON pointer leads to, None if there is nothing. RFC 6901 section 4."""
    found = document
    for part in pointer.split("/")[1:]:
        token = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(token)
        elif isinstance(found, list) and re.fullmatch(r"0|[1-9][0-9]{0,6}", token) and int(token) < len(found):
            found = found[int(token)]
        else:
            return None
    return found
