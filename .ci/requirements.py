"""Print requirements.txt: what the library, the book and its tests need, as pyproject.toml lists it."""

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
    return header + "".join(
        f"\n# {name}\n" + "\n".join(lines) + "\n" for name, lines in lists.items()
    )


if __name__ == "__main__":
    print(requirements(Path(__file__).parents[1] / "pyproject.toml"), end="")
