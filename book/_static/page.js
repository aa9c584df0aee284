// A page prints light, with what was judged unfolded; what scrolls says so, and does by keyboard.

(() => {
  "use strict";

  const printed = ".claim-card details, details.claim-numbers, details.quoted-findings";
  const scrolling = "div.math, .cell_output table";
  const fading = `${scrolling}, .highlight pre, .pst-scrollable-table-container, .scrolls`;
  const root = document.documentElement;
  let before = null;

  addEventListener("beforeprint", () => {
    const folded = [...document.querySelectorAll(printed)].filter((one) => !one.open);
    before = { theme: root.dataset.theme, folded };
    root.dataset.theme = "light";
    for (const one of folded) one.open = true;
  });

  addEventListener("afterprint", () => {
    if (!before) return;
    root.dataset.theme = before.theme;
    for (const one of before.folded) one.open = false;
    before = null;
  });

  // Only what is wider than its place takes the focus: it would be in the way elsewhere.
  const letScroll = () => {
    for (const one of document.querySelectorAll(scrolling)) {
      if (one.scrollWidth > one.clientWidth) one.tabIndex = 0;
      else one.removeAttribute("tabindex");
    }
  };

  // Which edges of a box have more beyond them: the style sheet fades those.
  const hint = (box) => {
    const left = box.scrollLeft > 1;
    const right = box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
    if (left || right) box.dataset.more = left && right ? "both" : left ? "left" : "right";
    else delete box.dataset.more;
  };

  const boxes = [];
  const update = () => {
    letScroll();
    boxes.forEach(hint);
  };

  addEventListener("load", () => {
    boxes.push(...document.querySelectorAll(fading));
    for (const box of boxes) box.addEventListener("scroll", () => hint(box), { passive: true });
    document.addEventListener("toggle", update, true); // what is unfolded has a width
    update();
  });
  addEventListener("resize", update);
})();
