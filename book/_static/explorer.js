/* The explorer of the residual stream: draws data that `ovectors explore` wrote. No page but the
   explorer's has its element, so that on any other page this does nothing. Data come as scripts,
   not by fetch, which browsers refuse where a page is opened from a folder. */
"use strict";

var ovectorsExplorer = (function () {
  const INTERVENTIONS = {
    none: { label: "nothing: the question as it is", text: "question" },
    pattern: { label: "nothing: a nonsense pattern", text: "pattern", run: "pattern" },
    vector: { label: "o vector put in", text: "pattern", run: "vector", beside: "pattern" },
    random: { label: "random vector put in", text: "pattern", run: "random", beside: "pattern" },
    removed: { label: "FFNs removed", text: "question", run: "removed", beside: "none" },
  };
  const loaded = new Map(); // "model/task" -> data
  let files = []; // what there is: {model, task, title, file}
  let page = null; // the elements of the page
  let state = { model: "", task: "", item: 0, intervention: "none", layer: null };

  // ---- what the data say --------------------------------------------------------------------

  /** "answer", "argument" or "neither": the colours of the paper's figure 2. */
  function stage(rankArgument, rankAnswer) {
    if (rankAnswer === 1) return "answer";
    return rankArgument === 1 ? "argument" : "neither";
  }

  /** A part of the stream at a layer: a later layer reads what the one before it left. */
  function stateAt(item, part, layer) {
    if (part !== "before") return item.states[part][layer];
    return layer === 0 ? item.states.entry[0] : item.states.after[layer - 1];
  }

  /** What is on top after each layer under an intervention: [token, rank, rank] a layer. */
  function run(item, name) {
    if (name === "none") return item.states.after.map(([tokens, , a, b]) => [tokens[0], a, b]);
    return item.runs[name];
  }

  /** In words where argument and answer are on top, for the eyes and for screen readers. */
  function summary(item, rows, words) {
    const found = { argument: [], answer: [] };
    rows.forEach(([, a, b], layer) => found[stage(a, b)]?.push(layer));
    const tell = (word, layers) => {
      if (!layers.length) return `${word} is never on top.`;
      if (layers.length === 1) return `${word} is on top after layer ${layers[0]} alone.`;
      const [first, last] = [layers[0], layers[layers.length - 1]];
      const whole = last - first + 1 === layers.length;
      return whole
        ? `${word} is on top after layers ${first} to ${last}.`
        : `${word} is on top after ${layers.length} of the layers, first ${first}, last ${last}.`;
    };
    const end = visible(words[rows[rows.length - 1][0]]);
    const [x, y] = [tell(item.argument, found.argument), tell(item.answer, found.answer)];
    return `${x} ${y} In the end ${end} is on top.`;
  }

  function visible(token) {
    return token.trim() === "" ? (token.includes("\n") ? "↵" : "␣") : token.trim();
  }

  // ---- drawing ------------------------------------------------------------------------------

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function cell(token, rankArgument, rankAnswer, words, changed) {
    const kind = stage(rankArgument, rankAnswer);
    const ranks = element("small", {}, `${rankArgument} · ${rankAnswer}`);
    const mark = changed ? " changed" : "";
    const said = kind === "neither" ? "" : ` (${kind})`;
    const hidden = element("span", { class: "ov-hidden" }, `${said}${changed ? ", changed" : ""}`);
    return element("td", { class: `is-${kind}${mark}` }, element("b", {}, visible(words[token])),
      hidden, " ", ranks);
  }

  function columns(data) {
    const shown = INTERVENTIONS[state.intervention];
    if (state.intervention === "none") {
      const heads = { before: "before", mid: "mid, before the FFN", after: "after the FFN" };
      return ["before", ...data.parts].map((part) => ({ head: heads[part], part }));
    }
    const names = { none: "unchanged", pattern: "unchanged" };
    const list = [{ head: shown.label, run: shown.run }];
    return shown.beside ? [{ head: names[shown.beside], run: shown.beside }, ...list] : list;
  }

  /** A layer's number; a button where it can be opened. */
  function layerLabel(layer) {
    if (state.intervention !== "none") return String(layer);
    return element("button", { type: "button", "data-layer": layer,
      "aria-pressed": layer === state.layer, "aria-label": `layer ${layer}: all top tokens` },
      String(layer));
  }

  function drawTable(data, item) {
    const shown = columns(data);
    const head = element("tr", {}, element("th", { scope: "col" }, "layer"),
      ...shown.map((one) => element("th", { scope: "col" }, one.head)));
    const body = element("tbody");
    for (let layer = 0; layer < data.layers; layer += 1) {
      const row = element("tr", {}, element("th", { scope: "row" }, layerLabel(layer)));
      let first = null;
      for (const one of shown) {
        let [token, a, b] = [0, 0, 0];
        if (one.part) {
          const found = stateAt(item, one.part, layer);
          [token, a, b] = [found[0][0], found[2], found[3]];
        } else [token, a, b] = run(item, one.run)[layer];
        row.append(cell(token, a, b, data.words, first !== null && !one.part && first !== token));
        first = token;
      }
      if (INTERVENTIONS[state.intervention].beside && layer >= data.vector.start) {
        row.className = "ov-intervened";
      }
      body.append(row);
    }
    page.table.replaceChildren(element("thead", {}, head), body);
  }

  function drawDetail(data, item) {
    const layer = state.layer;
    if (layer === null || state.intervention !== "none") {
      const hint = "Choose a layer's number to see the best tokens with their scores.";
      page.detail.replaceChildren(element("p", { class: "ov-hint" },
        state.intervention === "none" ? hint : ""));
      return;
    }
    const lists = ["before", ...data.parts].map((part) => {
      const [tokens, logits] = stateAt(item, part, layer);
      const rows = tokens.map((token, at) => element("li", {}, visible(data.words[token]),
        element("small", {}, logits[at].toFixed(2))));
      return element("div", {}, element("h3", {}, part), element("ol", {}, ...rows));
    });
    page.detail.replaceChildren(
      element("p", {}, `Layer ${layer}: the best tokens and their logits, ${lists.length > 2 ?
        "before the layer, between attention and FFN, and after it." :
        "before the layer and after it."}`),
      element("div", { class: "ov-lists" }, ...lists));
  }

  function drawTexts(data, item) {
    const shown = INTERVENTIONS[state.intervention];
    const { argument, answer, source, start } = data.vector;
    page.prompt.textContent = item[shown.text];
    const told = {
      none: "",
      pattern: "A model that copies goes on with the argument.",
      vector: `The vector is what the FFN of layer ${source} adds on the question about ` +
        `${argument} (${answer}). It takes the place of what the FFNs add from layer ${start} on, ` +
        `at every token.` + (item.argument === argument ? " This is that very example." : ""),
      random: `A random direction, as long as that vector, in the same place: layer ${start} on.`,
      removed: `The FFNs from layer ${start} on add nothing, at every token.`,
    };
    page.told.textContent = told[state.intervention];
    const rows = run(item, shown.run || "none");
    let said = summary(item, rows, data.words);
    if (shown.beside) said += ` Unchanged: ${summary(item, run(item, shown.beside), data.words)}`;
    page.summary.textContent = said;
  }

  function draw() {
    const data = loaded.get(`${state.model}/${state.task}`);
    if (!data) return;
    state.item = Math.min(Math.max(state.item, 0), data.items.length - 1);
    if (state.layer !== null && state.layer >= data.layers) state.layer = null;
    options(page.item, data.items.map((one, at) => [at, `${one.argument} → ${one.answer}` +
      (one.correct ? "" : " (not answered)")]), state.item);
    options(page.intervention, Object.entries(INTERVENTIONS).map(([name, one]) => [name, one.label]),
      state.intervention);
    const item = data.items[state.item];
    drawTexts(data, item);
    drawTable(data, item);
    drawDetail(data, item);
    page.root.setAttribute("data-ready", `${state.model}/${state.task}`);
    remember();
  }

  function options(select, pairs, chosen) {
    select.replaceChildren(...pairs.map(([value, label]) => element("option", { value }, label)));
    select.value = String(chosen);
  }

  // ---- the address, and what is loaded -------------------------------------------------------

  function query() {
    const { model, task, item, intervention } = state;
    return `?${new URLSearchParams({ model, task, item, intervention })}`;
  }

  function remember() {
    page.link.href = query();
    try {
      history.replaceState(null, "", query());
    } catch (refused) {
      // Some browsers refuse it on file://; the link on the page has the address all the same.
    }
  }

  function fromAddress() {
    const asked = new URLSearchParams(location.search);
    const known = (name, list) => (list.includes(asked.get(name)) ? asked.get(name) : null);
    state.model = known("model", files.map((one) => one.model)) || files[0].model;
    const tasks = files.filter((one) => one.model === state.model).map((one) => one.task);
    state.task = known("task", tasks) || (tasks.includes("world_capitals") ? "world_capitals" : tasks[0]);
    state.item = Number.parseInt(asked.get("item"), 10) || 0;
    state.intervention = known("intervention", Object.keys(INTERVENTIONS)) || "none";
  }

  function chooseFile() {
    const models = [...new Set(files.map((one) => one.model))];
    options(page.model, models.map((name) => [name, name]), state.model);
    const own = files.filter((one) => one.model === state.model);
    if (!own.some((one) => one.task === state.task)) state.task = own[0].task;
    options(page.task, own.map((one) => [one.task, one.title]), state.task);
    if (loaded.has(`${state.model}/${state.task}`)) draw();
    else load(own.find((one) => one.task === state.task).file);
  }

  function load(file) {
    const script = element("script", { src: page.root.dataset.folder + file });
    script.onerror = () => { page.summary.textContent = `The file ${file} could not be loaded.`; };
    document.head.append(script);
  }

  // ---- what readers do -----------------------------------------------------------------------

  function listen() {
    page.model.onchange = () => { state.model = page.model.value; state.item = 0; chooseFile(); };
    page.task.onchange = () => { state.task = page.task.value; state.item = 0; chooseFile(); };
    page.item.onchange = () => { state.item = Number(page.item.value); draw(); };
    page.intervention.onchange = () => { state.intervention = page.intervention.value; draw(); };
    const step = (by) => () => {
      const count = loaded.get(`${state.model}/${state.task}`)?.items.length || 1;
      state.item = (state.item + by + count) % count;
      draw();
    };
    page.previous.onclick = step(-1);
    page.next.onclick = step(1);
    const choose = (layer) => {
      state.layer = layer;
      draw();
      if (layer !== null) page.table.querySelector(`[data-layer="${layer}"]`).focus();
    };
    page.table.onclick = (event) => {
      const button = event.target.closest("[data-layer]");
      if (!button) return;
      const layer = Number(button.dataset.layer);
      choose(layer === state.layer ? null : layer);
    };
    page.table.onkeydown = (event) => {
      const at = event.target.dataset?.layer;
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (at === undefined || !by) return;
      event.preventDefault();
      const last = loaded.get(`${state.model}/${state.task}`).layers - 1;
      choose(Math.min(Math.max(Number(at) + by, 0), last));
    };
  }

  function begin() {
    const root = document.getElementById("ov-explorer");
    if (!root) return;
    page = { root };
    for (const one of root.querySelectorAll("[data-ov]")) page[one.dataset.ov] = one;
    load("index.js");
  }

  if (typeof document !== "undefined") {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
    else begin();
  }

  return {
    /** Called by index.js with every file there is. */
    list(found) {
      files = found;
      if (!files.length) return;
      page.root.hidden = false;
      fromAddress();
      listen();
      chooseFile();
    },
    /** Called by a file of data with its content. */
    add(data) {
      loaded.set(`${data.model}/${data.task}`, data);
      draw();
    },
    parts: { stage, stateAt, run, summary, visible },
  };
})();

if (typeof module !== "undefined") module.exports = ovectorsExplorer;
