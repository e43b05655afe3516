"""Everything a training run does, in the order of `pretrain.run`."""
