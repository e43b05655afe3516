import errno
import hashlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
from unittest import mock

from absl.testing import absltest, parameterized

from csml_tf import whole_files
from csml_tf.errors import InputError
from tests.training import tiny_run

# What the lock is, without this package.
HOLD = """
import fcntl, os, socket, sys, time
with open(sys.argv[1] + "/lock", "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    print("held", flush=True)
    time.sleep(600)
"""


class NewFileTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)
        self.path = self.folder / "card.json"

    @parameterized.parameters(
        ("Zürich\n", "Zürich\n".encode()), (b"\xff\r\n", b"\xff\r\n"), ("a\udcff.jpg", b"a\xff.jpg")
    )
    def test_writes_text_and_bytes(self, content, expected):
        for _ in range(2):
            whole_files.write(str(self.path), content)
            self.assertEqual(self.path.read_bytes(), expected)
        self.assertEqual(os.listdir(self.folder), ["card.json"])

    def test_writes_through_a_link_and_keeps_the_mode(self):
        target = self.folder / "target.json"
        target.write_text("old")
        target.chmod(0o640)
        self.path.symlink_to("target.json")
        whole_files.write(self.path, "new")
        self.assertTrue(self.path.is_symlink())
        self.assertEqual((target.read_text(), target.stat().st_mode & 0o777), ("new", 0o640))
        self.assertCountEqual(os.listdir(self.folder), ["card.json", "target.json"])

    @parameterized.parameters("folder", "device")
    def test_place_that_is_no_file(self, kind):
        path = self.folder if kind == "folder" else "/dev/null"
        with self.assertRaisesRegex(InputError, "cannot be written .it is no ordinary file.: mend"):
            whole_files.write(path, "new", "mend it")
        self.assertEqual(os.listdir(self.folder), [])

    def test_is_not_there_before_the_end(self):
        self.path.write_text("old")
        with whole_files.new_file(self.path) as temporary:
            temporary.write_text("new")
            self.assertEqual(self.path.read_text(), "old")
        self.assertEqual(self.path.read_text(), "new")

    @parameterized.parameters(KeyError, OSError, KeyboardInterrupt)
    def test_failure_keeps_the_older(self, error):
        self.path.write_text("old")
        with self.assertRaises(error), whole_files.new_file(self.path) as temporary:
            temporary.write_text("half")
            raise error
        self.assertEqual(self.path.read_text(), "old")
        self.assertEqual(os.listdir(self.folder), ["card.json"])

    def test_failed_replacement_keeps_the_older(self):
        self.path.write_text("old")
        patch = mock.patch.object(whole_files.os, "replace", side_effect=OSError)
        with patch, self.assertRaises(OSError):
            whole_files.write(self.path, "half")
        self.assertEqual(self.path.read_text(), "old")
        self.assertEqual(os.listdir(self.folder), ["card.json"])

    def test_advice(self):
        path = self.folder / "no" / "card.json"
        with self.assertRaises(FileNotFoundError):
            whole_files.write(path, "text")
        with self.assertRaisesRegex(
            InputError, rf"^{path} cannot be written \(No such file.*\): choose another --output\.$"
        ) as raised:
            whole_files.write(path, "text", "choose another --output")
        self.assertIsInstance(raised.exception.__cause__, OSError)  # The exit code hangs on it.


class NewFolderTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)
        self.path = self.folder / "a" / "model"

    def make(self, name):
        with whole_files.new_folder(self.path) as folder:
            (folder / name).write_text(name)
            self.assertFalse((self.path / name).exists())

    def test_replaces_the_older_and_rests_of_a_crash(self):
        for rest in ("model.tmp", "model.old"):
            (self.folder / "a" / rest / "x").mkdir(parents=True)
        self.make("one")
        self.assertEqual(os.listdir(self.path), ["one"])
        self.make("two")
        self.assertEqual(os.listdir(self.path), ["two"])
        self.assertEqual(os.listdir(self.folder / "a"), ["model"])

    @parameterized.parameters(KeyError, KeyboardInterrupt)
    def test_failure_keeps_the_older(self, error):
        self.make("one")
        with self.assertRaises(error), whole_files.new_folder(self.path) as folder:
            (folder / "two").write_text("half")
            raise error
        self.assertEqual(os.listdir(self.path), ["one"])
        self.assertEqual(os.listdir(self.folder / "a"), ["model"])

    def test_writes_through_a_link_and_keeps_the_mode(self):
        target = self.folder / "target"
        target.mkdir(mode=0o750)
        (self.folder / "a").mkdir()
        self.path.symlink_to(target)
        self.make("one")
        self.make("two")
        self.assertTrue(self.path.is_symlink())
        self.assertEqual(os.listdir(target), ["two"])
        self.assertEqual(target.stat().st_mode & 0o777, 0o750)
        self.assertCountEqual(os.listdir(self.folder), ["a", "target"])

    def test_failed_replacement_brings_the_older_back(self):
        self.make("one")
        real = pathlib.Path.rename

        def rename(path, to):
            if path.name == "model.tmp":
                raise OSError(errno.ENOSPC, "full")
            return real(path, to)

        with self.assertRaises(OSError), mock.patch.object(pathlib.Path, "rename", rename):
            self.make("two")
        self.assertEqual(os.listdir(self.path), ["one"])
        self.assertEqual(os.listdir(self.folder / "a"), ["model"])

    @parameterized.parameters(
        ("file", "is no folder"), (".", "holds the current folder"), ("mount", "a disk is mounted")
    )
    def test_place_that_cannot_be_replaced(self, kind, message):
        self.addCleanup(os.chdir, os.getcwd())
        self.path.mkdir(parents=True)
        os.chdir(self.path)
        path = pathlib.Path(kind)
        if kind == "file":
            path.write_text("")
        mounted = mock.patch.object(os.path, "ismount", return_value=kind == "mount")
        with (
            mounted,
            self.assertRaisesRegex(InputError, rf"cannot be made \(.*{message}.*\): mend it"),
            whole_files.new_folder(path, "mend it"),
        ):
            self.fail("made")
        self.assertEqual(os.listdir("."), ["file"] if kind == "file" else [])

    def test_advice(self):
        (self.folder / "a").write_text("a file")
        with self.assertRaises(NotADirectoryError), whole_files.new_folder(self.path):
            self.fail("made")
        with (
            self.assertRaisesRegex(
                InputError, rf"^The folder {self.path} cannot be made \(.+\): choose another\.$"
            ),
            whole_files.new_folder(self.path, "choose another"),
        ):
            self.fail("made")


class Sha256Test(parameterized.TestCase):
    @parameterized.parameters(0, 1, 2**20, 2**20 + 1)
    def test_is_that_of_the_content(self, size):
        path = tiny_run.make_temp_dir(self.addCleanup) / "x"
        path.write_bytes(b"1" * size)
        self.assertEqual(whole_files.sha256(path), hashlib.sha256(b"1" * size).hexdigest())


class TakeTurnsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.path = tiny_run.make_temp_dir(self.addCleanup) / "x.lock"

    def test_waits(self):
        events = []

        def second():
            with whole_files.take_turns(self.path):
                events.append("second")

        thread = threading.Thread(target=second)
        with whole_files.take_turns(self.path):
            thread.start()
            thread.join(0.3)
            events.append("first")
        thread.join()
        self.assertEqual(events, ["first", "second"])

    def test_goes_on_without_locks(self):
        with (
            mock.patch.object(whole_files, "fcntl", None),
            whole_files.take_turns(self.path),
            whole_files.take_turns(self.path),
        ):
            pass


class HoldTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = tiny_run.make_temp_dir(self.addCleanup)

    def hold_in_another_process(self):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(self.directory)], stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "held\n")
        return process

    def test_leaves_nothing_behind(self):
        for _ in range(2):
            with whole_files.hold(self.directory):
                self.assertLen([*self.directory.iterdir()], 1)
            self.assertEmpty([*self.directory.iterdir()])
        with self.assertRaisesRegex(ValueError, "mine"), whole_files.hold(self.directory):
            raise ValueError("mine")
        self.assertEmpty([*self.directory.iterdir()])

    def test_names_the_other_process(self):
        process = self.hold_in_another_process()
        holder = f"process {process.pid} on {socket.gethostname()}"
        with (
            self.assertRaisesRegex(
                InputError, rf"^{self.directory} is in use by {holder}: wait .*--model_dir\.$"
            ),
            whole_files.hold(self.directory),
        ):
            self.fail("held twice")
        # To be refused takes nothing from the one who holds it.
        with self.assertRaisesRegex(InputError, holder), whole_files.hold(self.directory):
            self.fail("held twice")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertLen([*self.directory.iterdir()], 1)
        with whole_files.hold(self.directory):
            self.assertIn(str(os.getpid()), (self.directory / "lock").read_text())

    def test_file_removed_while_it_was_opened(self):
        flock = whole_files.fcntl.flock
        path = self.directory / "lock"

        def remove_first(file, how):
            if mocked.call_count == 1:
                path.unlink()
            flock(file, how)

        patch = mock.patch.object(whole_files.fcntl, "flock", side_effect=remove_first)
        with patch as mocked, whole_files.hold(self.directory):
            self.assertEqual(mocked.call_count, 2)
            in_use = self.assertRaisesRegex(InputError, "in use by process")
            with in_use, whole_files.hold(self.directory):
                self.fail("held twice")

    @parameterized.parameters(OSError(errno.ENOLCK, "No locks available"), None)
    def test_goes_on_without_locks(self, error):
        patch = mock.patch.object(whole_files, "fcntl", None)
        if error is not None:
            patch = mock.patch.object(whole_files.fcntl, "flock", side_effect=error)
        with patch, self.assertLogs("absl", "WARNING") as logs, whole_files.hold(self.directory):
            pass
        self.assertLen(logs.output, 1)
        self.assertRegex(logs.output[0], r"cannot be locked \((No locks|this system).*second proc")


if __name__ == "__main__":
    absltest.main()
