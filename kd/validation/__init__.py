"""Checks of a config before a run, subject by subject: each mistake is one line of a message."""
