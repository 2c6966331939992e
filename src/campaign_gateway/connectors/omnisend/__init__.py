"""Omnisend: REST call `POST /api/campaigns/{id}/copy`."""
