// The graph as the page was given it: arrays, and the tree of groups.
//
// A number is its place in the arrays, leaves first. An item is what can be a box: a number i, or
// a group g written ~g.

function bytes(text) {
  const letters = atob(text);
  const out = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) out[i] = letters.charCodeAt(i);
  return out.buffer;
}

function readGraph(record) {
  const ints = (name) => new Int32Array(bytes(record[name]));
  const floats = (name) => new Float64Array(bytes(record[name]));
  const graph = {
    count: record.count,
    leaves: record.leaves,
    root: record.root,
    op: new Uint8Array(bytes(record.op)),
    first: ints("first"),
    operands: ints("operands"),
    partials: floats("partials"),
    data: floats("data"),
    grad: floats("grad"),
    constants: entries(ints("constantAt"), floats("constants")),
    parameters: new Set(ints("parameters")),
    stale: new Set(ints("stale")),
    names: entries(ints("namesAt"), record.names),
    lines: entries(ints("linesAt"), record.lines),
    places: ints("places"),
    parents: ints("parents"),
    kinds: record.kinds,
    labels: record.labels,
    table: new Map(record.table.map((row) => [row.code, row])),
  };
  readUsers(graph);
  readTree(graph);
  return graph;
}

function entries(places, values) {
  const map = new Map();
  places.forEach((place, k) => map.set(place, values[k]));
  return map;
}

// For each number the operands that are this number: `users` has their places in `operands`, from
// `firstUser[i]` on; `userOf` says for each operand whose it is.
function readUsers(graph) {
  const { count, first, operands } = graph;
  const firstUser = new Int32Array(count + 1);
  for (const x of operands) firstUser[x + 1]++;
  for (let i = 0; i < count; i++) firstUser[i + 1] += firstUser[i];
  const next = firstUser.slice();
  const users = new Int32Array(operands.length);
  const userOf = new Int32Array(operands.length);
  for (let v = 0; v < count; v++) {
    for (let e = first[v]; e < first[v + 1]; e++) {
      users[next[operands[e]]++] = e;
      userOf[e] = v;
    }
  }
  Object.assign(graph, { firstUser, users, userOf });
}

// The items in each group, in the order of the program; and all numbers in the order of the tree,
// so that a group's are `order[from[g]]` to `order[to[g] - 1]`.
function readTree(graph) {
  const { count, leaves, places, parents } = graph;
  const groups = parents.length;
  const depth = new Int32Array(groups).fill(-1);
  const depthOf = (g) => {
    const path = [];
    while (g > 0 && depth[g] < 0) {
      path.push(g);
      g = parents[g];
    }
    let d = g === 0 ? 0 : depth[g];
    while (path.length) depth[path.pop()] = ++d;
  };
  depth[0] = 0;
  for (let g = 1; g < groups; g++) depthOf(g);

  // When a group begins: with its first result; if it has none, with its first leaf.
  const result = new Float64Array(groups).fill(Infinity);
  const leaf = new Float64Array(groups).fill(Infinity);
  for (let i = 0; i < count; i++) {
    const begins = i < leaves ? leaf : result;
    begins[places[i]] = Math.min(begins[places[i]], i);
  }
  const deepestFirst = Array.from({ length: groups }, (_, g) => g).sort(
    (a, b) => depth[b] - depth[a],
  );
  for (const g of deepestFirst) {
    if (g === 0) continue;
    const p = parents[g];
    result[p] = Math.min(result[p], result[g]);
    leaf[p] = Math.min(leaf[p], leaf[g]);
  }
  const begins = (item) =>
    item >= 0 ? item : result[~item] < Infinity ? result[~item] : leaf[~item];

  const children = Array.from({ length: groups }, () => []);
  for (let i = 0; i < count; i++) children[places[i]].push(i);
  for (let g = 1; g < groups; g++) children[parents[g]].push(~g);
  for (const items of children) items.sort((a, b) => begins(a) - begins(b));

  const order = new Int32Array(count);
  const from = new Int32Array(groups);
  const to = new Int32Array(groups);
  let placed = 0;
  const waiting = [{ g: 0, k: 0 }];
  while (waiting.length) {
    const top = waiting[waiting.length - 1];
    if (top.k === 0) from[top.g] = placed;
    if (top.k === children[top.g].length) {
      to[top.g] = placed;
      waiting.pop();
      continue;
    }
    const item = children[top.g][top.k++];
    if (item >= 0) order[placed++] = item;
    else waiting.push({ g: ~item, k: 0 });
  }
  Object.assign(graph, { depth, children, order, from, to });
}

function membersOf(graph, g) {
  return graph.order.subarray(graph.from[g], graph.to[g]);
}

function groupOf(graph, item) {
  return item >= 0 ? graph.places[item] : graph.parents[~item];
}

// The item directly inside group g that is, or holds, an item somewhere inside g.
function itemWithin(graph, g, item) {
  while (groupOf(graph, item) !== g) item = ~groupOf(graph, item);
  return item;
}

function isInside(graph, g, item) {
  for (let h = item >= 0 ? graph.places[item] : ~item; h >= 0; h = graph.parents[h]) {
    if (h === g) return true;
  }
  return false;
}

// Groups from the outermost to that of the item.
function pathOf(graph, item) {
  const path = [];
  for (let g = groupOf(graph, item); g >= 0; g = graph.parents[g]) path.push(g);
  return path.reverse();
}
