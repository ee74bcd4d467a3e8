"""Values, errors, ports and configuration that everything else stands on."""
