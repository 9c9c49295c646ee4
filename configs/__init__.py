"""Configs of training runs: `default.py` has every setting, the others are deltas over it.

Installed as `nfnets.configs`; `--config=NAME` names one of these files, `--config=PATH` any other.
"""
