"""Writes the API reference, as HTML made from the docstrings, to `build/docs/`.

python scripts/docs.py           # then open build/docs/index.html
python scripts/docs.py --out reference

Every name that a package gives in its `__all__` stands on the page of that package, which is where people import it
from, wherever its code is. What no page is made for is private. Needs `pip install 'robofuse[docs]'`.
"""

import argparse
import ast
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

import robofuse

if TYPE_CHECKING:
    from pdoc.doc import Class, Doc, Module

OUT = Path(__file__).resolve().parents[1] / "build" / "docs"
# Pages beside those of the packages: what plans and options name. The first declares what is public; of the others
# it is the classes.
MODULES = (
    "robofuse.guessing",
    "robofuse.sensors",
    *(f"robofuse.faults.{name}" for name in ("common", "rgb", "depth", "proprio", "force", "mount")),
    *(f"robofuse.policies.{name}" for name in ("encoders", "fusion")),
    "robofuse.train.groups",
)


def public_modules() -> dict[str, list[str]]:
    """The modules that get a page, and the public names of each."""
    packages = (found.name for found in pkgutil.walk_packages(robofuse.__path__, "robofuse.") if found.ispkg)
    public: dict[str, list[str]] = {}
    for name in ("robofuse", *sorted([*packages, *MODULES])):
        module = import_module(name)
        classes = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == name]
        classes = [key for key in classes if not key.startswith("_") and inspect.isclass(getattr(module, key))]
        names = getattr(module, "__all__", classes if name in MODULES else [])
        if names:
            public[name] = list(names)
    return public


def homes(module: ModuleType) -> dict[str, str]:
    """Name → the module it is imported from, imports for type checkers included."""
    imports = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


def make_pages() -> "dict[str, Module]":
    """Pdoc's picture of every page, with public names where they are public."""
    from pdoc import doc, doc_ast

    pages: dict[str, Module] = {}
    for name, names in public_modules().items():
        module = import_module(name)
        module.__dict__["__all__"] = names
        for key in names:
            setattr(module, key, getattr(module, key))  # pdoc looks into the dictionary, where lazy names are not
        page = pages[name] = doc.Module(module)
        page.submodules = []
        parent = name.rpartition(".")[0]
        if parent:
            pages[parent].submodules.append(page)
        home = homes(module)
        for key, member in page.members.items():
            if isinstance(member, doc.Variable) and not member.docstring and key in home:
                member.docstring = doc_ast.walk_tree(import_module(home[key])).var_docstrings.get(key, "")
    pages["robofuse"].docstring += contents(pages)
    pages["robofuse.faults"].docstring += catalogue()
    return pages


def contents(pages: "dict[str, Module]") -> str:
    """The pages as a table in Markdown, with the first sentence of each."""
    rows = (f"| `{name}` | {first_sentence(page.docstring)} |" for name, page in pages.items() if name != "robofuse")
    return "\n".join(["\n\n| page | what |", "|---|---|", *rows])


def catalogue() -> str:
    """All faults as a table in Markdown."""
    from robofuse.faults.catalogue import everything
    from robofuse.faults.fault import EVERY_KIND

    rows = (
        f"| [{fault.name}](faults/{fault.__module__.rpartition('.')[2]}.html#{fault.__name__}) "
        f"| {'any' if fault.kinds == EVERY_KIND else ', '.join(fault.kinds)} "
        f"| {first_sentence(inspect.getdoc(fault) or '')} |"
        for fault in everything()
    )
    return "\n".join(["\n\n| in a plan | of | what |", "|---|---|---|", *rows])


def first_sentence(text: str) -> str:
    """Of a docstring, on one line."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=\.) ", paragraph)[0].replace("|", "\\|")


def members(page: "Module | Class") -> "Iterator[Doc[Any]]":
    """All that stands on a page, classes' members included."""
    from pdoc import doc

    for member in page.members.values():
        yield member
        if isinstance(member, doc.Class):
            yield from members(member)


def configure(pages: "dict[str, Module]") -> None:
    """Sets pdoc up: Google's docstrings, links to the places where names are public, no fields without a word."""
    from jinja2 import pass_context
    from pdoc import doc, render

    public: dict[str, tuple[str, str]] = {}  # where the code is → page, name
    for name, page in reversed(pages.items()):
        public |= {".".join(member.taken_from): (name, key) for key, member in page.members.items()}
    code_at = re.compile(r"\brobofuse(?:\.\w+)+")
    links, link, linkify = (render.env.filters, *(render.env.filters[name] for name in ("link", "linkify")))

    def replaced(text: str) -> str:
        return code_at.sub(lambda found: ".".join(public[found[0]]) if found[0] in public else found[0], text)

    @pass_context
    def public_linkify(context: Any, code: str, *arguments: Any, **options: Any) -> str:  # noqa: ANN401
        return linkify(context, type(code)(replaced(code)), *arguments, **options)

    @pass_context
    def public_link(context: Any, spec: tuple[str, str], text: str | None = None) -> str:  # noqa: ANN401
        spec = public.get(".".join(spec), spec)
        return link(context, spec, text and replaced(text))

    links |= {"link": public_link, "linkify": public_linkify}
    for page in pages.values():
        for member in page.members.values():
            if isinstance(member, doc.Class) and "__init__" in vars(member.obj):
                # pdoc takes a base's for it where a generic class of Gymnasium is among the bases
                member.members["__init__"].taken_from = member.obj.__module__, f"{member.qualname}.__init__"
        for member in members(page):
            owner, _, key = member.taken_from[1].rpartition(".")
            at = public.get(f"{member.taken_from[0]}.{owner or key}")
            if at:
                member.taken_from = (at[0], f"{at[1]}.{key}" if owner else at[1])
            field = isinstance(member, doc.Variable) and member.docstring.partition(" ")[0] in ("", "Alias")
            if field or member.taken_from[0].partition(".")[0] != "robofuse":
                member.docstring = "@private"  # the class tells of its fields under Attributes; and what SB3 gave it
            if isinstance(member, doc.Variable) and isinstance(member.default_value, dict):
                member.default_value = inspect.Parameter.empty  # long, with paths of this machine in it
    render.configure(docformat="google", footer_text=f"robofuse {robofuse.__version__}", show_source=False)


def write(pages: "dict[str, Module]", out: Path) -> None:
    """Writes the pages, the index and the search."""
    from pdoc import render

    for name, page in tqdm(pages.items(), desc="pages", disable=not sys.stderr.isatty()):
        path = out / f"{name.replace('.', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render.html_module(page, pages))
    (out / "index.html").write_text(render.html_index(pages))
    (out / "search.js").write_text(render.search_index(pages))


def main() -> int:
    """What the command does; 0, or 2 if pdoc is missing."""
    parser = argparse.ArgumentParser(description="Writes the API reference as HTML.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder, default build/docs")
    out = parser.parse_args().out
    try:
        import pdoc  # noqa: F401
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is missing; pip install 'robofuse[docs]'", file=sys.stderr)
        return 2
    pages = make_pages()
    configure(pages)
    write(pages, out)
    print(out / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
