"""A headless Chromium, if there is one: `make packages` installs Debian's."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
NEEDS: Final = (
    "there is no Chromium: `make packages` installs Debian's as root, or put `chromium` on PATH"
)
WIDE: Final = {"width": 1100, "height": 900}
NARROW: Final = {"width": 360, "height": 740}


def program() -> str | None:
    """The browser to run, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Seen:
    """A page, and what its console has said."""

    page: Page
    said: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        """What an element shows."""
        return self.page.inner_text(selector)

    def overflows(self) -> bool:
        """Whether one has to scroll sideways."""
        root = "document.documentElement"
        return bool(self.page.evaluate(f"{root}.scrollWidth > {root}.clientWidth"))

    def contrast(self, selector: str) -> float:
        """Of an element's text on the page, as WCAG 2.2 computes it: 1 is none, 21 the most."""
        return float(self.page.evaluate(_CONTRAST, selector))


@contextmanager
def browser(executable: str) -> Iterator[Browser]:
    """Runs it without a screen."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=executable, args=["--disable-dev-shm-usage"]
        )
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(started: Browser, url: str, **how: Any) -> Iterator[Seen]:
    """A page in a window of its own; `how` as playwright's `new_context` takes it."""
    context = started.new_context(**({"viewport": WIDE} | how))
    seen = Seen(context.new_page())
    seen.page.on("console", lambda message: seen.said.append(message.text))
    seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
    seen.page.on("requestfailed", lambda request: seen.said.append(request.url))
    try:
        seen.page.goto(url)
        yield seen
    finally:
        context.close()


_CONTRAST: Final = """selector => {
  const light = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const node = document.querySelector(selector);
  const back = getComputedStyle(document.body).backgroundColor;
  const both = [light(getComputedStyle(node).color), light(back)].sort();
  return (both[1] + 0.05) / (both[0] + 0.05);
}"""
