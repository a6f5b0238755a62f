"""Where things stand says who uses them: layers know no recipe, and a recipe no other's parts."""

import ast
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
RECIPES = REPOSITORY / "recipes"


@cache
def imported(path):
    """The modules of this repository that a file imports itself, as paths."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
    paths = [(REPOSITORY / name.replace(".", "/")).with_suffix(".py") for name in names]
    return {path for path in paths if path.is_file()}


@cache
def reached(path):
    """All that it imports, and what these import, but no other recipe."""
    found, new = set(), {path}
    while new:
        found |= new
        new = {x for x in set().union(*map(imported, new)) - found if x.parent != RECIPES}
    return found - {path}


def test_layers_and_serving_stand_without_recipes():
    files = [*(REPOSITORY / "layers").rglob("*.py"), *(REPOSITORY / "serving").glob("*.py")]
    assert len(files) > 40
    assert not [path for path in files for other in imported(path) if RECIPES in other.parents]


def test_parts_are_one_recipe_s_and_common_files_are_shared():
    scripts = sorted(RECIPES.glob("*.py"))
    for folder in (RECIPES / "parts").iterdir():
        own = {*folder.glob("*.py")}
        assert folder.name in [script.stem for script in scripts]
        for path in {*scripts, *RECIPES.rglob("*/*.py")} - own:
            if path.stem != folder.name:
                assert not imported(path) & own, f"{path} uses what is {folder.name}'s"
        unused = own - reached(RECIPES / f"{folder.name}.py")
        assert not unused
    for path in (RECIPES / "common").glob("*.py"):
        users = [script.stem for script in scripts if path in reached(script)]
        assert len(users) > 1, f"{path} is used by {users} alone: it belongs to its parts"
