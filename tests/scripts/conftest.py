"""Modules of `scripts/experiments`, which is no package."""

import importlib

import pytest
import training_runs


@pytest.fixture
def experiment(monkeypatch):
    """Imports one by its name."""
    monkeypatch.syspath_prepend(training_runs.ROOT / 'scripts' / 'experiments')
    return importlib.import_module
