"""The tables of an ablation: what each recipe reaches for equal epochs and for equal compute."""

import shlex
import statistics

_NOT_MEASURED = "not measured"
_MOCO_UNITS = 4  # For each anchor.


def make(results, output):
    """Two tables in Markdown, and how to read them.

    Args:
        results: `ablation.results.Results`.
        output: folder of the ablation, for the commands.

    Returns:
        Text of several lines.
    """
    recipes = {}
    for (recipe, _), entry in sorted(results.entries.items(), key=lambda item: item[0][1]):
        if entry["curve"] and "failed" not in entry:
            recipes.setdefault(recipe, []).append(entry)
    if not recipes:
        return f"No run in {output} has been trained yet."
    rows = [_Row(recipe, entries) for recipe, entries in recipes.items()]
    by_units, by_seconds = (
        min(rows, key=lambda row: row.end(cost)) for cost in ("forward_units", "seconds")
    )
    protocols = dict.fromkeys(name for row in rows for e in row.entries for name in e["protocols"])

    def whole_run(row):
        units_in_all = row.end("forward_units") / by_units.end("forward_units")
        return [
            *(row.name, len(row.entries), row.epochs),
            *(f"{row.step_units:g} (×{row.step_units / _MOCO_UNITS:.3g})", f"×{units_in_all:.3g}"),
            *(row.accuracy(name) for name in protocols),
            *(_spread(row.epoch_seconds, "{:.1f}"), _spread(row.rates, "{:.0f}")),
            f"`{_command(row.recipe, len(row.entries), results.settings, output)}`",
        ]

    def equal_compute(row):
        at_units = row.read_off("forward_units", by_units.end("forward_units"))
        at_seconds = row.read_off("seconds", by_seconds.end("seconds"))
        return [row.name, row.at_end(), at_units, at_seconds]

    head = ["recipe", "seeds", "epochs", "units of a step", "units in all", *protocols]
    head += ["seconds of an epoch", "images/s", "command"]
    parts = [
        "Equal epochs. Units are forward passes of one view for each anchor, a query's, with its "
        "gradient, counted as 3; × tells how many times MoCo's step, or the cheapest run, costs. "
        "Seconds leave the measuring of kNN out.",
        _markdown(head, map(whole_run, rows)),
        "Equal compute: kNN during training, after the epoch whose cost by then is nearest to "
        f"that of the whole of {by_units.name} in units, of {by_seconds.name} in seconds. A run "
        "read off before its end has not had its low learning rates yet, which costs it some of "
        "its accuracy.",
        _markdown(
            ["recipe", "kNN at its end", "kNN at equal units", "kNN at equal seconds"],
            map(equal_compute, rows),
        ),
    ]
    parts += [
        f"{entry['model_dir']} has failed: {entry['failed']}"
        for entry in results.entries.values()
        if "failed" in entry
    ]
    return "\n\n".join(parts)


class _Row:
    """One recipe over its seeds."""

    def __init__(self, recipe, entries):
        self.recipe = recipe
        self.name = recipe[: -len(".gin")] if recipe.endswith(".gin") else recipe
        self.entries = entries
        self.epochs = entries[0]["curve"][-1]["epoch"]

    @property
    def step_units(self):
        """Forward units for each anchor, mean over the epochs, mining left out."""
        last = self.entries[0]["curve"][-1]
        return last["step_units"] / last["anchors"]

    @property
    def epoch_seconds(self):
        """Seconds of an epoch, mean of each run."""
        return [entry["curve"][-1]["seconds"] / self.epochs for entry in self.entries]

    @property
    def rates(self):
        """Images per second of each run: the median of its epochs."""
        rates = [
            [p["images_per_sec"] for p in e["curve"] if p["images_per_sec"]] for e in self.entries
        ]
        return [statistics.median(each) for each in rates if each]

    def end(self, cost):
        """What a run costs, mean over the seeds."""
        return statistics.mean(entry["curve"][-1][cost] for entry in self.entries)

    def accuracy(self, protocol):
        cards = [e["protocols"][protocol] for e in self.entries if protocol in e["protocols"]]
        return _spread([_top1(card["result"]) for card in cards], "{:.2%}")

    def at_end(self):
        return _spread([e["curve"][-1]["knn_top1"] for e in self.entries], "{:.2%}")

    def read_off(self, cost, budget):
        """The kNN accuracy at the epoch that ends nearest to a budget, and which one it is."""
        points = [
            min(
                (p for p in entry["curve"] if p["knn_top1"] is not None),
                key=lambda p: abs(p[cost] - budget),
                default=None,
            )
            for entry in self.entries
        ]
        points = [point for point in points if point is not None]
        if not points:
            return _NOT_MEASURED
        epochs = sorted({point["epoch"] for point in points})
        shares = statistics.mean(point[cost] / budget for point in points)
        where = f"epoch {epochs[0]}" if len(epochs) == 1 else f"epochs {epochs[0]} to {epochs[-1]}"
        accuracy = _spread([point["knn_top1"] for point in points], "{:.2%}")
        return f"{accuracy} ({where}, {shares:.0%} of the compute)"


def _top1(result):
    """The one accuracy of a protocol's result."""
    names = [name for name in ("top1", "test_top1") if name in result]
    names += [name for name in result if "top1" in name]
    return result[names[0]] if names else None


def _spread(values, form):
    """Mean and sample standard deviation."""
    values = [value for value in values if value is not None]
    if not values:
        return _NOT_MEASURED
    mean = form.format(statistics.mean(values))
    return mean if len(values) == 1 else f"{mean} ± {form.format(statistics.stdev(values))}"


def _command(recipe, num_seeds, settings, output):
    words = [f"--gin_file={recipe}", f"--seeds={num_seeds}", f"--output={output}"]
    words += [f"--gin_bindings={binding}" for binding in settings.gin_bindings]
    words += [] if settings.dataset is None else [f"--dataset={settings.dataset}"]
    return f"csml-tf ablate {shlex.join(words)}"


def _markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
