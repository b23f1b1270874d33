"""Print requirements.txt: what the library, the book and its tests need, from pyproject.toml."""

import tomllib
from pathlib import Path


def requirements(pyproject: Path) -> str:
    """The text of requirements.txt for this pyproject.toml."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    lists = {
        "deformlib": project["dependencies"],
        "the book": extras["book"],
        "its tests": extras["test"],
    }
    header = "# Written by `make requirements` from pyproject.toml, which is the one to edit.\n"
    blocks = ["\n".join([f"# {name}", *lines]) for name, lines in lists.items()]
    return header + "\n" + "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    print(requirements(Path(__file__).parents[1] / "pyproject.toml"), end="")
