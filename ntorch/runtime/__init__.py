"""The machine room: kernels are built, stored, loaded and launched here; memory and threads live
here."""
