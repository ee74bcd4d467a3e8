"""The local stack: Azurite, a Key Vault emulator, a functions host, and the demo on top of them."""
