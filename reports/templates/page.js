// The page is whole without this script: it adds controls, and puts what records say only into text and attributes.
(() => {
  "use strict";

  /** What may be chosen. Of `hide` the columns are hidden; of the others nothing chosen means all. */
  const FACETS = /** @type {const} */ (["model", "defense", "norm", "family", "hide"]);
  const LABELS = { model: "Models", defense: "Defenses", norm: "Norms", family: "Families", hide: "Columns" };
  /** @typedef {Record<typeof FACETS[number], Set<string>>} Chosen */

  /** @type {Chosen} */
  const chosen = { model: new Set(), defense: new Set(), norm: new Set(), family: new Set(), hide: new Set() };
  /** The part that a link leads to, by its id. */
  let place = "";

  /** @template {Element} T @param {string} selector @param {ParentNode} [root] @returns {T[]} */
  const all = (selector, root = document) => /** @type {T[]} */ ([...root.querySelectorAll(selector)]);

  /**
   * @param {string} tag
   * @param {Record<string, string>} [attributes]
   * @param {(Node | string)[]} inside
   */
  function element(tag, attributes = {}, ...inside) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...inside);
    return made;
  }

  /** @param {string} text @param {() => void} act */
  function button(text, act, attributes = {}) {
    const made = element("button", { type: "button", ...attributes }, text);
    made.addEventListener("click", act);
    return made;
  }

  // ---- tables: which lines and columns are shown

  /** @type {HTMLTableElement[]} */
  const tables = all("table.sortable");
  /** @type {HTMLElement[]} */
  const lines = all("[data-model]");
  const columns = tables.flatMap((table) =>
    [...table.tHead.rows[0].cells].map((head, index) => ({ table, head, index })).filter(({ head }) => head.dataset.column),
  );

  /** @param {typeof FACETS[number]} facet @param {string | undefined} value */
  const fits = (facet, value) => value === undefined || !chosen[facet].size || chosen[facet].has(value);

  /** @param {DOMStringMap} data */
  function columnFits({ column, family, norm }) {
    return !chosen.hide.has(column) && fits("family", family) && (family !== "attack" || fits("norm", norm));
  }

  function applyChosen() {
    for (const line of lines) line.hidden = !(fits("model", line.dataset.model) && fits("defense", line.dataset.defense));
    for (const { table, head, index } of columns) {
      const hidden = !columnFits(head.dataset);
      if (head.hidden === hidden) continue;
      for (const row of table.rows) row.cells[index].hidden = hidden;
    }
    for (const table of tables) refill(table, linesOf(table));
    for (const [facet, control] of controls) control.update(chosen[facet]);
    const own = tables.length ? linesOf(tables[0]) : [];
    const shown = own.filter((row) => !row.hidden).length;
    const few = FACETS.some((facet) => chosen[facet].size);
    const away = new Set(columns.filter(({ head }) => head.hidden).map(({ head }) => head.dataset.column)).size;
    status.textContent = few ? `${shown} of ${own.length} lines${away ? `, ${away} columns hidden` : ""}` : "";
    reset.hidden = !few;
  }

  /** @param {HTMLTableElement} table */
  const linesOf = (table) => [...table.tBodies].flatMap((body) => [...body.rows]);

  /** Put lines into a table in this order: as many as there is room for into its first body, the others into the second. */
  function refill(/** @type {HTMLTableElement} */ table, /** @type {HTMLTableRowElement[]} */ rows) {
    const [first, more] = table.tBodies;
    if (!first) return;
    const shown = rows.filter((row) => !row.hidden);
    if (more) {
      const room = Number(table.dataset.first);
      first.append(...shown.slice(0, room));
      more.append(...shown.slice(room), ...rows.filter((row) => row.hidden));
      const rest = /** @type {HTMLElement} */ (document.querySelector("details.rest"));
      rest.hidden = shown.length <= room;
      rest.firstElementChild.textContent = `${shown.length - room} more`;
    } else {
      first.append(...rows);
    }
    let before = "";
    for (const row of shown) {
      const again = row.dataset.model === before;
      row.classList.toggle("first", !again);
      row.cells[0].classList.toggle("again", again);
      before = row.dataset.model;
    }
  }

  // ---- sorting

  /** @param {HTMLTableElement} table */
  function makeSortable(table) {
    linesOf(table).forEach((row, index) => (row.dataset.order = String(index)));
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => {
      const control = button("", () => sortBy(table, heads, index));
      control.append(...head.childNodes);
      head.append(control);
    });
  }

  /** Numbers go down first and words up, then the other way, then back to the order of the report. */
  function sortBy(/** @type {HTMLTableElement} */ table, /** @type {HTMLTableCellElement[]} */ heads, /** @type {number} */ index) {
    const numbers = heads[index].classList.contains("number");
    const order = numbers ? ["descending", "ascending", ""] : ["ascending", "descending", ""];
    const next = order[(order.indexOf(heads[index].getAttribute("aria-sort") ?? "") + 1) % 3];
    for (const head of heads) head.removeAttribute("aria-sort");
    if (next) heads[index].setAttribute("aria-sort", next);
    const sign = next === "descending" ? -1 : 1;
    /** @param {HTMLTableRowElement} row */
    const key = (row) => (numbers ? Number(row.cells[index].dataset.value ?? NaN) : row.cells[index].textContent.trim());
    const rows = linesOf(table).map((row) => ({ row, key: next ? key(row) : 0, order: Number(row.dataset.order) }));
    rows.sort((a, b) => {
      if (typeof a.key === "string") return sign * a.key.localeCompare(String(b.key), "en", { numeric: true }) || a.order - b.order;
      const absent = Number(Number.isNaN(a.key)) - Number(Number.isNaN(b.key));
      return absent || (Number.isNaN(a.key) ? 0 : sign * (a.key - Number(b.key))) || a.order - b.order;
    });
    refill(table, rows.map(({ row }) => row));
  }

  // ---- controls of what is shown

  /** @type {Map<typeof FACETS[number], { update(set: Set<string>): void }>} */
  const controls = new Map();
  const status = element("p", { role: "status" });
  const reset = button("Show all", () => {
    for (const facet of FACETS) chosen[facet].clear();
    changed();
  });

  /** @param {typeof FACETS[number]} facet @param {string[]} values */
  function picker(facet, values) {
    const shows = facet === "hide";
    const summary = element("summary", {}, LABELS[facet]);
    const boxes = values.map((value) => {
      const box = /** @type {HTMLInputElement} */ (element("input", { type: "checkbox", value }));
      box.addEventListener("change", () => {
        if (box.checked !== shows) chosen[facet].add(value);
        else chosen[facet].delete(value);
        changed();
      });
      return box;
    });
    const words = (/** @type {string} */ value) => (value === "none" ? (facet === "defense" ? "no defense" : "no norm") : value);
    const named = boxes.map((box) => element("label", {}, box, element("span", {}, words(box.value))));
    controls.set(facet, {
      update(set) {
        for (const box of boxes) box.checked = set.has(box.value) !== shows;
        summary.textContent = LABELS[facet] + (set.size ? ` (${shows ? values.length - set.size : set.size})` : "");
        summary.classList.toggle("set", set.size > 0);
      },
    });
    return element("details", { name: "filter" }, summary, element("fieldset", { "aria-label": LABELS[facet] }, ...named));
  }

  function makeFilters() {
    const answer = document.querySelector(".opening .scroll");
    const values = {
      model: lines.map((line) => line.dataset.model),
      defense: lines.map((line) => line.dataset.defense),
      norm: columns.filter(({ head }) => head.dataset.family === "attack").map(({ head }) => head.dataset.norm),
      family: columns.map(({ head }) => head.dataset.family),
      hide: columns.map(({ head }) => head.dataset.column),
    };
    const box = element("div", { class: "filters", role: "group", "aria-label": "What the tables show" });
    for (const facet of FACETS) {
      const distinct = [...new Set(values[facet])];
      if (distinct.length > 1) box.append(picker(facet, distinct));
    }
    box.append(reset, status);
    if (answer && box.children.length > 2) answer.before(box);
    document.addEventListener("keydown", (event) => {
      const open = event.key === "Escape" && box.querySelector("details[open]");
      if (!open) return;
      open.removeAttribute("open");
      /** @type {HTMLElement} */ (open.firstElementChild).focus();
    });
    document.addEventListener("click", ({ target }) => {
      for (const open of all("details[open]", box)) if (!open.contains(/** @type {Node} */ (target))) open.removeAttribute("open");
    });
  }

  // ---- the address: #PLACE, or #at=PLACE&model=A&model=B&hide=COLUMN

  function readAddress() {
    const text = location.hash.slice(1);
    if (text && !text.includes("=")) {
      place = decodeURIComponent(text); // a link of the page: what is chosen stays
    } else {
      const given = new URLSearchParams(text);
      place = given.get("at") ?? "";
      for (const facet of FACETS) chosen[facet] = new Set(given.getAll(facet));
    }
    writeAddress();
    applyChosen();
    openPlace();
  }

  function writeAddress() {
    const given = new URLSearchParams(FACETS.flatMap((facet) => [...chosen[facet]].map((value) => [facet, value])));
    if (place && given.size) given.set("at", place);
    const text = given.size ? `#${given}` : place ? `#${encodeURIComponent(place)}` : "";
    if (text !== location.hash) history.replaceState(null, "", text || location.pathname + location.search);
  }

  function changed() {
    writeAddress();
    applyChosen();
  }

  function openPlace() {
    const target = place && document.getElementById(place);
    if (!target) return;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    const top = target.closest("details") ?? target;
    top.scrollIntoView();
    requestAnimationFrame(() => top.scrollIntoView()); // what came into view may be taller than it was taken for
    for (const link of all(".toc a")) {
      if (link.getAttribute("href") === `#${place}`) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  // ---- copying, light and dark, print

  /** @param {HTMLElement} source */
  async function copy(source) {
    const items = all("li", source);
    const text = (items.length ? items : [source]).map((item) => item.textContent.trim()).join("\n");
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      if (!document.execCommand("copy")) return "Selected: copy it with the keyboard";
    }
    return "Copied";
  }

  function makeCopies() {
    for (const source of /** @type {HTMLElement[]} */ (all("[data-copy]"))) {
      const control = button(source.dataset.copy, async () => {
        control.textContent = await copy(source);
        setTimeout(() => (control.textContent = source.dataset.copy), 2000);
      }, { class: "copy", "aria-live": "polite" });
      source.after(control);
    }
  }

  function makeTheme() {
    const root = document.documentElement;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const now = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
    const other = () => (now() === "dark" ? "light" : "dark");
    const control = button("", () => {
      root.dataset.theme = other();
      control.textContent = `${other() === "dark" ? "Dark" : "Light"} colours`;
      try {
        localStorage.setItem("robust-eval theme", root.dataset.theme);
      } catch {} // a browser may keep nothing of a page from a disk
    }, { class: "theme" });
    try {
      const kept = localStorage.getItem("robust-eval theme");
      if (kept === "light" || kept === "dark") root.dataset.theme = kept;
    } catch {}
    control.textContent = `${other() === "dark" ? "Dark" : "Light"} colours`;
    dark.addEventListener("change", () => (control.textContent = `${other() === "dark" ? "Dark" : "Light"} colours`));
    document.querySelector("h1").after(control);
  }

  function unfoldForPrint() {
    /** @type {HTMLDetailsElement[]} */
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = all(".part > details:not(.details):not([open])");
      for (const fold of opened) fold.open = true;
    });
    addEventListener("afterprint", () => opened.splice(0).forEach((fold) => (fold.open = false)));
  }

  // ---- charts: a drawing stands in the page, and is put out by the chart when it comes into view

  function makeCharts() {
    const vega = document.getElementById("vega");
    if (!vega) return;
    let last = Promise.resolve();
    const idle = () => new Promise((done) => ("requestIdleCallback" in window ? requestIdleCallback(done, { timeout: 500 }) : setTimeout(done)));
    const seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        seen.unobserve(target);
        // one after the other, so that a reader who scrolls on is not held up by all of them
        last = last.then(idle).then(() => {
          if (!("vegaEmbed" in window)) document.body.append(element("script", {}, vega.textContent));
          return draw(/** @type {HTMLElement} */ (target));
        }).catch((error) => console.error(String(error)));
      }
    }, { rootMargin: "200px" });
    for (const figure of all("[data-chart]")) seen.observe(figure);
  }

  const tip = element("div", { class: "tip", role: "tooltip" });

  /** @param {HTMLElement} figure */
  async function draw(figure) {
    const spec = document.getElementById(`spec-${figure.dataset.chart}`);
    const drawn = figure.querySelector(".drawn");
    if (!spec || !drawn) return;
    const alive = element("div", { class: "alive", hidden: "" });
    drawn.before(alive);
    try {
      // @ts-ignore - of the bundle
      await window.vegaEmbed(alive, JSON.parse(spec.textContent), { ast: true, actions: false, renderer: "svg", logLevel: 1, tooltip: showTip });
    } catch (error) {
      alive.remove(); // the drawing stays
      throw error;
    }
    drawn.remove();
    alive.hidden = false;
  }

  /** @param {unknown} _ @param {MouseEvent} event @param {unknown} __ @param {unknown} value */
  function showTip(_, event, __, value) {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    tip.textContent = typeof value === "object" ? Object.entries(value).map(([name, word]) => `${name}: ${word}`).join("; ") : String(value);
    if (!tip.isConnected) document.body.append(tip);
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${event.clientY + 14}px`;
  }

  function followWidth() {
    const toc = /** @type {HTMLDetailsElement} */ (document.querySelector(".toc details"));
    const wide = matchMedia("(min-width: 70rem)");
    const fit = () => (toc.open = wide.matches);
    wide.addEventListener("change", fit);
    fit();
  }

  makeTheme();
  followWidth();
  tables.forEach(makeSortable);
  makeFilters();
  makeCopies();
  unfoldForPrint();
  makeCharts();
  readAddress();
  addEventListener("hashchange", readAddress);
})();
