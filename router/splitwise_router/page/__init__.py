"""The status page: one HTML document with style and script in it, which loads nothing but /load.

The browser is told to run and fetch nothing else: style and script are allowed by their digests.
What the page shows goes into it as text, never as HTML.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_STYLE: Final = (_HERE / "page.css").read_text("utf-8")
_SCRIPT: Final = (_HERE / "page.js").read_text("utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            f"style-src {_digest(_STYLE)}",
            f"script-src {_digest(_SCRIPT)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""What goes with the page."""


@cache
def page() -> str:
    """The document, without any number in it."""
    text = (_HERE / "page.html").read_text("utf-8")
    return text.replace("/* style */", _STYLE).replace("/* script */", _SCRIPT)
