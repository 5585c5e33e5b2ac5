// The picture: what is on show as SVG. Sizes and colours are those of `draw`.

const TEXT = 12;
const TITLE = 13;
const ADVANCE = 0.62; // width of a letter, in font sizes
const LINE = 17;
const PADDING = 8;
const EDGE = 6; // above the first and below the last line of a box
const HEADER = 30; // of an open group
const INSET = 16; // around the boxes in it
const LONGEST = 30; // letters of a title
const THINNEST = 1.2; // arrows, by the gradient that flows back along them
const THICKEST = 4;

const WIDE_LETTERS = /[ᄀ-ᅟ⺀-꓏가-힣豈-﫿︰-﹏＀-｠￠-￦]/g;

function widthOf(text, size = TEXT) {
  const wide = text.match(WIDE_LETTERS)?.length ?? 0;
  return ADVANCE * size * (text.length + wide);
}

function shortened(text, most = LONGEST) {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, x] of Object.entries(attributes)) {
    if (x !== undefined && x !== null) made.setAttribute(key, x);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function signOf(x) {
  return Number.isFinite(x) ? (x > 0 ? "positive" : x < 0 ? "negative" : "none") : "wrong";
}

// What a closed group's gradients are: the largest in size, and whether any is not finite.
function largestIn(graph, grad, g) {
  let largest = 0;
  for (const v of membersOf(graph, g)) {
    if (!Number.isFinite(grad[v])) return grad[v];
    if (Math.abs(grad[v]) > Math.abs(largest)) largest = grad[v];
  }
  return largest;
}

// What stands in a box: a mark at its left, a title, and rows of a word and a number.
function contentOf(state, box) {
  const { graph } = state;
  const { item } = box;
  if (box.side) {
    const title = item >= 0 ? fullTitle(graph, item) : titleOf(graph, item);
    const more = box.numbers.size > 1 ? ` · ${box.numbers.size.toLocaleString("en")}` : "";
    return { kind: "side", mark: "", title: shortened(title, 34) + more, rows: [] };
  }
  if (item < 0) {
    const g = ~item;
    const count = graph.to[g] - graph.from[g];
    const rows = [{ word: many(count, "number", "numbers"), text: "", role: "muted" }];
    if (state.reached(g)) {
      const largest = largestIn(graph, state.grad, g);
      rows.push({
        word: "largest grad",
        text: number(largest, 3),
        role: signOf(largest),
        room: "−0.00e−10",
      });
    } else {
      rows.push({ word: "largest grad", text: "–", role: "muted", room: "−0.00e−10" });
    }
    if (graph.stale.size && membersOf(graph, g).some((v) => graph.stale.has(v))) {
      rows.push({ word: "stale numbers inside", text: "", role: "wrong" });
    }
    return {
      kind: `group ${styleOf(graph, g)}`,
      mark: "+",
      title: shortened(titleOf(graph, item)),
      rows,
    };
  }
  const kind =
    item === graph.root
      ? "root"
      : item >= graph.leaves
        ? "result"
        : graph.parameters.has(item)
          ? "parameter"
          : "leaf";
  const stale = graph.stale.has(item);
  const data = graph.data[item];
  const grad = state.grad[item];
  const waits = state.waits(item);
  const name = lastPart(graph, item);
  const role = signOf(grad);
  const texts = [state.graph.grad[item], state.once()[item]].map((x) => number(x));
  return {
    kind,
    mark: symbolOf(graph, item),
    title: shortened(name || (item >= graph.leaves ? nameOf(graph, item) : "")),
    named: name !== "",
    rows: [
      {
        word: stale ? "stale" : "data",
        text: number(data),
        role: stale || !Number.isFinite(data) ? "wrong" : "ink",
      },
      {
        word: "grad",
        text: waits ? "–" : number(grad),
        role: waits || role === "none" ? "muted" : role,
        room: texts[0].length > texts[1].length ? texts[0] : texts[1], // so that stepping moves nothing
      },
    ],
  };
}

// What a group looks like: parameters side by side are not like other leaves.
function styleOf(graph, g) {
  const kind = graph.kinds[g];
  return kind === "leaves" && graph.parameters.has(membersOf(graph, g)[0]) ? "parameters" : kind;
}

// A name without what the groups around it say already.
function lastPart(graph, v) {
  const name = graph.names.get(v) ?? "";
  return graph.parameters.has(v) ? name.slice(name.lastIndexOf(".") + 1) : name;
}

function sizeOf(content) {
  const strip = content.mark ? Math.max(24, widthOf(content.mark, TITLE) + 1.5 * PADDING) : 0;
  if (content.kind === "side")
    return { width: widthOf(content.title) + 2 * PADDING, height: 24, strip };
  const rows = content.rows.map(({ word, text, room = "" }) => {
    const widest = Math.max(widthOf(text), widthOf(room));
    return widthOf(word) + (widest ? TEXT + widest : 0);
  });
  const wide = Math.max(widthOf(content.title, TITLE), ...rows);
  const lines = content.rows.length + (content.title ? 1 : 0);
  return { width: strip + wide + 2 * PADDING, height: lines * LINE + 2 * EDGE, strip };
}

// Sizes and places of everything in group g.
function composed(state, g) {
  const { show } = state;
  const { boxes, arrows } = show.boxesIn(g);
  const parts = boxes.map((box) => {
    if (!box.side && show.isOpen(box.item)) {
      const inner = composed(state, ~box.item);
      const title = headingOf(state, ~box.item);
      const width = Math.max(inner.width + 2 * INSET, widthOf(title, TITLE) + 120);
      return { box, inner, title, width, height: inner.height + HEADER + 2 * INSET };
    }
    const content = contentOf(state, box);
    return { box, content, ...sizeOf(content) };
  });
  const layout = laidOut(
    parts,
    arrows.map((arrow) => ({ ...arrow, slot: slotOf(state.graph, boxes[arrow.to], arrow) })),
  );
  parts.forEach((part, k) => Object.assign(part, layout.boxes[k]));
  // Boxes of one column are equally wide, but for open ones.
  const widest = new Map();
  for (const part of parts)
    if (!part.inner) widest.set(part.x, Math.max(widest.get(part.x) ?? 0, part.width));
  for (const part of parts) if (!part.inner) part.width = widest.get(part.x);
  return { g, parts, arrows, ways: layout.ways, width: layout.width, height: layout.height };
}

// Which operand an arrow is, where their order makes a difference.
function slotOf(graph, { item, side }, { edges }) {
  if (side || item < graph.leaves || graph.table.get(graph.op[item]).unordered) return null;
  return edges[0] - graph.first[item];
}

function headingOf(state, g) {
  const { graph, show } = state;
  const total = graph.children[g].length;
  const start = show.startOf(g);
  const end = Math.min(total, start + SLICE);
  const title = shortened(titleOf(graph, ~g), 44);
  return total > SLICE ? `${title}   ${stretch(start, end, total)}` : title;
}

function stretch(start, end, total) {
  const [first, last, all] = [start + 1, end, total].map((n) => n.toLocaleString("en"));
  return `${first}–${last} of ${all}`;
}

// --- drawing ----------------------------------------------------------------------------------------

function drawnPicture(state, whole) {
  const flows = flowsOf(state, whole);
  const largest = Math.max(0, ...[...flows.values()].filter(Number.isFinite).map(Math.abs));
  return drawnGroup(state, whole, { flows, largest });
}

// What flows back along each arrow: the sum of what its operands receive.
function flowsOf(state, whole, flows = new Map()) {
  const { graph, grad } = state;
  for (const arrow of whole.arrows) {
    let sum = 0;
    for (const e of arrow.edges)
      if (!state.waitsToPass(graph.userOf[e])) sum += passed(graph, e, grad[graph.userOf[e]]);
    flows.set(arrow, sum);
  }
  for (const part of whole.parts) if (part.inner) flowsOf(state, part.inner, flows);
  return flows;
}

function drawnGroup(state, whole, scale) {
  const arrows = whole.arrows.map((arrow, k) => drawnArrow(state, whole, arrow, k, scale));
  const strength = (k) => Math.abs(scale.flows.get(whole.arrows[k]));
  const strongestLast = arrows.map((_, k) => k).sort((a, b) => strength(a) - strength(b));
  const boxes = whole.parts.map((part) =>
    part.inner ? drawnOpen(state, part, scale) : drawnBox(state, part),
  );
  return element("g", {}, ...strongestLast.map((k) => arrows[k]), ...boxes);
}

function drawnArrow(state, whole, arrow, k, { flows, largest }) {
  const flow = flows.get(arrow);
  const role = signOf(flow);
  const strength = Number.isFinite(flow) && largest > 0 ? Math.sqrt(Math.abs(flow) / largest) : 0;
  const thick =
    role === "wrong" ? THICKEST : THINNEST + (THICKEST - THINNEST) * Math.min(1, strength);
  const way = whole.ways[k];
  const back = !way;
  const [path, tip] = back
    ? pathBack(whole, whole.parts[arrow.from], whole.parts[arrow.to])
    : pathOn(way, thick);
  const note = element("title", {}, document.createTextNode(noteOf(state, arrow, flow)));
  const half = 3 + thick / 2;
  const reach = 6 + thick / 2;
  const [x, y] = tip;
  const corners = back
    ? [[x - half, y + reach], tip, [x + half, y + reach]]
    : [[x - reach, y - half], tip, [x - reach, y + half]];
  const head = `M${corners.join("L")}Z`;
  return element(
    "g",
    { class: "arrow", style: `color:var(--${role})` },
    note,
    element("path", { d: path, class: "near" }),
    element("path", { d: path, class: back ? "line back" : "line", "stroke-width": thick }),
    element("path", { d: head, fill: "currentColor" }),
  );
}

function noteOf(state, arrow, flow) {
  const { graph } = state;
  const [e] = arrow.edges;
  if (arrow.edges.length > 1) {
    return `${many(arrow.edges.length, "operand", "operands")}: receive ${number(flow)} together`;
  }
  return `${fullTitle(graph, graph.operands[e])} receives ${exactly(flow)} from ${fullTitle(graph, graph.userOf[e])}`;
}

function pathOn(way, thick) {
  const tip = way[way.length - 1];
  const stops = [...way.slice(0, -1), [tip[0] - 6 - thick / 2, tip[1]]];
  let path = `M${stops[0]}`;
  for (let k = 1; k < stops.length; k++) {
    const [a, b] = [stops[k - 1], stops[k]];
    const middle = (a[0] + b[0]) / 2;
    path += k % 2 === 1 ? `L${b}` : `C${middle} ${a[1]} ${middle} ${b[1]} ${b}`;
  }
  return [path, tip];
}

// An arrow to an earlier column goes around, below everything.
function pathBack(whole, source, target) {
  const a = [source.x + source.width / 2, source.y + source.height];
  const b = [target.x + target.width / 2, target.y + target.height];
  const low = whole.height - 4;
  const turn = Math.min(40, Math.abs(a[0] - b[0]) / 2);
  const side = a[0] > b[0] ? -turn : turn;
  const path = `M${a}C${a[0]} ${low} ${a[0]} ${low} ${a[0] + side} ${low}L${b[0] - side} ${low}C${b[0]} ${low} ${b[0]} ${low} ${b[0]} ${b[1] + 7}`;
  return [path, b];
}

function words(x, y, text, attributes = {}) {
  return element("text", { x, y, ...attributes }, document.createTextNode(text));
}

function drawnBox(state, part) {
  const { box, content, x, y, width, height, strip } = part;
  const { item } = box;
  const group = item < 0 && !box.side;
  const now = state.marks(item) && !box.side;
  const selected = state.selected === item && !box.side;
  const made = element("g", {
    class: ["box", content.kind, now ? "now" : "", selected ? "selected" : ""].join(" "),
    tabindex: 0,
    role: "button",
    "data-item": item,
    "data-side": box.side,
    "aria-label": labelOf(content, group),
    "aria-expanded": group ? "false" : undefined,
  });
  made.append(element("title", {}, document.createTextNode(hintOf(state, box, content))));
  made.append(element("rect", { class: "paper", x, y, width, height, rx: box.side ? 12 : 6 }));
  if (box.side) {
    made.append(
      words(x + width / 2, y + 16, content.title, { "text-anchor": "middle", class: "muted" }),
    );
    return made;
  }
  if (content.mark) {
    const right = x + strip;
    const bottom = y + height;
    const d = `M${right} ${y}V${bottom}H${x + 6}Q${x} ${bottom} ${x} ${bottom - 6}V${y + 6}Q${x} ${y} ${x + 6} ${y}Z`;
    made.append(element("path", { class: "strip", d }));
    made.append(
      words(x + strip / 2, y + height / 2 + 4.5, content.mark, {
        class: "title",
        "text-anchor": "middle",
      }),
    );
  }
  made.append(element("rect", { class: "frame", x, y, width, height, rx: 6 }));
  const left = x + strip + PADDING;
  let line = y + EDGE - 4.5;
  if (content.title)
    made.append(
      words(left, (line += LINE), content.title, {
        class: content.named === false ? "title muted" : "title",
      }),
    );
  for (const { word, text, role } of content.rows) {
    line += LINE;
    made.append(
      words(left, line, word, {
        style: `fill:var(--${text || role !== "wrong" ? "muted" : role})`,
      }),
    );
    if (text)
      made.append(
        words(x + width - PADDING, line, text, {
          "text-anchor": "end",
          style: `fill:var(--${role})`,
        }),
      );
  }
  return made;
}

function labelOf(content, group) {
  const rows = content.rows.map(({ word, text }) => `${word} ${text}`.trim()).join(", ");
  return [content.title || content.mark, rows, group ? "closed" : ""].filter(Boolean).join(", ");
}

function hintOf(state, box, content) {
  const { graph } = state;
  if (box.side) {
    const what = box.numbers.size > 1 ? ` (${box.numbers.size} numbers)` : "";
    return `${fullTitle(graph, box.item)}${what}: ${box.side === "in" ? "used here" : "uses what is here"}. Click to go there`;
  }
  if (box.item < 0) return `${fullTitle(graph, box.item)}\nClick to open`;
  const formula = formulaOf(graph, box.item);
  return [
    fullTitle(graph, box.item),
    formula,
    `data ${exactly(graph.data[box.item])}`,
    `grad ${exactly(state.grad[box.item])}`,
  ]
    .filter(Boolean)
    .join("\n");
}

function drawnOpen(state, part, scale) {
  const { box, inner, title, x, y, width, height } = part;
  const g = ~box.item;
  const frame = element("rect", { class: "frame", x, y, width, height, rx: 8 });
  const header = element(
    "g",
    {
      class: "header",
      tabindex: 0,
      role: "button",
      "data-item": box.item,
      "aria-expanded": "true",
      "aria-label": `${title}, open`,
    },
    element("title", {}, document.createTextNode("Click to close")),
    element("rect", { class: "bar", x, y, width, height: HEADER, rx: 8 }),
    words(x + 12, y + 20, "−", { class: "title" }),
    words(x + 30, y + 20, title, { class: "title" }),
  );
  const content = drawnGroup(state, inner, scale);
  content.setAttribute(
    "transform",
    `translate(${x + (width - inner.width) / 2} ${y + HEADER + INSET})`,
  );
  const selected = state.selected === box.item ? " selected" : "";
  return element(
    "g",
    { class: `open ${styleOf(state.graph, g)}${selected}` },
    frame,
    header,
    ...pagerOf(state, g, part),
    content,
  );
}

// The buttons that turn to the next stretch of a group's items.
function pagerOf(state, g, { x, y, width }) {
  const total = state.graph.children[g].length;
  if (total <= SLICE) return [];
  const start = state.show.startOf(g);
  const button = (at, text, hint, to) =>
    element(
      "g",
      {
        class: `pager${to < 0 || to >= total ? " off" : ""}`,
        tabindex: 0,
        role: "button",
        "data-turn": g,
        "data-to": to,
        "aria-label": hint,
      },
      element("title", {}, document.createTextNode(hint)),
      element("rect", { x: at, y: y + 4, width: 26, height: 22, rx: 4 }),
      words(at + 13, y + 20, text, { "text-anchor": "middle", class: "title" }),
    );
  return [
    button(x + width - 64, "‹", `The ${SLICE} before`, start - SLICE),
    button(x + width - 34, "›", `The next ${SLICE}`, start + SLICE),
  ];
}
