"""Turns untrusted image files into working images, in confined child processes."""
