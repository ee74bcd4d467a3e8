"""What this app exists for: deciding and doing key rotation."""
