"""A page in a real browser: headless Chromium, told what to do by chromedriver."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DESKTOP, PHONE = (1200, 900), (400, 800)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader")


class Chromium:
    """One session, in which pages are opened one after the other."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def tell(self, command: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def open(self, path: Path, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> None:
        self.tell("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=size == PHONE)
        self.scheme(scheme)
        self.logs("browser")
        self.logs("performance")
        self.driver.get(path.as_uri())
        self.until("document.documentElement.dataset.drawn === 'yes'")

    def scheme(self, scheme: str) -> None:
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def until(self, condition: str) -> None:
        end = time.monotonic() + 20
        while not self.run(f"return {condition}"):
            assert time.monotonic() < end, f"never: {condition}"
            time.sleep(0.02)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def logs(self, kind: str) -> list[dict[str, Any]]:
        """What was logged since it was last asked for."""
        found: list[dict[str, Any]] = self.driver.get_log(kind)
        return found

    def complaints(self) -> list[str]:
        """What a page did wrong. That it reads back its own drawing slowly is said of every drawing without a graphics card."""
        told = (entry for entry in self.logs("browser") if entry["level"] in ("SEVERE", "WARNING"))
        return [entry["message"] for entry in told if "GPU stall" not in entry["message"]]


@contextmanager
def chromium_session(profile: Path) -> Iterator[Chromium]:
    """A session with its own profile; the test is skipped where Chromium is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Chromium(session)
    finally:
        session.quit()
