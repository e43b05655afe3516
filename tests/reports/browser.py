"""A headless Chromium that opens a page, does something on it and says what came of it."""

import html
import json
import pathlib
import re
import shutil
import subprocess

from absl.testing import absltest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, NARROW = 1280, 400
_HEIGHT = 900
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--v=0", "--dump-dom", "--virtual-time-budget=5000"),
)
# The page in a frame of the width that is asked for: a window has a least width. What the
# script returns ends up in the title of the outer page.
_FRAME = """<!doctype html><meta charset="utf-8"><title></title><body style="margin:0">
<iframe style="border:0;width:{width}px;height:{height}px" srcdoc="{page}"></iframe>
<script>addEventListener("message", (event) => {{ document.title = event.data; }});</script>
"""
_ASK = """<script>
addEventListener("load", async () => {{
  let answer;
  try {{ answer = await (async () => {{ {script} }})(); }}
  catch (error) {{ answer = String(error); }}
  parent.postMessage(JSON.stringify(answer), "*");
}});
</script></body>"""
# Elements that reach beyond the window, or whose text is cut off without an ellipsis.
OVERFLOWING = """
  const beyond = [];
  for (const each of document.querySelectorAll("body *")) {
    const box = each.getBoundingClientRect();
    if (!box.width || each.closest(".wide, pre, svg, details") || each.closest("#side")) continue;
    if (box.right > innerWidth + 1 || box.left < -1) beyond.push(each.outerHTML.slice(0, 80));
  }
  const fits = document.documentElement.scrollWidth <= innerWidth;
  return { width: innerWidth, fits, beyond };
"""


def find() -> str:
    """The browser's program, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def need(test: absltest.TestCase) -> None:
    """Skips a test where there is no browser."""
    if find() is None:
        test.skipTest("no Chromium or Chrome is installed")


def ask(page: str, script: str, folder: pathlib.Path, width: int = WIDE):
    """Opens a page and runs a script on it.

    Args:
        page: the whole text of it.
        script: the body of an async function; what it returns has to be JSON.
        folder: empty; the browser's own files go there, and the page.
        width: of the window, in pixels.

    Returns:
        (what the script returned, list of what the browser complained about).
    """
    asking = page.replace("</body>", _ASK.format(script=script))
    outer = folder / "outer.html"
    outer.write_text(_FRAME.format(width=width, height=_HEIGHT, page=html.escape(asking)))
    process = subprocess.run(
        [
            *(find(), *_FLAGS, f"--user-data-dir={folder / 'browser'}"),
            *(f"--window-size={WIDE},{_HEIGHT}", outer.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    complaints = [line for line in process.stderr.splitlines() if "CONSOLE" in line]
    title = html.unescape(re.search("<title>(.*?)</title>", process.stdout, re.DOTALL)[1])
    return json.loads(title), complaints
