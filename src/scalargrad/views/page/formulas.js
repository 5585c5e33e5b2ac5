// Numbers, names, and operations as formulas.

function number(x, digits = 4) {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "−inf";
  if (x === 0) return Object.is(x, -0) ? "−0" : "0";
  const size = Math.abs(x);
  let text;
  if (size < 1e-4 || size >= 10 ** Math.max(digits, 6)) {
    text = x
      .toExponential(digits - 1)
      .replace(/\.?0+e/, "e")
      .replace("e+", "e");
  } else {
    text = x.toPrecision(digits);
    if (text.includes("e")) text = String(Number(text));
    if (text.includes(".")) text = text.replace(/\.?0+$/, "");
  }
  return text.replace(/-/g, "−");
}

// Every digit that tells this number from others.
function exactly(x) {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "−inf";
  const size = Math.abs(x);
  const text = size > 0 && size < 1e-4 ? x.toExponential() : Object.is(x, -0) ? "-0" : String(x);
  return text.replace(/-/g, "−");
}

function many(count, one, several) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : several}`;
}

function nameOf(graph, v) {
  return graph.names.get(v) ?? `v${v}`;
}

// A name as short as it can be in a formula: of `model.layers[0].neurons[3].b` the last two parts.
function shortName(graph, v) {
  const name = graph.names.get(v);
  return name && graph.parameters.has(v) ? name.split(".").slice(-2).join(".") : name;
}

// As it stands in a formula: a leaf without a name is its number.
function mention(graph, v) {
  const name = shortName(graph, v);
  if (name) return /^[\w.[\]'"]+$/.test(name) ? name : `(${name})`;
  if (v >= graph.leaves) return `v${v}`;
  return graph.data[v] < 0 ? `(${number(graph.data[v])})` : number(graph.data[v]);
}

function constantOf(graph, v) {
  const c = graph.constants.get(v);
  return c === undefined ? "" : number(c, 6);
}

function symbolOf(graph, v) {
  const row = graph.table.get(graph.op[v]);
  return row ? row.symbol.replace("{c}", constantOf(graph, v)) : "";
}

function filled(template, graph, v, written, slot = 0) {
  const { first, operands } = graph;
  const inputs = Array.from(operands.subarray(first[v], first[v + 1]), written);
  const listed =
    inputs.length > 4 ? [...inputs.slice(0, 3), "…", inputs[inputs.length - 1]] : inputs;
  return template.replace(/\{(\w+)\}/g, (_, key) => {
    if (key === "c") return constantOf(graph, v);
    if (key === "k") return String(slot);
    if (key === "y") return written(v);
    if (key === "operands") return listed.join(", ");
    return inputs[Number(key)];
  });
}

function formulaOf(graph, v, written = (x) => mention(graph, x)) {
  const row = graph.table.get(graph.op[v]);
  return row ? filled(row.text, graph, v, written) : "";
}

function slopeOf(graph, e) {
  const v = graph.userOf[e];
  const slot = e - graph.first[v];
  const { slopes } = graph.table.get(graph.op[v]);
  return filled(
    slopes[Math.min(slot, slopes.length - 1)],
    graph,
    v,
    (x) => mention(graph, x),
    slot,
  );
}

function titleOf(graph, item) {
  if (item >= 0) return nameOf(graph, item);
  const g = ~item;
  if (g === 0) return "everything";
  return graph.kinds[g] === "sum" ? `Σ ${graph.labels[g]}` : graph.labels[g];
}

// Where an item is, in words: the parts of a network around it, then itself.
function fullTitle(graph, item) {
  if (item >= 0 && graph.names.has(item)) return graph.names.get(item);
  const parts = pathOf(graph, item)
    .filter((g) => graph.kinds[g] === "module" || graph.kinds[g] === "unit")
    .map((g) => graph.labels[g]);
  parts.push(item >= 0 ? `${symbolOf(graph, item)} v${item}`.trim() : titleOf(graph, item));
  // `query[3]` says that it is in `query`.
  return parts
    .filter((part, k) => !parts[k + 1]?.startsWith(`${part}[`))
    .slice(-3)
    .join(" › ");
}
