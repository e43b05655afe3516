# `make` alone lists the targets. Each makes the virtual environment first when it is missing.

VENV ?= .venv
# Empty: scripts/pick_python.sh chooses. It counts only when the environment is made.
PYTHON ?=
# "home": TensorFlow 2.15 where a Python for it is there. "latest": the newest TensorFlow.
STACK ?= home

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Empty: one process per core, as far as the memory goes. 1 shows the tests' output as it comes.
JOBS ?=
# Files and folders of tests; empty: all.
TESTS ?=

run := "$(VENV)/bin/python"
# The longest tests are many times as long as the others: whoever is idle takes from the busiest.
pytest = $(run) -m pytest --dist worksteal -n "$(or $(JOBS),$$($(run) scripts/count_workers.py))"
# Newer than these when the environment holds what they ask for.
stamp := $(VENV)/installed.stamp
# Of pip's many lines: the big downloads, the long unpacking at the end, and the errors.
pip_progress := awk ' \
	/[0-9][0-9]\.[0-9] MB\)$$/ { sub(/^ +/, "  "); print } \
	/^Installing collected/ { print "  unpacking " NF - 3 " packages" } \
	/^ *(ERROR|error)/ { print } \
	{ fflush() }'

.PHONY: help demo test test-all test-latest docs format lint clean

help:
	@echo "make demo         pretrain on real images that need no download and evaluate: a few minutes"
	@echo "make test         run the tests that are not marked slow, and the documented examples"
	@echo "make test-all     run every test"
	@echo "make test-latest  as make test, in .venv-latest: the newest TensorFlow, Python 3.12 or 3.13"
	@echo "make docs         build the documentation as a site that needs no network, in site/"
	@echo "make format       rewrite the code in the project's format"
	@echo "make lint         check the code's format and style"
	@echo "make clean        remove the environment, caches and build leftovers; runs/ stays"
	@echo
	@echo "Every target makes $(VENV) when it is missing (3 GB, a few minutes the first time)."
	@echo "make PYTHON=python3.10 VENV=.venv310 test   chooses the interpreter and the folder;"
	@echo "make JOBS=1 test                            one process, whose output comes at once."

# What `make demo` shows and then runs.
define open_encoder
import tensorflow as tf
encoder = tf.keras.models.load_model("runs/patches/saved_model", compile=False)
print("features:", encoder(tf.random.uniform([1, 64, 64, 3])).shape)
endef
export open_encoder

demo: $(stamp)
	$(run) tools/train.py --gin_file=patches.gin --model_dir=runs/patches
	$(run) tools/evaluate.py --protocol=knn --model=runs/patches --dataset=patches
	@echo; echo "Open the encoder from Python, without this package:"; echo; echo "$$open_encoder"; echo
	@TF_USE_LEGACY_KERAS=1 TF_CPP_MIN_LOG_LEVEL=3 $(run) -c "$$open_encoder"

test: $(stamp)
	$(pytest) -m "not slow" $(TESTS)

test-all: $(stamp)
	$(pytest)

test-latest:
	$(MAKE) VENV=.venv-latest STACK=latest test

docs: $(stamp)
	NO_MKDOCS_2_WARNING=1 $(run) -m mkdocs build --quiet
	@echo "The site is in site/. To read it, with its search: $(run) -m http.server --directory site"

format: $(stamp)
	$(run) -m ruff check --fix-only --quiet .
	$(run) -m ruff format .

lint: $(stamp)
	$(run) -m ruff check .
	$(run) -m ruff format --check .
	$(run) -m mypy

clean:
	rm -rf "$(VENV)" .venv-latest build dist site *.egg-info .pytest_cache .ruff_cache
	find csml_tf tools tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(stamp): setup.py constraints.txt
	@$(run) -m pip --version >/dev/null 2>&1 || { \
		python=$$(scripts/pick_python.sh $(if $(filter latest,$(STACK)),--latest) "$(PYTHON)") && \
		echo "Making $(VENV) with $$("$$python" --version), $$python" && \
		"$$python" -m venv "$(VENV)"; }
	@echo "Installing into $(VENV): the first time a few minutes and 3 GB of disk"
	@set -o pipefail; \
		$(run) -m pip install --progress-bar off --disable-pip-version-check \
			-c constraints.txt -e '.[dev]' 2>&1 \
		| tee "$(VENV)/install.log" | $(pip_progress) || \
		{ echo "pip failed; its whole output is in $(VENV)/install.log" >&2; exit 1; }
	@touch "$@"
	@echo "$(VENV) is ready"
