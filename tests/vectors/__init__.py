"""Frozen vectors of our own formats. A change to a file in here is a change that old data cannot survive."""
