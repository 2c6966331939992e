"""Checks each account with harmless reads: the network, the secret, the permissions."""
