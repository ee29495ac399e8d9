"""One file of workloads per family."""
