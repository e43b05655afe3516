import contextlib
import json
import time
from unittest import mock

from absl.testing import absltest

from csml_tf import leases, whole_files
from csml_tf.errors import InputError
from csml_tf.url_path import StoreError, UrlPath
from tests import ram_store


class LeasesTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = ram_store.make_folder(self.addCleanup)
        self.lock = self.folder / "lock"
        self.enter_context(mock.patch.object(leases, "SETTLE_S", 0.0))

    def read(self):
        return json.loads(ram_store.read(self.lock))

    def put(self, holder="process 7 on ant", token="x", age_s=0.0):
        content = {"holder": holder, "token": token, "renewed": time.time() - age_s}
        ram_store.write(self.lock, json.dumps(content).encode())

    def assert_refused(self, message, flag="--model_dir"):
        with self.assertRaisesRegex(InputError, message), whole_files.hold(self.folder, flag):
            self.fail("Two hold it.")

    @contextlib.contextmanager
    def fast_heart(self):
        """A lease that is renewed every 20 ms."""
        beat = mock.patch.object(leases, "RENEW_S", 0.02)
        with beat, whole_files.hold(self.folder):
            yield

    def wait_until(self, happened):
        deadline = time.time() + 20
        while not happened():
            self.assertLess(time.time(), deadline, "It has not happened.")
            time.sleep(0.01)

    def test_second_holder_is_refused(self):
        with whole_files.hold(self.folder):
            before = self.read()
            self.assertRegex(before["holder"], r"^process \d+ on ")
            refused = f"^{self.folder} is in use by {before['holder']}: wait .* another --output"
            self.assert_refused(rf"{refused}; .* lease ends in 1[78]\d seconds\.$", "--output")
            self.assertEqual(self.read(), before)
        self.assertFalse(self.lock.exists())
        with whole_files.hold(self.folder):
            self.assertTrue(self.lock.exists())

    def test_ends_with_a_failed_block(self):
        with self.assertRaises(ZeroDivisionError), whole_files.hold(self.folder):
            1 / 0  # noqa: B018
        self.assertFalse(self.lock.exists())

    def test_of_a_dead_process(self):
        self.put(age_s=181)
        with self.assertLogs("absl", "INFO") as logs, whole_files.hold(self.folder):
            self.assertNotEqual(self.read()["token"], "x")
        self.assertIn("taken over from process 7 on ant, last heard of 3 minutes", logs.output[0])
        self.put(age_s=170)
        self.assert_refused("in use by process 7 on ant: .* ends in 10 seconds")
        self.assertEqual(self.read()["token"], "x")

    def test_what_is_no_lease(self):
        for content in (b"", b"process 7", b"[]", b"{}", b"\xff"):
            ram_store.write(self.lock, content)
            with whole_files.hold(self.folder):
                self.assertIn("token", self.read())

    def test_is_renewed(self):
        with self.fast_heart():
            first = self.read()
            self.wait_until(lambda: self.read()["renewed"] > first["renewed"])
            self.assertEqual(self.read()["token"], first["token"])
        self.assertFalse(self.lock.exists())

    def test_of_two_at_once_the_later_wins(self):
        """Both have found no lease; the other one writes while this one waits."""

        def write_too(_):
            self.put("process 8 on bee", "y")

        with mock.patch.object(time, "sleep", write_too):
            self.assert_refused("in use by process 8 on bee")
        self.assertEqual(self.read()["token"], "y")

    def test_taken_over_meanwhile(self):
        """A process that was suspended says so, and leaves the lease to the other."""
        with self.assertLogs("absl", "ERROR") as logs, self.fast_heart():
            self.put("process 8 on bee", "y")
            self.wait_until(lambda: logs.output)
            time.sleep(0.1)
        self.assertLen(logs.output, 1)
        self.assertIn("taken over by process 8 on bee, as nothing was heard", logs.output[0])
        self.assertEqual(self.read()["token"], "y")

    def test_store_that_fails_for_a_while(self):
        original, faults = UrlPath.read_bytes, [StoreError(str(self.lock), "no answer")] * 2

        def read(path, *args, **options):
            if faults:
                raise faults.pop()
            return original(path, *args, **options)

        with self.fast_heart(), self.assertLogs("absl", "WARNING") as logs:
            first = self.read()
            with mock.patch.object(UrlPath, "read_bytes", read):
                self.wait_until(lambda: not faults and self.read()["renewed"] > first["renewed"])
        self.assertLen(logs.output, 2)
        self.assertIn("could not be renewed", logs.output[0])

    def test_store_that_fails_from_the_start(self):
        fault = StoreError(str(self.lock), "no answer")
        with mock.patch.object(UrlPath, "read_bytes", side_effect=fault):
            self.assert_refused(r"cannot be used \(no answer\)")


if __name__ == "__main__":
    absltest.main()
