"""One file of cases for each thing that a connector does, run by `connector_suite`."""
