"""The documentation builds as a site, without a warning, and asks nothing of the network."""

import pathlib
import re
import subprocess
import sys
import unittest

import pytest

pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

ROOT = pathlib.Path(__file__).parents[2]


class SiteTest(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _give_folder(self, tmp_path):
        self.site = tmp_path / "site"

    def test_builds_and_stands_alone(self):
        process = subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(self.site)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, process.stderr)  # `strict` makes warnings errors.
        pages = {path.relative_to(self.site).as_posix(): path for path in self.site.rglob("*.html")}
        for name in ("index", "faq", "commands", "knobs", "reference/methods", "MODEL_ZOO"):
            self.assertIn(f"{name}.html", pages)
        for name, path in pages.items():
            loaded = re.findall(
                r'<(?:script|img|iframe)[^>]*src="https?:[^"]*"'
                r'|<link[^>]*rel="stylesheet"[^>]*href="https?:[^"]*"',
                path.read_text(encoding="utf-8"),
            )
            self.assertEqual(loaded, [], f"{name} loads from the network")
        text = pages["commands.html"].read_text(encoding="utf-8")
        for verb in (ROOT / "csml_tf" / "verbs").glob("[a-z]*.py"):
            self.assertIn(f'id="{verb.stem}"', text)
        self.assertIn("--gin_bindings", text)
        self.assertIn("GLOBAL_BATCH_SIZE", pages["knobs.html"].read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
