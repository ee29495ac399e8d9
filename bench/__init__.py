"""Measurements of ntorch, beside PyTorch where it is installed. ``python -m bench --help``."""
