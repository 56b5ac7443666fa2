"""Evaluation of captioners: scores of captions, attention against boxes, hallucination, calibration, gradients."""
