"""Prints the requirements of ptqx and of the extras named, without torch and torchvision.

    python scripts/requirements.py study dev

Those two are installed on their own: which of their builds is right depends on the machine.
"""

import re
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
requirements = list(project["dependencies"])
for extra in sys.argv[1:]:
    requirements += project["optional-dependencies"][extra]
for requirement in dict.fromkeys(requirements):
    if re.split(r"[^A-Za-z0-9_-]", requirement)[0] not in {"torch", "torchvision"}:
        print(requirement)
