"""The only room that sends requests to providers."""
