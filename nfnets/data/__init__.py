"""From files to augmented batches: sources, decoding, the order of examples, augmentation."""

import os

# TensorFlow only decodes images here; it need not talk of what it could do besides.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
