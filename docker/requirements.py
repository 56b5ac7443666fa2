"""`python requirements.py EXTRA`: what the project and one of its extras depend on, a line for each.

For the Dockerfile: a layer with these is made again when they change, and not with every change of the code.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
sys.stdout.write("\n".join([*project["dependencies"], *project["optional-dependencies"][sys.argv[1]], ""]))
