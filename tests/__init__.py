"""Tests of the app and of the local stack."""
