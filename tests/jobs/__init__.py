"""The jobs under faults: crash matrix, interleavings, contracts."""
