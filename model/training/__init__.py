"""How a captioner is trained: recipes, data, loss, checkpoints and the loop. Nothing that serves needs it."""
