# make train: sets up, trains a small NFNet on handwritten digits. make test: sets up, lint, types, tests.

PYTHON ?= python3
WORKDIR ?= runs/digits
# What a changed line in a network, in the optimizer or in the settings breaks first.
QUICK = tests/optim tests/data/test_mixing.py tests/data/test_augment.py tests/models/test_layers.py \
	tests/test_config.py tests/test_imports.py tests/test_losses.py

.PHONY: train test test-quick lint

train: .venv/installed
	.venv/bin/nfnets-train --config=digits --workdir=$(WORKDIR) $(ARGS)

test: lint
	.venv/bin/python -m pytest

test-quick: lint
	.venv/bin/python -m pytest $(QUICK)

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The stamp is written last: an installation that was interrupted starts again.
.venv/installed: requirements.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, and \
	$(PYTHON) is " + sys.version.split()[0] + "; give another: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch .venv/installed
