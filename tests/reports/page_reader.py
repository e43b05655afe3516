"""Reads a page of HTML as a strict reader would; for tests."""

import html.parser

_VOID = {"meta", "link", "img", "br", "circle", "rect", "path"}


class PageReader(html.parser.HTMLParser):
    """Checks that tags are balanced, and collects what the page refers to.

    Attributes:
        references: [(tag, attribute, value)] of all addresses.
        ids: list of all ids.
        elements: [(tag, {attribute: value})].
        text: all text outside of scripts and styles.
    """

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.references, self.ids, self.elements, self.text = [], [], [], ""
        self._open = []
        self.feed(page)
        self.close()
        if self._open:
            raise ValueError(f"never closed: {self._open}")

    def handle_starttag(self, tag, attrs):
        if tag not in _VOID:
            self._open.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            raise ValueError(f"</{tag}> closes nothing at {self.getpos()}")

    def handle_data(self, data):
        if not {"script", "style"} & {*self._open}:
            self.text += data

    def _note(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "xlink:href", "poster"):
                self.references.append((tag, name, value))
            if name == "style" and "url(" in value:
                self.references.append((tag, name, value.split("url(")[1]))
            if name == "id":
                self.ids.append(value)
