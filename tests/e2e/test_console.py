"""The console in a real browser: gunicorn behind it, nothing from elsewhere, nothing that the policy stops.

``OUTGATE_UPDATE_DOCS=1 pytest tests/e2e/test_console.py`` takes the pictures of the documentation anew.
"""

import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.console.material import TOKEN, a_day, outcome, write_segment
from tests.e2e.stack import NGINX, PATIENCE, SECRETS, Stack, configuration, post, running_stack
from tests.pages import DOCS
from tests.upstream import ScriptedUpstream

CHROMIUM: Final = shutil.which("chromium")
DRIVER: Final = shutil.which("chromedriver", path=f"{os.environ.get('PATH', '')}:/usr/bin")
UPDATE: Final = bool(os.environ.get("OUTGATE_UPDATE_DOCS"))
LARGEST_PICTURE: Final = 150_000

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="chromium or chromedriver is not installed"
    ),
    pytest.mark.xdist_group("browser"),
]

EXTRA: Final = """
[console]
token = {{ env = "CONSOLE_TOKEN" }}

[audit]
directory = "{audit}"

[store]
url = "sqlite:///{folder}/outgate.db"

[[plugins]]
use = "regex_guard"
[plugins.options.patterns]
employee-id = 'E-[0-9]{{6}}'

[[plugins]]
use = "secrets"

[[plugins]]
use = "pii"

[policy.request]
"*" = "deny"
pii = "mask"
secrets = "deny"

[policy.response]
secrets = "redact"
"""
MARKUP: Final = "<b id=planted>alice</b><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """gunicorn with two workers, and a trail of a day behind it."""
    folder = tmp_path_factory.mktemp("console")
    audit = folder / "audit"
    audit.mkdir(mode=0o700)
    now = time.time()
    hostile = outcome("req_hostile", now - 45, principal=MARKUP, model=MARKUP)
    day = a_day(now - 10, 12_000 if UPDATE else 1500)
    write_segment(audit, sorted([*day, hostile], key=lambda record: record[0]))
    with ScriptedUpstream() as upstream:
        text = configuration({"main": f"{upstream.url}/v1"}, folder / "log.jsonl")
        text += EXTRA.format(audit=audit, folder=folder)
        environment = {**SECRETS, "CONSOLE_TOKEN": TOKEN}
        with running_stack(
            folder, text, workers=2, front=NGINX is not None, environment=environment
        ) as stack:
            yield stack


def started(**emulated: Any) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
        "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--no-proxy-server", "--force-color-profile=srgb",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(DRIVER, env={**os.environ, "LANG": "C.UTF-8"})
    browser = webdriver.Chrome(options=options, service=service)
    browser.set_page_load_timeout(PATIENCE)
    size(browser, emulated.get("width", 1280), 900)
    return browser


def size(browser: webdriver.Chrome, width: int, height: int) -> None:
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def scheme(browser: webdriver.Chrome, name: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": name}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    try:
        browser = started()
    except WebDriverException as error:
        pytest.skip(f"chromium does not start here: {error.msg}")
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome, stack: Stack) -> webdriver.Chrome:
    """One that nobody has signed in with."""
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    scheme(chromium, "light")
    size(chromium, 1280, 900)
    chromium.get(f"{stack.direct}/console")
    with suppress(WebDriverException):
        complaints(chromium)
    return chromium


@pytest.fixture
def inside(browser: webdriver.Chrome) -> webdriver.Chrome:
    sign_in(browser)
    return browser


def wait(browser: webdriver.Chrome) -> WebDriverWait[webdriver.Chrome]:
    """Until something holds; an element may belong to the page that is being left."""
    return WebDriverWait(browser, PATIENCE, ignored_exceptions=[StaleElementReferenceException])


def sign_in(browser: webdriver.Chrome) -> None:
    field = browser.find_element(By.ID, "token")
    field.send_keys(TOKEN, Keys.ENTER)
    heading(browser, "Overview")


def heading(browser: webdriver.Chrome, text: str) -> None:
    wait(browser).until(lambda b: b.find_element(By.TAG_NAME, "h1").text == text)


def go(browser: webdriver.Chrome, link: str, title: str) -> None:
    browser.find_element(By.LINK_TEXT, link).click()
    heading(browser, title)


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the browser had to say: the policy stopping something, above all."""
    entries: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in entries if "401" not in entry["message"]]


def test_a_wrong_token_is_told_and_the_right_one_opens_the_page(browser: webdriver.Chrome) -> None:
    field = browser.find_element(By.ID, "token")
    assert browser.switch_to.active_element == field
    field.send_keys("wrong-token-0123456789", Keys.ENTER)
    wait(browser).until(lambda b: b.find_elements(By.ID, "wrong"))
    sign_in(browser)
    (cookie,) = browser.get_cookies()
    assert (cookie["name"], cookie["path"]) == ("outgate_console", "/console")
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    browser.find_element(By.CSS_SELECTOR, "form.out button").click()
    heading(browser, "Sign in")
    assert browser.get_cookies() == []
    assert complaints(browser) == []


def test_who_signs_in_is_where_they_wanted_to_be(browser: webdriver.Chrome, stack: Stack) -> None:
    browser.get(f"{stack.direct}/console/calls?outcome=denied")
    browser.find_element(By.ID, "token").send_keys(TOKEN, Keys.ENTER)
    heading(browser, "Calls")
    assert browser.current_url.endswith("/console/calls?outcome=denied")


def test_no_page_breaks_its_own_rules_or_the_screen(inside: webdriver.Chrome) -> None:
    for width in (1280, 390):
        size(inside, width, 900)
        for link, title in (
            ("Overview", "Overview"), ("Calls", "Calls"), ("Spend", "Spend"),
            ("Chain and policy", "Chain and policy"), ("Docs", "Documentation"),
            ("The console", "The console"), ("Plugin API", "Plugin API"),
        ):  # fmt: skip
            go(inside, link, title)
            assert complaints(inside) == []
            wide = inside.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, (link, width)
            asked = inside.execute_script(
                "return performance.getEntriesByType('resource').map(entry => entry.name)"
            )
            assert all("/console/" in name for name in asked), asked


def test_a_link_in_the_documentation_leads_to_its_heading(inside: webdriver.Chrome) -> None:
    go(inside, "Docs", "Documentation")
    go(inside, "Detection", "Detection")
    inside.find_element(By.LINK_TEXT, "A policy can be rehearsed").click()
    heading(inside, "Roll a policy out safely")
    inside.find_element(By.LINK_TEXT, "Mask what must not leave").click()
    heading(inside, "How to mask what must not leave")
    inside.find_element(
        By.CSS_SELECTOR, 'a[href="/console/docs/detection#some-calls-and-thresholds"]'
    ).click()
    heading(inside, "Detection")
    target = inside.find_element(By.ID, "some-calls-and-thresholds")
    assert (
        abs(inside.execute_script("return arguments[0].getBoundingClientRect().top", target)) < 40
    )
    field = inside.find_element(By.NAME, "search")
    field.send_keys("circuit breakers", Keys.ENTER)
    wait(inside).until(lambda b: b.find_elements(By.CSS_SELECTOR, ".hits a"))
    assert inside.find_element(By.CSS_SELECTOR, ".hits a").text == "Circuit breakers"
    assert complaints(inside) == []


def test_a_picture_of_the_documentation_is_shown(inside: webdriver.Chrome, stack: Stack) -> None:
    inside.get(f"{stack.direct}/console/docs/console")
    picture = inside.find_element(By.CSS_SELECTOR, "article img")
    wait(inside).until(lambda _: picture.get_property("naturalWidth"))
    assert picture.get_attribute("alt")


def test_a_chart_is_drawn_and_its_table_says_the_same(inside: webdriver.Chrome) -> None:
    figure = inside.find_element(By.CSS_SELECTOR, "figure.wide")
    plot = figure.find_element(By.CSS_SELECTOR, "svg.full")
    assert plot.is_displayed()
    assert plot.size["width"] > 900
    bars = plot.find_elements(By.CSS_SELECTOR, "g.column rect.f-ok")
    assert bars
    assert bars[0].value_of_css_property("fill") == "rgb(42, 143, 128)"
    figure.find_element(By.TAG_NAME, "summary").click()
    cells = figure.find_elements(By.CSS_SELECTOR, "td.n")
    told = int(figure.find_element(By.CSS_SELECTOR, ".legend b").text.replace(",", ""))
    names = [cell.text for cell in figure.find_elements(By.CSS_SELECTOR, "thead th.n")]
    numbers = [int(cell.text.replace(",", "")) for cell in cells]
    assert sum(numbers[:: len(names)]) == told


def test_a_call_appears_while_somebody_looks(inside: webdriver.Chrome, stack: Stack) -> None:
    go(inside, "Calls", "Calls")
    go(inside, "Go live", "Calls")
    newest = inside.find_element(By.CSS_SELECTOR, "a.id").get_attribute("href")
    body = {"model": "main", "prompt": "who is E-123456?"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(stack, body)
    id_ = refused.value.headers["x-outgate-id"]
    refused.value.close()
    wait(inside).until(lambda b: _first_link(b) not in (None, newest))
    assert _first_link(inside) == f"{stack.direct}/console/calls/{id_}"
    inside.get(f"{stack.direct}/console/calls/{id_}")
    text = inside.find_element(By.TAG_NAME, "main").text
    for said in (id_, "denied", "employee-id", "regex_guard", "alice", "static_keys", "policy"):
        assert said in text, said
    assert "E-123456" not in inside.page_source


def _first_link(browser: webdriver.Chrome) -> str | None:
    with suppress(WebDriverException):  # the page is just being loaded again
        return browser.find_element(By.CSS_SELECTOR, "a.id").get_attribute("href")
    return None


def test_the_keyboard_is_enough(inside: webdriver.Chrome) -> None:
    body = inside.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    skip = inside.switch_to.active_element
    assert skip.text == "Skip to the content"
    assert skip.location["x"] >= 0
    skip.send_keys(Keys.ENTER)
    inside.switch_to.active_element.send_keys(Keys.TAB)
    assert inside.switch_to.active_element.text == "Last hour"
    inside.switch_to.active_element.send_keys(Keys.TAB)
    inside.switch_to.active_element.send_keys(Keys.ENTER)
    wait(inside).until(lambda b: "span=day" in b.current_url)
    chosen = inside.find_element(By.CSS_SELECTOR, ".choice [aria-current]")
    assert chosen.text == "Last 24 hours"


def test_markup_in_a_record_is_text_in_the_page(inside: webdriver.Chrome, stack: Stack) -> None:
    inside.get(f"{stack.direct}/console/calls/req_hostile")
    assert MARKUP in inside.find_element(By.TAG_NAME, "main").text
    assert inside.find_elements(By.ID, "planted") == []
    assert inside.title != "owned"
    assert complaints(inside) == []


def test_light_and_dark_are_what_the_reader_asks_for(inside: webdriver.Chrome) -> None:
    papers = []
    for name in ("light", "dark"):
        scheme(inside, name)
        body = inside.find_element(By.TAG_NAME, "body")
        papers.append(body.value_of_css_property("background-color"))
    assert papers == ["rgba(244, 246, 245, 1)", "rgba(15, 21, 20, 1)"]


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_through_the_web_server_there_is_no_console(stack: Stack) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    ask = urllib.request.Request(
        f"{stack.url}/console", headers={"authorization": f"Bearer {TOKEN}"}
    )
    with pytest.raises(urllib.error.HTTPError) as found:
        opener.open(ask, timeout=PATIENCE)
    assert found.value.code == 404
    found.value.close()


#: The pictures of the documentation: page, colours, size of the screen.
PICTURES: Final[dict[str, tuple[str, str, tuple[int, int]]]] = {
    "overview": ("", "light", (1180, 1010)),
    "overview-dark": ("?span=day", "dark", (1180, 860)),
    "record": ("/calls?outcome=ok&finding=iban", "light", (1180, 1010)),
    "chain": ("/chain", "dark", (1180, 900)),
    "narrow": ("", "light", (390, 844)),
    "docs": ("/docs/block", "light", (1000, 640)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_the_documentation_can_be_taken(
    inside: webdriver.Chrome, stack: Stack, tmp_path: Path, name: str
) -> None:
    path, colours, screen = PICTURES[name]
    scheme(inside, colours)
    size(inside, *screen)
    inside.get(f"{stack.direct}/console{path}")
    if name == "record":
        inside.find_element(By.CSS_SELECTOR, "a.id").click()
        heading(inside, "Record")
    picture = (DOCS if UPDATE else tmp_path) / f"console-{name}.png"
    assert inside.save_screenshot(str(picture))
    assert picture.stat().st_size > 10_000
    shipped = DOCS / f"console-{name}.png"
    assert shipped.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert shipped.stat().st_size < LARGEST_PICTURE
