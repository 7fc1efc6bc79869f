"""Chromium looking at the UI: a page that a person would call broken fails the test that looked at it."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, expect, sync_playwright

NO_CHROMIUM = "no Chromium was found, so the UI's pages are not tested: apt-get install chromium, or set CHROMIUM to its path"
PATIENCE_MS = 30_000
"""What a page may take to show something on a busy machine."""

BANNERS = re.compile("Something went wrong|Page not found|Unexpected error|unexpected token|Could not load", re.IGNORECASE)

REPORT_GRAPHQL_ERRORS = """
const ask = window.fetch;
const faults = (value) => {
  if (value === null || typeof value !== "object") return [];
  const own = value.__typename === "PythonError" ? [value.message] : [];
  return own.concat(...Object.values(value).map(faults));
};
window.fetch = async (...request) => {
  const response = await ask(...request);
  if (new URL(response.url).pathname === "/graphql") {
    const answer = await response.clone().json();
    for (const message of [...(answer.errors ?? []).map((error) => error.message), ...faults(answer.data)]) {
      console.error(`GraphQL: ${message}`);
    }
  }
  return response;
};
"""
"""Dagster answers 200 with the error inside, and the page shows it as a banner somewhere, or not at all."""

LOAD_ICONS = """
async () => {
  const icons = [...document.querySelectorAll('[style*="--icon-image-path"]')];
  const urls = new Set(icons.map((icon) => icon.style.getPropertyValue("--icon-image-path").slice(4, -1)));
  await Promise.all([...urls].map((url) => {
    const image = new Image();
    image.src = url;
    return image.decode();
  }));
  await new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)));
}
"""
"""Icons are masks, which are fetched after everything else, and only once they are to be painted."""


class Viewer:
    """One page, and everything that was wrong with it."""

    def __init__(self, page: Page, url: str, pictures: Path | None) -> None:
        self.page = page
        self._url = url
        self._pictures = pictures
        self.complaints: list[str] = []
        page.add_init_script(REPORT_GRAPHQL_ERRORS)
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("response", self._note_answer)
        page.on("requestfailed", self._note_failure)

    def open(self, path: str) -> Page:
        """Shows what is at `path`; waits for nothing but the document."""
        self.page.goto(f"{self._url}{path}")
        return self.page

    def keep_picture(self, name: str) -> None:
        """Only when pictures are wanted. Moving parts have come to rest by then."""
        if self._pictures is not None:
            self._pictures.mkdir(parents=True, exist_ok=True)
            expect(self.page.get_by_text(re.compile(r"Loading(…|\.\.\.)"))).to_have_count(0)
            self.page.evaluate(LOAD_ICONS)
            self.page.mouse.move(0, 0)
            self.page.screenshot(path=self._pictures / f"{name}.png", animations="disabled", caret="hide")

    def check(self) -> None:
        """Fails for what a person would have noticed."""
        expect(self.page.get_by_text(BANNERS)).to_have_count(0)
        assert self.complaints == []

    def _note_message(self, message: ConsoleMessage) -> None:
        # Warnings are the UI's own affair: its libraries print one for every deprecated call.
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def _note_answer(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} for {response.url}")

    def _note_failure(self, request: Request) -> None:
        # Leaving a page aborts the polls that are under way.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.failure} for {request.url}")


def find_chromium() -> str | None:
    """The browser that CHROMIUM names, or one that is installed."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    chromium = find_chromium()
    assert chromium is not None, NO_CHROMIUM
    with sync_playwright() as playwright:
        # The sandbox of Chromium does not run as root, nor in most containers; the pages are our own.
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@contextmanager
def looking(browser: Browser, url: str, pictures: Path | None) -> Iterator[Viewer]:
    """A fresh profile; fails at the end if the page was broken."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US", timezone_id="UTC")
    context.set_default_timeout(PATIENCE_MS)
    viewer = Viewer(context.new_page(), url, pictures)
    yield viewer
    viewer.check()
    context.close()
