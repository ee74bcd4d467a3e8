"""Adapters: one per Azure SDK, and the wiring that puts them behind the ports."""
