"""Reasoning: questions with one right answer, traces of thought that were checked, and reinforcement learning on both.

GMAI-VL-R1 (arXiv 2504.01886) in the open: rejection sampling, the supervised baseline, GRPO, and their comparison.
"""
