// A page prints light, with what was judged unfolded; what scrolls can be scrolled by keyboard.

(() => {
  "use strict";

  const printed = ".claim-card details, details.claim-numbers, details.quoted-findings";
  const scrolling = "div.math, .cell_output table";
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

  addEventListener("load", letScroll);
  addEventListener("resize", letScroll);
})();
