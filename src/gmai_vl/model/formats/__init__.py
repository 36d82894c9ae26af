"""Formats of others: what comes in from them, what goes out to them, what weights are called in files."""
