"""Networks for inference alone: weights standardized, scales and shifts folded, plain convolutions left."""
