"""`explore`: the graph of a Value as a page to open, search, and step through."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ... import watch
from ...coerce import shown
from ...engine import Value
from ...nn import Module
from ...nn.sizes import size
from .. import files
from ..arguments import one_of
from ..drawing.look import FONT, THEMES, shortened
from ..drawing.parts import one_line
from ..names import names_in
from .record import TooLarge, record, written

SCRIPTS = ("graph", "backward", "formulas", "boxes", "layout", "picture", "panel", "page")
HEIGHT = 680  # pixels in a notebook


class Page:
    """A page about the graph of a Value: shown by a notebook, saved as a file, or read as HTML.

    `html` is the text, `nodes` how many numbers it shows, `groups` how many boxes hold others.
    """

    __slots__ = ("groups", "html", "nodes")

    def __init__(self, html: str, nodes: int, groups: int) -> None:
        self.html, self.nodes, self.groups = html, nodes, groups

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file whose name ends in .html, whole or not at all; return the path.

        The file needs nothing else: it can be sent to others and opened without a network. The
        folder is made when missing. Raises `ValueError` for another suffix and `OSError`, naming
        the path, where it cannot be written.
        """
        target = Path(path)
        if target.suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                f"path: expected a name that ends in .html, got {str(target)!r}: the graph is "
                "explored in a browser; sg.draw(value).save() writes a picture"
            )
        return files.write(target, self.html.encode(), "page")

    def _repr_html_(self) -> str:
        # In a frame of its own, so that its styles and keys and the notebook's do not meddle.
        return (
            f'<iframe title="The graph, to be explored" sandbox="allow-scripts" '
            f'style="width:100%;height:{HEIGHT}px;border:0" srcdoc="{html.escape(self.html)}">'
            "</iframe>"
        )

    def __repr__(self) -> str:
        groups = f"{self.groups:,} group{'s' if self.groups > 1 else ''}"
        return (
            f"Page({self.nodes:,} numbers in {groups}: shown in a notebook, "
            "or save('graph.html') and open that in a browser)"
        )


def explore(
    value: Value,
    *,
    names: Mapping[str, Any] | Module | None = None,
    theme: str | None = None,
    limit: int = 1_000_000,
) -> Page:
    """The graph of a Value as a page for a browser, to be opened box by box down to each number.

    Boxes open at a click: a network's layers, their neurons, the sums in these, the products. Of
    a graph without names, sums, loops and stretches of the program are the boxes, so that one of
    10^5 numbers, too, starts as a handful. A number's panel has the chain rule there in numbers,
    as `Value.explain` has it; a group's, how its data and gradients are distributed, and how many
    of its activations are 0. `backward()` can be stepped forwards and back, in the engine's order.

    Colours are those of `draw`. The page is one file that loads nothing, and the same program
    gives the same bytes.

    Args:
        value: whose graph it is. Gradients are those it has: call `value.backward()` before.
        names: a dictionary such as `locals()` or a network, whose variables and attributes name
            the Values that have no label, and whose parts are the boxes.
        theme: "light" or "dark"; what the reader's system prefers, if `None`.
        limit: the most numbers; about 70 bytes of the file each.

    Raises `TypeError` or `ValueError` for arguments that mean nothing and `ValueError` for a
    larger graph.
    """
    if not isinstance(value, Value):
        raise TypeError(f"value: expected a Value, got {shown(value)}")
    watch.read(value, "explore()")
    limit = size(limit, "limit")
    one_of(theme, "theme", (None, *THEMES))
    found = names_in(names)
    try:
        entries = record(value, found, limit)
    except TooLarge as error:
        raise ValueError(
            f"value: its graph {error}, more than a page opens quickly with (limit={limit:,}): "
            "explore one of its operands, or the loss of fewer examples, or pass a larger limit"
        ) from None
    title = f"The graph of {shortened(one_line(found.of(value))) or 'a Value'}"
    return Page(document(title, written(entries), theme), entries["count"], len(entries["kinds"]))


def document(title: str, data: str, theme: str | None) -> str:
    """The page: the template with everything it needs inside."""
    script = "\n".join(_file(f"{name}.js") for name in SCRIPTS)
    filled = {
        "title": html.escape(title),
        "theme": theme or "",
        "style": f"{_colours()}\n{_file('page.css')}",
        "data": data,
        "script": script,
    }
    text = _file("page.html")
    for name, content in filled.items():
        before, mark, after = text.partition(f"<!-- {name} -->")
        assert mark
        text = before + content + after
    return text


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _colours() -> str:
    """The colours of `draw` as variables: of the theme asked for, else of the one preferred."""

    def variables(theme: str) -> str:
        return "".join(f"--{role.replace(' ', '-')}:{c};" for role, c in THEMES[theme].items())

    return "\n".join(
        (
            f":root{{--font:{FONT};color-scheme:light;{variables('light')}}}",
            f"@media (prefers-color-scheme:dark){{:root{{color-scheme:dark;{variables('dark')}}}}}",
            f":root[data-theme=light]{{color-scheme:light;{variables('light')}}}",
            f":root[data-theme=dark]{{color-scheme:dark;{variables('dark')}}}",
        )
    )
