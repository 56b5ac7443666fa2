"""Captioning at scale: `wordlight bulk` on a Ray cluster."""
