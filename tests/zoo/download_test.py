import hashlib
import os
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from csml_tf.errors import InputError
from csml_tf.zoo import download
from tests.zoo import file_server

CONTENT = bytes(range(256)) * 4000  # Several chunks, and each byte tells its place.
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class FetchTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.path = self.folder / "encoder.zip"
        self.part = self.folder / "encoder.zip.part"
        self.server = self.enterContext(file_server.serve(CONTENT))

    def enterContext(self, context):  # unittest has it from Python 3.11 on.
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def fetch(self):
        download.fetch(self.server.url, self.path, SHA256, len(CONTENT))

    def shown_by_the_bar(self, error=None):
        """-> [bytes of each step], of a download that may end with an error."""
        shown = []
        bar = mock.MagicMock()
        bar.return_value.__enter__.return_value = shown.append
        bar.return_value.__exit__.return_value = False
        with mock.patch.object(download.progress, "bar", bar):
            if error is None:
                self.fetch()
            else:
                self.assertRaises(error, self.fetch)
        return shown

    def check(self, ranges):
        self.assertEqual(self.path.read_bytes(), CONTENT)
        self.assertEqual(os.listdir(self.folder), ["encoder.zip"])
        self.assertEqual(self.server.ranges, ranges)

    def test_whole(self):
        self.fetch()
        self.check([None])
        self.fetch()
        self.check([None])

    def test_goes_on_where_an_earlier_attempt_ended(self):
        self.part.write_bytes(CONTENT[:1000])
        self.fetch()
        self.check(["bytes=1000-"])

    def test_nothing_was_missing_but_the_name(self):
        self.part.write_bytes(CONTENT)
        self.fetch()
        self.check([])

    def test_connection_that_breaks_off_is_opened_again(self):
        self.server.break_off_after = [300_000, 0, 100_000]
        self.fetch()
        self.check([None, "bytes=300000-", "bytes=300000-", "bytes=400000-"])

    def test_server_that_ignores_ranges(self):
        self.server.knows_ranges = False
        self.part.write_bytes(CONTENT[:1000])
        self.fetch()
        self.check(["bytes=1000-"])

    def test_truncated_by_a_server_that_ignores_ranges(self):
        self.server.knows_ranges = False
        self.server.break_off_after = [300_000]
        self.fetch()
        self.check([None, "bytes=300000-"])

    def test_part_that_is_longer_than_the_file(self):
        self.part.write_bytes(CONTENT + b"more")
        self.fetch()
        self.check([None])

    def test_part_of_another_file(self):
        self.part.write_bytes(bytes(1000))
        self.fetch()
        self.check(["bytes=1000-", None])

    def test_server_that_has_less_than_the_part(self):
        self.server.content = CONTENT[:500]
        self.part.write_bytes(CONTENT[:1000])
        with self.assertRaisesRegex(InputError, "breaks off, .*: repeat the command"):
            self.fetch()
        self.assertEqual(self.server.ranges[:2], ["bytes=1000-", None])

    def test_breaks_off_again_and_again(self):
        self.server.break_off_after = [1000] * 9
        with self.assertRaisesRegex(InputError, r"5000 of \d+ bytes .*: repeat the command"):
            self.fetch()
        self.assertEqual(os.listdir(self.folder), ["encoder.zip.part"])
        self.server.break_off_after = []
        self.fetch()
        self.assertEqual(self.server.ranges[-1], "bytes=5000-")
        self.assertEqual(self.path.read_bytes(), CONTENT)

    @parameterized.parameters(
        CONTENT[:-1] + b"?", CONTENT + b"more", b"<html>Log in first</html>" * 50_000
    )
    def test_another_file(self, content):
        self.server.content = content
        with self.assertRaisesRegex(
            InputError, f"not the published file, whose sha256 begins with {SHA256[:12]}"
        ):
            self.fetch()
        self.assertEqual(os.listdir(self.folder), [])

    def test_body_without_end(self):
        self.server.content = CONTENT * 20
        self.assertLess(sum(self.shown_by_the_bar(InputError)), 2 * len(CONTENT))

    def test_refusal(self):
        self.server.status = 404
        with self.assertRaisesRegex(InputError, r"\(the server says 404 Not Found\): try again"):
            self.fetch()
        self.assertFalse(self.path.exists())

    def test_offline(self):
        self.server.url = "http://127.0.0.1:9/encoder.zip"  # Nobody listens there.
        with self.assertRaisesRegex(
            InputError,
            rf"^http://\S* cannot be downloaded \(.*refused\): connect to the network, or copy "
            rf"the file to {self.path}\.$",
        ):
            self.fetch()
        self.assertFalse(self.path.exists())

    def test_bar_shows_every_byte_once(self):
        self.server.knows_ranges = False
        self.part.write_bytes(CONTENT[:1000])
        shown = self.shown_by_the_bar()
        self.assertEqual(sum(shown), len(CONTENT))
        self.assertEqual(shown[:2], [1000, -1000])


if __name__ == "__main__":
    absltest.main()
