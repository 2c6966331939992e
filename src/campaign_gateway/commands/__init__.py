"""The commands that have more than a screen of code."""
