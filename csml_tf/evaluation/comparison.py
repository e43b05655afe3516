"""Several encoders on several data sets by several protocols: a card each, and one table."""

import collections
import contextlib

import tensorflow as tf

from csml_tf import errors
from csml_tf.data import catalog
from csml_tf.errors import InputError
from csml_tf.evaluation import baselines, protocol_card, protocols
from csml_tf.evaluation.frozen_encoder import FrozenEncoder

# What a single measurement may fail of. All else is a fault of ours and ends the command.
_FAILURES = (InputError, OSError, MemoryError, tf.errors.OpError)
_GAP = "failed"


def measure(
    models,
    datasets,
    protocol_names,
    image_size=None,
    data_dir=None,
    download=False,
    json_path=None,
    show=print,
    find_model=str,
    scope=contextlib.nullcontext,
    **settings,
):
    """Measures every encoder on every data set by every protocol.

    One data set is open at a time, and each is opened once. With `json_path` a card is on disk
    as soon as it is there. Of several measurements one that fails is a line, and the others go
    on; so it is with a model or a data set that cannot be read.

    Args:
        models: folders of SavedModels, or what `find_model` takes.
        datasets: data set strings, as for `catalog.open_dataset`.
        protocol_names: of `protocols.NAMES`.
        image_size: as for `FrozenEncoder`.
        data_dir: as for `catalog.open_dataset`.
        download: as for `catalog.open_dataset`.
        json_path: file for the card as JSON, or for a list of them where several are
            measured; the same as text beside it. None writes no file.
        show: function that is given the summary of each card when it is there, and the table
            in the end if there are several measurements.
        find_model: function of one of `models` to the folder of a SavedModel.
        scope: function of no arguments to the context in which encoders are opened and measured:
            that of a strategy.
        **settings: {name: value or None}, as for `protocols.measure`; each protocol is given
            those that it knows.

    Returns:
        {(model, dataset, protocol name): `ProtocolCard`}.

    Raises:
        InputError: before anything is measured, if the file cannot be written or a setting
            means nothing to any of the protocols; in the end, if one of several measurements
            has failed; what a single measurement fails of is raised as it is.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    protocols.check_settings(protocol_names, settings)
    if json_path:
        protocol_card.check_path(json_path)
    models, datasets, names = (
        list(dict.fromkeys(each)) for each in ([*map(str, models)], datasets, protocol_names)
    )
    wanted = [(model, data, name) for data in datasets for model in models for name in names]
    cards, reasons = {}, []

    def attempt(what, function, *arguments, **options):
        """What the function returns; None, and a line, if it fails."""
        try:
            return function(*arguments, **options)
        except _FAILURES as error:
            if len(wanted) == 1:
                raise
            reasons.append(_explain(error))
            show(f"{what} has failed: {reasons[-1]}")
            return None

    folders = {model: attempt(model, find_model, model) for model in models}
    with scope():
        encoders = {
            model: attempt(model, FrozenEncoder, folder, image_size)
            for model, folder in folders.items()
            if folder is not None
        }
        for dataset in datasets:
            sources = attempt(dataset, _open_pair, dataset, data_dir, download)
            if sources is None:
                continue
            measured = baselines.Baselines(*sources)
            for model, _, name in (key for key in wanted if key[1] == dataset):
                encoder = encoders.get(model)
                if encoder is None:
                    continue
                what, own = f"{name} of {model} on {dataset}", _known(name, settings)
                arguments = (name, encoder, *sources)
                card = attempt(what, protocols.measure, *arguments, measured=measured, **own)
                if card is None:
                    continue
                cards[model, dataset, name] = card
                show(card.summary())
                if json_path and len(wanted) == 1:
                    card.save(json_path)
                elif json_path:
                    protocol_card.save_all([*cards.values()], json_path)
    if cards and len(wanted) > 1:
        show(tabulate(cards, wanted))
    if len(cards) < len(wanted):
        raise InputError(
            f"{len(wanted) - len(cards)} of {len(wanted)} measurements have failed, the first for "
            f"this reason: {reasons[0]}"
        )
    return cards


def _open_pair(dataset, data_dir, download):
    opened = catalog.open_dataset(dataset, data_dir, download)
    return opened.split("train"), opened.split("test")


def _known(name, settings):
    known = protocols.known_settings(name)
    return {key: value for key, value in settings.items() if key in known}


def _explain(error):
    return str(error) if isinstance(error, InputError) else errors.first_line(error)


def tabulate(cards, wanted=None):
    """The figures side by side: a row for each encoder and protocol, a column for each data set.

    What has been measured of the baselines follows, a row for each and protocol; several, if
    encoders have different ones.

    Args:
        cards: {(model, dataset, protocol name): `ProtocolCard`}, as of `measure`.
        wanted: keys of all that should be there, in order; None for those that are.

    Returns:
        Text of several lines. An encoder is called by its id, or by its folder if others
        have that id too.
    """
    folders = collections.defaultdict(set)
    for (model, _, _), card in cards.items():
        folders[card.encoder["id"]].add(model)
    keys = list(cards) if wanted is None else wanted
    labels = {model: model for model, _, _ in keys}
    for (model, _, _), card in cards.items():
        encoder_id = card.encoder["id"]
        labels[model] = encoder_id if len(folders[encoder_id]) == 1 else model
    models, datasets, names = (list(dict.fromkeys(part)) for part in zip(*keys))
    pairs = [(m, n) for m in models for n in names if any((m, d, n) in keys for d in datasets)]
    rows = []
    for model, name in pairs:
        row = {"encoder": labels[model], "protocol": name}
        for dataset in datasets:
            card = cards.get((model, dataset, name))
            row[dataset] = _GAP if card is None else card.figure()
        rows.append(row)
    for baseline, words in baselines.NAMES.items():
        for name in names:
            found = _group(
                (labels[model], [_cell(cards.get((model, d, name)), baseline) for d in datasets])
                for model in models
            )
            for encoders, cells in found:
                of_these = f" ({', '.join(encoders)})" if len(found) > 1 else ""
                row = {"encoder": f"{words}{of_these}", "protocol": name}
                rows.append({**row, **dict(zip(datasets, cells))})
    return "\n".join(protocol_card.align(rows))


def _group(labelled_cells):
    """[(labels, cells)] of those that agree wherever both have something, cells merged."""
    groups = []
    for label, cells in labelled_cells:
        if not any(cells):
            continue
        for labels, others in groups:
            if all(one == other or not one or not other for one, other in zip(cells, others)):
                labels.append(label)
                others[:] = [one or other for one, other in zip(cells, others)]
                break
        else:
            groups.append(([label], cells))
    return groups


def _cell(card, baseline):
    """The figure of a baseline on a card: "35.39%"; "" where there is none."""
    found = {} if card is None else card.result
    figures = [name for name in found if name.startswith(baseline)]
    return f"{found[figures[0]]:.2%}" if figures else ""
