"""Kernel log text → typed reports. Pure functions: no files, processes or network."""
