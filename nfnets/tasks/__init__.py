"""What can be trained: each task from its settings to its batches, its network, its loss and its results."""
