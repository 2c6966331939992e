"""Sends requests to providers. No other package does."""
