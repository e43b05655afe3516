"""One part of a report, or the reason why it is not there."""

import dataclasses
import html


@dataclasses.dataclass(frozen=True)
class Part:
    """What a section of the page shows.

    Attributes:
        title: a few words, plain text.
        body: HTML.
    """

    title: str
    body: str


class LeftOut(Exception):
    """A part that cannot be drawn: one sentence, plain text, why not and how to get it."""


def picture(uri, alternative, caption, klass=""):
    """HTML of one image with what one sees on it.

    Args:
        uri: data URI of the image.
        alternative: plain text for whom the image is not shown.
        caption: plain text.
        klass: CSS class of the figure.
    """
    return (
        f'<figure class="{klass}"><img src="{uri}" alt="{html.escape(alternative)}">'
        f"{figcaption(caption)}</figure>"
    )


def figcaption(caption):
    """HTML of a caption out of plain text."""
    return f"<figcaption>{html.escape(caption)}</figcaption>"


def paragraph(text, klass=""):
    """HTML of a paragraph out of plain text."""
    return f'<p class="{klass}">{html.escape(text)}</p>'
