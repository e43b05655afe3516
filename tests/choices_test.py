from absl.testing import absltest

from csml_tf import choices
from csml_tf.benchmarks import step
from csml_tf.conversion import preset
from csml_tf.evaluation import protocols
from csml_tf.evaluation.semi_supervised import fine_tuning
from csml_tf.export import formats
from csml_tf.extraction import files
from csml_tf.models.backbones import resnet


class ChoicesTest(absltest.TestCase):
    def test_the_names_are_those_of_what_does_the_work(self):
        """Where the work is a table of functions or of sizes, which has the names once more."""
        for names, table in (
            (choices.PROTOCOLS, protocols._PROTOCOLS),
            (choices.SCHEDULES, fine_tuning.SCHEDULES),
            (choices.FEATURE_FILES, files.FORMATS),
            (choices.EXPORTS, {**formats.FORMATS, preset.FORMAT.name: preset.FORMAT}),
            (choices.METHODS, step._BASES),
        ):
            self.assertEqual(names, tuple(table))
        self.assertEqual(choices.RESNETS, tuple(f"resnet{depth}" for depth in resnet.PLANS))
        self.assertEqual(step.DEPTHS["resnet101"], 101)


if __name__ == "__main__":
    absltest.main()
