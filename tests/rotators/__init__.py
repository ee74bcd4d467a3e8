"""Every rotator under the same contract, on real servers where there are some."""
