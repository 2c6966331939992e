"""HubSpot: REST calls `POST /marketing/v3/emails/clone` and `POST .../campaigns/.../clone`."""
