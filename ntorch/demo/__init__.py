"""The demo: a reader of handwritten digit lines, trained from nothing on the CPU."""
