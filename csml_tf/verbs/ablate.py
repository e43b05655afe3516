"""Trains recipes with several seeds and prints what each reaches for its cost.

csml-tf ablate --gin_file=ablation/moco_v2.gin --seeds=3 --output=runs/ablation
csml-tf ablate --table --output=runs/ablation
"""

from absl import flags

from csml_tf import choices
from csml_tf.ablation import sequence, table
from csml_tf.ablation.results import Results, Settings

_GIN_FILES = flags.DEFINE_multi_string("gin_file", [], "Recipe, found in gin_configs/ too.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Runs of each recipe, with the seeds from 0 on.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of runs and results.json.", required=True)
_GIN_BINDINGS = flags.DEFINE_multi_string("gin_bindings", [], "Override of all: 'EPOCHS = 10'.")
_PROTOCOLS = flags.DEFINE_multi_enum(
    "protocol", sequence.DEFAULT_PROTOCOLS, choices.PROTOCOLS, "How to measure each run."
)
_DATASET = flags.DEFINE_string(
    "dataset", None, "TFDS name, folder:DIR, digits or patches; default: each recipe's DATASET."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
_TABLE = flags.DEFINE_bool("table", False, "Only print the tables of what is there.")


def main(argv):
    del argv
    if _TABLE.value:
        found = Results(_OUTPUT.value)
    else:
        settings = Settings(tuple(_GIN_BINDINGS.value), _DATASET.value)
        recipes = tuple(_GIN_FILES.value)
        protocol_names = tuple(_PROTOCOLS.value)
        plan = sequence.Plan(recipes, _SEEDS.value, settings, protocol_names, _DATA_DIR.value)
        found = sequence.run(plan, _OUTPUT.value)
    print(table.make(found, _OUTPUT.value))
    return found.exit_code()
