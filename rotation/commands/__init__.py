"""The commands of `python -m rotation`, one module per subject. rotation/__main__.py puts them together."""
