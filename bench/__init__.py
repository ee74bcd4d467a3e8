"""Benchmarks: each prints a ratio against a floor measured in the same run.

An absolute number says more about the machine than about the program. So each benchmark also measures a floor - the
least that anybody would have to do for the same result - in turns with the program itself, and compares the two.
"""
