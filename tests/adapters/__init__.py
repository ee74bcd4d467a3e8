"""One contract for every port, on the simulator and on the Azure adapters; and what only real services can do."""
