import json

import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.benchmarks import pipeline
from csml_tf.errors import InputError
from tests.data.sources import image_files
from tests.training import tiny_run

FAST = {"res": 8, "batch": 4, "windows": 2, "window_s": 0.01}


class MeasureTest(tf.test.TestCase, parameterized.TestCase):
    def check(self, result, dataset, images, **expected):
        self.assertEqual(json.loads(json.dumps(result)), result)
        spread = result.pop("samples_per_s_spread")
        self.assertEqual(spread["n"], 2)
        self.assertBetween(spread["median"], spread["min"], spread["max"])
        samples_per_s = result.pop("samples_per_s")
        self.assertEqual(samples_per_s, spread["median"])
        self.assertAlmostEqual(
            result.pop("views_per_s"), samples_per_s * expected["views"], delta=0.1
        )
        for name in ("cpu_ms_per_sample", "peak_rss_mb", "warmup_s"):
            self.assertGreater(result.pop(name), 0)
        parts = result.pop("parts_ms_per_sample")
        self.assertEqual([*parts], ["read", "decode", "crop", "photometric"])
        expected |= {"bench": "pipeline", "dataset": dataset, "images": images}
        expected |= {"res": 8, "batch": 4, "tensorflow": tf.__version__}
        expected |= {"res": 8, "batch": 4, "tensorflow": tf.__version__}
        self.assertEqual(result, expected)
        return parts

    @pytest.mark.slow
    def test_folder(self):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        image_files.write_pngs(folder, 6)
        dataset = f"folder:{folder}"
        result = pipeline.measure(dataset, **FAST)
        cpu_ms = result["cpu_ms_per_sample"]
        options = {"method": "csml", "views": 4, "augment_on": "host", "blur": True}
        parts = self.check(result, dataset, 6, **options)
        self.assertAllClose(sum(parts.values()), cpu_ms, atol=1e-3)

    def test_memory_on_device(self):
        options = {"method": "moco", "augment_on": "device", "blur": False}
        result = pipeline.measure("digits", **options, **FAST)
        cpu_ms = result["cpu_ms_per_sample"]
        parts = self.check(result, "digits", 1438, views=2, **options)
        self.assertIsNone(parts["decode"])
        self.assertIsNone(parts["photometric"])
        self.assertAllClose(parts["read"] + parts["crop"], cpu_ms, atol=1e-3)

    @parameterized.parameters(
        {"res": 0}, {"batch": 0}, {"windows": 0}, {"window_s": 0.0}, {"seed": -1}
    )
    def test_rejects(self, **bad):
        with self.assertRaisesRegex(InputError, f"--{next(iter(bad))} must be .*, got "):
            pipeline.measure("digits", **bad)


class PartsTest(tf.test.TestCase):
    def test_adds_up_to_the_whole(self):
        cpu_ms = {"whole": 10.0, "read": 0.5, "uncolored": 6.0, "cut once": 5.0, "cut twice": 8.0}
        parts = pipeline.parts_ms(cpu_ms)
        self.assertEqual(parts, {"read": 0.5, "decode": 2.5, "crop": 3.0, "photometric": 4.0})
        del cpu_ms["uncolored"]
        parts = pipeline.parts_ms(cpu_ms)
        self.assertEqual(parts, {"read": 0.5, "decode": 6.5, "crop": 3.0, "photometric": None})


if __name__ == "__main__":
    tf.test.main()
