"""A page as a browser would begin to read it."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a page would load or run, and how many pictures it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.pictures = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += tag == "svg"
        self.loads += [str(value) for name, value in attrs if name in ("src", "href")]
        self.loads += ["script"] * (tag == "script")
