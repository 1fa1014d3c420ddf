"""The kernel sources, as package data: NVRTC compiles them for CUDA, the package build for the host."""
