"""The local stack itself, spoken to over loopback."""
