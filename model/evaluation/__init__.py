"""How good the captions are: scores as coco-caption computes them, over a whole split."""
