import os
import pathlib
import shutil
import subprocess
from unittest import mock

from absl.testing import absltest

import csml_tf
from csml_tf import code_version
from tests.training import tiny_run


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *who, "-C", folder, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


class CodeVersionTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        if shutil.which("git") is None:
            self.skipTest("git is not installed")
        self.folder = tiny_run.make_temp_dir(self.addCleanup) / "repository"
        self.package = self.folder / "csml_tf"
        self.package.mkdir(parents=True)
        (self.package / "code_version.py").write_text("")
        git(self.folder, "init", "-q")
        self.enterContext(mock.patch.object(code_version, "_FOLDER", self.package))

    def enterContext(self, context):  # unittest has it from Python 3.11 on.
        self.addCleanup(context.__exit__, None, None, None)
        return context.__enter__()

    def read(self):
        code_version.commit.cache_clear()
        self.addCleanup(code_version.commit.cache_clear)
        return code_version.commit()

    def commit(self):
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-q", "-m", "x")
        return git(self.folder, "rev-parse", "HEAD")

    def test_commit(self):
        commit_id = self.commit()
        self.assertEqual(self.read(), commit_id)
        self.assertEqual(
            code_version.describe(), f"csml_tf {csml_tf.__version__}, commit {commit_id}"
        )

    def test_changes(self):
        commit_id = self.commit()
        (self.package / "new.py").write_text("")  # As runs/ may be.
        self.assertEqual(self.read(), commit_id)
        (self.package / "code_version.py").write_text("changed")
        self.assertEqual(self.read(), f"{commit_id} with changes")

    def test_repository_of_something_else(self):
        self.assertIsNone(self.read())  # Not added to it, as an environment in a project.
        (self.folder / ".gitignore").write_text("csml_tf\n")
        self.commit()
        self.assertIsNone(self.read())

    def test_other_repository_in_the_environment(self):
        commit_id = self.commit()
        with mock.patch.dict(os.environ, {"GIT_DIR": "/no/repository"}):
            self.assertEqual(self.read(), commit_id)

    def test_no_repository_and_no_git(self):
        self.commit()
        with mock.patch.dict(os.environ, {"PATH": ""}):
            self.assertIsNone(self.read())
            self.assertEndsWith(code_version.describe(), ", commit unknown")
        shutil.rmtree(self.folder / ".git")
        self.assertIsNone(self.read())

    def test_of_this_package(self):
        self.assertEqual(code_version.version(), csml_tf.__version__)
        self.assertTrue(pathlib.Path(code_version.__file__).is_file())


if __name__ == "__main__":
    absltest.main()
