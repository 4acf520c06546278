import base64
import hashlib
import random
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from plugins.secrets import RULES, Secrets, gitleaks
from plugins.secrets.checks import (
    checksummed,
    crc32_base62,
    entropy,
    is_password,
    is_random,
    is_strictly_random,
    is_user_password,
    not_placeholder,
    wordlike,
)
from plugins.secrets.rule import Rule
from proxy import ConfigError
from proxy.detect.engine import Engine
from tests.plugins.sampling import sample

OPEN = [rule for rule in RULES if rule.opens]
CLOSED = [rule for rule in RULES if rule.core]
LITERAL = [
    rule
    for rule in CLOSED
    if not rule.context and not rule.tail and not rule.group.endswith("generic")
]
CARRIERS = {
    "json": '{{"value": "{}"}}',
    "nested json": '"{{\\"value\\": \\"{}\\"}}"',
    "yaml": "value: {}\nnext: 1\n",
    "shell": "export VALUE={} && run",
    "code": "client = connect('{}')",
    "xml": "<value>{}</value>",
    "prose": "Use {} for that, please.",
    "table": "| value | {} |",
}


def _wif(dice: random.Random) -> str:
    raw = b"\x80" + dice.randbytes(32) + b"\x01"
    number = int.from_bytes(raw + hashlib.sha256(hashlib.sha256(raw).digest()).digest()[:4])
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return text


def _bitlocker(dice: random.Random) -> str:
    return "-".join(f"{dice.randrange(10_000, 65_000) * 11:06d}" for _ in range(8))


def _basic(dice: random.Random) -> str:
    return base64.b64encode(f"ann:{dice.randbytes(6).hex()}".encode()).decode()


BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# What chance does not meet: cores with a checksum or another meaning inside.
MADE = {
    "bitcoin-private-key": _wif,
    "bitlocker-recovery-key": _bitlocker,
    "basic-credentials": _basic,
}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(list(Secrets().detectors()))


def dice_for(rule: Rule) -> random.Random:
    return random.Random(zlib.crc32(rule.kind.encode()))


def core_of(rule: Rule, dice: random.Random) -> str:
    return MADE[rule.kind](dice) if rule.kind in MADE else sample(rule.core, dice, rule.check)


def found(engine: Engine, text: str) -> set[str]:
    return {engine.detectors[span.detector].kind for span in engine.find(text)}


def spans(engine: Engine, text: str, kind: str) -> list[str]:
    return [
        text[start:end]
        for start, end, index in engine.find(text)
        if engine.detectors[index].kind == kind
    ]


def redacted(engine: Engine, text: str) -> str:
    for start, end, _ in sorted(engine.find(text), reverse=True):
        text = text[:start] + "\N{FULL BLOCK}" * (end - start) + text[end:]
    return text


def test_there_are_at_least_250_kinds_and_each_has_one_rule_save_that_of_all_services() -> None:
    kinds = Counter(rule.kind for rule in RULES)
    assert len(kinds) >= 250
    assert [kind for kind, count in kinds.items() if count > 1] == ["service-key"]


def test_every_kind_is_lower_case_with_hyphens_and_every_group_is_under_secrets() -> None:
    for rule in RULES:
        assert rule.kind == rule.kind.lower()
        assert set(rule.kind) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert rule.group.split(".")[0] == "secrets"


def test_every_rule_finds_its_secret_and_nothing_but_its_secret(engine: Engine) -> None:
    missed = []
    for rule in CLOSED:
        dice = dice_for(rule)
        context, core = sample(rule.context, dice), core_of(rule, dice)
        text = f"  {context}{core}{sample(rule.tail, dice)} "
        if not any(core in one or one in core for one in spans(engine, text, rule.kind)):
            missed.append((rule.kind, text))
    assert missed == []


def test_every_rule_without_bound_finds_to_the_end_of_its_secret(engine: Engine) -> None:
    missed = []
    for rule in OPEN:
        dice = dice_for(rule)
        opening, end = sample(rule.opens, dice), sample(rule.closes or r"\n", dice)
        text = f"before {opening}{end} after"
        whole = opening + (end if rule.closes else "")
        if [one.strip() for one in spans(engine, text, rule.kind)] != [whole]:
            missed.append((rule.kind, text))
    assert missed == []


def test_no_rule_finds_half_a_secret(engine: Engine) -> None:
    halves = {}
    for rule in CLOSED:
        core = core_of(rule, dice_for(rule))
        halves[rule.kind] = f"  {core[: len(core) // 2]} "
    assert [(kind, half) for kind, half in halves.items() if spans(engine, half, kind)] == []


@pytest.mark.parametrize("carrier", CARRIERS)
def test_tokens_that_say_what_they_are_are_found_in_any_carrier(
    engine: Engine, carrier: str
) -> None:
    missed = []
    for rule in LITERAL:
        core = core_of(rule, dice_for(rule))
        out = redacted(engine, CARRIERS[carrier].format(core))
        if any(core[at : at + len(core) // 2] in out for at in range(len(core) // 2)):
            missed.append((rule.kind, core, out))
    assert len(missed) <= 0.02 * len(LITERAL), missed


# How names are given values, in code, configuration, commands and speech.
NOTATIONS = (
    "{n}={v}",
    'export {n}="{v}"',
    '{{"{n}": "{v}", "x": 1}}',
    '{{\\"{n}\\":\\"{v}\\"}}',
    "{n}: {v}\n",
    "[acme]\n{n} = {v}\n",
    "<{n}>{v}</{n}>",
    '<add key="{n}" value="{v}" />',
    '<setting name="{n}"><value>{v}</value></setting>',
    "<key>{n}</key>\n<string>{v}</string>",
    '<input name="{n}" value="{v}">',
    '<meta name="{n}" content="{v}">',
    '- name: {n}\n  value: "{v}"',
    "- name: {n}\n  value: {v}",
    '{{"name": "{n}", "value": "{v}"}}',
    'variable "{n}" {{\n  default = "{v}"\n}}',
    "acme --{n} {v}",
    "docker run -e {n}={v} img",
    "ENV {n} {v}",
    "config['{n}'] = '{v}'",
    "os.getenv('{n}', '{v}')",
    "process.env.{n} || '{v}'",
    'const {n}: string = "{v}"',
    'const {n}: &\'static str = "{v}";',
    'val {n}: String = "{v}"',
    'buildConfigField("String", "{n}", "\\"{v}\\"")',
    'props.setProperty("{n}", "{v}");',
    'std::string {n}("{v}");',
    'NSString *{n} = @"{v}";',
    "my ${n} = q({v});",
    "{n} = [[{v}]]",
    ':{n} => "{v}"',
    "'{n}' => '{v}',",
    '$env:{n} = "{v}"',
    "gh secret set {n} --body {v}",
    "curl -H '{n}: {v}' https://a.test",
    "https://a.test/x?{n}={v}&y=1",
    "| {n} | {v} |",
    "**{n}**: `{v}`",
    "{n}:\n{v}\n",
    "our {n} is {v}.",
    "INSERT INTO s (k, v) VALUES ('{n}', '{v}')",
    "{n},{v}",
)
NAMES = ("ACME_API_KEY", "acmeToken", "client_secret", "acme.private.key", "ACME_SK", "auth-key")
SHAPES = ("[0-9a-f]{32}", "[a-zA-Z0-9]{32}", "[A-Z0-9]{20}", "[a-zA-Z0-9+/]{43}=", "[a-z0-9]{30}")


@pytest.mark.parametrize("pattern", SHAPES)
def test_a_secret_of_a_service_nobody_listed_is_found_by_its_name_in_any_notation(
    engine: Engine, pattern: str
) -> None:
    secret = sample(pattern, random.Random(7), is_random)
    texts = [one.format(n=name, v=secret) for one in NOTATIONS for name in NAMES]
    missed = [text for text in texts if secret in redacted(engine, text)]
    assert len(missed) <= 0.01 * len(texts), missed


@pytest.mark.parametrize(
    "text",
    [
        "setSecret('payments', apiKey = '{}')",
        "curl -H 'Authorization: Bearer {}' https://api.test",
        "X-Api-Key: {}",
        "https://user:{}@git.test/repo.git",
        "Use {} as the new staging token, please",
        "Try zq_{} or so",
        "it says acme-{}, you see",
        "abk_live_{}",
    ],
)
def test_a_secret_of_a_service_nobody_listed_is_found_by_its_place(
    engine: Engine, text: str
) -> None:
    for seed in range(5):
        secret = sample("[a-zA-Z0-9]{36}", random.Random(seed), is_strictly_random)
        assert secret not in redacted(engine, text.format(secret))


@pytest.mark.parametrize(
    "text",
    [
        "unzip -P {} a.zip",
        "ldapsearch -x -D cn=admin -w {} -b dc=a",
        "openssl rsa -in a.pem -passin pass:{}",
        "redis-cli -h cache -a {} ping",
        "net user ann {} /add",
        "cmdkey /add:srv /user:ann /pass:{}",
        "smbclient //srv/share -U ann%{}",
        "sqlplus scott/{}@db",
        "htpasswd -b users ann {}",
        "kubectl create secret generic db --from-literal=password={}",
        "echo {} | sudo -S id",
        "db.test:5432:app:ann:{}",
        "enable secret 0 {}",
        'wpa_psk="{}"',
        "WIFI:T:WPA;S:home;P:{};;",
    ],
)
def test_passwords_are_found_where_tools_take_them(engine: Engine, text: str) -> None:
    for password in ("Tr0ub4dor&3x", "w1nter#Rain9", "q7Zk2pLm9x"):
        assert password not in redacted(engine, text.format(password))


@pytest.mark.parametrize(
    "text",
    [
        "password = os.environ['DB_PASSWORD']",
        "token = await get_access_token(user)",
        'api_key: "${API_KEY}"',
        "password: {{ .Values.password }}",
        "max_tokens: 4096, tokens: [1, 2, 3]",
        "secretName: web-tls-certificates",
        "const token: string | undefined = undefined",
        "request id 0b0ab4ae-2c0f-4e5c-9d2b-3f6a7d1c9e55",
        "self.auth_grant = OAuth2AuthorizationCodeGrant",
        "sha512-Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFy integrity",
        "my-web-app-deployment-7d4b9c6f5-x2x9z is in CrashLoopBackOff",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "git checkout 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
        "Authorization: Bearer <your-token>",
        "export OPENAI_API_KEY=your-api-key-here",
        "postgresql://user:password@localhost/db",
        "The password must have 12 characters and a digit.",
        "key=partition-00012, version v1beta1",
        "curl -u username:password https://api.test",
    ],
)
def test_code_placeholders_ids_and_hashes_are_left_alone(engine: Engine, text: str) -> None:
    assert not found(engine, text)


def test_a_private_key_is_covered_from_its_first_line_to_its_last(engine: Engine) -> None:
    label = "RSA PRIVATE KEY"
    body = "\n".join(sample("[A-Za-z0-9+/]{64}", random.Random(line)) for line in range(20))
    text = f"before\n-----BEGIN {label}-----\n{body}\n-----END {label}-----\nafter"
    out = redacted(engine, text)
    assert out.startswith("before\n")
    assert out.endswith("\nafter")
    assert not any(line in out for line in body.splitlines())


def test_a_token_in_look_alike_letters_is_found(engine: Engine) -> None:
    token = "ghp_" + sample("[A-Za-z0-9]{36}", random.Random(1))
    wide = "".join(chr(ord(char) + 0xFEE0) if char != "_" else char for char in token)
    assert "github-token" in found(engine, f"here: {wide}")
    assert "github-token" in found(engine, "here: " + "\u200b".join(token))


def test_options_choose_rules_by_kind_and_group() -> None:
    everything = [one.kind for one in Secrets().detectors()]
    assert "generic-password" not in [one.kind for one in Secrets(generic=False).detectors()]
    cloud = [*Secrets(kinds=("secrets.cloud",)).detectors()]
    assert cloud
    assert all("secrets.cloud" in one.groups for one in cloud)
    rest = [one.kind for one in Secrets(except_kinds=("aws-*", "secrets.ai")).detectors()]
    assert "aws-access-key-id" in everything
    assert "aws-access-key-id" not in rest
    assert "groq-key" not in rest
    with pytest.raises(ConfigError, match="no kind of secret is left"):
        Secrets(kinds=("nothing",)).detectors()


def test_a_right_checksum_proves_a_token_that_looks_like_a_dummy() -> None:
    body = "a" * 30
    assert checksummed(f"ghp_{body}{crc32_base62(body)}")
    assert not checksummed(f"ghp_{body}aaaaaa")


def test_entropy_is_counted_in_bits_a_character() -> None:
    assert entropy("") == 0.0
    assert entropy("aaaa") == 0.0
    assert entropy("abcd") == 2.0


@pytest.mark.parametrize("text", ["authentication", "access_token_provider", "the quick brown fox"])
def test_words_are_known_from_random_letters(text: str) -> None:
    assert wordlike(text)
    assert not wordlike(sample("[a-z]{24}", random.Random(len(text))))


@pytest.mark.parametrize(
    ("check", "yes", "no"),
    [
        (is_password, "Tr0ub4dor&3", "get_password"),
        (is_password, "summer#Rain", "$PASSWORD"),
        (is_random, "9f8e7d6c5b4a39281706f5e4d3c2b1a0", "text-embedding-3-large"),
        (is_random, "0b0ab4ae-2c0f-4e5c-9d2b-3f6a7d1c9e55", "00000000-0000-0000-0000-000000000000"),
        (is_user_password, "admin:Tr0ub4dor&3", "username:password"),
        (is_user_password, "Tr0ub4dor&3:", "user:"),
        (not_placeholder, "sk_live_9aK2mZ", "xxxxxxxxxxxx"),
    ],
)
def test_checks_tell_secrets_from_what_looks_like_them(
    check: Callable[[str], bool], yes: str, no: str
) -> None:
    assert check(yes)
    assert not check(no)


def written(directory: Path, text: str) -> str:
    path = directory / "rules.toml"
    path.write_text(text)
    return str(path)


def test_an_operators_gitleaks_rules_find_the_group_that_is_the_secret(tmp_path: Path) -> None:
    rules = """
        title = "ours"
        [[rules]]
        id = "Acme Token"
        description = "tokens of our own service"
        regex = '''(?i)acme[\\w-]*\\s*=\\s*"?(ac_[a-z0-9]+)\\b'''
        secretGroup = 1
        entropy = 2.5
        keywords = ["acme"]
        [[rules.allowlists]]
        stopwords = ["dummy"]
        [allowlist]
        regexes = ['''^ac_0+$''']
        [[rules]]
        id = "file-names-only"
        path = '''\\.p12$'''
        """
    (own,) = gitleaks.detectors(written(tmp_path, rules))
    engine = Engine([own])
    text = 'Acme_key = "ac_9x8y7z6w5v" ACME="ac_000000000" acme=ac_dummy9876543 acme=ac_aaaaaaaaaa'
    ((start, end, _),) = engine.find(text)
    assert text[start:end] == "ac_9x8y7z6w5v"
    assert own.kind == "acme-token"
    assert "acme-token" in [
        one.kind for one in Secrets(gitleaks=str(tmp_path / "rules.toml")).detectors()
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "is not TOML"),
        ("[[rules]]\nid = 'x'\nregex = 'a(?=b)'", "rule 'x'.*looks ahead"),
        ("[extend]\npath = 'other.toml'", "not followed"),
        ("[[rules]]\nid = 'x'\nregex = 'abc'\nentropy = 'high'", "rule 'x'"),
    ],
)
def test_a_rule_file_that_cannot_be_kept_to_stops_the_start(
    tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        list(gitleaks.detectors(written(tmp_path, text)))


def test_a_missing_rule_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        list(Secrets(gitleaks=str(tmp_path / "none.toml")).detectors())


@pytest.mark.parametrize(
    ("pattern", "group", "parts"),
    [
        ("a(b)c", 0, ("a", "(b)", "c")),
        ("(?i)a(b)(c)", 2, ("(?i:a(b))", "(?i:(c))", "")),
        ("a(b)(c)", 0, ("", "a(b)(c)", "")),
        ("x|a(b)", 0, ("", "x|a(b)", "")),
        ("(?:a(b))c", 0, ("", "(?:a(b))c", "")),
        (r"\((?:a|b)[(](c[)])", 0, (r"\((?:a|b)[(]", "(c[)])", "")),
    ],
)
def test_a_pattern_is_split_at_the_group_that_is_the_secret(
    pattern: str, group: int, parts: tuple[str, str, str]
) -> None:
    assert tuple(gitleaks.split(pattern, group)) == parts


def test_repetition_without_bound_gets_one() -> None:
    assert gitleaks.bounded(r"a+[+*]*\+b{3,}c{2,4}?") == r"a{1,200}[+*]{0,200}\+b{3,200}c{2,4}?"


def test_every_detector_belongs_to_secrets() -> None:
    assert {one.groups[0] for one in Secrets().detectors()} == {"secrets"}
