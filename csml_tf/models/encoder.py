"""An encoder with one embedding per chosen stage of its backbone."""

import functools

import tensorflow as tf

from csml_tf import amounts
from csml_tf.models import heads, split_batch_norm
from csml_tf.models.backbones import contract, resnet


class MultiLevelEncoder(tf.keras.Model):
    """A backbone, global average pooling, and a projection head on each chosen stage.

    CsMl imposes its loss at several depths of the network; each depth is a level,
    named by its stage, with its own head (arXiv:2012.02733). One level, "stage4",
    is the encoder of MoCo.

    Args:
        make_backbone: function of no arguments that returns a model from images to
            {stage: [batch, h, w, channels]}, a backbone as `contract` describes it.
        head_dims: {stage: length of that level's embedding}.
        hidden_layers: as for `heads.ProjectionHead`, for every head of that kind.
        make_head: function of (stage, channels of its map) that returns a Keras layer from
            pooled features, [batch, channels], to [batch, its length in head_dims], such as
            `heads.make_batch_norm_head`; None makes a `heads.ProjectionHead`.
        **kwargs: as for `tf.keras.Model`.

    Raises:
        ValueError: if there are no named maps, `head_dims` is empty or names a stage that the
            backbone lacks, or a head makes vectors of another length.
    """

    def __init__(
        self,
        make_backbone=resnet.make_resnet,
        head_dims=None,
        hidden_layers=1,
        make_head=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        head_dims = {"stage4": 128} if head_dims is None else dict(head_dims)
        self.backbone = make_backbone()
        if not head_dims:
            raise ValueError(
                f"head_dims must name stages out of {sorted(self.backbone.output)}, got none."
            )
        contract.check_maps(self.backbone, sorted(head_dims))
        make_head = make_head or functools.partial(_make_head, head_dims, hidden_layers)
        self.heads = {
            stage: self._build_head(make_head, stage, dim)
            for stage, dim in sorted(head_dims.items())
        }
        self.head_dims = dict(sorted(head_dims.items()))
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
        return self.backbone.output[contract.last_stage(self.backbone)].shape[-1]

    @property
    def bn_groups(self):
        """Groups of the global batch that batch norm treats apart in training."""
        return max((layer.num_groups for layer in split_batch_norm.find_all(self)), default=1)

    @property
    def shares_statistics(self):
        """Whether replicas meet inside of a pass, to share the statistics of batch norm."""
        return bool(split_batch_norm.find_all(self)) and self.bn_groups == 1

    def divide_batch(self, replicas, accumulation_steps=1):
        """Prepares batch norm for a global batch that comes in parts.

        Args:
            replicas: that share the batch.
            accumulation_steps: parts that each replica takes one after the other.

        Raises:
            ValueError: if the groups do not fall on the parts as whole groups.
        """
        norms = split_batch_norm.find_all(self)
        parts = replicas * accumulation_steps
        together = self.bn_groups == 1 and accumulation_steps == 1
        if norms and self.bn_groups % parts and not together:
            raise ValueError(
                f"{self.bn_groups} batch norm groups do not fall on "
                f"{amounts.count(replicas, 'replica')} with "
                f"{amounts.count(accumulation_steps, 'accumulation step')} each: choose BN_GROUPS "
                f"as a multiple of {parts}" + (", or 1." if accumulation_steps == 1 else ".")
            )
        split_batch_norm.divide_batch(self, parts)

    def call(self, images, training=None):
        """[batch, height, width, 3] normalised images -> {level: [batch, dim]}.

        The embeddings have unit length where their heads make it so, which most do.
        """
        maps = self._make_maps(images, training=training)
        return {level: head(pool(maps[level])) for level, head in self.heads.items()}

    def _build_head(self, make_head, stage, dim):
        channels = self.backbone.output[stage].shape[-1]
        head = make_head(stage, channels)
        head.build(tf.TensorShape([None, channels]))
        length = head.compute_output_shape([None, channels])[-1]
        if length != dim:
            raise ValueError(
                f"The head of {stage} makes vectors of length {length}, and head_dims says {dim}: "
                "let them agree."
            )
        return head

    @tf.function(autograph=False, reduce_retracing=True)
    def embedding(self, images):
        """[batch, height, width, 3] -> [batch, dim] of the deepest level, inference mode.

        Unit vectors, whatever its head makes.
        """
        level = self.levels[-1]
        embeddings = self(images, training=False)[level]
        if heads.makes_unit_vectors(self.heads[level]):
            return embeddings
        return tf.math.l2_normalize(embeddings, axis=1)

    @tf.function(autograph=False, reduce_retracing=True)
    def pooled_features(self, images):
        """[batch, height, width, 3] -> [batch, feature_dim] of the last stage, inference mode."""
        return pool(self.backbone(images, training=False)[contract.last_stage(self.backbone)])


def _with_relus_for_heads(backbone, stages):
    """The same layers, but maps of these stages that are activations are made once more.

    A ResNet's next block has two branches. With a head on the same ReLU its gradient would be a
    sum of three, which TensorFlow adds in an order that differs from step to step, see
    `training.optim.TorchSGD`. Two ReLUs have a gradient each, of two summands and of one.
    """
    outputs = dict(backbone.output)
    for stage in stages:
        node = outputs[stage].node
        if isinstance(node.layer, (tf.keras.layers.ReLU, tf.keras.layers.Activation)):
            config = {**node.layer.get_config(), "name": f"{stage}_for_head"}
            outputs[stage] = type(node.layer).from_config(config)(node.keras_inputs[0])
    return tf.keras.Model(backbone.input, outputs)


def _make_head(head_dims, hidden_layers, stage, channels):
    del channels  # It finds out itself.
    return heads.ProjectionHead(head_dims[stage], hidden_layers, name=f"{stage}_head")


def pool(maps):
    """Global average pooling: [batch, height, width, channels] -> [batch, channels] float32."""
    return tf.reduce_mean(tf.cast(maps, tf.float32), axis=[1, 2])
