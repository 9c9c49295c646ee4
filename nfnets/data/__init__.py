"""From files to augmented batches: sources, decoding, the order of examples, augmentation."""
