"""Training of captioners: data, recipes, objectives, the loop. Nothing that serves captions imports it."""
