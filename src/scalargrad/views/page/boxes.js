// What is on show: which groups are open, and the boxes and arrows in each of them.

const SLICE = 40; // items of a group that are on show at once
const MOST = 300; // boxes on show at once
const SEPARATE = 10; // numbers outside an open group that have a box of their own at its side

class Show {
  constructor(graph) {
    this.graph = graph;
    this.focus = 0; // the group whose items are laid out
    this.open = new Set();
    this.starts = new Map(); // group -> its first item on show
    this.joints = new Map(); // group -> what `jointsOf` found
  }

  startOf(g) {
    return this.starts.get(g) ?? 0;
  }

  slice(g) {
    const start = this.startOf(g);
    return this.graph.children[g].slice(start, start + SLICE);
  }

  // Show that stretch of a group's items which has this one.
  turnTo(g, item) {
    const k = this.graph.children[g].indexOf(item);
    if (k >= 0) this.starts.set(g, k - (k % SLICE));
  }

  isOpen(item) {
    return item < 0 && this.open.has(~item);
  }

  countBoxes(g = this.focus) {
    const items = this.slice(g);
    const inner = items.filter((item) => this.isOpen(item));
    return items.length + inner.reduce((sum, item) => sum + this.countBoxes(~item), 0);
  }

  toggle(g) {
    if (this.open.delete(g)) return;
    this.open.add(g);
    if (this.countBoxes() > MOST) this.focusOn(g);
  }

  focusOn(g) {
    this.focus = g;
    this.open.clear();
  }

  // Have an item on show, whatever must be opened for that.
  reveal(item) {
    const { graph } = this;
    if (!isInside(graph, this.focus, item)) this.focusOn(0);
    const path = pathOf(graph, item);
    for (const g of path.slice(path.indexOf(this.focus) + 1)) this.open.add(g);
    [...path.slice(1).map((g) => ~g), item].forEach((x, k) => this.turnTo(path[k], x));
    if (this.countBoxes() > MOST) this.focusOn(groupOf(graph, item));
  }

  // The item on show that is this number or holds it; null if a group shows another stretch.
  shownAs(v) {
    const { graph } = this;
    if (!isInside(graph, this.focus, v)) return null;
    const path = pathOf(graph, v);
    for (let k = path.indexOf(this.focus); k < path.length; k++) {
      const item = k + 1 < path.length ? ~path[k + 1] : v;
      if (!this.slice(path[k]).includes(item)) return null;
      if (!this.isOpen(item)) return item;
    }
    return null;
  }

  // The boxes of group g, those at its sides among them, and the arrows between them.
  //
  // A box is {item} or, at the side, {side: "in" | "out", numbers}; an arrow {from, to, edges},
  // from and to being places in the list of boxes.
  boxesIn(g) {
    const joints = this.jointsOf(g);
    const items = this.slice(g);
    const boxes = items.map((item) => ({ item }));
    const place = new Map(items.map((item, k) => [item, k]));
    const arrows = new Map();
    const join = (from, to, edges) => {
      const key = `${from} ${to}`;
      if (!arrows.has(key)) arrows.set(key, { from, to, edges: [] });
      const all = arrows.get(key).edges;
      for (const e of edges) all.push(e);
    };
    const sides = { in: [], out: [] };
    for (const { a, b, edges } of joints) {
      const from = place.get(a);
      const to = place.get(b);
      if (from !== undefined && to !== undefined) join(from, to, edges);
      else if (to !== undefined) sides.in.push({ at: to, edges });
      else if (from !== undefined) sides.out.push({ at: from, edges });
    }
    for (const side of ["in", "out"]) {
      for (const { box, ends } of this.atSide(g, side, sides[side])) {
        boxes.push(box);
        const k = boxes.length - 1;
        for (const [at, edges] of ends) side === "in" ? join(k, at, edges) : join(at, k, edges);
      }
    }
    return { boxes, arrows: [...arrows.values()] };
  }

  // Numbers that are not in group g, or not on show there, as boxes at its side: each by itself if
  // they are few, otherwise those that are in one box further out together.
  atSide(g, side, found) {
    const { graph } = this;
    const outer = (e) => (side === "in" ? graph.operands[e] : graph.userOf[e]);
    const distinct = new Set();
    for (const { edges } of found) for (const e of edges) distinct.add(outer(e));
    const separate = distinct.size <= SEPARATE;
    const made = new Map();
    for (const { at, edges } of found) {
      for (const e of edges) {
        const v = outer(e);
        const item = separate ? v : this.neighbour(g, v);
        if (!made.has(item))
          made.set(item, { box: { side, item, numbers: new Set() }, ends: new Map() });
        const { box, ends } = made.get(item);
        box.numbers.add(v);
        if (!ends.has(at)) ends.set(at, []);
        ends.get(at).push(e);
      }
    }
    return made.values();
  }

  // The largest box around a number outside group g that does not hold g.
  neighbour(g, v) {
    const { graph } = this;
    let around = g;
    while (!isInside(graph, around, v)) around = graph.parents[around];
    return itemWithin(graph, around, v);
  }

  // All that is joined to the items of group g: {a, b, edges}, where b has operands in a; one of the
  // two is null if it is outside.
  jointsOf(g) {
    if (this.joints.has(g)) return this.joints.get(g);
    const { graph } = this;
    const { first, operands, firstUser, users, userOf, children, from, to } = graph;
    const members = membersOf(graph, g);
    const slot = new Map();
    children[g].forEach((item, k) => {
      if (item >= 0) slot.set(item, k);
      else for (let p = from[~item]; p < to[~item]; p++) slot.set(graph.order[p], k);
    });
    const found = new Map();
    const add = (a, b, e) => {
      const key = a * (children[g].length + 1) + b;
      if (!found.has(key)) {
        found.set(key, { a: children[g][a - 1] ?? null, b: children[g][b - 1] ?? null, edges: [] });
      }
      found.get(key).edges.push(e);
    };
    for (const v of members) {
      const own = slot.get(v) + 1;
      for (let e = first[v]; e < first[v + 1]; e++) {
        const other = (slot.get(operands[e]) ?? -1) + 1;
        if (other !== own) add(other, own, e);
      }
      for (let k = firstUser[v]; k < firstUser[v + 1]; k++) {
        if (!slot.has(userOf[users[k]])) add(own, 0, users[k]);
      }
    }
    const joints = [...found.values()];
    this.joints.set(g, joints);
    return joints;
  }
}
