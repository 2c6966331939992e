"""Meta Ads: Marketing API call `POST /{version}/{campaign_id}/copies`."""
