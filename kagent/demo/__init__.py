"""Crashes that come with the package, and the code that analyses them like any user would."""
