"""One translation for each provider, and what they share."""
