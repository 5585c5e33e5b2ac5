// The panel: what there is to say about the number or the group that is selected.

const ROWS = 12; // of a table
const BINS = 24; // of a histogram

function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, x] of Object.entries(attributes)) {
    if (x !== undefined && x !== null && x !== false) made.setAttribute(key, x === true ? "" : x);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A link to an item; the page goes there when it is clicked.
function linkTo(
  graph,
  item,
  text = item >= 0 ? nameOf(graph, item) : titleOf(graph, item),
  most = 36,
) {
  return html(
    "button",
    { class: "link", "data-go": item, title: fullTitle(graph, item) },
    shortened(text, most),
  );
}

function coloured(x, text = number(x)) {
  return html(
    "span",
    { style: `color:var(--${signOf(x) === "none" ? "ink" : signOf(x)})`, title: exactly(x) },
    text,
  );
}

function panelFor(state) {
  const { selected } = state;
  return selected >= 0 ? panelOfNumber(state, selected) : panelOfGroup(state, ~selected);
}

function whereIs(graph, item) {
  const path = pathOf(graph, item).filter((g) => g > 0);
  const links = path.flatMap((g) => [linkTo(graph, ~g), " › "]);
  return links.length ? html("p", { class: "where" }, ...links.slice(0, -1)) : null;
}

// --- a number ---------------------------------------------------------------------------------------

function panelOfNumber(state, v) {
  const { graph } = state;
  const kind =
    v >= graph.leaves
      ? graph.table.get(graph.op[v]).name
      : graph.parameters.has(v)
        ? "parameter"
        : "leaf";
  const parts = [
    html("h2", {}, nameOf(graph, v)),
    whereIs(graph, v),
    html("p", { class: "muted" }, kindText(graph, v, kind)),
  ];
  if (v >= graph.leaves) {
    const numbers = formulaOf(graph, v, (x) => number(graph.data[x]));
    parts.push(html("p", { class: "formula" }, `${nameOf(graph, v)} = ${formulaOf(graph, v)}`));
    parts.push(html("p", { class: "formula" }, `= ${numbers} = ${number(graph.data[v])}`));
  }
  if (graph.stale.has(v)) {
    parts.push(
      html("p", { class: "wrong" }, "Out of date: a number was written after it was used."),
    );
  }
  parts.push(factsOf(state, v));
  if (v >= graph.leaves) parts.push(operandsOf(state, v));
  parts.push(usesOf(state, v));
  if (graph.lines.has(v)) parts.push(html("p", { class: "muted" }, graph.lines.get(v)));
  return parts;
}

function kindText(graph, v, kind) {
  if (v === graph.root) return `${kind}; the number that backward() starts from`;
  return v >= graph.leaves
    ? `result of ${kind}`
    : kind === "leaf"
      ? "leaf: a number that is given"
      : "parameter of the network";
}

function factsOf(state, v) {
  const { graph } = state;
  const rows = [["data", coloured2(graph.data[v])]];
  if (state.step === null) {
    rows.push(["grad", coloured(graph.grad[v], exactly(graph.grad[v]))]);
    const once = state.once()[v];
    if (!Object.is(once, graph.grad[v]) && once !== graph.grad[v]) {
      const why =
        graph.grad[v] === 0
          ? "no backward() since it was set to 0"
          : "what calls of backward() added up to";
      rows.push(["", html("span", { class: "muted" }, why)]);
      rows.push(["one backward()", coloured(once, exactly(once))]);
    }
  } else {
    const text = state.waits(v) ? "nothing yet" : exactly(state.grad[v]);
    rows.push(["grad so far", coloured(state.grad[v], text)]);
    rows.push(["in the end", coloured(state.once()[v], exactly(state.once()[v]))]);
    rows.push(["the Value holds", coloured(graph.grad[v], exactly(graph.grad[v]))]);
    if (v >= graph.leaves)
      rows.push([
        "its step",
        `${stepOf(graph, v).toLocaleString("en")} of ${stepsOf(graph).toLocaleString("en")}`,
      ]);
  }
  return html("dl", {}, ...rows.flatMap(([name, x]) => [html("dt", {}, name), html("dd", {}, x)]));
}

function coloured2(x) {
  return html("span", { class: Number.isFinite(x) ? "" : "wrong" }, exactly(x));
}

function tableOf(title, heads, rows, foot = null) {
  return html(
    "section",
    {},
    html("h3", {}, title),
    html(
      "div",
      { class: "scroll" },
      html(
        "table",
        {},
        html(
          "thead",
          {},
          html("tr", {}, ...heads.map((head) => html("th", { scope: "col" }, head))),
        ),
        html("tbody", {}, ...rows.map((cells) => rowOf(cells, heads.length))),
        foot && html("tfoot", {}, rowOf(foot, heads.length)),
      ),
    ),
  );
}

// One cell alone takes the whole width.
function rowOf(cells, columns) {
  const wide = cells.length === 1 ? columns : undefined;
  return html("tr", {}, ...cells.map((cell) => html("td", { colspan: wide }, cell)));
}

function operandsOf(state, v) {
  const { graph } = state;
  const { first, operands, partials, data } = graph;
  const g = state.grad[v];
  const edges = range(first[v], first[v + 1]);
  const shown = largestFirst(edges, (e) => partials[e]);
  const rows = shown.map((e) => [
    linkTo(graph, operands[e], shortName(graph, operands[e]) ?? mention(graph, operands[e])),
    number(data[operands[e]]),
    derivative(slopeOf(graph, e), partials[e]),
    coloured(passed(graph, e, g)),
  ]);
  const rest = edges.length - shown.length;
  if (rest) rows.push([many(rest, "other", "others"), "", "", ""]);
  return tableOf(
    `Each operand receives its local derivative times ${number(g)}`,
    ["operand", "data", "derivative", "receives"],
    rows,
  );
}

function usesOf(state, v) {
  const { graph } = state;
  const edges = Array.from(
    graph.users.subarray(graph.firstUser[v], graph.firstUser[v + 1]),
  ).reverse();
  if (!edges.length) return html("p", { class: "muted" }, "Nothing here uses it.");
  const contributes = (e) =>
    state.waitsToPass(graph.userOf[e]) ? 0 : passed(graph, e, state.grad[graph.userOf[e]]);
  const shown = largestFirst(edges, contributes);
  const rows = shown.flatMap((e) => {
    const user = graph.userOf[e];
    const waits = state.waitsToPass(user);
    return [
      [linkTo(graph, user, `${nameOf(graph, user)} = ${formulaOf(graph, user)}`, 46)],
      [
        derivative(slopeOf(graph, e), graph.partials[e]),
        waits ? "–" : coloured(state.grad[user]),
        waits ? "–" : coloured(contributes(e)),
      ],
    ];
  });
  const others = edges.filter((e) => !shown.includes(e));
  const sum = (list) => list.reduce((total, e) => total + contributes(e), 0);
  if (others.length) rows.push([many(others.length, "other", "others"), "", coloured(sum(others))]);
  return tableOf(
    many(
      edges.length,
      "use of it contributes to its gradient",
      "uses of it contribute to its gradient",
    ),
    ["its derivative", "its grad", "contributes"],
    rows,
    edges.length > 1 ? ["sum", "", coloured(sum(edges))] : null,
  );
}

function derivative(formula, x) {
  const text = number(x);
  return formula === text || formula === `(${text})` ? text : `${shortened(formula, 24)} = ${text}`;
}

function range(from, to) {
  return Array.from({ length: to - from }, (_, k) => from + k);
}

// The edges with the largest of these numbers, in their order.
function largestFirst(edges, of) {
  if (edges.length <= ROWS) return edges;
  const size = (e) => (Number.isNaN(of(e)) ? Infinity : Math.abs(of(e)));
  const kept = new Set(
    edges
      .slice()
      .sort((a, b) => size(b) - size(a))
      .slice(0, ROWS),
  );
  return edges.filter((e) => kept.has(e));
}

// --- a group ----------------------------------------------------------------------------------------

const MEANINGS = {
  all: "everything the result depends on",
  module: "a part of the network: what is computed with its parameters",
  unit: "a unit of the network: what is computed with its parameters",
  sum: "a sum, and what only it uses",
  repeat: "the same operations again and again",
  turn: "one of equal turns",
  part: "a stretch of the program",
  leaves: "numbers that are given",
};

function panelOfGroup(state, g) {
  const { graph, grad } = state;
  const members = membersOf(graph, g);
  const results = members.filter((v) => v >= graph.leaves);
  const parameters = members.filter((v) => graph.parameters.has(v));
  const parts = [
    html("h2", {}, titleOf(graph, ~g)),
    whereIs(graph, ~g),
    html("p", { class: "muted" }, MEANINGS[graph.kinds[g]]),
  ];
  if (g !== state.show.focus) {
    const open = state.show.isOpen(~g);
    parts.push(
      html(
        "p",
        { class: "actions" },
        html("button", { "data-toggle": g }, open ? "Close" : "Open here"),
        html("button", { "data-focus": g }, "Show alone"),
      ),
    );
  }
  const counts = [
    ["numbers", members.length],
    ["results", results.length],
    ["parameters", parameters.length],
    ["other leaves", members.length - results.length - parameters.length],
  ].filter(([, count]) => count);
  parts.push(
    html(
      "dl",
      {},
      ...counts.flatMap(([name, n]) => [
        html("dt", {}, name),
        html("dd", {}, n.toLocaleString("en")),
      ]),
    ),
  );
  if (results.length) parts.push(html("p", { class: "muted" }, operationsOf(graph, results)));
  parts.push(...activationsOf(state, g));
  const pick = (list, from) => Array.from(list, (v) => from[v]);
  if (parameters.length > 1)
    parts.push(histogram("Parameters: data", pick(parameters, graph.data)));
  if (parameters.length > 1) parts.push(histogram("Parameters: grad", pick(parameters, grad)));
  if (results.length > 1) parts.push(histogram("Results: data", pick(results, graph.data)));
  if (results.length > 1) parts.push(histogram("Results: grad", pick(results, grad)));
  const given = members.filter((v) => v < graph.leaves && !graph.parameters.has(v));
  if (!results.length && given.length > 1) {
    parts.push(histogram("data", pick(given, graph.data)), histogram("grad", pick(given, grad)));
  }
  return parts;
}

function operationsOf(graph, results) {
  const counts = new Map();
  for (const v of results) {
    const { name } = graph.table.get(graph.op[v]);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  return sorted.map(([name, count]) => `${count.toLocaleString("en")} ${name}`).join(", ");
}

// How many rectified numbers are 0, and the units in which all are.
function activationsOf(state, g) {
  const { graph } = state;
  const isRelu = (v) => graph.op[v] !== 0 && graph.table.get(graph.op[v]).name === "relu";
  const relus = membersOf(graph, g).filter(isRelu);
  if (!relus.length) return [];
  const zero = relus.filter((v) => graph.data[v] === 0).length;
  const share = Math.round((100 * zero) / relus.length);
  const parts = [
    html(
      "p",
      {},
      `${zero.toLocaleString("en")} of ${many(relus.length, "ReLU gives", "ReLUs give")} 0 (${share}%)`,
    ),
  ];
  const alive = new Map();
  for (const v of relus) {
    const unit = pathOf(graph, v)
      .reverse()
      .find((h) => graph.kinds[h] === "unit");
    if (unit !== undefined) alive.set(unit, (alive.get(unit) ?? false) || graph.data[v] !== 0);
  }
  const dead = [...alive].filter(([, lives]) => !lives).map(([unit]) => unit);
  if (dead.length) {
    const links = dead
      .slice(0, 24)
      .flatMap((unit) => [linkTo(graph, ~unit, fullTitle(graph, ~unit)), html("br")]);
    const more = dead.length > 24 ? `and ${(dead.length - 24).toLocaleString("en")} more` : null;
    const times = relus.length > alive.size ? "give 0 every time, as dead ones do" : "give 0 here";
    const what = many(dead.length, `unit ${times.replace("give", "gives")}`, `units ${times}`);
    parts.push(html("p", {}, `${what}:`, html("br"), ...links, more));
  }
  return parts;
}

function histogram(title, numbers) {
  const finite = numbers.filter(Number.isFinite);
  const odd = numbers.length - finite.length;
  let low = Infinity;
  let high = -Infinity;
  for (const x of finite) {
    low = Math.min(low, x);
    high = Math.max(high, x);
  }
  const bins = new Array(BINS).fill(0);
  for (const x of finite)
    bins[high > low ? Math.min(BINS - 1, Math.floor((BINS * (x - low)) / (high - low))) : 0]++;
  const most = Math.max(...bins, 1);
  const zeros = finite.filter((x) => x === 0).length;
  const bars = bins.map((n, k) =>
    element("rect", {
      x: k * 10,
      y: 48 - (46 * n) / most,
      width: 9,
      height: (46 * n) / most,
      class: low + ((k + 0.5) * (high - low)) / BINS < 0 ? "below" : "above",
    }),
  );
  const words = finite.length ? `from ${number(low, 3)} to ${number(high, 3)}` : "none is finite";
  const notes = [
    zeros ? `${zeros.toLocaleString("en")} are 0` : "",
    odd ? `${odd.toLocaleString("en")} are inf or nan` : "",
  ];
  const text = [words, ...notes].filter(Boolean).join("; ");
  const all = high === low && finite.length ? `all are ${number(low)}` : text;
  return html(
    "section",
    {},
    html("h3", {}, title),
    high > low
      ? element(
          "svg",
          {
            viewBox: "0 0 240 50",
            class: "histogram",
            role: "img",
            "aria-label": `${title}: ${text}`,
          },
          ...bars,
          element("path", { d: "M0 48.5H240", class: "axis" }),
        )
      : null,
    html("p", { class: "muted" }, all),
  );
}
