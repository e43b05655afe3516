"""The runs of an ablation one after the other, each in a process of its own."""

import dataclasses
import json
import pathlib
from typing import Optional

from absl import logging

from csml_tf import places, setting_rules, whole_files
from csml_tf.ablation import child_process, results
from csml_tf.errors import InputError
from csml_tf.training.run_directory import RunDirectory

DEFAULT_PROTOCOLS = ("knn", "linear_cached")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        recipes: tuple of names, as for `recipes.parse`; no two of one file name.
        num_seeds: of each recipe, from 0 on.
        settings: `results.Settings`.
        protocols: tuple of names out of `choices.PROTOCOLS`.
        data_dir: where TFDS finds its data sets; None for its own default.
    """

    recipes: tuple
    num_seeds: int
    settings: results.Settings
    protocols: tuple = DEFAULT_PROTOCOLS
    data_dir: Optional[str] = None

    def check(self):
        """Raises `InputError` if it cannot be run."""
        names = [pathlib.Path(recipe).stem for recipe in self.recipes]
        if len(set(names)) < len(names) or not names:
            raise InputError(
                f"Give --gin_file once for each recipe, all with names of their own, got {names}."
            )
        setting_rules.check({"seeds": self.num_seeds})
        for binding in self.settings.gin_bindings:
            if binding.split("=")[0].strip() == "SEED":
                raise InputError("The seeds are --seeds, not a binding: leave SEED out.")


def run(plan, output):
    """Trains and measures all runs of a plan that `results.json` does not have yet.

    All recipes of seed 0 come first, then those of seed 1, and so on. A run that was killed
    goes on where its newest checkpoint is. One that fails does not end the list, and is
    tried again the next time.

    Args:
        plan: `Plan`.
        output: folder of the ablation; each run has its own in it, `<recipe>/seed<n>`.

    Returns:
        `results.Results`.

    Raises:
        InputError: if the folder is in use or of other settings, or the plan cannot be run.
        Stopped: if SIGTERM or SIGINT has come; the run under way is saved.
    """
    plan.check()
    places.check_local(output, "--output")
    output = pathlib.Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{output} cannot be made ({error.strerror}): choose another --output."
        ) from error
    # A child holds the lock as well: if this process is killed, the child still trains.
    with whole_files.hold(output, "--output") as lock:
        found = results.Results(output, plan.settings)
        runs = [(recipe, seed) for seed in range(plan.num_seeds) for recipe in plan.recipes]
        for number, (recipe, seed) in enumerate(runs, start=1):
            title = f"run {number} of {len(runs)}: {recipe}, seed {seed}"
            if not found.lacks(recipe, seed, plan.protocols):
                logging.info("%s: done", title)
                continue
            logging.info("%s", title)
            entry = _run_one(plan, output, recipe, seed, found, lock)
            found.put(entry)
            if "failed" in entry:
                logging.warning("%s has failed: %s", title, entry["failed"])
    return found


def _run_one(plan, output, recipe, seed, found, lock):
    """Trains, or goes on, and measures: the entry of the run."""
    name = f"{pathlib.Path(recipe).stem}/seed{seed}"
    model_dir = output / name
    entry = {"recipe": recipe, "seed": seed, "model_dir": name, "curve": [], "protocols": {}}
    entry.update(found.entries.get((recipe, seed), {}))
    entry.pop("failed", None)
    train = [f"--gin_file={recipe}", f"--model_dir={model_dir}"]
    train += [f"--gin_bindings={line}" for line in (*plan.settings.gin_bindings, f"SEED = {seed}")]
    train += [] if plan.settings.dataset is None else [f"--dataset={plan.settings.dataset}"]
    data = [] if plan.data_dir is None else [f"--data_dir={plan.data_dir}"]

    code, last_line = child_process.run("train", [*train, *data], lock)
    if code:
        return {**entry, "failed": _fault("train", code, last_line)}
    entry["curve"] = results.read_curve(model_dir)
    dataset = plan.settings.dataset or RunDirectory(model_dir).dataset()
    for protocol in found.lacks(recipe, seed, plan.protocols):
        card = model_dir / f"{protocol}.json"
        options = [f"--protocol={protocol}", f"--model={model_dir}", f"--dataset={dataset}"]
        code, last_line = child_process.run("evaluate", [*options, f"--json={card}", *data], lock)
        if code:
            return {**entry, "failed": _fault("evaluate", code, last_line)}
        entry["protocols"] = {**entry["protocols"], protocol: json.loads(card.read_text())}
    return entry


def _fault(verb, code, last_line):
    return f"{verb} has ended with {code}: {last_line}"
