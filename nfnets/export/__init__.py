"""Networks for other runtimes: StableHLO, TensorFlow's SavedModel, ONNX."""
