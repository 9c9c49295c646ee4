"""TensorFlow without Keras."""

import importlib
import os

import forge
import pytest

from nfnets.data import tensorflow

PROGRAM = """
import sys
assert 'tensorflow' in sys.modules
assert 'keras' not in sys.modules
"""


def test_commands_import_tensorflow_without_keras():
    run = forge.start_program(PROGRAM)  # In a copy of a process that has imported what commands do.
    output, _ = run.communicate()
    assert run.returncode == 0, output


@pytest.mark.parametrize('given', [None, '0'])
def test_the_environment_is_left_as_it_was(given, monkeypatch):
    if given is None:
        monkeypatch.delenv('TF_USE_LEGACY_KERAS', raising=False)
    else:
        monkeypatch.setenv('TF_USE_LEGACY_KERAS', given)
    importlib.reload(tensorflow)
    assert os.environ.get('TF_USE_LEGACY_KERAS') == given
