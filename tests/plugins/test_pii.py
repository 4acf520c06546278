"""Personal data is found by its checksum or its words, in whatever carries it, and little else is."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban, luhn

from plugins.pii import Pii, checks, numbering
from plugins.pii.government import REGISTERS, shape
from plugins.pii.rule import before, words
from proxy import ConfigError, linear
from proxy.detect.engine import Engine
from tests.plugins.sampling import sample

CARRIERS = (
    "My {label} is {value}, please change it.",
    "{label}: {value}",
    '{{"customer": {{"{label}": "{value}", "plan": "gold"}}}}',
    "id,{label},status\n10021,{value},active\n",
    '{label} = "{value}"',
    "2026-11-03 10:22:41 INFO user update {label}={value} ok",
    "<record><{label}>{value}</{label}></record>",
    "| field | value |\n|---|---|\n| {label} | {value} |\n",
    "Their {label} ({value}) was sent.",
    "{label}\n{value}",
)


class Finder:
    """The detectors of one choice of options, and what they find."""

    def __init__(self, options: Pii) -> None:
        self.detectors = list(options.detectors())
        self.engine = Engine(self.detectors)

    def __call__(self, text: str) -> list[tuple[str, str]]:
        spans = self.engine.find(text)
        return [(self.detectors[span.detector].kind, text[span.start : span.end]) for span in spans]

    def covers(self, text: str, value: str) -> bool:
        return any(value in found or found in value for _, found in self(text))

    def has(self, text: str, kind: str, value: str) -> bool:
        return (kind, value) in self(text)


@pytest.fixture(scope="module")
def find() -> Finder:
    return Finder(Pii())


def carriers(label: str, value: str) -> Iterator[str]:
    return (carrier.format(label=label, value=value) for carrier in CARRIERS)


def card(prefix: str, length: int) -> str:
    digits = (prefix + "048276351984027536")[: length - 1]
    return digits + luhn.calc_check_digit(digits)


def off_by_one(value: str) -> str:
    place = max(index for index, char in enumerate(value) if char.isdigit())
    return value[:place] + str((int(value[place]) + 1) % 10) + value[place + 1 :]


@pytest.mark.parametrize(
    "number",
    [
        card("4", 16),
        card("4", 13),
        card("4", 19),
        card("51", 16),
        card("2221", 16),
        card("34", 15),
        card("37", 15),
        card("36", 14),
        card("3528", 16),
        card("6011", 16),
        card("62", 16),
        card("5018", 16),
    ],
)
def test_a_card_is_found_by_its_checksum_and_one_digit_off_is_none(
    find: Finder, number: str
) -> None:
    for text in (number, *carriers("ref", number)):
        assert find.has(text, "card", number)
    wrong = off_by_one(number)
    assert not find.has(f"ref: {wrong}", "card", wrong)


@pytest.mark.parametrize("form", ["{}{}{}{}", "{} {} {} {}", "{}-{}-{}-{}"])
def test_a_card_is_found_however_it_is_grouped(find: Finder, form: str) -> None:
    number = card("4", 16)
    written = form.format(*(number[place : place + 4] for place in range(0, 16, 4)))
    assert find.has(f"Is {written} valid?", "card", written)


def test_an_american_express_card_has_groups_of_its_own(find: Finder) -> None:
    number = card("37", 15)
    written = f"{number[:4]} {number[4:10]} {number[10:]}"
    assert find.has(f"Is {written} valid?", "card", written)


def test_what_is_called_a_card_may_have_a_length_that_few_have(find: Finder) -> None:
    number = card("5038", 12)
    assert find.has(f"my card number is {number}", "card", number)
    assert not find.has(f"part {number}", "card", number)


@pytest.mark.parametrize("sender", ["DE", "GB", "FR", "NO", "MT", "SA", "BR", "ES"])
@pytest.mark.parametrize("grouped", [True, False])
def test_an_iban_is_found_by_its_checksum_in_any_case(
    find: Finder, sender: str, grouped: bool
) -> None:
    structures = {
        "DE": "370400440532013000",
        "GB": "WEST12345698765432",
        "FR": "20041010050500013M02606",
        "NO": "86011117947",
        "MT": "MALT011000012345MTLCAST001S",
        "SA": "80000000608010167519",
        "BR": "00360305000010009795493P1",
        "ES": "21000418450200051332",
    }
    account = (
        sender + iban.calc_check_digits(f"{sender}00{structures[sender]}") + structures[sender]
    )
    written = iban.format(account) if grouped else account
    for text in (f"What does {written} mean here?", f"pay {written.lower()} now", f'"{written}"'):
        assert any(kind == "iban" and value.upper() == written for kind, value in find(text))
    wrong = off_by_one(written)
    assert not find.has(f"to {wrong} now", "iban", wrong)


BARE = [(register.kind, one) for register in REGISTERS for one in register.bare.split("|") if one]


def drawn(register_kind: str, one: str) -> str | None:
    """A number of the shape that its register's own validator takes, found by trying."""
    register = next(r for r in REGISTERS if r.kind == register_kind)
    valid = (
        checks.any_of(register.modules.split())
        if register.modules
        else numbering.OWN[register.kind]
    )
    dice = random.Random(one)
    letters = {
        "9": "0123456789",
        "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "a": "abcdefghijklmnopqrstuvwxyz",
    }
    for _ in range(3000):
        number = "".join(dice.choice(letters.get(char, char)) for char in one)
        if len(set(number)) > 4 and not number.startswith("1") and valid(number):
            return number
    return None


@pytest.fixture(scope="module")
def strong() -> dict[tuple[str, str], str]:
    return {(kind, one): number for kind, one in BARE if (number := drawn(kind, one)) is not None}


def test_a_strong_number_needs_no_words(find: Finder, strong: dict[tuple[str, str], str]) -> None:
    missed = []
    for number in strong.values():
        alone = any(value == number for _, value in find(f"value: {number}\n"))
        if not alone or not find.covers(f"What does {number} mean?", number):
            missed.append(number)
    assert missed == []


def test_most_strong_numbers_could_be_drawn(strong: dict[tuple[str, str], str]) -> None:
    # Chance meets the checksum and the dates inside some of them too rarely to draw one.
    assert len(strong) > len(BARE) * 0.6


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("cpf", "529.982.247-25"),
        ("ssn", "536-90-4399"),
        ("NHS number", "943 476 5919"),
        ("BSN", "111222333"),
        ("tax file number", "123456782"),
        ("Steuer-ID", "36574261809"),
        ("numero de securite sociale", "255081416802538"),
        ("PESEL", "44051401359"),
        ("personnummer", "811228-9874"),
        ("aadhaar", "2341 2341 2346"),
        ("codice fiscale", "RSSMRA85T10A562S"),
        ("DNI", "12345678Z"),
        ("NIE", "X1234567L"),
        ("passport number", "C01X00T47"),
        ("driver's license", "D1234-56789-01234"),
        ("MRN", "00482913"),
        ("patient id", "PX-482913"),
        ("routing number", "021000021"),
        ("account number", "000123456789"),
        ("bic", "COBADEFFXXX"),
        ("sort code", "20-00-00"),
        ("dob", "1984-05-17"),
        ("date of birth", "17.05.1984"),
        ("phone", "0171 2345678"),
        ("tel", "030 901820"),
        ("zip code", "90210"),
        ("client ip", "10.1.2.3"),
        ("imei", "490154203237518"),
        ("cvv", "123"),
        ("license plate", "B-MW 4821"),
        ("employee id", "E-48213"),
        ("NPI", "1234567893"),
        ("emirates id", "784-1990-1234567-6"),
        ("iqama", "1012345672"),
        ("IFSC", "HDFC0001234"),
        ("VIN", "1HGCM82633A004352"),
        ("chassis number", "WVWZZZ1JZXW000001"),
        ("BSB", "062-000"),
        ("BLZ", "370 400 44"),
        ("CLABE", "032180000118359719"),
        ("postcode", "DN551PT"),
        ("postal code", "K1A 0B1"),
        ("TAJ", "123 456 788"),
        ("IMSI", "262011234567890"),
        ("ICCID", "8944500102198304826"),
        ("device id", "38400000-8cf0-11bd-b23e-10b96e40000d"),
        ("pasaporte", "XDB123456"),
        ("OHIP", "1234-567-897-AB"),
        ("CNH", "12345678900"),
        ("solana wallet", "7EcDhSYGxXyscszYEp35KHN8vvw3svAuLKTzXwCFLtV"),
    ],
)
def test_a_value_is_found_beside_its_words_in_every_carrier(
    find: Finder, label: str, value: str
) -> None:
    missed = [text for text in carriers(label, value) if not find.covers(text, value)]
    assert missed == []


@pytest.mark.parametrize("label", ["ssn", "socialSecurity", "social_security", "SSN", "user_ssn"])
def test_labels_are_known_in_the_cases_of_code(label: str) -> None:
    pattern = linear(words("ssn", "social security"))
    assert bool(pattern.search(f"{label}: 1")) == (label != "user_ssn")


def test_words_inside_other_words_are_no_labels() -> None:
    assert linear(before("tin")).search("getting 123") is None
    assert linear(before("passport")).search("passports 123") is not None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("email", "ann.o'neil+news@mail.corp.co.uk"),
        ("email", "_x1@a-b.de"),
        ("phone", "+49 30 901820"),
        ("phone", "+1 (415) 555-2671"),
        ("phone", "0044 20 7946 0958"),
        ("phone", "(415) 555-2671"),
        ("phone", "415-555-2671"),
        ("phone", "020 7946 0958"),
        ("ip-address", "203.0.114.7"),
        ("ip-address", "2a01:4f8:c0c:1234::1"),
        ("ip-address", "::ffff:192.168.1.1"),
        ("mac-address", "3c:22:fb:41:9a:0e"),
        ("mac-address", "3C-22-FB-41-9A-0E"),
        ("crypto-address", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"),
        ("crypto-address", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        ("crypto-address", "0x52908400098527886E0F7030069857D2E4169EE7"),
        ("postal-code", "SW1A 1AA"),
        ("us-ssn", "536-90-4399"),
        ("us-ssn", "912-70-1234"),
        ("street-address", "742 Evergreen Terrace"),
        ("street-address", "Hauptstrasse 12"),
        ("street-address", "Rue de la Paix 14"),
    ],
)
def test_what_looks_like_nothing_else_needs_no_words(find: Finder, kind: str, value: str) -> None:
    for text in (value, f"Is {value} right?", f'{{"v": "{value}"}}', f"a,{value},b", f"({value})"):
        assert find.has(text, kind, value), text


@pytest.mark.parametrize(
    "text",
    [
        "Bump driver 21.1.4.35 and firmware 30.4.14.5.",
        "Is 2001:db8::b648 a documentation prefix? And fe80::1?",
        "listen on 127.0.0.1 and 0.0.0.0",
        "std::cout << a::b::c; at 12:34:56",
        "git@github.com:org/repo.git icon@2x.png",
        "Sort these part numbers: 701400676, 906537538, 435783811",
        "Convert to dates: 1725339413160, 1741328067429",
        "Discord snowflakes: 805137007787138978, 1840212849192457899",
        "f3b1c9d0-4a7e-4c59-9f0b-5d8f7a1c2e34",
        "Between 1995-07-13 and 07/25/1926 how many days?",
        "sha1 c8e2c8a459c29a4eb3a7bb5f4611c1e8bfbbaa19",
        "000-12-3456 666-12-3456 123-00-4567 123-45-0000",
        "aa:bb:cc:dd:ee:ff and 00:00:00:00:00:00",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5 and 1BoatSLRHtKNngkdXEeobR76b53LETtpyU",
        'name: "Check JavaScript"',
        '{"name": "Protect Prompt"}',
        "version 1.2.3.4.5.6",
        "the price is 12 345 678 and 3.14159265358979",
    ],
)
def test_harmless_texts_that_look_risky_are_left_alone(find: Finder, text: str) -> None:
    assert find(text) == []


@pytest.mark.parametrize(
    "text",
    ["Dear Ms. Ann Lee,", "my name is Ann Lee", 'full_name: "Ann Lee"', "Regards, Ann Lee"],
)
def test_names_are_found_by_what_introduces_them(find: Finder, text: str) -> None:
    assert any(kind == "person" and "Ann Lee" in value for kind, value in find(text))


def test_the_words_may_follow(find: Finder) -> None:
    assert find.covers("can u check if 111222333 is right? its my BSN", "111222333")
    assert find.covers("030 901820 (office)", "030 901820")


def test_other_scripts_and_invisible_signs_hide_nothing(find: Finder) -> None:
    full_width = "".join(chr(ord(char) + 0xFEE0) for char in card("4", 16))
    assert any(kind == "card" for kind, _ in find(f"it is {full_width}"))
    assert any(kind == "email" for kind, _ in find("ann\u200b@corp.\u00adde"))


def test_only_the_chosen_kinds_are_looked_for() -> None:
    chosen = {
        detector.kind for detector in Pii(include=("email", "i*"), exclude=("ip-*",)).detectors()
    }
    assert "email" in chosen
    assert "iban" in chosen
    assert not any(kind.startswith("ip-") for kind in chosen)
    assert "card" not in chosen


def test_countries_that_were_not_chosen_are_not_looked_for() -> None:
    german = Finder(Pii(countries=("DE",), include=("*-*",)))
    kinds = {detector.kind for detector in german.detectors}
    assert "de-tax-id" in kinds
    assert "us-ssn" not in kinds
    assert german.covers("it is 36574261809", "36574261809")
    assert not german.covers("it is 529.982.247-25", "529.982.247-25")
    assert not german.covers("it is 536-90-4399", "536-90-4399")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Pii(include=("e-mail",)), "no kind is called 'e-mail'"),
        (Pii(exclude=("nothing",)), "no kind is called 'nothing'"),
        (Pii(countries=("Germany",)), "no rules for country 'Germany'"),
    ],
)
def test_a_choice_that_means_nothing_stops_the_start(options: Pii, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        list(options.detectors())


def test_every_detector_belongs_to_the_group_of_all() -> None:
    for detector in Pii().detectors():
        assert "pii" in detector.groups
        assert any(group.startswith("pii.") for group in detector.groups)
        assert 0 < detector.confidence <= 1


CHECKED = [detector for detector in Pii().detectors() if detector.check is not None]


@pytest.mark.parametrize("seed", range(3))
def test_no_check_fails_on_what_its_pattern_can_find(seed: int) -> None:
    dice = random.Random(seed)
    for detector in CHECKED:
        assert detector.check is not None
        assert detector.check(sample(detector.core, dice)) in (True, False), detector.kind


@given(st.text())
def test_a_shape_is_as_long_as_its_text(text: str) -> None:
    assert len(shape(text)) == len(text)
