"""One file for each provider: its input, its account, its connector."""
