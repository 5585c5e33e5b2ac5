// The page: what is on show, where the backward pass is, and what the reader does.

const READABLE = 0.6; // the scale at which texts are easy to read
const LEGIBLE = 0.5; // and that at which they can still be read

const ALONE = `(alone: with the others open there would be more than ${MOST} boxes)`;

class Page {
  constructor(graph) {
    this.graph = graph;
    this.show = new Show(graph);
    this.step = null; // of the backward pass; null while the Values' own gradients are shown
    this.grad = graph.grad;
    this.selected = graph.root;
    this.current = null; // the item on show whose turn it is
    this.view = { x: 0, y: 0, scale: 1 };
    this.moved = false; // by the reader, or to show something
    this.note = ""; // beside the path, until something else is shown
    this.svg = document.getElementById("picture");
    this.panel = document.getElementById("panel");
    this.slider = document.getElementById("slider");
    this.slider.max = stepsOf(graph);
    this.slider.value = stepsOf(graph);
    if (graph.children[0].length === 1 && graph.children[0][0] < 0)
      this.show.open.add(~graph.children[0][0]);
    this.draw();
    this.fit();
  }

  // --- what the picture asks --------------------------------------------------------------------

  // The gradients that one backward() gives.
  once() {
    this.onceGrad ??= gradientsAfter(this.graph, stepsOf(this.graph));
    return this.onceGrad;
  }

  // Whether a number's turn has not come, and nothing has arrived there.
  waits(v) {
    return (
      this.step !== null &&
      this.step < stepsOf(this.graph) &&
      this.waitsToPass(v) &&
      this.grad[v] === 0
    );
  }

  waitsToPass(v) {
    return this.step !== null && v < this.graph.count - this.step;
  }

  reached(g) {
    return this.step === null || membersOf(this.graph, g).some((v) => !this.waits(v));
  }

  marks(item) {
    return this.current === item;
  }

  // --- drawing --------------------------------------------------------------------------------------

  draw() {
    const { graph, show, step } = this;
    this.current = step ? show.shownAs(numberAt(graph, step)) : null;
    this.whole = composed(this, show.focus);
    const active = document.activeElement;
    const focused = active?.closest?.("[data-item]")?.dataset.item;
    // A link that was followed is no longer there: the keyboard goes on from where it was.
    const crumbs = document.getElementById("crumbs");
    const around = [this.panel, crumbs].find((part) => part.contains(active));
    this.world = element("g", {}, drawnPicture(this, this.whole));
    this.svg.replaceChildren(this.world);
    this.place();
    if (focused !== undefined)
      this.svg.querySelector(`[data-item="${focused}"]`)?.focus({ preventScroll: true });
    this.panel.replaceChildren(...panelFor(this).filter(Boolean));
    this.drawCrumbs();
    this.drawSteps();
    around?.focus({ preventScroll: true });
  }

  drawCrumbs() {
    const { graph, show } = this;
    const path = [...pathOf(graph, ~show.focus), show.focus].filter((g) => g >= 0);
    const links = path.flatMap((g, k) => [
      k ? " › " : "",
      html(
        "button",
        { class: "link", "data-focus": g, "aria-current": g === show.focus ? "page" : undefined },
        titleOf(graph, ~g),
      ),
    ]);
    const total = graph.children[show.focus].length;
    const pager = [];
    if (total > SLICE) {
      const start = show.startOf(show.focus);
      const turn = (text, hint, to) =>
        html(
          "button",
          {
            "data-turn": show.focus,
            "data-to": to,
            title: hint,
            "aria-label": hint,
            disabled: to < 0 || to >= total,
          },
          text,
        );
      pager.push(
        html(
          "span",
          { class: "muted" },
          `  ${stretch(start, Math.min(total, start + SLICE), total)} `,
        ),
        turn("‹", `The ${SLICE} before`, start - SLICE),
        turn("›", `The next ${SLICE}`, start + SLICE),
      );
    }
    const note = this.note && html("span", { class: "muted" }, `  ${this.note}`);
    this.note = "";
    document.getElementById("crumbs").replaceChildren(...links, ...pager, note);
  }

  drawSteps() {
    const { graph, step } = this;
    const steps = stepsOf(graph);
    this.slider.value = step ?? steps;
    this.slider.setAttribute(
      "aria-valuetext",
      step === null ? "not stepping" : `step ${step} of ${steps}`,
    );
    document.getElementById("leave").hidden = step === null;
    document.getElementById("sentence").replaceChildren(...this.sentence());
    for (const id of ["start", "box-back", "back"])
      document.getElementById(id).disabled = step === 0 || !steps;
    for (const id of ["on", "box-on", "end"])
      document.getElementById(id).disabled = step === steps || !steps;
  }

  sentence() {
    const { graph, step } = this;
    const steps = stepsOf(graph);
    if (!steps) return ["A leaf: there is nothing to step through."];
    if (step === null) {
      const none = graph.grad.every((x) => x === 0);
      return [
        none
          ? "No gradients yet: backward() has not been called. › steps through it."
          : "The gradients that the Values hold. ‹ and › step through backward().",
      ];
    }
    const at = html("b", {}, `${step.toLocaleString("en")} of ${steps.toLocaleString("en")} `);
    if (step === 0) return [at, `${nameOf(graph, graph.root)}.grad = 1: backward() starts here.`];
    const v = numberAt(graph, step);
    const g = this.grad[v];
    const own = linkTo(graph, v, `${nameOf(graph, v)} = ${formulaOf(graph, v)}`);
    if (g === 0) return [at, own, ": the gradient here is 0, nothing is passed on."];
    const edges = range(graph.first[v], graph.first[v + 1]).filter(
      (e) => graph.partials[e] !== 0 || graph.table.get(graph.op[v]).plain,
    );
    const additions = edges.slice(0, 3).map((e) => {
      const operand = graph.operands[e];
      return `${shortName(graph, operand) ?? nameOf(graph, operand)}.grad += ${number(graph.partials[e])} · ${number(g)} = ${number(passed(graph, e, g))}`;
    });
    if (edges.length > 3) additions.push("…");
    return [at, own, ":  ", additions.join(";  ") || "nothing is passed on."];
  }

  // --- moving about -----------------------------------------------------------------------------

  place() {
    const { x, y, scale } = this.view;
    this.world.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
  }

  size() {
    const { width, height } = this.svg.getBoundingClientRect();
    return { width: width || 800, height: height || 600 };
  }

  // Show everything, or, if it would be smaller than `least`, its beginning.
  fit(least = LEGIBLE) {
    const { width, height } = this.size();
    const room = 24;
    const fitting = Math.min(
      (width - 2 * room) / this.whole.width,
      (height - 2 * room) / this.whole.height,
      1.25,
    );
    const scale = Math.max(fitting, least);
    const at = (space, extent) => Math.max(room, (space - scale * extent) / 2);
    this.view = { scale, x: at(width, this.whole.width), y: at(height, this.whole.height) };
    this.moved = false;
    this.place();
  }

  zoom(factor, at = null) {
    const { width, height } = this.size();
    const { x, y, scale } = this.view;
    const [px, py] = at ?? [width / 2, height / 2];
    const wanted = Math.min(4, Math.max(0.05, scale * factor));
    this.view = {
      scale: wanted,
      x: px - ((px - x) * wanted) / scale,
      y: py - ((py - y) * wanted) / scale,
    };
    this.moved = true;
    this.place();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.moved = true;
    this.place();
  }

  // The place of an item in the picture: {x, y, width, height}, or null.
  boxOf(item, whole = this.whole, dx = 0, dy = 0) {
    for (const part of whole.parts) {
      const { x, y, width, height } = part;
      if (!part.box.side && part.box.item === item) return { x: x + dx, y: y + dy, width, height };
      if (!part.inner) continue;
      const found = this.boxOf(
        item,
        part.inner,
        dx + x + (width - part.inner.width) / 2,
        dy + y + HEADER + INSET,
      );
      if (found) return found;
    }
    return null;
  }

  // Move the picture so that an item can be seen, and no more than that.
  bring(item) {
    const box = this.boxOf(item);
    if (!box) return;
    const { width, height } = this.size();
    const room = 24;
    const fitting = Math.min((width - 2 * room) / box.width, (height - 2 * room) / box.height);
    const least = Math.min(READABLE, Math.max(LEGIBLE, this.view.scale));
    const scale = Math.max(least, Math.min(this.view.scale, fitting));
    if (scale !== this.view.scale) this.zoom(scale / this.view.scale);
    const within = (at, extent, space) => {
      if (extent > space - 2 * room) return room - at;
      return Math.max(room - at, Math.min(0, space - room - extent - at));
    };
    const { x, y } = this.view;
    this.pan(
      within(x + scale * box.x, scale * box.width, width),
      within(y + scale * box.y, scale * box.height, height),
    );
  }

  // Draw again with an item staying where it is on the screen.
  redrawAround(item) {
    const before = this.boxOf(item);
    this.draw();
    const after = this.boxOf(item);
    if (before && after)
      this.pan(this.view.scale * (before.x - after.x), this.view.scale * (before.y - after.y));
  }

  // --- what the reader does ----------------------------------------------------------------------

  select(item) {
    this.selected = item;
    this.draw();
  }

  toggle(g) {
    const focus = this.show.focus;
    this.selected = ~g;
    this.show.toggle(g);
    if (this.show.focus !== focus) {
      this.note = ALONE;
      this.draw();
      this.fit();
      return;
    }
    this.redrawAround(~g);
    this.bring(~g);
  }

  focusOn(g) {
    this.show.focusOn(g);
    this.selected = ~g;
    this.draw();
    this.fit();
  }

  turn(g, to) {
    this.show.starts.set(g, to);
    this.draw();
    if (g === this.show.focus) this.fit();
  }

  go(item) {
    const focus = this.show.focus;
    this.show.reveal(item);
    this.selected = item;
    this.draw();
    if (focus !== this.show.focus) this.fit();
    this.bring(item);
  }

  closeAll() {
    this.show.focusOn(0);
    this.selected = ~0;
    this.draw();
    this.fit();
  }

  stepTo(step) {
    const steps = stepsOf(this.graph);
    if (!steps) return;
    this.step = step === null ? null : Math.max(0, Math.min(steps, step));
    this.grad = this.step === null ? this.graph.grad : gradientsAfter(this.graph, this.step);
    this.draw();
    if (this.current !== null) this.bring(this.current);
  }

  stepBy(direction) {
    this.stepTo(
      this.step === null ? (direction > 0 ? 0 : stepsOf(this.graph) - 1) : this.step + direction,
    );
  }

  // On, or back, to where another box on show has its turn.
  stepByBox(direction) {
    const steps = stepsOf(this.graph);
    if (this.step === null) {
      this.stepBy(direction);
      return;
    }
    const shown = (step) => (step > 0 ? this.show.shownAs(numberAt(this.graph, step)) : null);
    const now = shown(this.step);
    let step = this.step + direction;
    while (step > 0 && step < steps && (shown(step) === now || shown(step) === null))
      step += direction;
    this.stepTo(step);
  }

  matches(text) {
    const { graph } = this;
    const wanted = text.trim().toLowerCase();
    if (!wanted) return [];
    const found = [];
    for (let g = 1; g < graph.kinds.length && found.length < 200; g++) {
      const title = ["module", "unit"].includes(graph.kinds[g])
        ? fullTitle(graph, ~g)
        : graph.labels[g];
      if (
        ["module", "unit", "leaves"].includes(graph.kinds[g]) &&
        title.toLowerCase().includes(wanted)
      )
        found.push([title, ~g]);
    }
    for (const [v, name] of graph.names) {
      if (found.length >= 400) break;
      if (name.toLowerCase().includes(wanted)) found.push([name, v]);
    }
    const place = Number(/^v(\d+)$/.exec(wanted)?.[1] ?? -1);
    if (place >= 0 && place < graph.count) found.unshift([fullTitle(graph, place), place]);
    const worth = ([title]) => {
      const last = title.toLowerCase().split(" › ").pop();
      return last === wanted ? 0 : last.startsWith(wanted) ? 1 : 2;
    };
    return found.sort((a, b) => worth(a) - worth(b) || a[0].length - b[0].length).slice(0, 12);
  }
}

// --- events -----------------------------------------------------------------------------------------

function listen(page) {
  const { svg } = page;
  const by = (id) => document.getElementById(id);

  const act = (target) => {
    const { item, side, turn, to, go, focus, toggle } = target.dataset;
    if (turn !== undefined) page.turn(Number(turn), Math.max(0, Number(to)));
    else if (go !== undefined) page.go(Number(go));
    else if (focus !== undefined) page.focusOn(Number(focus));
    else if (toggle !== undefined) page.toggle(Number(toggle));
    else if (side !== undefined) page.go(Number(item));
    else if (Number(item) < 0) page.toggle(~Number(item));
    else page.select(Number(item));
  };
  const ACTS = "[data-turn],[data-go],[data-focus],[data-toggle],[data-item]";
  document.addEventListener("click", (event) => {
    const target = event.target.closest(ACTS);
    if (!target || dragged) return;
    act(target);
    if (list.contains(target))
      svg.querySelector(`[data-item="${target.dataset.go}"]`)?.focus({ preventScroll: true });
  });

  // Dragging with one pointer, pinching with two.
  const pointers = new Map();
  let dragged = false;
  svg.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 1) dragged = false;
  });
  window.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const moved = [now[0] - before[0], now[1] - before[1]];
    if (!dragged && Math.hypot(...moved) < 4) return;
    dragged = true;
    pointers.set(event.pointerId, now);
    if (pointers.size === 1) page.pan(...moved);
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const distance = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
      const corner = svg.getBoundingClientRect();
      page.zoom(distance(now) / Math.max(1, distance(before)), [
        (now[0] + other[0]) / 2 - corner.x,
        (now[1] + other[1]) / 2 - corner.y,
      ]);
    }
  });
  for (const name of ["pointerup", "pointercancel"])
    window.addEventListener(name, (event) => pointers.delete(event.pointerId));
  svg.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const corner = svg.getBoundingClientRect();
      page.zoom(Math.exp(-Math.max(-100, Math.min(100, event.deltaY)) / 400), [
        event.clientX - corner.x,
        event.clientY - corner.y,
      ]);
    },
    { passive: false },
  );

  const CLICKS = {
    closer: () => page.zoom(1.3),
    further: () => page.zoom(1 / 1.3),
    fit: () => page.fit(0.05),
    "close-all": () => page.closeAll(),
    start: () => page.stepTo(0),
    "box-back": () => page.stepByBox(-1),
    back: () => page.stepBy(-1),
    on: () => page.stepBy(1),
    "box-on": () => page.stepByBox(1),
    end: () => page.stepTo(stepsOf(page.graph)),
    leave: () => page.stepTo(null),
  };
  for (const [id, does] of Object.entries(CLICKS)) by(id).addEventListener("click", does);
  page.slider.addEventListener("input", () => page.stepTo(Number(page.slider.value)));

  const KEYS = {
    "+": CLICKS.closer,
    "=": CLICKS.closer,
    "-": CLICKS.further,
    0: CLICKS.fit,
    ArrowRight: CLICKS.on,
    ArrowLeft: CLICKS.back,
    ArrowDown: CLICKS["box-on"],
    ArrowUp: CLICKS["box-back"],
    Home: CLICKS.start,
    End: CLICKS.end,
    Escape: CLICKS.leave,
  };
  const PANS = { ArrowRight: [-60, 0], ArrowLeft: [60, 0], ArrowDown: [0, -60], ArrowUp: [0, 60] };
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target.closest?.("[data-item],[data-turn]");
    if (target && svg.contains(target) && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      act(target);
    } else if (event.shiftKey && PANS[event.key]) {
      event.preventDefault();
      page.pan(...PANS[event.key]);
    } else if (event.key === "/") {
      event.preventDefault();
      by("search").focus();
    } else if (KEYS[event.key]) {
      event.preventDefault();
      KEYS[event.key]();
    }
  });

  const search = by("search");
  const list = by("found");
  const offer = () => {
    const found = page.matches(search.value);
    list.replaceChildren(
      ...found.map(([title, item]) =>
        html("li", {}, html("button", { class: "link", "data-go": item }, shortened(title, 60))),
      ),
    );
    if (search.value.trim() && !found.length)
      list.replaceChildren(html("li", { class: "muted" }, "No name has this in it."));
    list.hidden = !search.value.trim();
  };
  search.addEventListener("input", offer);
  search.addEventListener("focus", offer);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") list.querySelector("button")?.click();
    if (event.key === "Escape") {
      search.value = "";
      list.hidden = true;
      search.blur();
    }
    if (event.key === "ArrowDown") {
      event.preventDefault();
      list.querySelector("button")?.focus();
    }
  });
  list.addEventListener("keydown", (event) => {
    const line = event.target.closest("li");
    const next = { ArrowDown: line.nextSibling, ArrowUp: line.previousSibling, Escape: null };
    if (!(event.key in next)) return;
    event.preventDefault();
    event.stopPropagation(); // these keys step through backward() elsewhere
    if (event.key !== "ArrowDown" || next.ArrowDown)
      (next[event.key]?.querySelector("button") ?? search).focus();
  });
  document.addEventListener("click", (event) => {
    if (event.target !== search) list.hidden = true;
  });
  window.addEventListener("resize", () => page.moved || page.fit());
}

if (typeof document !== "undefined") {
  const page = new Page(readGraph(JSON.parse(document.getElementById("data").textContent)));
  listen(page);
}
