"""The gateway against emulators of all providers, without any account."""
