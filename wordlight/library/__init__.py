"""Folders of photographs and their captions: which files to caption, and where the captions are written."""
