"""A ResNet by its definition in PyTorch: NumPy, [batch, channels, height, width], state dicts."""

import numpy as np

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
EXPANSION = {18: 1, 50: 4}


def random_state(depth=18, width=2, stem="imagenet", seed=0):
    """A state dict as torchvision's, random in everything, moving statistics included."""
    rng = np.random.default_rng(seed)
    state = {}

    def conv(name, channels, inputs, size):
        shape = (channels, inputs, size, size)
        state[f"{name}.weight"] = rng.normal(0, (inputs * size**2) ** -0.5, shape)

    def norm(name, channels):
        state[f"{name}.weight"] = rng.uniform(0.5, 1.5, channels)
        state[f"{name}.bias"] = rng.normal(0, 0.2, channels)
        state[f"{name}.running_mean"] = rng.normal(0, 0.2, channels)
        state[f"{name}.running_var"] = rng.uniform(0.5, 1.5, channels)

    conv("conv1", width, 3, 7 if stem == "imagenet" else 3)
    norm("bn1", width)
    inputs = width
    for stage, blocks in enumerate(BLOCKS[depth]):
        inner = width * 2**stage
        outputs = inner * EXPANSION[depth]
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            if depth == 18:
                plan = [(inner, inputs, 3), (inner, inner, 3)]
            else:
                plan = [(inner, inputs, 1), (inner, inner, 3), (outputs, inner, 1)]
            for i, each in enumerate(plan, start=1):
                conv(f"{name}.conv{i}", *each)
                norm(f"{name}.bn{i}", each[0])
            if block == 0 and (stage > 0 or inputs != outputs):
                conv(f"{name}.downsample.0", outputs, inputs, 1)
                norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    state = {name: array.astype("float32") for name, array in state.items()}
    norms = [name[: -len("running_var")] for name in state if name.endswith("running_var")]
    return {**state, **{f"{name}num_batches_tracked": np.array(7 + seed) for name in norms}}


def random_head(feature_dim, output_dim=5, seed=0):
    """MoCo v2's, `0.weight` to `2.bias`."""
    rng = np.random.default_rng(seed)
    return {
        "0.weight": rng.normal(size=[feature_dim, feature_dim]).astype("float32"),
        "0.bias": rng.normal(size=[feature_dim]).astype("float32"),
        "2.weight": rng.normal(size=[output_dim, feature_dim]).astype("float32"),
        "2.bias": rng.normal(size=[output_dim]).astype("float32"),
    }


def forward(state, images):
    """Normalised images -> {"stage1": maps, .. "features": [batch, dim]}, in inference mode."""
    big = state["conv1.weight"].shape[-1] == 7
    maps = relu(norm(state, "bn1", conv(state, "conv1", images, 2 if big else 1)))
    if big:
        maps = windows(maps, 3, 2, -np.inf).max(axis=(4, 5))
    outputs = {}
    for stage in (1, 2, 3, 4):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            stride = 2 if stage > 1 and block == 0 else 1
            maps = residual_block(state, f"layer{stage}.{block}", maps, stride)
            block += 1
        outputs[f"stage{stage}"] = maps
    return {**outputs, "features": maps.mean(axis=(2, 3))}


def embed(head, features):
    hidden = relu(features @ head["0.weight"].T + head["0.bias"])
    embedding = hidden @ head["2.weight"].T + head["2.bias"]
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True)


def residual_block(state, name, maps, stride):
    bottleneck = f"{name}.conv3.weight" in state
    strides = (1, stride, 1) if bottleneck else (stride, 1)
    outputs = maps
    for i, each in enumerate(strides, start=1):
        outputs = norm(state, f"{name}.bn{i}", conv(state, f"{name}.conv{i}", outputs, each))
        outputs = relu(outputs) if i < len(strides) else outputs
    if f"{name}.downsample.0.weight" in state:
        maps = norm(
            state, f"{name}.downsample.1", conv(state, f"{name}.downsample.0", maps, stride)
        )
    return relu(outputs + maps)


def windows(maps, size, stride, value):
    """-> [batch, channels, rows, columns, size, size]."""
    pad = [(0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2]
    maps = np.pad(maps, pad, constant_values=value)
    every = np.lib.stride_tricks.sliding_window_view(maps, (size, size), axis=(2, 3))
    return every[:, :, ::stride, ::stride]


def conv(state, name, maps, stride):
    kernel = state[f"{name}.weight"].astype("float64")
    return np.einsum("nchwij,dcij->ndhw", windows(maps, kernel.shape[-1], stride, 0.0), kernel)


def norm(state, name, maps):
    scale, shift, mean, variance = (
        state[f"{name}.{part}"].astype("float64")[:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (maps - mean) / np.sqrt(variance + 1e-5) * scale + shift


def relu(maps):
    return np.maximum(maps, 0.0)
