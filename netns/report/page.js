"use strict";
// Says what a mark's title says where the pointer is, and to the keyboard: Tab to a lane, then the arrow keys.
// Without this script the browser shows the titles itself.
(() => {
  const tip = document.getElementById("tip");

  const show = (text, box) => {
    tip.textContent = text;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const room = document.documentElement.clientWidth - width - 8;
    const above = box.top - height - 8;
    tip.style.left = `${Math.max(8, Math.min(box.left, room))}px`;
    tip.style.top = `${above > 40 ? above : box.bottom + 10}px`;
  };
  const hide = () => { tip.hidden = true; };

  for (const title of document.querySelectorAll(".mark > title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }

  document.addEventListener("pointermove", (event) => {
    const mark = event.target.closest?.("[data-tip]");
    if (!mark) return hide();
    const at = { left: event.clientX + 8, top: event.clientY - 4, bottom: event.clientY + 12 };
    show(mark.dataset.tip, at);
  });
  document.addEventListener("wheel", hide, { passive: true });

  const at = new Map();
  const leave = (lane) => lane.querySelector(".at")?.classList.remove("at");
  for (const lane of document.querySelectorAll(".lane[tabindex]")) {
    const marks = [...lane.querySelectorAll(".mark")];
    lane.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") { leave(lane); hide(); }
      if (!step || !marks.length) return;
      event.preventDefault();
      const place = at.has(lane) ? (at.get(lane) + step + marks.length) % marks.length : 0;
      at.set(lane, place);
      leave(lane);
      marks[place].classList.add("at");
      show(marks[place].dataset.tip, marks[place].getBoundingClientRect());
    });
    lane.addEventListener("blur", () => { leave(lane); hide(); });
  }

  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.print")) details.open = true;
  });
})();
