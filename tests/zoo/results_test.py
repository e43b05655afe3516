import statistics

from absl.testing import absltest, parameterized

from csml_tf.zoo import registry, results


class ResultTest(parameterized.TestCase):
    @parameterized.parameters(
        ({"kind": "guess"}, "kind must be one of"),
        ({"encoder": ()}, "at least one run"),
        ({"encoder": (98.6,)}, "accuracies are from 0 to 1"),
        ({"raw_pixels": (-0.1,)}, "accuracies are from 0 to 1"),
    )
    def test_rejects(self, change, message):
        good = {
            "id": "tiny",
            "bindings": (),
            "kind": "knn",
            "protocol": "kNN",
            "encoder": (0.5,),
        }
        results.Result(**good)
        with self.assertRaisesRegex(ValueError, message):
            results.Result(**{**good, **change})


class ReadTest(absltest.TestCase):
    def test_every_row_belongs_to_an_entry(self):
        rows = results.read()
        self.assertNotEmpty(rows)
        self.assertContainsSubset({row.id for row in rows}, {e.id for e in registry.ENTRIES})


class SummaryTest(absltest.TestCase):
    def test_mean_and_sample_deviation(self):
        top1 = [0.7412, 0.7388, 0.7451, 0.7399]
        mean = 100 * sum(top1) / 4
        spread = (sum((100 * x - mean) ** 2 for x in top1) / 3) ** 0.5
        self.assertAlmostEqual(spread, 100 * statistics.stdev(top1))
        self.assertEqual(results.summary(top1), f"{mean:.2f} ± {spread:.2f} % (4 runs)")


if __name__ == "__main__":
    absltest.main()
