"""The web process: accepts images over HTTP and answers with captions. FastAPI; never imports torch."""
