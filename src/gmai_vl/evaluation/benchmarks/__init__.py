"""Benchmarks: readers of the official files, as downloaded."""
