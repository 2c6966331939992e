"""Braze: REST call `POST /campaigns/duplicate`."""
