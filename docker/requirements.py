"""`python requirements.py EXTRA`: print the dependencies of the project and one extra, one a line.

The Dockerfile installs them in a layer of their own, which is rebuilt when they change and not when the code does.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
sys.stdout.write("\n".join([*project["dependencies"], *project["optional-dependencies"][sys.argv[1]], ""]))
