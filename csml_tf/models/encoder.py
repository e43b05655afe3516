"""An encoder with one embedding per chosen stage of its backbone."""

import tensorflow as tf

from csml_tf.models import heads, resnet
from csml_tf.models.split_batch_norm import SplitBatchNormalization


class MultiLevelEncoder(tf.keras.Model):
    """A backbone, global average pooling, and a projection head on each chosen stage.

    CsMl imposes its loss at several depths of the network; each depth is a level,
    named by its stage, with its own head (arXiv:2012.02733). One level, "stage4",
    is the encoder of MoCo.

    Args:
        make_backbone: function of no arguments that returns a model from images to
            {stage: [batch, h, w, channels]}, such as `resnet.make_resnet`.
        head_dims: {stage: length of that level's embedding}.
        hidden_layers: as for `heads.ProjectionHead`, for every head.
        extra_blocks: {stage: number of blocks between the stage's map and its pooling}, for
            levels below the deepest. So an early stage need not be linearly separable itself;
            the blocks serve its head only. None for none.
        make_blocks: function of (channels, num_blocks, name=) that returns a model from maps
            to maps, such as `resnet.make_blocks`.
        **kwargs: as for `tf.keras.Model`.

    Raises:
        ValueError: if `head_dims` is empty or names a stage that the backbone lacks, or
            `extra_blocks` names another than its levels, or the deepest of them.
    """

    def __init__(
        self,
        make_backbone=resnet.make_resnet,
        head_dims=None,
        hidden_layers=1,
        extra_blocks=None,
        make_blocks=resnet.make_blocks,
        **kwargs,
    ):
        super().__init__(**kwargs)
        head_dims = {"stage4": 128} if head_dims is None else dict(head_dims)
        self.backbone = make_backbone()
        unknown = sorted(set(head_dims) - set(self.backbone.output))
        if unknown or not head_dims:
            raise ValueError(
                f"head_dims must name stages out of {sorted(self.backbone.output)}, "
                f"got {sorted(head_dims)}."
            )
        self.heads = {
            stage: heads.ProjectionHead(dim, hidden_layers, name=f"{stage}_head")
            for stage, dim in sorted(head_dims.items())
        }
        self.head_dims = {stage: head.output_dim for stage, head in self.heads.items()}
        for stage, head in self.heads.items():
            head.build(tf.TensorShape([None, self.backbone.output[stage].shape[-1]]))
        extra_blocks = dict(extra_blocks or {})
        # An export takes the deepest embedding from the features, which have no blocks.
        if not set(extra_blocks) <= set(self.levels[:-1]):
            raise ValueError(
                f"extra_blocks must name levels out of {list(self.levels[:-1])}, those below the "
                f"deepest, got {sorted(extra_blocks)}."
            )
        self.extra_blocks = {
            stage: make_blocks(
                self.backbone.output[stage].shape[-1], num_blocks, name=f"{stage}_extra"
            )
            for stage, num_blocks in sorted(extra_blocks.items())
        }
        groups = {
            layer.num_groups
            for layer in self._layers_with_maps()
            if isinstance(layer, SplitBatchNormalization)
        }
        if len(groups) > 1:
            raise ValueError(
                f"Batch norm must have as many groups in extra_blocks as in the backbone, got "
                f"{sorted(groups)}."
            )
        # A bound method, which Keras does not track: the layers are those of `backbone`.
        self._make_maps = _with_relus_for_heads(self.backbone, self.levels[:-1]).__call__
        self.built = True

    @property
    def levels(self):
        """Names of the stages that have a head, from the shallowest to the deepest."""
        return tuple(self.heads)

    @property
    def feature_dim(self):
        """Length of the pooled features of the last stage."""
        return self.backbone.output[resnet.STAGES[-1]].shape[-1]

    @property
    def bn_groups(self):
        """Groups of the global batch that batch norm treats apart in training."""
        return max(getattr(layer, "num_groups", 1) for layer in self._layers_with_maps())

    def divide_batch(self, replicas, accumulation_steps=1):
        """Prepares batch norm for a global batch that comes in parts.

        Args:
            replicas: that share the batch.
            accumulation_steps: parts that each replica takes one after the other.

        Raises:
            ValueError: if the groups do not fall on the parts as whole groups.
        """
        parts = replicas * accumulation_steps
        together = self.bn_groups == 1 and accumulation_steps == 1
        if self.bn_groups % parts and not together:
            raise ValueError(
                f"{self.bn_groups} batch norm groups do not fall on {replicas} replica(s) with "
                f"{accumulation_steps} accumulation step(s) each: choose BN_GROUPS as a "
                f"multiple of {parts}" + (", or 1." if accumulation_steps == 1 else ".")
            )
        for layer in self._layers_with_maps():
            if isinstance(layer, SplitBatchNormalization):
                layer.batch_parts = parts

    def call(self, images, training=None):
        """[batch, height, width, 3] normalised images -> {level: [batch, dim] unit vectors}."""
        maps = self._make_maps(images, training=training)
        for level, blocks in self.extra_blocks.items():
            maps[level] = blocks(maps[level], training=training)
        return {level: head(pool(maps[level])) for level, head in self.heads.items()}

    def _layers_with_maps(self):
        return [
            layer for part in (self.backbone, *self.extra_blocks.values()) for layer in part.layers
        ]

    @tf.function(autograph=False, reduce_retracing=True)
    def embedding(self, images):
        """[batch, height, width, 3] -> [batch, dim] of the deepest level, inference mode."""
        return self(images, training=False)[self.levels[-1]]

    @tf.function(autograph=False, reduce_retracing=True)
    def pooled_features(self, images):
        """[batch, height, width, 3] -> [batch, feature_dim] of the last stage, inference mode."""
        return pool(self.backbone(images, training=False)[resnet.STAGES[-1]])


def _with_relus_for_heads(backbone, stages):
    """The same layers, but the maps of these stages come from a ReLU of their own.

    The next block has two branches. With a head on the same ReLU its gradient would be a sum of
    three, which TensorFlow adds in an order that differs from step to step, see
    `training.optim.TorchSGD`. Two ReLUs have a gradient each, of two summands and of one.
    """
    outputs = dict(backbone.output)
    for layer in backbone.layers:
        for stage in stages:
            if layer.output is backbone.output[stage] and isinstance(layer, tf.keras.layers.ReLU):
                outputs[stage] = tf.keras.layers.ReLU()(layer.input)
    return tf.keras.Model(backbone.input, outputs)


def pool(maps):
    """Global average pooling: [batch, height, width, channels] -> [batch, channels] float32."""
    return tf.reduce_mean(tf.cast(maps, tf.float32), axis=[1, 2])
