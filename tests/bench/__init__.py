"""Benchmarks: ratios against a floor that is measured in the same run, CPU time per operation.

`make bench` runs all. Nothing here fails a build: machines are shared and noisy.
"""
