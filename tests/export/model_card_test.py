import hashlib
import json

import yaml
from absl.testing import absltest, parameterized

from csml_tf.errors import InputError
from csml_tf.export import model_card
from tests.training import tiny_run

CARD = {
    "id": "r18_birds",
    "format": "keras",
    "precision": "float16",
    "recipe": {"EPOCHS": 20, "DATASET": "folder:birds"},
    "data": "folder:birds",
    "data_fingerprint": "0123456789abcdef",
    "epochs": 20,
    "csml_tf": "0.1.0",
    "commit": "f" * 40,
    "trained_by": f"csml_tf 0.0.9, commit {'e' * 40}",
    "command": "python tools/train.py --gin_file=r18.gin '--gin_bindings=EPOCHS = 20'",
    "curve": [{"epoch": 1, "loss": 7.0}, {"epoch": 20, "loss": 5.4321, "knn_top1": 0.4437}],
    "metrics": [model_card.metric("kNN top-1", 0.4437, "k=200, temperature=0.1")],
    "image_size": 32,
    "resize_size": 36,
    "feature_dim": 128,
}


class ModelCardTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)
        (self.folder / "sub").mkdir()
        (self.folder / "sub" / "weights").write_bytes(b"abc")
        (self.folder / "graph").write_bytes(b"defgh")

    def write(self, **changes):
        model_card.write(self.folder, {**CARD, **changes})
        return model_card.read(self.folder)

    def test_files_of_the_folder(self):
        card = self.write()
        self.assertEqual(card["bytes"], 8)
        self.assertEqual([f["path"] for f in card["files"]], ["graph", "sub/weights"])
        self.assertEqual([f["bytes"] for f in card["files"]], [5, 3])
        for file in card["files"]:
            content = (self.folder / file["path"]).read_bytes()
            self.assertEqual(file["sha256"], hashlib.sha256(content).hexdigest())
        # A card written anew describes neither the older card nor its README.
        self.assertEqual(self.write(), card)

    def test_keeps_what_it_is_given(self):
        self.assertContainsSubset(CARD, self.write())

    def test_a_saved_model_keeps_it_among_its_assets(self):
        self.write(format="saved_model")
        self.assertTrue((self.folder / "assets.extra" / "csml_tf.json").exists())
        self.assertFalse((self.folder / "csml_tf.json").exists())

    def test_readme_says_all_of_it(self):
        self.write(parity={"text": "cosine at least 0.99"})
        text = (self.folder / "README.md").read_text()
        for part in (
            "# r18_birds",
            'keras.models.load_model("DIR/encoder.keras"',
            "| format | keras, float16 |",
            "folder:birds (fingerprint 0123456789abcdef)",
            f"| exported by | csml_tf 0.1.0, commit {'f' * 40} |",
            f"| trained by | csml_tf 0.0.9, commit {'e' * 40} |",
            "\n```\npython tools/train.py --gin_file=r18.gin '--gin_bindings=EPOCHS = 20'\n```\n",
            "| 1 | 7 |  |\n| 20 | 5.432 | 44.37% |\n",
            "kNN top-1 44.37% (k=200, temperature=0.1)",
            "shorter side was scaled to 36 px",
            "[batch, 128]",
            "| licence of the weights | not stated |",
            "cosine at least 0.99",
            "EPOCHS = 20\nDATASET = 'folder:birds'",
            hashlib.sha256(b"abc").hexdigest(),
        ):
            self.assertIn(part, text)

    def test_says_what_is_not_known(self):
        model_card.write(self.folder, {})
        text = (self.folder / "README.md").read_text()
        self.assertIn("Not measured.", text)
        self.assertIn("| trained on | not recorded |", text)
        self.assertIn("commit unknown", text)
        self.assertNotIn("None", text)

    def test_licence(self):
        self.assertEqual(self.write()["licence"], "not stated")
        self.assertEqual(self.write(licence="CC-BY-4.0")["licence"], "CC-BY-4.0")

    def front_matter(self, **changes):
        """What a site reads of README.md, by a YAML library."""
        self.write(format="hub", **changes)
        return next(yaml.safe_load_all((self.folder / "README.md").read_text()))

    def test_sites_read_the_figures(self):
        name, data = 'r18: "birds" 🐦', "folder:my birds/'d: # 2"
        metrics = [*CARD["metrics"], model_card.metric("linear top-1", 0.5, "100 epochs: SGD")]
        found = self.front_matter(id=name, data=data, metrics=metrics, licence='"Mine": ü 🐦')
        self.assertEqual((found["license"], found["license_name"]), ("other", '"Mine": ü 🐦'))
        (index,) = found["model-index"]
        (result,) = index["results"]
        self.assertEqual((index["name"], result["dataset"]["name"]), (name, data))
        self.assertEqual(result["task"], {"type": "image-classification"})
        self.assertEqual([each["value"] for each in result["metrics"]], [0.4437, 0.5])
        names = [each["name"] for each in result["metrics"]]
        first = "kNN top-1 (k=200, temperature=0.1)"
        self.assertEqual(names, [first, "linear top-1 (100 epochs: SGD)"])

    def test_sites_read_no_figures_where_there_are_none(self):
        self.assertNotIn("model-index", self.front_matter(metrics=[]))

    def test_plain_values_only_in_the_file(self):
        self.write(recipe={"MODEL": object})
        self.assertIn(
            "object", json.loads((self.folder / "csml_tf.json").read_text())["recipe"]["MODEL"]
        )

    def test_no_card(self):
        self.assertEqual(model_card.read(self.folder), {})

    def test_damaged_card(self):
        (self.folder / "csml_tf.json").write_text("{")
        with self.assertRaisesRegex(InputError, "card in .* is no JSON .*: export the model again"):
            model_card.read(self.folder)

    @parameterized.parameters(
        ("[]", "The model card is no JSON object"),
        ("3", "The model card is no JSON object"),
        ('{"image_size": "big"}', "image_size must be a whole number from 1, got 'big'"),
        ('{"image_size": -3}', "image_size must be"),
        ('{"resize_size": 1e300}', "resize_size must be"),
        ('{"id": ["a"]}', "id must be a text"),
        ('{"precision": 16}', "precision must be a text"),
        ('{"metrics": {"name": "kNN"}}', "metrics must be a list"),
        ('{"metrics": [{"name": "kNN", "value": "high", "protocol": "k"}]}', "metrics must be"),
        ('{"metrics": [{"name": "kNN"}]}', "metrics must be .*name, value, protocol"),
        ('{"curve": [{"epoch": 1}]}', "curve must be .*epoch, loss"),
        ('{"curve": [{"epoch": 1, "loss": 2, "knn_top1": "high"}]}', "curve must be"),
        ('{"parity": "near"}', "parity must be an object with text"),
        ('{"recipe": ["EPOCHS"]}', "recipe must be an object"),
        ('{"batches_tracked": "many"}', "batches_tracked must be"),
        (r'{"id": "\ud800"}', "is no JSON .*surrogates"),
        ("[" * 100_000, "is no JSON"),
        ("\xff", "is no JSON"),
    )
    def test_card_that_someone_edited(self, text, message):
        (self.folder / "csml_tf.json").write_text(text, encoding="latin-1")
        with self.assertRaisesRegex(InputError, message) as caught:
            model_card.read(self.folder)
        self.assertNotIn("\n", str(caught.exception))
        self.assertIn(str(self.folder), str(caught.exception))

    def test_card_that_says_little(self):
        card = {"id": None, "mine": [1], "metrics": [], "commit": None}
        (self.folder / "csml_tf.json").write_text(json.dumps(card))
        self.assertEqual(model_card.read(self.folder), {"mine": [1], "metrics": []})


if __name__ == "__main__":
    absltest.main()
