"""From images in a bucket to an evaluated model there, as a user goes."""

import json
import os
from unittest import mock

import gin
import numpy as np
import pytest
import tensorflow as tf

import csml_tf
from csml_tf import leases, unfinished
from csml_tf.export import formats, model_card
from csml_tf.extraction import files
from csml_tf.reports import run_comparison
from csml_tf.training.run_directory import RunDirectory
from tests import ram_store
from tests.data.sources import image_files
from tests.training import tiny_run

KNOBS = {"epochs": 1, "width": 2, "global_batch_size": 8, "num_negatives": 16, "bn_groups": 1}


class StoreEndToEndTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_all_verbs(self):
        self.addCleanup(gin.clear_config)
        here = {*os.listdir()}
        home = tiny_run.make_temp_dir(self.addCleanup)
        self.enter_context(mock.patch.dict(os.environ, CSML_TF_HOME=str(home / "cache")))
        self.enter_context(mock.patch.object(leases, "SETTLE_S", 0.0))
        store = str(ram_store.make_folder(self.addCleanup))
        for child in ("train/ant", "train/bee", "val/ant", "val/bee"):
            image_files.write_pngs(home / "photos" / child, 8)
        ram_store.copy(home / "photos", f"{store}/photos")
        photos, run = f"folder:{store}/photos", f"{store}/runs/first"

        encoder = csml_tf.pretrain(photos, "quickstart", run, **KNOBS)
        images = np.random.default_rng(0).uniform(size=[2, 32, 32, 3]).astype("float32")
        expected = encoder(images)
        self.assertAllEqual(csml_tf.load_model(run)(images), expected)
        self.assertEqual(RunDirectory(run).read_metrics()[-1]["epoch"], 1)
        second = f"{store}/runs/second"
        csml_tf.pretrain(photos, "quickstart", second, init_from=run, **KNOBS)
        self.assertIn(f"INIT_FROM = '{run}'", RunDirectory(second).config.read_text())

        card = csml_tf.evaluate(run, photos, k=1, json_path=f"{store}/knn.json")
        written = json.loads(ram_store.read(f"{store}/knn.json"))
        self.assertEqual(written["result"]["top1"], card.result["top1"])
        self.assertIn(b"top1", ram_store.read(f"{store}/knn.txt"))

        for name, file_format in (("f.npz", files.NpzFile()), ("f.parquet", files.ParquetFile())):
            stored = csml_tf.extract(run, f"{store}/photos", f"{store}/{name}")
            local = csml_tf.extract(run, home / "photos", home / name)
            self.assertAllEqual(stored.paths, local.paths)
            self.assertAllEqual(stored.features, local.features)
            (home / name).write_bytes(ram_store.read(f"{store}/{name}"))
            self.assertAllEqual(file_format.read(home / name).features, local.features)
            with mock.patch.object(tf.io, "read_file", side_effect=AssertionError):  # It is there.
                again = csml_tf.extract(run, f"{store}/photos", f"{store}/{name}")
            self.assertAllEqual(again.features, local.features)

        line = formats.export(unfinished.find_model(run), f"{store}/exported", "saved_model")
        self.assertStartsWith(line, f"{store}/exported: first as saved_model in float32")
        self.assertEqual(model_card.read(f"{store}/exported")["id"], "first")
        # TensorFlow's own reader, and nothing of ours.
        loaded = tf.saved_model.load(f"{store}/exported")
        self.assertAllClose(
            loaded.signatures["serving_default"](images=tf.constant(images))["features"], expected
        )

        run_comparison.write([run, second], f"{store}/page")
        self.assertIn(b"first", ram_store.read(f"{store}/page/comparison.html"))
        self.assertEqual({*os.listdir()}, here)  # No folder called "ram:".
        names = {name.partition("/")[0] for name in ram_store.files(store)}
        of_card = {"knn.json", "knn.txt", "knn.near_duplicates.csv"}
        others = {"photos", "runs", "f.npz", "f.parquet", "exported", "page"}
        self.assertEqual(names, {*of_card, *others})
