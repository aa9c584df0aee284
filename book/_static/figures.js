// Figures can be enlarged.

(() => {
  "use strict";

  const element = (name, attributes, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  // One dialog for the page: the browser closes it on Escape and gives the focus back.
  const makeDialog = () => {
    const heading = element("p", { class: "figure-title" });
    const close = element("button", { type: "button" }, "Close");
    const place = element("div", { class: "figure-place", tabindex: "0", role: "group" });
    const bar = element("div", { class: "figure-bar" }, heading, close);
    const dialog = element("dialog", { class: "figure-dialog" }, bar, place);
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
    document.body.append(dialog);
    return { dialog, heading, place };
  };

  let parts = null;

  const enlarge = (figure, name) => {
    parts ??= makeDialog();
    const drawing = figure.querySelector("img").cloneNode();
    drawing.style.setProperty("--ratio", drawing.naturalWidth / drawing.naturalHeight || 1.5);
    parts.heading.textContent = name;
    parts.place.setAttribute("aria-label", `${name}, to be scrolled`);
    parts.place.replaceChildren(drawing);
    parts.dialog.setAttribute("aria-label", `${name}, enlarged`);
    parts.dialog.showModal();
  };

  const connect = (tools) => {
    const figure = tools.previousElementSibling?.querySelector("figure");
    const button = tools.querySelector("button");
    if (!figure?.querySelector("img") || !button) return;
    const name = figure.querySelector(".caption-number")?.textContent.trim() || "Figure";
    tools.setAttribute("aria-label", name);
    button.setAttribute("aria-label", `Enlarge ${name.toLowerCase()}`);
    button.hidden = false;
    button.addEventListener("click", () => enlarge(figure, name));
  };

  addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".figure-tools").forEach(connect);
  });
})();
