"""Tests of everything that decides, and of the library that ATP services import: no I/O but the fakes'."""
