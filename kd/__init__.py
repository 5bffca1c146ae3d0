"""Knowledge distillation of image classifiers.

This package imports nothing: the commands must answer `--help` before torch is loaded.
"""
