"""Several encoders on several data sets by several protocols: a card each, and one table."""

import collections

from csml_tf.data import catalog
from csml_tf.evaluation import protocol_card, protocols
from csml_tf.evaluation.frozen_encoder import FrozenEncoder


def measure(
    models,
    datasets,
    protocol_names,
    image_size=None,
    data_dir=None,
    download=False,
    json_path=None,
    show=print,
    **settings,
):
    """Measures every encoder on every data set by every protocol.

    One data set is open at a time, and each is opened once. With `json_path` a card is on disk
    as soon as it is there: where a later one fails, the earlier ones are kept.

    Args:
        models: folders of SavedModels.
        datasets: data set strings, as for `catalog.open_dataset`.
        protocol_names: of `protocols.NAMES`.
        image_size: as for `FrozenEncoder`.
        data_dir: as for `catalog.open_dataset`.
        download: as for `catalog.open_dataset`.
        json_path: file for the card as JSON, or for a list of them where several are
            measured; the same as text beside it. None writes no file.
        show: function that is given the summary of each card when it is there, and the table
            in the end if there are several cards.
        **settings: {name: value or None}, as for `protocols.measure`; each protocol is given
            those that it knows.

    Returns:
        {(model, dataset, protocol name): `ProtocolCard`}.

    Raises:
        InputError: before anything is measured, if a model cannot be read, the file cannot
            be written, or a setting means nothing to any of the protocols; in its turn, if
            a data set cannot be read or does not fit.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    protocols.check_settings(protocol_names, settings)
    if json_path:
        protocol_card.check_path(json_path)
    encoders = {str(model): FrozenEncoder(model, image_size) for model in models}
    num_cards = len(encoders) * len(set(datasets)) * len(set(protocol_names))
    cards = {}
    for dataset in dict.fromkeys(datasets):
        opened = catalog.open_dataset(dataset, data_dir, download)
        for model, encoder in encoders.items():
            for name in dict.fromkeys(protocol_names):
                known = protocols.known_settings(name)
                own = {key: value for key, value in settings.items() if key in known}
                card = protocols.measure(
                    name, encoder, opened.split("train"), opened.split("test"), **own
                )
                cards[model, dataset, name] = card
                show(card.summary())
                if json_path and num_cards == 1:
                    card.save(json_path)
                elif json_path:
                    protocol_card.save_all([*cards.values()], json_path)
    if len(cards) > 1:
        show(tabulate(cards))
    return cards


def tabulate(cards):
    """The figures side by side: a row for each encoder and protocol, a column for each data set.

    Args:
        cards: {(model, dataset, protocol name): `ProtocolCard`}, as of `measure`.

    Returns:
        Text of several lines. An encoder is called by its id, or by its folder if others
        have that id too.
    """
    folders = collections.defaultdict(set)
    for (model, _, _), card in cards.items():
        folders[card.encoder["id"]].add(model)
    rows = {}
    for (model, dataset, name), card in cards.items():
        encoder_id = card.encoder["id"]
        encoder = encoder_id if len(folders[encoder_id]) == 1 else model
        row = rows.setdefault((model, name), {"encoder": encoder, "protocol": name})
        row[dataset] = card.figure()
    return "\n".join(protocol_card.align([*rows.values()]))
