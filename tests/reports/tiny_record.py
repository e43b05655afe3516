"""A run directory written by hand: what a report reads, without any training."""

import json

from csml_tf.training.run_directory import RunDirectory

CONFIG = """# Code: csml_tf 0.1.0, commit 0123456789abcdef0123456789abcdef01234567
# Recipe: tiny.gin with EPOCHS = 3
# Data set: digits
DATASET = 'digits'
# Macros:
EPOCHS = 3
pretrain.epochs = %EPOCHS
pretrain.global_batch_size = 16
pretrain.make_model = @CsMl
pretrain.seed = 0
CrossSamples.neighbor_warmup_epochs = 2
DATA_FINGERPRINT = '{fingerprint}'
"""
PROTOCOL = "k=20, temperature=0.1, layer=features"


def make_rows(epochs, neighbors=True, knn=True):
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "step": 10 * epoch, "learning_rate": 0.1, "loss": 5.0 - epoch}
        row.update({"loss_stage4_image": 5.0 - epoch, "images_per_sec": 100.0 * epoch})
        row.update({"input_wait_fraction": 0.25, "seconds": 40.0})
        row.update({"effective_rank": 20.0, "stranger_cosine": 0.5, "queue_entropy_share": 0.9})
        if neighbors and epoch % 2:
            row.update({"neighbor_purity": 0.5, "mining_seconds": 1.0})
        if knn and epoch < 3:
            row.update({"knn_top1": 0.25 * epoch, "knn_protocol": PROTOCOL, "knn_seconds": 1.0})
        rows.append(row)
    return rows


def write(path, rows, fingerprint="0123abcd", config=CONFIG):
    """Makes the directory and returns its `RunDirectory`."""
    directory = RunDirectory(path)
    directory.config.write_text(config.format(fingerprint=fingerprint))
    directory.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory
