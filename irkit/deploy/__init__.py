"""From a compiled model to a program on the device: C projects and cross compilers. Knows nothing of graphs."""
