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
    """A part that cannot be drawn: one sentence, plain text, why not and how to get it.

    Args:
        sentence: plain text.
        command: what a shell would have to be told; None where there is no such command.
    """

    def __init__(self, sentence, command=None):
        super().__init__(sentence)
        self.command = command


def left_out(title, reason):
    """HTML of what stands in the place of something that is not there.

    Args:
        title: of what it would be, plain text; "" for a whole part.
        reason: `LeftOut`.
    """
    what = f"Left out, {title}: " if title else "Left out: "
    code = "" if reason.command is None else command(reason.command)
    return paragraph(f"{what}{reason}", "left-out") + code


def command(line):
    """HTML of a command line, plain text; copy.js adds the button that copies it."""
    return f'<pre class="command"><code>{html.escape(line)}</code></pre>'


def image(uri, alternative, least_px=0):
    """HTML of one image.

    Args:
        uri: data URI of the image.
        alternative: plain text for whom it is not shown.
        least_px: width below which it does not shrink.
    """
    style = f' style="min-width:{least_px}px"' if least_px else ""
    return f'<img src="{uri}" alt="{html.escape(alternative)}"{style}>'


def picture(uri, alternative, caption, least_px=0):
    """HTML of one image with what one sees on it; a narrow window scrolls it.

    Args:
        uri: as for `image`.
        alternative: as for `image`.
        caption: plain text.
        least_px: as for `image`.
    """
    shown = image(uri, alternative, least_px)
    return f'<figure><div class="wide">{shown}</div>{figcaption(caption)}</figure>'


def figcaption(caption):
    """HTML of a caption out of plain text."""
    return f"<figcaption>{html.escape(caption)}</figcaption>"


def paragraph(text, klass=""):
    """HTML of a paragraph out of plain text."""
    return f'<p class="{klass}">{html.escape(text)}</p>'
