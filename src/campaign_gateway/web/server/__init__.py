"""Runs the app with uvicorn: listens, drains and stops."""
