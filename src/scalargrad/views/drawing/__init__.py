"""Pictures of graphs: Values -> `Parts` -> `Layout` -> SVG text, each step a pure function.

| file | idea |
|---|---|
| `parts` | which Values are drawn, and what a box and an arrow say |
| `folding` | sums of products as one box, for graphs too large to draw number by number |
| `layering` | which column a box stands in, and where arrows pass through columns |
| `ordering` | the order within a column that lets few arrows cross |
| `placing` | coordinates: near what they are joined to, without overlaps |
| `layout` | these three in turn, and the ways of the arrows |
| `look` | colours, sizes, how wide a text is |
| `svg` | a layout as text |
| `picture` | `draw`, and what it returns |
"""

from .picture import Drawing as Drawing
from .picture import draw as draw
