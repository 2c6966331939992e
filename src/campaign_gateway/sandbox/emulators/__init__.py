"""Strict stand-ins for the providers' APIs, one file each."""
