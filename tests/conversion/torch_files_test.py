import argparse
import collections
import contextlib
import datetime
import functools
import pathlib
import pickle
import sys
import types
import unittest
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from csml_tf.conversion import torch_files, weight_files
from csml_tf.errors import InputError
from tests.training import tiny_run

try:
    import torch
except ImportError:
    torch = None

NEEDS_TORCH = unittest.skipIf(torch is None, "PyTorch is not installed: pip install torch")
ARRAY = np.arange(6, dtype="float32").reshape(2, 3)


class Trap:
    """Opened as a pickle, makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


class Shell:
    """Opened as a pickle, runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


class TorchFilesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)
        self.path = self.folder / "x.pth"

    def read(self):
        return weight_files.read(self.path)

    @NEEDS_TORCH
    @parameterized.parameters(True, False)
    def test_reads_both_formats(self, is_zip):
        parameter = torch.nn.Parameter(torch.tensor([0.1]))
        optimizer = torch.optim.SGD([parameter], 0.1, momentum=0.9)
        parameter.sum().backward()
        optimizer.step()
        content = {
            "epoch": 3,
            "args": argparse.Namespace(lr=0.1, layers=[1, 2]),
            "state_dict": {
                "a.weight": torch.from_numpy(ARRAY),
                "half": torch.ones([2], dtype=torch.bfloat16),
                "count": torch.tensor(5),
                "p": parameter,
                "view": torch.from_numpy(ARRAY).T,
            },
            "optimizer": optimizer.state_dict(),
            "teacher": {"module.b": torch.ones([1], dtype=torch.float16)},
        }
        torch.save(content, self.path, _use_new_zipfile_serialization=is_zip)
        found = self.read()
        self.assertEqual(
            [*found],
            [
                *("state_dict.a.weight", "state_dict.half", "state_dict.count", "state_dict.p"),
                *("state_dict.view", "teacher.module.b"),
            ],
        )
        np.testing.assert_array_equal(found["state_dict.a.weight"], ARRAY)
        np.testing.assert_array_equal(found["state_dict.view"], ARRAY.T)
        self.assertEqual(found["state_dict.half"].dtype, np.float32)
        self.assertEqual(found["state_dict.count"], 5)
        self.assertEqual(found["teacher.module.b"].dtype, np.float16)

    @NEEDS_TORCH
    def test_writes_a_state_dict(self):
        array = ARRAY.copy()
        array.flags.writeable = False
        weight_files.write(self.path, {"a": array, "n": np.array(3, "int64")})
        content = torch.load(self.path, weights_only=True)
        self.assertEqual(content["a"].numpy().tobytes(), ARRAY.tobytes())
        self.assertEqual((content["n"].dtype, content["n"].item()), (torch.int64, 3))

    @NEEDS_TORCH
    @parameterized.parameters((Trap, r"pathlib\.\w+|\w+\.getattr"), (Shell, r"(posix|nt)\.system"))
    def test_never_runs_code(self, trap, name):
        sprung = self.folder / "sprung"
        content = {"state_dict": {"a": 1}, "args": trap(sprung)}
        for write in (
            lambda: torch.save(content, self.path),
            lambda: torch.save(content, self.path, _use_new_zipfile_serialization=False),
            lambda: self.path.write_bytes(pickle.dumps(content, protocol=2)),
            lambda: self.path.write_bytes(pickle.dumps(content)),
        ):
            write()
            with self.assertRaises(InputError) as caught:
                self.read()
            self.assertFalse(sprung.exists())
            self.assertRegex(str(caught.exception), f"asks for ({name}), and only tensors|is no Py")
        # The trap does work, where a pickle is opened the ordinary way.
        pickle.loads(pickle.dumps(content))
        self.assertTrue(sprung.exists())

    @NEEDS_TORCH
    def test_plain_data_beside_the_weights(self):
        content = {
            "state_dict": collections.defaultdict(list, a=torch.ones([2])),
            "best": np.float64(0.5),
            "history": np.arange(3),
            "random": np.random.default_rng(0),
            "path": pathlib.PurePosixPath("x"),
            "when": datetime.date(2020, 1, 1),
            "args": argparse.Namespace(deep=argparse.Namespace(layers={1}), part=slice(3)),
        }
        with contextlib.suppress(ImportError):
            from omegaconf import OmegaConf

            content["config"] = OmegaConf.create({"a": [1, {"b": "${a}"}], "c": None})
        torch.save(content, self.path)
        self.assertEqual([*self.read()], ["state_dict.a"])

    @NEEDS_TORCH
    @parameterized.parameters(
        (functools.partial(int, base=2), "functools.partial"), (print, "builtins.print")
    )
    def test_functions_beside_the_weights(self, function, name):
        torch.save({"state_dict": {"a": torch.ones([2])}, "f": function}, self.path)
        with self.assertRaisesRegex(InputError, f"asks for {name}, and only tensors"):
            self.read()

    @NEEDS_TORCH
    def test_another_pickle_protocol(self):
        torch.save({"a": torch.ones([2])}, self.path, pickle_protocol=4)
        with self.assertRaisesRegex(
            InputError, r"pickle protocol than PyTorch's own, 2 \(Unsupported operand \d+\): .*save"
        ):
            self.read()

    @NEEDS_TORCH
    def test_nested_deeper_than_python_can_follow(self):
        content = {"a": torch.ones([1])}
        for _ in range(5000):
            content = {"a": content}
        with contextlib.suppress(RecursionError):  # Where PyTorch cannot write it, either.
            torch.save(content, self.path)
            with self.assertRaisesRegex(InputError, "cannot be read .*recursion"):
                self.read()

    def test_what_is_plain_by_its_name_is_ours(self):
        """With a stand-in for PyTorch, which says what it would have to import."""
        given = []
        names = ["omegaconf.dictconfig.DictConfig", "numpy._core.multiarray.scalar", "typing.Any"]
        names.append("list")  # Of what is built in it says no module.

        def load(path, **options):
            known = {f"{kind.__module__}.{kind.__name__}": kind for kind in given[-1]}
            for name in names:
                if name not in known and f"builtins.{name}" not in known:
                    raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {name} was not")
            made = known[names[0]](1, a=2)
            made.__setstate__({"b": 3})
            made["c"] = 4
            self.assertEqual(vars(made), {})
            return {"w": made}

        serialization = types.SimpleNamespace(
            safe_globals=lambda known: given.append(known) or contextlib.nullcontext()
        )
        stand_in = types.SimpleNamespace(load=load, serialization=serialization, Tensor=np.ndarray)
        with mock.patch.dict(sys.modules, torch=stand_in):
            self.assertEqual(torch_files.read(self.path), {})
            for name in (
                "os.system",
                "builtins.eval",
                "omegaconf.",
                "numpy.load",
                "builtins.getattr",
            ):
                names.append(name.removeprefix("builtins."))
                with self.assertRaisesRegex(InputError, f"asks for {name}, and only tensors"):
                    torch_files.read(self.path)
                names.pop()

    @NEEDS_TORCH
    def test_refuses_a_whole_module(self):
        torch.save(torch.nn.Linear(2, 2), self.path)
        with self.assertRaisesRegex(InputError, r"asks for torch.nn.\S*Linear, .* state_dict\(\)"):
            self.read()

    @NEEDS_TORCH
    @parameterized.product(is_zip=[True, False], part=[0.3, 0.9, 0.999])
    def test_truncated(self, is_zip, part):
        tensors = {f"t{i}": torch.rand(1000) for i in range(5)}
        torch.save(tensors, self.path, _use_new_zipfile_serialization=is_zip)
        content = self.path.read_bytes()
        self.path.write_bytes(content[: int(part * len(content))])
        with self.assertRaisesRegex(InputError, "(cannot be read|is no PyTorch) .*fetch it again"):
            self.read()

    @NEEDS_TORCH
    @parameterized.parameters(b"PK\x03\x04 no archive", b"\x80\x02no pickle", pickle.dumps({1: 2}))
    def test_only_begins_like_one(self, content):
        self.path.write_bytes(content)
        if content == pickle.dumps({1: 2}):
            self.skipTest("PyTorch's versions differ in what they say of a plain pickle.")
        with self.assertRaisesRegex(InputError, "fetch it again"):
            self.read()

    @NEEDS_TORCH
    def test_no_dictionary(self):
        torch.save([torch.ones(2)], self.path)
        self.assertEqual(self.read(), {})

    @NEEDS_TORCH
    def test_sparse(self):
        torch.save({"s": torch.eye(2).to_sparse()}, self.path)
        with self.assertRaisesRegex(InputError, "tensor s cannot be read"):
            self.read()

    def test_without_torch(self):
        self.path.write_bytes(b"PK\x03\x04")
        with (
            mock.patch.dict(sys.modules, {"torch": None}),
            self.assertRaisesRegex(InputError, "need PyTorch: pip install .*safetensors"),
        ):
            torch_files.read(self.path)
        with mock.patch.dict(sys.modules, {"torch": None}), self.assertRaises(InputError):
            weight_files.write(self.path.with_name("new.pth"), {})
        self.assertEqual([p.name for p in self.folder.iterdir()], ["x.pth"])


if __name__ == "__main__":
    absltest.main()
