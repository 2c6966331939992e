"""Klaviyo: REST call `POST /api/campaign-clone`."""
