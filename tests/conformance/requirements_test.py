"""Every package that csml_tf imports is one that setup.py asks for."""

import ast
import pathlib
import sys
import unittest
from unittest import mock

import setuptools
from absl.testing import absltest, parameterized
from packaging.requirements import Requirement

from tests.conformance import imports_test

# Where a package is called otherwise than what it is installed as.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "faiss": "faiss-cpu",
    "gin": "gin-config",
    "google": "protobuf",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
# Where Python has no wheels of it, a stated fallback says so.
ONLY_ON_THE_HOME_STACK = {"tensorflow-addons"}
# Whoever wants one of these extras imports it inside of a function, and says what to install.
EXTRAS = {
    "faiss-cpu": "faiss",
    "matplotlib": "reports",
    "onnxruntime": "onnx",
    "pillow": "images",
    "pillow-heif": "images",
    "pyarrow": "parquet",
    "scikit-image": "demo",
    "tensorflow-io": "stores",
    "tf2onnx": "onnx",
    "torch": "torch",
}
# Of which one is imported only where it is wanted.
WHOLE_MODULES_OF_EXTRAS = "csml_tf/reports/"


def read_setup():
    """What setup.py hands to setuptools."""
    path = imports_test.ROOT / "setup.py"
    with mock.patch.object(setuptools, "setup") as called:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), {"__file__": str(path)})
    return called.call_args.kwargs


def names_of(requirements, python_version="3.11"):
    """What is asked for on Linux by a Python, {name}."""
    environment = {
        **{"python_version": python_version, "sys_platform": "linux", "extra": ""},
        "platform_machine": "x86_64",
    }
    parsed = map(Requirement, requirements)
    return {each.name for each in parsed if not each.marker or each.marker.evaluate(environment)}


def distribution(name):
    top = name.partition(".")[0]
    return DISTRIBUTIONS.get(top, top.replace("_", "-"))


def third_party(source, path):
    """{distribution} of the imports in a file that are neither Python's own nor ours."""
    found = (name for _, name in imports_test.imported_names(path, source))
    own = {"csml_tf", *sys.stdlib_module_names}
    return {distribution(name) for name in found if name.partition(".")[0] not in own}


@unittest.skipIf(sys.version_info < (3, 10), "Python 3.9 does not list its own modules.")
class RequirementsTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.setup = read_setup()
        cls.sources = {
            path: source
            for path, source in imports_test.project_files()
            if path.startswith("csml_tf/")
        }

    @parameterized.parameters("3.9", "3.11", "3.12", "3.13")
    def test_every_import_is_asked_for(self, python_version):
        required = names_of(self.setup["install_requires"], python_version)
        known = required | {*EXTRAS} | ONLY_ON_THE_HOME_STACK
        for path, source in self.sources.items():
            unknown = third_party(source, path) - known
            self.assertEmpty(unknown, f"{path} imports them, and setup.py lacks them.")

    def test_extras_are_those_of_setup(self):
        extras = self.setup["extras_require"]
        for name, extra in EXTRAS.items():
            self.assertIn(name, names_of(extras[extra]))
            self.assertNotIn(name, names_of(self.setup["install_requires"]))

    def test_extras_are_imported_where_they_are_wanted(self):
        for path, source in self.sources.items():
            if path.startswith(WHOLE_MODULES_OF_EXTRAS):
                continue
            top = ast.parse(source)
            top.body = [node for node in top.body if isinstance(node, (ast.Import, ast.ImportFrom))]
            self.assertNoCommonElements(third_party(ast.unparse(top), path), EXTRAS, path)

    def test_finds_what_is_missing(self):
        source = (
            "import os\nimport numpy\n\ndef f():\n    from scipy import optimize\n    import PIL"
        )
        path = pathlib.PurePosixPath("csml_tf/losses.py")
        self.assertEqual(third_party(source, path), {"numpy", "scipy", "pillow"})


if __name__ == "__main__":
    absltest.main()
