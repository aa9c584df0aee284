/* The model switch: the same chapter on another model, one page a model. The choice is remembered
   and stands in the address (`?model=`). A page opened for another model goes there at once, so this
   runs in the page's head. Pages that are of no model have no `ovectorsChapter`. */
"use strict";

(function () {
  const chapter = window.ovectorsChapter;
  if (!chapter) return;
  const CHOICE = "ovectors.model"; // the model that the reader chose
  const SWITCHED = "ovectors.switched"; // set while the switch leads from one page to another

  // A browser may refuse to store anything: then nothing is remembered, and all else works.
  function recall(kind, name) {
    try {
      return window[kind].getItem(name);
    } catch {
      return null;
    }
  }

  function keep(kind, name, value) {
    try {
      if (value === null) window[kind].removeItem(name);
      else window[kind].setItem(name, value);
    } catch {
      /* not remembered */
    }
  }

  function query(model) {
    const given = new URLSearchParams(location.search);
    given.set("model", model);
    return `?${given}`;
  }

  const asked = new URLSearchParams(location.search).get("model");
  if (chapter.models.includes(asked)) keep("localStorage", CHOICE, asked);
  // The address of an unlisted page names its model already.
  const wanted = asked || (chapter.listed ? recall("localStorage", CHOICE) : null);
  if (wanted && wanted !== chapter.shown && Object.hasOwn(chapter.pages, wanted)) {
    const leave = () => location.replace(chapter.pages[wanted] + query(wanted) + location.hash);
    document.documentElement.style.visibility = "hidden";
    // Still here: the browser dropped the move, or is slow. Show the page, and ask once more.
    window.setTimeout(() => {
      document.documentElement.style.visibility = "";
      leave();
    }, 2000);
    leave();
    return;
  }

  // ---- anchors ------------------------------------------------------------------------------

  /** A label without what makes it distinct on a model's page. */
  function plain(id) {
    const suffix = chapter.suffixes.find((one) => id.endsWith(one));
    return suffix ? id.slice(0, -suffix.length) : id;
  }

  /** An anchor of another model's page leads to its namesake. */
  function goToNamesake() {
    let id = location.hash.slice(1);
    try {
      id = decodeURIComponent(id);
    } catch {
      return; // somebody typed it
    }
    if (!id || document.getElementById(id)) return;
    const names = [plain(id), plain(id) + chapter.suffix];
    const found = names.find((name) => document.getElementById(name));
    if (found) location.replace(`#${encodeURIComponent(found)}`);
  }

  /** The anchor of the section or figure that is being read; "" at the top of the page. */
  function placeRead() {
    if (window.scrollY === 0) return "";
    const marks = [...document.querySelectorAll("article section section[id], article figure[id]")];
    const read = marks.filter((mark) => mark.getBoundingClientRect().top < innerHeight / 3).pop();
    return read ? `#${encodeURIComponent(read.id)}` : "";
  }

  // ---- the switch ---------------------------------------------------------------------------

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function choose(model) {
    const place = placeRead();
    keep("localStorage", CHOICE, model);
    keep("sessionStorage", SWITCHED, "yes");
    try {
      // Going back means this model again, whatever is remembered by then.
      history.replaceState(null, "", query(chapter.shown) + location.hash);
    } catch {
      /* some browsers refuse for pages opened from a folder */
    }
    location.assign(chapter.pages[model] + query(model) + place);
  }

  function makeSelect() {
    const options = chapter.models.map((model) => {
      const here = Object.hasOwn(chapter.pages, model);
      const option = element("option", { value: model }, here ? model : `${model} (not this chapter)`);
      option.disabled = !here;
      return option;
    });
    const about = { id: "ov-model-choice", title: "Shows this chapter on another model" };
    const select = element("select", about, ...options);
    select.value = chapter.shown;
    select.addEventListener("change", () => choose(select.value));
    return select;
  }

  function draw() {
    goToNamesake();
    const line = document.querySelector(".ov-model");
    if (!line) return;
    if (wanted && wanted !== chapter.shown) {
      const said = `There are no results of this chapter on ${wanted.slice(0, 80)}. Shown: ${chapter.shown}.`;
      line.after(element("p", { class: "ov-lacking", role: "status" }, said));
    }
    if (chapter.models.length < 2) return;
    const select = makeSelect();
    const label = element("label", { for: select.id }, "Model");
    const whole = element("div", { class: "ov-switch" }, label, select);
    const bar = document.querySelector(".header-article-items__start");
    const wide = window.matchMedia("(min-width: 768px)");
    const put = () => (bar && wide.matches ? bar.append(whole) : line.after(whole));
    put();
    wide.addEventListener("change", put);
    document.documentElement.classList.add("ov-switches");
    window.addEventListener("pageshow", (event) => {
      select.value = chapter.shown; // browsers restore what was chosen before leaving
      // By keyboard one goes on from model to model; an anchor in the address takes the focus away.
      if (recall("sessionStorage", SWITCHED)) select.focus({ preventScroll: true });
      keep("sessionStorage", SWITCHED, null);
      if (event.persisted) keep("localStorage", CHOICE, chapter.shown);
    });
  }

  document.addEventListener("DOMContentLoaded", draw);
})();
