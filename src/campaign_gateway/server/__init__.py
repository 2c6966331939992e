"""Runs the app with uvicorn: listen, drain, stop."""
