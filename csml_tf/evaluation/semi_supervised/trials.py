"""Runs of a classifier from several starting points and seeds, with their scores side by side."""

import numpy as np
from absl import logging

from csml_tf import features

# Top-5 says nothing where there are no more classes than that.
_TOP_5 = 5


class Trials:
    """Trains one classifier again and again, and keeps the score of every run.

    Args:
        classifier: `fine_tuning.Classifier`.
        test_source: labelled `ImageSource`.
        center_view: `augment.center_view.CenterView` of the test images.

    Attributes:
        rows: one dict for each run, in order: "trained" (what, by name), "seed", "images",
            "epochs", "steps", "top1" and, with more than five classes, "top5".
    """

    def __init__(self, classifier, test_source, center_view):
        self.rows = []
        self._classifier = classifier
        self._test_source = test_source
        self._center_view = center_view

    def run(self, trained, seed, weights, source, labels, plan):
        """One run, which leaves the classifier trained.

        Args:
            trained: name of the kind of run, such as "from_scratch".
            seed: int, of everything drawn.
            weights: that the network starts from, as for `Classifier.start`.
            source: `ImageSource` to train on.
            labels: [len(source)] integers.
            plan: `fine_tuning.TrainingPlan`.
        """
        name = trained.replace("_", " ")
        self._classifier.start(weights, seed)
        steps = self._classifier.train(source, labels, plan, seed, f"{name}, seed {seed}")
        logits = features.extract_features(
            self._classifier.logits, self._test_source, self._center_view, description="test"
        )
        scores = {"top1": top_k_accuracy(logits, self._test_source.labels, 1)}
        if logits.shape[1] > _TOP_5:
            scores["top5"] = top_k_accuracy(logits, self._test_source.labels, _TOP_5)
        length = {"images": len(source), "epochs": plan.epochs, "steps": steps}
        self.rows.append({"trained": trained, "seed": seed, **length, **scores})
        figures = ", ".join(f"{key} {value:.2%}" for key, value in scores.items())
        logging.info("%s, seed %d: %s after %d steps", name, seed, figures, steps)

    def summary(self):
        """A row for each kind of run: "trained", "runs", and mean and spread of each score.

        The spread, "top1_std", is the standard deviation of a sample, so one run has none.
        """
        table = []
        for trained in dict.fromkeys(row["trained"] for row in self.rows):
            rows = [row for row in self.rows if row["trained"] == trained]
            summary = {"trained": trained, "runs": len(rows)}
            for score in ("top1", "top5"):
                if score in rows[0]:
                    values = [row[score] for row in rows]
                    summary[score] = float(np.mean(values))
                    if len(rows) > 1:
                        summary[f"{score}_std"] = float(np.std(values, ddof=1))
            table.append(summary)
        return table


def top_k_accuracy(logits, labels, k):
    """Share of the images whose class is among the k with the highest logits, in [0, 1].

    A tie counts against the image, so that a network that gives all classes the same
    logit knows nothing.

    Args:
        logits: [n, num_classes] float.
        labels: [n] integers from 0.
        k: at least 1.
    """
    own = np.take_along_axis(logits, np.asarray(labels)[:, None], axis=1)
    # Its own counts, too; so does what is no number.
    not_below = np.sum(~(logits < own), axis=1)
    return float(np.mean(not_below <= k))
