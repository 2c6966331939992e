"""The way to a provider: an account, the transport of its requests, and the check of its access."""
