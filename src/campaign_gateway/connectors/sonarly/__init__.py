"""Sonarly: REST call `POST /v1/accounts/{accountGroupId}/campaigns/{campaignId}/duplicate`."""
