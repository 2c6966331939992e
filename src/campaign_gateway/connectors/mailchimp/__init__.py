"""Mailchimp Marketing: REST call `POST /3.0/campaigns/{campaign_id}/actions/replicate`."""
