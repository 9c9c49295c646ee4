# make train: sets up, trains a small NFNet on handwritten digits. make test: sets up, lint, types, tests.

PYTHON ?= python3
WORKDIR ?= runs/digits

.PHONY: train test

train: .venv/installed
	.venv/bin/python scripts/train.py --config=configs/digits.py --workdir=$(WORKDIR) $(ARGS)

test: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest

# The stamp is written last: an installation that was interrupted starts again.
.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, and \
	$(PYTHON) is " + sys.version.split()[0] + "; give another: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch .venv/installed
