import pathlib
from unittest import mock

from absl.testing import absltest

from csml_tf.benchmarks import measuring


class SpreadTest(absltest.TestCase):
    def test_rounds(self):
        self.assertEqual(
            measuring.spread([0.12345, 0.3, 0.2, 0.1], digits=3),
            {"median": 0.162, "min": 0.1, "max": 0.3, "n": 4},
        )


class PeakRssTest(absltest.TestCase):
    def test_reads_linux_own_figure(self):
        status = mock.Mock()
        status.read_text.return_value = "VmPeak:\t 9000 kB\nVmHWM:\t    2560 kB\nVmRSS:\t  10 kB\n"
        with mock.patch.object(measuring, "_STATUS", status):
            self.assertEqual(measuring.peak_rss_mb(), 2.5)

    def test_elsewhere(self):
        here_mb = measuring.peak_rss_mb()
        with mock.patch.object(measuring, "_STATUS", pathlib.Path("/no/such/file")):
            # Whoever started us may have held more.
            self.assertGreater(measuring.peak_rss_mb(), 0.9 * here_mb)


if __name__ == "__main__":
    absltest.main()
