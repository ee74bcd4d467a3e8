"""What changes credentials in their targets: one file for each secret type."""
