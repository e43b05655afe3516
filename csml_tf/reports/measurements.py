"""The protocol cards that csml-tf evaluate has left in a run directory, as a table."""

import dataclasses
import html
import json
import pathlib
from shlex import quote

from csml_tf import places
from csml_tf.evaluation.protocol_card import ProtocolCard
from csml_tf.reports.part import LeftOut

FOLDER = "evaluations"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One card, and where it lies.

    Attributes:
        path: `pathlib.Path`.
        card: `ProtocolCard`.
    """

    path: pathlib.Path
    card: ProtocolCard


def read(run_path):
    """Reads all cards, `evaluations/*.json` of a run; a file may hold a list of them.

    Returns:
        (list of `Measurement` in the order of their names, list of sentences about files that
        are no cards).
    """
    found, faults = [], []
    for path in sorted(places.at(run_path, FOLDER).glob("*.json")):
        if path.name.endswith(".labels.json"):  # Which images a card's labels were of.
            continue
        try:
            content = json.loads(path.read_text())
            several = content if isinstance(content, list) and content else [content]
            cards = [ProtocolCard(**card) for card in several]
            for card in cards:
                card.headline()
                card.encoder["sha256"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            faults.append(f"{path.name} is no protocol card of csml-tf evaluate: it is left out.")
            continue
        found += [Measurement(path, card) for card in cards]
    return found, faults


def to_html(found, faults, run_path, dataset, weights):
    """A table of headline results, each with its protocol and its whole card.

    Args:
        found: list of `Measurement`.
        faults: list of sentences.
        run_path: of the run, for the command that would add a card.
        dataset: data set string, for the same.
        weights: SHA-256 of the run's encoder as it is now; None where unknown.

    Raises:
        LeftOut: if there is no card.
    """
    folder = places.at(run_path, FOLDER)
    if not found:
        reason = " ".join([*faults, f"There is no protocol card in {folder}; this writes one:"])
        raise LeftOut(
            reason,
            f"mkdir -p {quote(str(folder))} && csml-tf evaluate --protocol=knn "
            f"--model={quote(str(run_path))} --dataset={quote(str(dataset))} "
            f"--json={quote(str(folder / 'knn.json'))}",
        )
    rows = []
    for measured in found:
        card = measured.card
        result, _, protocol = card.headline().partition(" (")
        is_old = weights is not None and card.encoder["sha256"] != weights
        note = "<br><em>of other weights than the run's encoder has now</em>" if is_old else ""
        rows.append(
            f"<tr><td><strong>{html.escape(' '.join([result.strip(), *_best(card.result)]))}"
            f"</strong>{note}</td>"
            f"<td>{html.escape(protocol.removesuffix(')'))}<details><summary>"
            f"{html.escape(measured.path.name)}</summary><pre>{html.escape(card.text())}</pre>"
            "</details></td></tr>"
        )
    notes = "".join(f'<p class="left-out">{html.escape(fault)}</p>' for fault in faults)
    head = "<tr><th>result</th><th>protocol</th></tr>"
    return (
        f'<table class="cards"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>{notes}'
    )


def _best(result):
    """In words, the best row of each table of a result that has a column "top1"."""
    for name, rows in result.items():
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and "top1" in rows[0]:
            best = max(rows, key=lambda row: row["top1"])
            where = ", ".join(f"{key} {value}" for key, value in best.items() if key != "top1")
            yield f"top1 {best['top1']:.2%} at {where}, the best of {len(rows)} in its {name}"
