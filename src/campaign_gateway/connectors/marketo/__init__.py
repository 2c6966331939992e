"""Marketo: REST calls `POST /rest/asset/v1/smartCampaign/{id}/clone.json` and `program/...`."""
