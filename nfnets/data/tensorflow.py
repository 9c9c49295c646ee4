"""TensorFlow, imported without Keras.

By itself it imports Keras, which imports Matplotlib and scikit-learn: a third of the CPU time that a command
takes to start. TensorFlow does without Keras where it is asked for Keras 2 and that is not installed;
`tf.keras` still is what it is otherwise, from its first use on.
"""

import os

_KERAS_2 = 'TF_USE_LEGACY_KERAS'
_given = os.environ.get(_KERAS_2)
os.environ[_KERAS_2] = '1'
try:
    import tensorflow as tf
finally:
    del os.environ[_KERAS_2]
    if _given is not None:
        os.environ[_KERAS_2] = _given

__all__ = ['tf']
