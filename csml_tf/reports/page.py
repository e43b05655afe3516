"""The HTML page of a report: one file that asks for nothing outside of itself."""

import html
import importlib.resources
import re

from csml_tf import code_version

# Whatever the page holds, a browser lets it load nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def read_part(name: str) -> str:
    """A file of this package that goes into the page: "page.css"."""
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def render(record, tiles, parts):
    """Puts a page together.

    Args:
        record: `run_record.RunRecord`.
        tiles: [(figure, what it is, how it was measured)] for the head of the page, plain text.
        parts: [`Part` or (title, sentence)], the latter for what was left out.

    Returns:
        The page as text.
    """
    name = html.escape(record.name)
    head = "".join(
        f'<div class="tile"><strong>{html.escape(figure)}</strong><span>{html.escape(what)}</span>'
        f"<small>{html.escape(how)}</small></div>"
        for figure, what, how in tiles
    )
    facts = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>"
        for name, text in record.facts()
    )
    code = code_version.shorten(code_version.describe())
    links, sections = [], []
    for part in parts:
        title, body = part if isinstance(part, tuple) else (part.title, part.body)
        anchor = re.sub(r"\W+", "-", title.lower()).strip("-")
        if isinstance(part, tuple):
            body = f'<p class="left-out">Left out: {html.escape(body)}</p>'
        links.append(f'<a href="#{anchor}">{html.escape(title)}</a>')
        sections.append(f'<section id="{anchor}"><h2>{html.escape(title)}</h2>{body}</section>')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{name}</title>\n'
        f"<style>\n{read_part('page.css')}</style>\n"
        f"</head>\n<body>\n<header><h1>{name}</h1>\n"
        f'<p class="lead">{html.escape(record.progress().capitalize())}, on '
        f"{html.escape(str(record.dataset))}.</p>\n"
        f'<div class="tiles">{head}</div>\n<table class="facts"><tbody>{facts}</tbody></table>\n'
        f"<nav>{''.join(links)}</nav></header>\n<main>\n"
        + "\n".join(sections)
        + f"\n</main>\n<footer>Made by csml-tf report of {html.escape(code)}. "
        "All is in this file: nothing is loaded from elsewhere.</footer>\n</body>\n</html>\n"
    )
