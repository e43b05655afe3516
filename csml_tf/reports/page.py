"""The HTML pages of a report: each one file that asks for nothing outside of itself."""

import html
import importlib.resources
import re

from csml_tf import code_version
from csml_tf.reports import part

# Whatever the page holds, a browser lets it load nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def read_part(name: str) -> str:
    """A file of this package that goes into a page: "page.css"."""
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def document(title: str, styles: list, body: str, scripts: list) -> str:
    """A whole file of HTML.

    Args:
        title: plain text.
        styles: names of files for `read_part`.
        body: HTML.
        scripts: as `styles`; they run after the body is there.
    """
    style = "".join(f"<style>\n{read_part(name)}</style>\n" for name in styles)
    script = "".join(f"<script>\n{read_part(name)}</script>\n" for name in scripts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n{style}'
        f"</head>\n<body>\n{body}{script}</body>\n</html>\n"
    )


def render(title, lead, head, parts):
    """Puts a page together.

    Args:
        title: of the page, plain text.
        lead: a sentence below it, plain text.
        head: HTML between that and the parts.
        parts: [`Part` or (title, `LeftOut`)], the latter for what is not there.

    Returns:
        The page as text.
    """
    links, sections = [], []
    for each in parts:
        name, body = each if isinstance(each, tuple) else (each.title, each.body)
        anchor = re.sub(r"\W+", "-", name.lower()).strip("-")
        if isinstance(each, tuple):
            body = part.left_out("", body)
        links.append(f'<a href="#{anchor}">{html.escape(name)}</a>')
        sections.append(f'<section id="{anchor}"><h2>{html.escape(name)}</h2>{body}</section>')
    code = code_version.shorten(code_version.describe())
    return document(
        title,
        ["page.css"],
        f"<nav>{''.join(links)}</nav>\n<header><h1>{html.escape(title)}</h1>\n"
        f'<p class="lead">{html.escape(lead)}</p>\n{head}</header>\n<main>\n'
        + "\n".join(sections)
        + f"\n</main>\n<footer>Made by csml-tf report of {html.escape(code)}. "
        "All is in this file: nothing is loaded from elsewhere.</footer>\n",
        ["copy.js"],
    )


def tiles(figures):
    """HTML of the figures at the head of a page.

    Args:
        figures: [(figure, what it is, how it was measured)], plain text.
    """
    cells = "".join(
        f'<div class="tile"><strong>{html.escape(figure)}</strong><span>{html.escape(what)}</span>'
        f"<small>{html.escape(how)}</small></div>"
        for figure, what, how in figures
    )
    return f'<div class="tiles">{cells}</div>\n'


def facts(rows):
    """HTML of a table of names, each with a text; plain text."""
    lines = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows
    )
    return f'<table class="facts"><tbody>{lines}</tbody></table>\n'
