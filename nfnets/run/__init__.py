"""What a training run leaves in its working directory, and what it needs of its processes and signals."""
