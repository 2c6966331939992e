"""Altcraft: API methods `campaigns/clone` and `campaigns/triggers/clone`."""
