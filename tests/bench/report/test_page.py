"""report.html in a real browser: sorting, filtering, escaping, silence on the console and on the network."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fake_results import fake_experiment, fake_grid, fake_run

from bench.report.write import write

ODD = "<script>document.title='owned'</script> \"q\" & 'a' é中"


def skip_or_fail(reason: str) -> None:
    """Without a browser the tests are skipped, except where they must run."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything that can be in one: references, failures, a collapse, a grid, damage, odd names."""
    results = tmp_path_factory.mktemp("results")
    fake_experiment(results / "quick")
    fake_grid(results / "quick", "byol_prime")
    for seed in range(5):
        fake_run(results / "quick", ODD.replace("/", ""), seed, error=ODD, state="failed" if seed == 1 else "done")
    (results / "quick" / "runs" / "notes.txt").touch()
    (path,) = write(results, ["quick"], ["html"])
    return path


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        skip_or_fail("needs Debian's chromium and chromium-driver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        skip_or_fail("needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-background-networking", "disable-component-update", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield browser
    browser.quit()


@contextlib.contextmanager
def window(driver: Any, page: Path, width: int, scheme: str = "light") -> Iterator[None]:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get(page.as_uri())
    yield


def column(driver: Any, table: str, name: str, visible: bool = False) -> list[str]:
    """The texts of a column, top to bottom."""
    found: list[str] = driver.execute_script(
        """const table = document.getElementById(arguments[0]);
        const names = [...table.tHead.rows[0].cells].map(cell => cell.textContent.trim());
        const rows = [...table.tBodies[0].rows].filter(row => !arguments[2] || row.offsetParent !== null);
        return rows.map(row => row.cells[names.indexOf(arguments[1])].textContent.trim());""",
        table,
        name,
        visible,
    )
    return found


def click(driver: Any, table: str, name: str) -> None:
    for button in driver.find_elements("css selector", f"#{table} th button"):
        if button.text.startswith(name):
            button.click()
            return
    raise AssertionError(f"no column {name} in {table}")


def test_columns_sort_both_ways(driver: Any, page: Path) -> None:
    with window(driver, page, 1280):
        click(driver, "leaderboard-1", "kNN")
        numbers = [float(text.split()[0]) for text in column(driver, "leaderboard-1", "kNN")]
        assert len(numbers) == 8
        assert numbers == sorted(numbers, reverse=True)
        click(driver, "leaderboard-1", "kNN")
        assert [float(t.split()[0]) for t in column(driver, "leaderboard-1", "kNN")] == sorted(numbers)
        header = driver.find_elements("css selector", "#leaderboard-1 th[aria-sort=ascending]")
        assert [cell.text.split()[0] for cell in header] == ["kNN"]
        click(driver, "leaderboard-1", "method")
        names = column(driver, "leaderboard-1", "method")
        assert names[0].startswith("<script>")
        assert names[1:] == sorted(names[1:])


def test_what_does_not_exist_sorts_last(driver: Any, page: Path) -> None:
    with window(driver, page, 1280):
        for _ in range(2):
            click(driver, "runs-table", "linear")
            assert column(driver, "runs-table", "linear")[-1] == "–"
            assert column(driver, "runs-table", "linear")[0] != "–"


def test_filter_hides_rows_and_counts_them(driver: Any, page: Path) -> None:
    with window(driver, page, 1280):
        field = driver.find_element("css selector", "input[data-table=runs-table]")
        field.send_keys("raft FAILED")
        assert column(driver, "runs-table", "method", visible=True) == ["RAFT"]
        assert "non-finite loss at step 120" in column(driver, "runs-table", "reason", visible=True)[0]
        assert driver.find_element("id", "runs-table-count").text == "1 of 67 rows"
        field.clear()
        field.send_keys("no such run")
        assert column(driver, "runs-table", "method", visible=True) == []


def test_names_are_text(driver: Any, page: Path) -> None:
    with window(driver, page, 1280):
        assert driver.title == "ssl-bench: quick"
        assert ODD.replace("/", "") in column(driver, "leaderboard-1", "method")
        assert ODD in column(driver, "runs-table", "reason")
        assert len(driver.find_elements("tag name", "script")) == 1


def test_silent_and_self_contained(driver: Any, page: Path) -> None:
    for log in ("browser", "performance"):
        driver.get_log(log)  # forget what came before
    with window(driver, page, 1280):
        click(driver, "pairs-table", "difference")
        driver.find_element("css selector", "input[data-table=leaderboard-1]").send_keys("byol")
        images = driver.execute_script("return [...document.images].map(i => [i.complete, i.naturalWidth, i.alt])")
        assert len(images) == 8
        assert all(complete and width > 100 and alt for complete, width, alt in images)
    assert driver.get_log("browser") == []
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {url.split(":")[0] for url in urls} <= {"file", "data"}
    assert [url for url in urls if url.startswith("file")] == [page.as_uri()]


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_legible(driver: Any, page: Path, width: int, scheme: str) -> None:
    """Nothing sticks out of the window but inside its own scroll area; text is large enough, and has contrast."""
    with window(driver, page, width, scheme):
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        sizes = driver.execute_script(
            """return [...document.querySelectorAll("p, td, th, li, figcaption, a")]
            .map(e => parseFloat(getComputedStyle(e).fontSize))"""
        )
        assert min(sizes) >= 13
        colours = driver.execute_script(
            """const styles = [document.body, ...document.querySelectorAll(".notes, tr.failed td, td.best, th, nav a")]
            .map(e => getComputedStyle(e).color);
            return [getComputedStyle(document.body).backgroundColor, ...new Set(styles)];"""
        )
        back, *texts = [tuple(int(n) for n in c[c.index("(") + 1 : -1].split(",")[:3]) for c in colours]
        assert (sum(back) < 200) == (scheme == "dark")
        assert min(contrast(back, text) for text in texts) >= 4.5  # WCAG AA


def contrast(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Contrast ratio of two sRGB colours (WCAG 2.1)."""

    def luminance(colour: tuple[int, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (n / 255 for n in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


class Elements(HTMLParser):
    """Tags, their addresses, and all text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.captions: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.captions += [value for key, value in attrs if key == "alt" and value]
        self.addresses += [value for key, value in attrs if key in ("src", "href", "action", "srcset") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_without_a_browser(page: Path) -> None:
    elements = Elements()
    elements.feed(page.read_text(encoding="utf-8"))
    assert elements.tags.count("script") == 1
    assert all(address.startswith(("data:", "#")) for address in elements.addresses)
    for words in (ODD, "notes.txt", "bench run --method raft,byol --seeds 5", "torch 2.14.1", "testbox"):
        assert words in elements.text, words
    assert "0123456789abcdef0123456789abcdef01234567" in elements.text
    assert "optim.weight_decay = 0.0001" in elements.text  # shared by all
    assert "It does not mean equal" in elements.text
    assert "fewer than 3 common seeds, or without any spread are not tested" in elements.text
    assert any("Holm-adjusted" in text and "all pairs at once" in text for text in elements.captions)


def test_a_page_of_nothing_yet(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0, state="planned")
    (path,) = write(tmp_path, ["e"], ["html"])
    assert "No run has finished yet." in path.read_text()
