"""One HTML page about runs: curves, images, mistakes and settings; `write.py` puts it together."""
