from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from scipy import stats

from csml_tf.augment import view
from csml_tf.data import neighbor_table, pipeline
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from tests.data.sources import image_files

NUM_IMAGES, BATCH = 13, 4  # Three steps, and one image left over.
ANCHOR_VIEWS = ("query", "key")
TWO_VIEWS = ("query", "neighbor_key")
ALL_VIEWS = ("query", "key", "neighbor_query", "neighbor_key")


def encoded(parent):
    """The same images as PNG files, which are read one at a time."""
    images = parent.read(np.arange(len(parent))).numpy()
    return memory.EncodedSource([image_files.encode(image, "PNG") for image in images])


class Transparent:
    """An augmentation whose views are [1, 1, 4]: the image's pixel and the view's uniforms."""

    image_size = 1
    num_uniforms = 3

    def windows(self, heights, widths, uniforms):
        del heights, widths, uniforms
        return tf.constant([0, 0, 1, 1])

    def flips(self, uniforms):
        del uniforms

    def geometric(self, images, uniforms):
        del uniforms
        return images[..., :1, :1, :]

    def photometric(self, images, uniforms):
        shown = uniforms[:, tf.newaxis, tf.newaxis]
        return tf.concat([tf.cast(images[..., :1], tf.float32), shown], axis=-1)


def make_crops(image_size=8):
    """Only crops and flips: quick, and the part that the two paths do differently."""
    return view.ViewAugmentation(
        image_size=image_size, jitter_probability=0, grayscale_probability=0, blur_probability=0
    )


def make_everything():
    # A narrow blur is compiled in less time.
    return view.ViewAugmentation(image_size=8, blur_sigma_px=(0.1, 0.5))


def numbered_source(num_images=NUM_IMAGES):
    """Images that are their index everywhere."""
    return memory.MemorySource(
        np.tile(np.arange(num_images, dtype=np.uint8)[:, None, None], [2, 3])
    )


def noise_source():
    return memory.MemorySource(np.stack([image_files.noise(i) for i in range(NUM_IMAGES)]))


def make_table(source, num_neighbors=5):
    """Image i has the neighbors i + 1, ..., i + num_neighbors."""
    rows = np.arange(len(source))[:, None] + np.arange(1, num_neighbors + 1)
    table = neighbor_table.NeighborTable(len(source), num_neighbors)
    table.assign(rows % len(source), epoch=0)
    return table


def make_batches(source=None, augmentation=None, view_names=ALL_VIEWS, **arguments):
    source = source or noise_source()
    augmentations = dict.fromkeys(view_names, augmentation or make_crops())
    defaults = {
        "augmentations": augmentations,
        "global_batch_size": BATCH,
        "seed": 0,
        "epoch": 0,
        "table": make_table(source),
    }
    return pipeline.make_epoch(source, **{**defaults, **arguments})


def to_list(batches):
    return list(batches.as_numpy_iterator())


def with_threads(batches, threads):
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.autotune.enabled = threads > 4
    return batches.with_options(options)


def all_anchors(**arguments):
    """[steps, batch] indices of the anchors of an epoch."""
    batches = to_list(make_batches(numbered_source(), Transparent(), ("query",), **arguments))
    return np.stack([batch["query"][:, 0, 0, 0] for batch in batches]).astype(int)


class PipelineTestCase(tf.test.TestCase, parameterized.TestCase):
    def assert_same_batches(self, actual, expected):
        self.assertEqual(len(actual), len(expected))
        for ours, theirs in zip(actual, expected):
            self.assertEqual(list(ours), list(theirs))
            for name, views in ours.items():
                self.assertAllEqual(views, theirs[name])


def in_memory(source):
    return source


def both_paths(test):
    return parameterized.parameters(in_memory, encoded)(test)


class MakeEpochTest(PipelineTestCase):
    @parameterized.product(wrap=[in_memory, encoded], view_names=[ANCHOR_VIEWS, ALL_VIEWS])
    def test_shapes(self, wrap, view_names):
        batches = make_batches(wrap(noise_source()), view_names=view_names)
        self.assertEqual(tuple(batches.element_spec), view_names)
        for spec in batches.element_spec.values():
            self.assertEqual((spec.shape, spec.dtype), ([BATCH, 8, 8, 3], tf.float32))
        self.assertEqual(batches.cardinality().numpy(), 3)
        self.assertLen(to_list(batches), 3)

    @both_paths
    def test_any_step_by_its_number(self, wrap):
        source = wrap(noise_source())
        whole = to_list(make_batches(source, view_names=TWO_VIEWS, epoch=7))
        rest = make_batches(source, view_names=TWO_VIEWS, epoch=7, first_step=1)
        self.assertEqual(rest.cardinality().numpy(), 2)
        self.assert_same_batches(to_list(rest), whole[1:])

    def test_one_image_at_a_time_gives_the_same_pixels(self):
        """Of one rounding of exact halves apart, which the two ways of resampling may take."""
        source = noise_source()
        batches = to_list(make_batches(source, view_names=TWO_VIEWS))
        singles = to_list(make_batches(encoded(source), view_names=TWO_VIEWS))
        for name in TWO_VIEWS:
            actual = np.stack([batch[name] for batch in singles])
            expected = np.stack([batch[name] for batch in batches])
            self.assertAllClose(actual, expected, rtol=0, atol=1.01 / 255 / 0.224)
            self.assertGreater(np.mean(actual == expected), 0.98)

    @both_paths
    def test_number_of_threads_does_not_matter(self, wrap):
        runs = []
        for threads, parallel_calls in ((1, 1), (4, 3), (7, tf.data.AUTOTUNE)):
            with mock.patch.object(tf.data, "AUTOTUNE", parallel_calls):
                batches = make_batches(wrap(noise_source()), view_names=TWO_VIEWS)
            runs.append(to_list(with_threads(batches, threads)))
        self.assert_same_batches(runs[1], runs[0])
        self.assert_same_batches(runs[2], runs[0])

    @parameterized.parameters((in_memory, make_everything), (encoded, make_crops))
    def test_the_device_is_left_with_the_colours(self, wrap, make_augmentation):
        """What it then does is what the host would have done, bit for bit on a CPU."""
        source, augmentation = wrap(noise_source()), make_augmentation()
        batches = make_batches(source, augmentation, TWO_VIEWS, augment_on="device", first_step=1)
        self.assertEqual(tuple(batches.element_spec), TWO_VIEWS)
        for crops, uniforms in batches.element_spec.values():
            self.assertEqual((crops.shape, crops.dtype), ([BATCH, 8, 8, 3], tf.uint8))
            shape = [BATCH, augmentation.num_uniforms]
            self.assertEqual((uniforms.shape, uniforms.dtype), (shape, tf.float32))
        self.assertEqual(batches.cardinality().numpy(), 2)
        on_device = [
            {
                name: augmentation.photometric(*arguments).numpy()
                for name, arguments in batch.items()
            }
            for batch in to_list(with_threads(batches, 1))
        ]
        on_host = make_batches(source, augmentation, TWO_VIEWS, first_step=1)
        self.assert_same_batches(on_device, to_list(with_threads(on_host, 7)))

    @parameterized.parameters((in_memory, "host", 4), (encoded, "device", 2))
    def test_parts_are_the_whole_batch(self, wrap, augment_on, num_parts):
        self.check_parts(wrap, augment_on, num_parts)

    @parameterized.product(
        wrap=[in_memory, encoded], augment_on=pipeline.AUGMENT_ON, num_parts=[2, 4]
    )
    @pytest.mark.slow
    def test_all_parts_are_the_whole_batch(self, wrap, augment_on, num_parts):
        self.check_parts(wrap, augment_on, num_parts)

    def check_parts(self, wrap, augment_on, num_parts):
        """Bit for bit, of everything that is drawn: order, neighbor, crop, colours."""
        source = wrap(noise_source())
        arguments = {"augment_on": augment_on, "first_step": 1, "epoch": 2}
        arguments.update(augmentation=make_everything(), view_names=TWO_VIEWS)
        whole = to_list(make_batches(source, **arguments))
        parts = []
        for part in range(num_parts):
            batches = make_batches(source, part=part, num_parts=num_parts, **arguments)
            for spec in tf.nest.flatten(batches.element_spec):
                self.assertEqual(spec.shape[0], BATCH // num_parts)
            self.assertEqual(batches.cardinality().numpy(), 2)
            parts.append(to_list(batches))
        for batch, *part_batches in zip(whole, *parts):
            together = tf.nest.map_structure(lambda *rows: np.concatenate(rows), *part_batches)
            tf.nest.map_structure(self.assertAllEqual, together, batch)

    @parameterized.parameters((1, 1), (255, 1), (256, 2), (511, 2), (512, 4), (10**6, 4))
    def test_groups_of_colours(self, pixels, group_size):
        """Whole anchors, of two views of 8 x 8 pixels."""
        augmentations = dict.fromkeys(TWO_VIEWS, make_everything())
        with mock.patch.object(pipeline, "_COLOR_GROUP_PIXELS", pixels):
            self.assertEqual(pipeline._color_group_size(4, augmentations), group_size)

    def test_groups_of_colours_do_not_matter(self):
        batches = []
        for pixels in (2 * 128, 2**19):
            with mock.patch.object(pipeline, "_COLOR_GROUP_PIXELS", pixels):
                arguments = {"augmentation": make_everything(), "view_names": TWO_VIEWS}
                batches.append(to_list(make_batches(encoded(noise_source()), **arguments)))
        self.assert_same_batches(*batches)

    def test_rejects_parts_of_unequal_size(self):
        with self.assertRaisesRegex(InputError, "4 images .* over 3 replicas .* multiple of 3"):
            make_batches(num_parts=3)

    @parameterized.parameters(-1, 2)
    def test_rejects_a_part_that_is_not_there(self, part):
        with self.assertRaisesRegex(ValueError, f"part must be from 0 to 1, got {part}"):
            make_batches(part=part, num_parts=2)

    @both_paths
    def test_pairs(self, wrap):
        """An image and one of its neighbors side by side; two epochs draw each image once."""
        source = wrap(numbered_source())
        table = make_table(source)
        anchors, offsets = [], []
        for epoch in (4, 5):
            batches = make_batches(
                source, Transparent(), ("query", "key"), epoch=epoch, pairs=True, table=table
            )
            self.assertEqual(batches.cardinality().numpy(), 3)
            for batch in to_list(batches):
                self.assertEqual(batch["query"].shape, (BATCH, 1, 1, 4))
                images = batch["query"][:, 0, 0, 0].astype(int)
                self.assertAllEqual(batch["key"][:, 0, 0, 0], images)
                # Every view of every image has numbers of its own.
                rows = np.concatenate([view[:, 0, 0, 1:] for view in batch.values()])
                self.assertLen(np.unique(rows), rows.size)
                anchors += images[::2].tolist()
                offsets += ((images[1::2] - images[::2]) % NUM_IMAGES).tolist()
        self.assertLen(anchors, 12)
        self.assertLen(set(anchors), 12)  # 13 images; the rest of an epoch is left out.
        self.assertContainsSubset(set(offsets), {1, 2, 3, 4, 5})
        self.assertGreater(len(set(offsets)), 2)

    @both_paths
    def test_parts_of_pairs(self, wrap):
        source = wrap(noise_source())
        arguments = {"epoch": 3, "first_step": 1, "pairs": True, "view_names": ("query", "key")}
        whole = to_list(make_batches(source, **arguments))
        parts = [
            to_list(make_batches(source, part=part, num_parts=2, **arguments)) for part in (0, 1)
        ]
        for batch, *part_batches in zip(whole, *parts):
            together = tf.nest.map_structure(lambda *rows: np.concatenate(rows), *part_batches)
            tf.nest.map_structure(self.assertAllEqual, together, batch)

    def test_rejects_what_is_no_pair(self):
        with self.assertRaisesRegex(InputError, "over 4 replicas .* in pairs: .* multiple of 8"):
            make_batches(num_parts=4, pairs=True, view_names=("query", "key"))
        with self.assertRaisesRegex(ValueError, "no view is a neighbor's by name"):
            make_batches(pairs=True)
        with self.assertRaisesRegex(ValueError, "need a neighbor table"):
            make_batches(pairs=True, view_names=("query", "key"), table=None)

    @both_paths
    def test_small_views_are_of_the_anchor(self, wrap):
        names = ("query", "small_0", "key", "neighbor_query", "small_1", "neighbor_key")
        source = wrap(numbered_source())
        for batch in to_list(make_batches(source, Transparent(), names)):
            self.assertEqual(tuple(batch), names)
            anchors = batch["query"][..., 0]
            for name in names:
                is_anchor = not name.startswith("neighbor")
                self.assertAllEqual(np.all(batch[name][..., 0] == anchors), is_anchor)

    @both_paths
    def test_each_view_has_its_own_augmentation(self, wrap):
        names = ("query", "small_0", "neighbor_query")
        augmentations = {name: make_crops() for name in names}
        augmentations["small_0"] = make_crops(image_size=4)
        source = wrap(noise_source())
        batches = make_batches(source, augmentations=augmentations)
        sizes = {name: spec.shape.as_list() for name, spec in batches.element_spec.items()}
        expected = {name: [BATCH, 8, 8, 3] for name in names}
        self.assertEqual(sizes, {**expected, "small_0": [BATCH, 4, 4, 3]})
        # Another size leaves the draws as they were.
        equal_sizes = to_list(make_batches(source, view_names=names))
        for batch, other in zip(to_list(batches), equal_sizes):
            self.assertAllEqual(batch["query"], other["query"])
            self.assertAllEqual(batch["neighbor_query"], other["neighbor_query"])
            halved = other["small_0"].reshape([BATCH, 4, 2, 4, 2, 3]).mean(axis=(2, 4))
            correlation = np.corrcoef(batch["small_0"].ravel(), halved.ravel())[0, 1]
            self.assertGreater(correlation, 0.8)

    def test_other_bytes_by_seed_and_epoch(self):
        batches = to_list(make_batches(view_names=TWO_VIEWS))
        for arguments in ({"seed": 1}, {"epoch": 1}):
            others = to_list(make_batches(view_names=TWO_VIEWS, **arguments))
            for name in TWO_VIEWS:
                self.assertNotAllClose(batches[0][name], others[0][name])

    def test_views_are_augmentations_of_their_image(self):
        """Without any chance in it, the view is the image itself."""
        still = view.ViewAugmentation(
            image_size=8,
            crop_scale=(1.0, 1.0),
            crop_ratio=(1.0, 1.0),
            jitter_probability=0,
            grayscale_probability=0,
            blur_probability=0,
            flip_probability=0,
            mean=(0, 0, 0),
            std=(1, 1, 1),
        )
        images = np.stack([image_files.noise(i, 8, 8) for i in range(NUM_IMAGES)])
        source = memory.MemorySource(images)
        table = make_table(source, num_neighbors=1)
        batches = to_list(make_batches(source, still, table=table))
        order = np.concatenate(all_anchors())
        for name in ALL_VIEWS:
            views = np.concatenate([batch[name] for batch in batches])
            shown = (order + 1) % NUM_IMAGES if name.startswith("neighbor") else order
            self.assertAllClose(views * 255, images[shown], atol=1e-3)

    @both_paths
    def test_neighbors_come_from_the_table(self, wrap):
        source = wrap(numbered_source(241))
        distances, draws = [], []
        for batch in to_list(make_batches(source, Transparent())):
            draws.extend(np.concatenate([views[:, 0, 0, 1:] for views in batch.values()], axis=1))
            pixels = {name: views[:, 0, 0, 0] for name, views in batch.items()}
            self.assertAllEqual(pixels["query"], pixels["key"])
            self.assertAllEqual(pixels["neighbor_query"], pixels["neighbor_key"])
            distances.extend((pixels["neighbor_query"] - pixels["query"]) % 241)
        self.assertLen(distances, 240)
        counts = np.bincount(np.int64(distances), minlength=7)
        self.assertEqual((counts[0], counts[6]), (0, 0))
        self.assertGreater(stats.chisquare(counts[1:6]).pvalue, 0.001)
        # Which neighbor it is says nothing about any view.
        correlations = np.corrcoef(distances, np.transpose(draws))[0, 1:]
        self.assertLess(np.abs(correlations).max(), 0.3)

    def test_newest_content_of_the_table_counts(self):
        source = numbered_source()
        table = neighbor_table.NeighborTable(NUM_IMAGES, 2)
        batches = make_batches(source, Transparent(), ("query", "neighbor_query"), table=table)
        for batch in to_list(batches):
            self.assertAllEqual(batch["neighbor_query"][..., 0], batch["query"][..., 0])
        table.assign(np.full([NUM_IMAGES, 2], 6), epoch=5)
        for batch in to_list(batches):
            self.assertAllEqual(batch["neighbor_query"][..., 0], np.full([BATCH, 1, 1], 6))

    @both_paths
    def test_every_view_of_every_step_has_its_own_draws(self, wrap):
        source = wrap(numbered_source())
        draws = []
        for epoch in range(2):
            for batch in to_list(make_batches(source, Transparent(), epoch=epoch)):
                draws.extend(views[..., 1:].ravel() for views in batch.values())
        draws = np.concatenate(draws)
        self.assertLen(draws, 2 * 3 * len(ALL_VIEWS) * BATCH * Transparent.num_uniforms)
        self.assertLen(np.unique(draws), len(draws))
        self.assertAllInRange(draws, 0.0, 1.0)

    def test_views_differ(self):
        batch = to_list(make_batches(table=neighbor_table.NeighborTable(NUM_IMAGES, 5)))[0]
        for i, first in enumerate(ALL_VIEWS):
            for second in ALL_VIEWS[i + 1 :]:
                for one, other in zip(batch[first], batch[second]):
                    self.assertNotAllClose(one, other)

    def test_no_table_for_anchors_only(self):
        batches = make_batches(view_names=ANCHOR_VIEWS, table=None)
        self.assert_same_batches(to_list(batches), to_list(make_batches(view_names=ANCHOR_VIEWS)))

    def test_rejects_neighbors_without_a_table(self):
        with self.assertRaisesRegex(ValueError, "'neighbor_key'.* need a neighbor table"):
            make_batches(table=None)

    def test_rejects_an_unknown_place(self):
        with self.assertRaisesRegex(ValueError, "one of .'host', 'device'., got 'gpu'"):
            make_batches(augment_on="gpu")

    def test_rejects_a_batch_larger_than_the_source(self):
        with self.assertRaisesRegex(InputError, "14 images is larger than memory, which has 13"):
            make_batches(global_batch_size=14)


class MakeEpochsTest(PipelineTestCase):
    def test_one_graph_for_all_epochs(self):
        self.check_epochs(in_memory, pairs=False)

    @parameterized.parameters((encoded, False), (encoded, True))
    @pytest.mark.slow
    def test_one_graph_for_all_epochs_of_files(self, wrap, pairs):
        self.check_epochs(wrap, pairs)

    def check_epochs(self, wrap, pairs):
        """Any epoch, from any step on, with the neighbors of the moment: bit for bit."""
        source = wrap(noise_source())
        names = ANCHOR_VIEWS if pairs else TWO_VIEWS
        augmentations, table = dict.fromkeys(names, make_crops()), make_table(source)
        make = pipeline.make_epochs(source, augmentations, BATCH, 5, table=table, pairs=pairs)
        graphs = self.enter_context(mock.patch.object(table, "draw", wraps=table.draw))
        for epoch, first_step in ((0, 0), (3, 1), (2, 0)):
            table.assign(np.roll(table.neighbor_indices.numpy(), epoch, axis=0), epoch)
            batches = make(epoch, first_step)
            settings = {"epoch": epoch, "first_step": first_step, "seed": 5, "pairs": pairs}
            expected = make_batches(source, augmentations=augmentations, table=table, **settings)
            self.assertIs(batches.options().autotune.enabled, False)
            self.assertEqual(batches.element_spec, expected.element_spec)
            self.assertEqual(batches.cardinality().numpy(), 3 - first_step)
            self.assert_same_batches(to_list(batches), to_list(expected))
        # Once for all of them, and once for each that was made by itself.
        self.assertEqual(graphs.call_count, 1 + 3)

    def test_rejects_as_a_single_epoch(self):
        make = pipeline.make_epochs(noise_source(), {"query": make_crops()}, 14, 0)
        with self.assertRaisesRegex(InputError, "14 images is larger than memory, which has 13"):
            make(0, 0)


class OrderTest(PipelineTestCase):
    def test_an_epoch_is_a_permutation(self):
        anchors = all_anchors(global_batch_size=1)
        self.assertCountEqual(anchors[:, 0], range(NUM_IMAGES))
        self.assertNotAllEqual(anchors[:, 0], np.arange(NUM_IMAGES))

    def test_batches_are_cut_from_the_order(self):
        order = pipeline.epoch_order(tf.range(NUM_IMAGES, dtype=tf.int64), NUM_IMAGES, 3, epoch=2)
        self.assertCountEqual(order.numpy(), range(NUM_IMAGES))
        self.assertAllEqual(np.concatenate(all_anchors(seed=3, epoch=2)), order[:12])
        self.assertAllEqual(all_anchors(seed=3, epoch=2, global_batch_size=6)[1], order[6:12])

    def test_differs_by_epoch_and_seed(self):
        orders = [
            all_anchors(seed=seed, epoch=epoch).ravel() for seed in (0, 1) for epoch in (0, 1)
        ]
        self.assertLen(np.unique(orders, axis=0), 4)

    def test_what_is_left_over_changes(self):
        left_over = set()
        for epoch in range(10):
            left_over |= set(range(NUM_IMAGES)) - set(all_anchors(epoch=epoch).ravel())
        self.assertGreater(len(left_over), 3)

    @parameterized.parameters((13, 1), (4, 3), (1, 13))
    def test_steps_per_epoch(self, global_batch_size, expected):
        self.assertEqual(pipeline.steps_per_epoch(numbered_source(), global_batch_size), expected)

    def test_rejects_a_batch_larger_than_the_source(self):
        with self.assertRaisesRegex(InputError, "lower GLOBAL_BATCH_SIZE to 13 or less"):
            pipeline.steps_per_epoch(numbered_source(), 14)


if __name__ == "__main__":
    tf.test.main()
