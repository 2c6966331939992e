"""The commands that have more than a screen of code; the parser is in `cli`."""
