"""Reads a request body into files and fields of bounded size."""
