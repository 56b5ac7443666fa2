"""Draws heatmaps as PNG files."""
