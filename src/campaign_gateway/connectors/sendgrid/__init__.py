"""SendGrid: REST call `POST /v3/marketing/singlesends/{id}`."""
