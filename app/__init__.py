"""The web process: takes an image, answers with a caption. FastAPI. Never imports torch."""
