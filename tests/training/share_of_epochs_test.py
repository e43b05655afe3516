from absl.testing import absltest, parameterized

from csml_tf.training.share_of_epochs import share_of_epochs


class ShareOfEpochsTest(parameterized.TestCase):
    @parameterized.parameters(
        (200, 0.055, 11), (100, 0.055, 6), (20, 0.055, 1), (2, 0.055, 0), (10, 2.75, 28), (7, 0, 0)
    )
    def test_nearest_whole_epochs(self, epochs, share, expected):
        self.assertEqual(share_of_epochs(epochs, share), expected)

    def test_rejects_a_share_below_zero(self):
        with self.assertRaisesRegex(ValueError, "at least 0, got -0.1"):
            share_of_epochs(10, -0.1)


if __name__ == "__main__":
    absltest.main()
