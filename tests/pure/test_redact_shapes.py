"""Shapes of credentials: Azure's almost all, others' by their prefix, values by their name; and nothing else."""

import json
import re
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.redact import MASK, find, mask, masked
from shared.redact.engine import MOST, Engine
from shared.redact.patterns import AZURE, GENERAL, VENDORS
from tests.conftest import Tally
from tests.pure import credentials

LINEAR, PLAIN = Engine(), Engine(linear=False)
CORPUS = credentials.azure(rounds=12)


def left_of(secret: str, text: str) -> bool:
    """Whether a part of a secret that is worth something is in the text."""
    return any(secret[at : at + 12] in text for at in range(0, len(secret) - 11, 4))


def test_at_least_98_of_100_secrets_of_azure_are_found_in_whatever_surrounds_them(tally: Tally) -> None:
    missed = Counter(name for name, secret, text in CORPUS if left_of(secret, mask(text)))
    tally.count(f"secrets of Azure in their surroundings, {missed.total()} missed", len(CORPUS))
    assert len(CORPUS) > 1_500
    assert missed.total() <= 0.02 * len(CORPUS), missed


def test_what_surrounds_a_secret_stays() -> None:
    for name, secret, text in CORPUS:
        before, _, behind = text.partition(secret)
        shown = mask(text)
        assert shown.startswith(before[:20]), name
        assert shown.endswith(behind[-8:]), name


def test_both_engines_find_the_same() -> None:
    texts = [text for _, _, text in CORPUS[:400]] + [text for _, text in credentials.vendors()] + credentials.harmless()
    assert [text for text in texts if LINEAR.find(text) != PLAIN.find(text)] == []


@pytest.mark.parametrize(("kind", "secret"), credentials.vendors(), ids=lambda each: str(each)[:24])
def test_the_token_of_another_issuer_is_masked_by_its_prefix(kind: str, secret: str) -> None:
    assert mask(f"got {secret}, and went on") == f"got [REDACTED:{kind}], and went on"
    assert mask(json.dumps({"event": secret})) == json.dumps({"event": f"[REDACTED:{kind}]"})


@pytest.mark.parametrize("text", credentials.harmless(), ids=lambda text: re.sub(r"\W+", " ", text)[:30])
def test_what_is_as_random_as_a_secret_and_is_none_passes(text: str) -> None:
    assert mask(text) == text


VALUE = "hunter2hunter2"
ASSIGNED = [
    f"password={VALUE}",
    f"password = {VALUE}",
    f"PASSWORD: {VALUE}",
    f"db_password={VALUE}",
    f"dbPassword: {VALUE}",
    f'{{"dbPassword": "{VALUE} and more"}}',
    f"'dbPassword': '{VALUE}'",
    f'clientSecret: "{VALUE}"',
    f"client-secret: {VALUE}",
    f"apiKey={VALUE}&a=1",
    f"api_key: {VALUE}",
    f"x-api-key: {VALUE}",
    f"secretAccessKey={VALUE}",
    f"AWS_SECRET_ACCESS_KEY={VALUE}",
    f"export DB_PASSWORD='{VALUE} x'",
    f"--password {VALUE}",
    f"--client-secret '{VALUE} x'",
    f"--api-key={VALUE}",
    f"access_token={VALUE}",
    f'"refreshToken":"{VALUE}"',
    f"passphrase => {VALUE}",
    f"pwd:={VALUE}",
    f"password%3D{VALUE}",
    f"<password>{VALUE}</password>",
    f"Server=a;Password={VALUE} with blanks, and commas;Database=b",
    f"postgres://atp:{VALUE}@db/atp",
    f"amqp://atp:{VALUE}@p@db/atp",
    f"password=b'{VALUE}'",
    f"secret: `{VALUE}`",
    f"('password', '{VALUE}')",
    f'{{"name": "DB_PASSWORD", "value": "{VALUE}", "slotSetting": false}}',
    f'<add key="password" value="{VALUE}" />',
    f"{{\\u0022password\\u0022: \\u0022{VALUE} x\\u0022, \\u0022a\\u0022: 1}}",
    f"password&quot;:&quot;{VALUE}&quot;",
    f"PGPASSWORD={VALUE}",
    f"password:\n  {VALUE}",
    f"password             = {VALUE}",
    f"password:\n{' ' * 30}{VALUE}",
    # An option wherever a word can begin, and as a list of arguments.
    f"ran psql\n--password {VALUE}",
    f"psql\t--password {VALUE}",
    f"psql;--password {VALUE}",
    f"é--password {VALUE}",
    f"--password\t{VALUE}",
    f"--password \\\n    {VALUE}",
    f"args:\n  - --password\n  - {VALUE}",
    f'["psql","--password","{VALUE}"]',
    f"Command '['psql', '--db-password', '{VALUE}']' returned 1",
    json.dumps(["psql", "--client-secret", VALUE], indent=2),
    # Names within what belongs to a name.
    f"credentials: password: {VALUE}",
    f"credentials:\n  password: {VALUE}",
    f"credentials:\n  user: atp\n  pass: {VALUE}",
    f"secret: password: {VALUE}",
    f"secret: {{password: {VALUE}}}",
    f"secret=password='{VALUE}'",
    f"bad secret: --password {VALUE}",
    f"secret:\n  value: {VALUE}",
    f"secret:\n  value: '{VALUE} x'",
    f"token:\n    current:\n      v1: {VALUE}\n    old: x",
    f"passwords:\n- {VALUE}\n- second",
    f"passwords:\n  - second one\n  - {VALUE}",
    f"jobs:\n  - name: a\n    secret:\n      value: {VALUE}\n  - name: b",
    # Containers.
    f'{{"secrets":["{VALUE}"]}}',
    f'{{"secrets":["a-first-one", "{VALUE}"]}}',
    f"{{'secrets': ('a-first-one', b'{VALUE}')}}",
    json.dumps({"passwords": ["a-first-one", VALUE]}, indent=4),
    f'{{"secret":{{"value":"{VALUE}"}}}}',
    f"{{'secret': {{'kind': None, 'values': [{{'current': '{VALUE} x'}}]}}}}",
    f"secret: {{kind: a, value: {VALUE}}}",
    f"secrets: [first, {VALUE}]",
    f"secrets: {{'a', '{VALUE}'}}",
    # Between the name and the value: calls, types, tags.
    f"password=SecretStr('{VALUE}')",
    f"Login(user='atp', password=Password(value='{VALUE}'))",
    f"password = os.environ.get('X', '{VALUE}')",
    f"password: str = '{VALUE}'",
    f"password: str | None = '{VALUE} x'",
    f'password: Final[str] = "{VALUE}"',
    f'let password: &\'static str = "{VALUE}"',
    f"password = (\n '{VALUE}'\n)",
    f"password: !tag {VALUE}",
    f"password: !!str '{VALUE} x'",
    f"password: &anchor {VALUE}",
    f"password: |\n  {VALUE}",
    f"password: >-\n  two words\n  and {VALUE}\nuser: atp",
    f"password: !!binary |\n  {VALUE}",
    # SQL.
    f"ALTER ROLE app PASSWORD '{VALUE}'",
    f"CREATE USER app WITH ENCRYPTED PASSWORD E'{VALUE}' VALID UNTIL 'infinity'",
    f"CREATE LOGIN app WITH PASSWORD = N'{VALUE}', CHECK_POLICY = ON",
    f"ALTER LOGIN app WITH PASSWORD = N'x''{VALUE}'",
    f"CREATE USER 'app'@'%' IDENTIFIED BY '{VALUE}'",
    f'ALTER USER app IDENTIFIED BY "{VALUE}"',
    f"CREATE USER app IDENTIFIED WITH caching_sha2_password BY '{VALUE}'",
    f"SET PASSWORD FOR 'app'@'%' = '{VALUE}'",
    f"SET PASSWORD FOR app = PASSWORD('{VALUE}')",
    f"password = '''{VALUE}'''",
    f'password = """\n{VALUE}"""',
    f'password: "begun\\\n  {VALUE}"',
    f"secret: !map {{value: {VALUE}}}",
    f"secrets: ['', '{VALUE}']",
    f"the password is '{VALUE}'",
    f"the password is {VALUE}",
    f"password is: {VALUE}",
    f"the password for app_a was set to {VALUE}",
    f"Password of user app is {VALUE}.",
    f"machine db.example login atp password {VALUE}",
    f"DB_PASS={VALUE}",
    f"smtp-pass: {VALUE}",
    # Commands, with options of one letter.
    f"curl -u atp:{VALUE} https://db",
    f"ran: curl -sSu 'atp:{VALUE} x' https://db",
    f"curl --proxy-user atp:{VALUE} --user=atp:{VALUE}",
    json.dumps(["curl", "-s", "-u", f"atp:{VALUE}"]),
    f"Command '['curl', '-u', 'atp:{VALUE}', 'https://db']' returned 22",
    f"mysql -u root -p{VALUE} orders",
    f"/usr/bin/mysqldump -h db -p'{VALUE} x' orders",
    f"sshpass -p {VALUE} ssh db",
    f"docker login -u atp -p {VALUE} registry",
    f"redis-cli -h db -a {VALUE} ping",
]


@pytest.mark.parametrize("text", ASSIGNED)
@pytest.mark.parametrize("depth", range(3), ids=["as it is", "in JSON", "in JSON in JSON"])
def test_the_value_of_a_telling_name_is_masked(text: str, depth: int) -> None:
    for _ in range(depth):
        text = json.dumps({"event": text, "a": 1})
    shown = mask(text)
    assert VALUE not in shown
    assert "blanks" not in shown
    for _ in range(depth):
        assert json.loads(shown)["a"] == 1
        shown = json.loads(shown)["event"]
    assert "REDACTED" in shown


NOT_ASSIGNED = [
    "the password was changed",
    "secret: no",
    '{"secret": null, "token": "none"}',
    "primary key: tenant, version",
    "public_key=abcdefghijklmnop",
    "wrapped_key=abcdefghijklmnop",
    "key=master-kek-in-the-vault",
    "secretary: Jane Elizabeth Doe",
    "tokens: 12345",
    '{"event": "wrong password", "tenant": "hunter2hunter2"}',
    '{"field": "password", "tenant": "hunter2hunter2"}',
    "no option: a-password is-not-enough",
    "the tenant is identified by: tenant and version",
    "could not read the secret 'db-password' of the vault",
    "value = client.get_secret('database-of-acme')",
    "value = read_password('database-of-acme')",
    '{"tokens": {"prompt": 12345, "completion": 678}, "secrets": [], "passwords": {}}',
    "credentials:\n  user: atp\n  port: 5432\nname: administrator",
    "the password is expired, the passphrase was changed",
    "the password is 12345678 seconds old",
    "the password was changed at 2026-11-20",
    "curl -u is not enough",
    "docker run -u 1000:1000 image",
    "mysql -p orders",
    "the login app_b -p is refused",
    'a file called "password": nothing',
]


@pytest.mark.parametrize("text", NOT_ASSIGNED[:-1])
def test_a_word_that_is_no_value_stays(text: str) -> None:
    assert mask(text) == text


def test_a_private_key_over_several_lines_is_masked_to_its_end_however_its_lines_are_broken() -> None:
    armour = "-----{} EC PRIVATE" + " KEY-----"
    for line_break in ("\n", "\r\n", "\\n", "\\\\n"):
        key = line_break.join([armour.format("BEGIN"), "MHcCAQEE" * 8, "oAoGCCqG", armour.format("END")])
        assert mask(f"before {key} behind") == "before [REDACTED:private-key] behind"
        assert mask(f'{{"a": "{key[:60]}"}}') == '{"a": "[REDACTED:private-key]"}'


def test_a_text_with_thousands_of_secrets_is_masked_whole() -> None:
    assert mask(f"password={VALUE} " * (MOST + 1)) == "[REDACTED:many]"


def test_what_a_mask_sets_apart_is_masked_and_in_a_long_text_the_whole_of_it() -> None:
    run = f"{'a' * 30}JQQJ{'b' * 88}{'c' * 30}JQQJ{'d' * 20}"
    assert mask(f"x {run} y") == "x [REDACTED:azure-annotated-key][REDACTED:azure-annotated-key] y"
    assert mask(f"{'x ' * 25_000}{run} y") == "[REDACTED:many]"


def test_a_long_text_with_hundreds_of_secrets_is_masked_whole_and_with_some_it_is_not() -> None:
    one = f"password={VALUE} {'x ' * 100}"
    assert mask(one * 300) == "[REDACTED:many]"
    assert mask(one * 230) == f"password=[REDACTED:credential] {'x ' * 100}" * 230


def test_a_capital_i_with_a_dot_moves_nothing() -> None:
    """It becomes two characters when it is made small."""
    assert mask("İİ PASSWORD=hunter2hunter2 İ") == "İİ PASSWORD=[REDACTED:credential] İ"
    assert mask(f"password={VALUE} " * 10).count("REDACTED") == 10


def test_every_kind_has_a_name_that_fits_into_a_mask_and_is_said() -> None:
    for pattern in (*AZURE, *GENERAL, *VENDORS):
        assert re.fullmatch(r"[a-z0-9-]{1,40}", pattern.kind)
    assert masked(f"password={VALUE}") == ("password=[REDACTED:credential]", ["credential"])


def test_every_trigger_is_in_whatever_its_shape_finds() -> None:
    texts = [text for _, _, text in CORPUS] + [text for _, text in credentials.vendors()] + ASSIGNED
    for pattern in (*AZURE, *GENERAL, *VENDORS):
        shape, trigger = re.compile(pattern.shape, re.ASCII), re.compile(pattern.trigger, re.ASCII)
        for text in texts:
            assert not shape.search(text) or trigger.search(text), pattern.kind


PIECES = st.sampled_from(
    [text for _, _, text in CORPUS[:120]]
    + [secret for _, secret in credentials.vendors()]
    + ASSIGNED
    + [
        MASK,
        "[REDACTED:known]",
        "]",
        '"',
        "\\",
        "'",
        ";",
        " ",
        "=",
        "password=",
        '"token": "',
        "://",
        "@",
        "sig=",
        "\n",
        "\n  ",
        "secret: [",
        "token: {",
        "--password ",
        "PASSWORD ",
        ",",
        ": ",
        "(",
        "]",
        "}",
        "|\n  ",
        "- ",
    ]
)


@given(st.lists(PIECES, max_size=6).map("".join))
@example("password=[REDACTED:known]x@y")
def test_a_mask_is_never_masked_again(text: str) -> None:
    once = mask(text)
    assert mask(once) == once


@given(st.lists(PIECES, max_size=4).map("".join), st.sampled_from(["password", "event", "url", "clientSecret"]))
def test_a_masked_line_of_json_is_still_json(text: str, name: str) -> None:
    for line in (json.dumps({name: text, "a": 1}), json.dumps({"event": json.dumps({name: text, "a": 1}), "a": 1})):
        assert json.loads(mask(line)).keys() == json.loads(line).keys()


@given(st.text(st.characters(), max_size=200))
@example(f"half a character \ud800 and password={VALUE}")
def test_a_text_is_masked_whatever_is_in_it(text: str) -> None:
    assert mask(text) == text or MASK in mask(text)


@given(st.sampled_from([*ASSIGNED, *(text for _, _, text in CORPUS)]), st.sampled_from(["x", "a: b", "--", "secret"]))
def test_what_is_found_in_a_text_is_found_when_others_are_joined_with_it(text: str, other: str) -> None:
    assert find(f"{other}\n{text}")
    assert find(f"{text}\n{other}")


@given(st.lists(PIECES, max_size=6).map("".join), st.lists(PIECES, max_size=2).map("".join))
def test_joined_texts_have_something_masked_if_one_of_them_has(text: str, other: str) -> None:
    if mask(text) != text:
        assert find(f"x\n{text}")
        assert find(f"{other}\n{text}")
        assert find(f"{text}\n{other}")
