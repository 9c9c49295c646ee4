"""One HTML page about runs: curves, pictures, mistakes and settings; `write.py` puts it together."""
