"""A page on which a graph is opened box by box, and its backward pass stepped through.

Values -> `Tree` and `record` -> one HTML file, each step a pure function.

| file | idea |
|---|---|
| `tree` | boxes within boxes, and the groups that a graph is put in |
| `modules` | which part of a network each number belongs to |
| `repeats` | stretches of a sequence that repeat |
| `structure` | what has no names: sums, equal shapes in a row, parts |
| `record` | the graph and its tree as arrays in JSON |
| `explorer` | `explore`, and what it returns |
| `page.html`, `page.css`, `*.js` | what the browser shows; nothing else is loaded |
"""

from .explorer import Page as Page
from .explorer import explore as explore
