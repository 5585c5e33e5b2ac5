// Places for boxes and ways for arrows, in columns from left to right: Sugiyama, Tagawa and Toda,
// "Methods for visual understanding of hierarchical system structures" (1981), as in `draw`.

const BETWEEN = 14; // boxes of a column
const AROUND = 9; // in a column, where one of the two is an arrow that passes
const NARROWEST = 36; // between columns
const WIDEST = 120;
const BELOW = 34; // for arrows that close a circle
const PORTS = 12; // from one arrowhead at a box to the next, where there is room
const SWEEPS = 8;
const ROUNDS = 16;

// `sizes` has {width, height}, `arrows` {from, to, slot}, places in it and in the order of the
// operands, or null. Gives {width, height, boxes: [{x,
// y}], ways}, where a way is a list of points, straight from the first to the second, bent from
// the second to the third, and so on in turn. An arrow that closes a circle has a way of null.
function laidOut(sizes, arrows) {
  const count = sizes.length;
  const rank = orderWithoutCircles(count, arrows);
  const forward = arrows.map(({ from, to }) => rank[from] < rank[to]);
  const column = columnsOf(count, arrows, forward, rank);
  const { columns, ways, columnOf } = withPoints(count, arrows, forward, column);
  const links = linksOf(ways, columnOf.length);
  orderColumns(columns, links);
  orderOperands(columns, links, ways, arrows);
  const heightOf = (item) => (item < count ? sizes[item].height : 0);
  const y = placedAcross(columns, links, heightOf, count);
  const top = Math.min(...y.map((middle, item) => middle - heightOf(item) / 2), 0);
  const bottom = Math.max(...y.map((middle, item) => middle + heightOf(item) / 2), 0);
  const starts = [];
  const ends = [];
  let x = 0;
  columns.forEach((items, c) => {
    if (c > 0) {
      let steepest = 0;
      for (const item of items) {
        for (const other of links.before[item])
          steepest = Math.max(steepest, Math.abs(y[item] - y[other]));
      }
      x += Math.min(WIDEST, Math.max(NARROWEST, steepest / 4));
    }
    starts.push(x);
    x += Math.max(0, ...items.map((item) => (item < count ? sizes[item].width : 0)));
    ends.push(x);
  });
  const boxes = sizes.map(({ height }, k) => ({
    x: starts[column[k]],
    y: y[k] - height / 2 - top,
  }));
  const ports = portsOf(ways, arrows, y, heightOf);
  const frame = { sizes, column: columnOf, starts, ends, y, top };
  const paths = ways.map((way, k) => way && pathAlong(way, ports[k], frame));
  const below = ways.includes(null) ? BELOW : 0;
  return { width: x, height: bottom - top + below, boxes, ways: paths };
}

// The place of each box in an order in which arrows lead forwards, except those of circles.
function orderWithoutCircles(count, arrows) {
  const waiting = new Array(count).fill(0);
  const after = Array.from({ length: count }, () => []);
  for (const { from, to } of arrows) {
    if (from === to) continue;
    waiting[to]++;
    after[from].push(to);
  }
  const rank = new Array(count).fill(-1);
  let placed = 0;
  const ready = [];
  const place = (box) => {
    rank[box] = placed++;
    for (const other of after[box])
      if (--waiting[other] === 0 && rank[other] < 0) ready.push(other);
  };
  for (let box = 0; box < count; box++) if (waiting[box] === 0) ready.push(box);
  while (placed < count) {
    while (ready.length) place(ready.shift());
    if (placed < count) place(rank.indexOf(-1)); // the earliest of those in a circle
  }
  return rank;
}

// A box stands one column left of the first that uses it.
function columnsOf(count, arrows, forward, rank) {
  const distance = new Array(count).fill(0);
  const users = Array.from({ length: count }, () => []);
  arrows.forEach(({ from, to }, k) => forward[k] && users[from].push(to));
  const last = Array.from({ length: count }, (_, box) => box).sort((a, b) => rank[b] - rank[a]);
  for (const box of last) {
    for (const user of users[box]) distance[box] = Math.max(distance[box], distance[user] + 1);
  }
  const deepest = Math.max(0, ...distance);
  return distance.map((d) => deepest - d);
}

// Long arrows pass columns at points, which they share with others from the same box.
function withPoints(count, arrows, forward, column) {
  const columnOf = column.slice();
  const points = new Map();
  const ways = arrows.map(({ from, to }, k) => {
    if (!forward[k]) return null;
    const way = [from];
    for (let c = column[from] + 1; c < column[to]; c++) {
      const key = `${from} ${c}`;
      if (!points.has(key)) {
        points.set(key, columnOf.length);
        columnOf.push(c);
      }
      way.push(points.get(key));
    }
    way.push(to);
    return way;
  });
  const columns = Array.from({ length: Math.max(0, ...column) + 1 }, () => []);
  columnOf.forEach((c, item) => columns[c].push(item));
  return { columns, ways, columnOf };
}

function linksOf(ways, count) {
  const before = Array.from({ length: count }, () => new Set());
  const after = Array.from({ length: count }, () => new Set());
  for (const way of ways) {
    for (let k = 1; way && k < way.length; k++) {
      before[way[k]].add(way[k - 1]);
      after[way[k - 1]].add(way[k]);
    }
  }
  return { before, after };
}

// Sort the columns by where neighbours stand, from side to side; the order with fewest crossings
// is kept.
function orderColumns(columns, links) {
  const position = new Map();
  const number = (column) => column.forEach((item, k) => position.set(item, k));
  columns.forEach(number);
  let best = columns.map((column) => column.slice());
  let fewest = crossings(columns, links, position);
  for (let sweep = 0; sweep < SWEEPS && fewest > 0; sweep++) {
    const rightwards = sweep % 2 === 0;
    const side = rightwards ? links.before : links.after;
    for (const column of rightwards ? columns : columns.slice().reverse()) {
      const mean = new Map();
      for (const item of column) {
        let sum = 0;
        for (const other of side[item]) sum += position.get(other);
        mean.set(item, side[item].size ? sum / side[item].size : position.get(item));
      }
      column.sort((a, b) => mean.get(a) - mean.get(b));
      number(column);
    }
    const count = crossings(columns, links, position);
    if (count < fewest) {
      fewest = count;
      best = columns.map((column) => column.slice());
    }
  }
  best.forEach((column, c) => columns[c].splice(0, column.length, ...column));
}

// Exchange neighbours that are operands of one box, in the wrong order, where nothing crosses for
// that.
function orderOperands(columns, links, ways, arrows) {
  const slot = new Map(); // of items that are joined to one box only, and where they arrive there
  ways.forEach((way, k) => {
    if (!way || (arrows[k].slot ?? null) === null) return;
    const last = way[way.length - 2];
    if (links.after[last].size === 1) slot.set(last, arrows[k].slot);
  });
  const position = new Map();
  for (const column of columns) column.forEach((item, k) => position.set(item, k));
  const exchange = (column, k) => {
    [column[k], column[k + 1]] = [column[k + 1], column[k]];
    position.set(column[k], k).set(column[k + 1], k + 1);
  };
  for (const column of columns) {
    for (let k = 0; k + 1 < column.length; k++) {
      const [a, b] = [column[k], column[k + 1]];
      const [target] = links.after[a];
      if (!(slot.get(a) > slot.get(b)) || !links.after[b].has(target)) continue;
      const before = crossings(columns, links, position);
      exchange(column, k);
      if (crossings(columns, links, position) > before) exchange(column, k);
    }
  }
}

// How many pairs of arrows cross, counted with a tree of sums (Fenwick, 1994).
function crossings(columns, links, position) {
  let total = 0;
  for (let c = 0; c + 1 < columns.length; c++) {
    const size = columns[c + 1].length;
    const sums = new Int32Array(size + 1);
    let seen = 0;
    for (const item of columns[c]) {
      const ends = [...links.after[item]].map((other) => position.get(other));
      for (const end of ends) {
        let notBelow = 0;
        for (let k = end + 1; k > 0; k -= k & -k) notBelow += sums[k];
        total += seen - notBelow;
      }
      for (const end of ends) {
        for (let k = end + 1; k <= size; k += k & -k) sums[k]++;
        seen++;
      }
    }
  }
  return total;
}

// The middles of all items: near what they are joined to, without overlaps.
function placedAcross(columns, links, heightOf, count) {
  const y = [];
  const gaps = columns.map((column) =>
    column.map((item, k) => {
      if (k === 0) return 0;
      const other = column[k - 1];
      const free = item >= count || other >= count ? AROUND : BETWEEN;
      return (heightOf(item) + heightOf(other)) / 2 + free;
    }),
  );
  columns.forEach((column, c) => {
    let place = -gaps[c].reduce((a, b) => a + b, 0) / 2;
    column.forEach((item, k) => {
      place += gaps[c][k];
      y[item] = place;
    });
  });
  const weightOf = (a, b) => 6 ** ((a >= count) + (b >= count)); // long arrows want to be straight
  for (let round = 0; round < ROUNDS; round++) {
    const turns = columns.map((_, c) => c);
    for (const c of round % 2 === 0 ? turns : turns.reverse()) {
      const weights = [];
      const wishes = columns[c].map((item) => {
        let sum = 0;
        let total = 0;
        for (const side of [links.before, links.after]) {
          for (const other of side[item]) {
            const weight = weightOf(item, other);
            sum += weight * y[other];
            total += weight;
          }
        }
        weights.push(total || 0.1);
        return total ? sum / total : y[item];
      });
      spread(wishes, weights, gaps[c]).forEach((place, k) => {
        y[columns[c][k]] = place;
      });
    }
  }
  return y;
}

// The places in order, with the gaps or more between them, nearest to the wishes: pooling adjacent
// violators (Barlow et al., 1972).
function spread(wishes, weights, gaps) {
  const blocks = [];
  const offsets = [];
  let offset = 0;
  wishes.forEach((wish, k) => {
    offset += gaps[k];
    offsets.push(offset);
    let block = { mean: wish - offset, weight: weights[k], count: 1 };
    while (blocks.length && blocks[blocks.length - 1].mean >= block.mean) {
      const other = blocks.pop();
      const weight = block.weight + other.weight;
      const mean = (block.mean * block.weight + other.mean * other.weight) / weight;
      block = { mean, weight, count: block.count + other.count };
    }
    blocks.push(block);
  });
  const starts = blocks.flatMap(({ mean, count }) => new Array(count).fill(mean));
  return starts.map((start, k) => start + offsets[k]);
}

// How far from the middle of its box each arrow arrives: side by side, in the order of the operands
// where that makes a difference, otherwise in that which they come from.
function portsOf(ways, arrows, y, heightOf) {
  const ports = new Array(ways.length).fill(0);
  const arriving = new Map();
  ways.forEach((way, k) => {
    if (!way) return;
    const target = way[way.length - 1];
    if (!arriving.has(target)) arriving.set(target, []);
    arriving.get(target).push(k);
  });
  for (const [target, own] of arriving) {
    const comesFrom = (k) => y[ways[k][ways[k].length - 2]];
    const ordered = own.every((k) => (arrows[k].slot ?? null) !== null);
    own.sort((a, b) => (ordered ? arrows[a].slot - arrows[b].slot : comesFrom(a) - comesFrom(b)));
    const step =
      own.length > 1 ? Math.min(PORTS, (heightOf(target) - PORTS) / (own.length - 1)) : 0;
    own.forEach((k, place) => {
      ports[k] = (place - (own.length - 1) / 2) * step;
    });
  }
  return ports;
}

function pathAlong(way, port, { sizes, column, starts, ends, y, top }) {
  const source = way[0];
  const points = [
    [starts[column[source]] + sizes[source].width, y[source] - top],
    [ends[column[source]], y[source] - top],
  ];
  for (const item of way.slice(1, -1)) {
    points.push([starts[column[item]], y[item] - top], [ends[column[item]], y[item] - top]);
  }
  const target = way[way.length - 1];
  points.push([starts[column[target]], y[target] + port - top]);
  return points;
}
