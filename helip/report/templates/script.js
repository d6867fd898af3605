"use strict";
// Switches runs on and off, and shows the values under the pointer. The page shows everything without it.
document.documentElement.classList.add("js");

for (const box of document.querySelectorAll(".legend input")) {
  box.addEventListener("change", () => {
    for (const line of document.querySelectorAll(`.runs [data-line="${box.value}"]`)) {
      line.classList.toggle("off", !box.checked);
    }
  });
}

function points(line) {
  line.places ??= (line.getAttribute("d").match(/-?[\d.]+,-?[\d.]+/g) || []).map((pair) => pair.split(",").map(Number));
  return line.places;
}

function nearest(places, x) {
  return places.reduce((best, place) => (Math.abs(place[0] - x) < Math.abs(best[0] - x) ? place : best), places[0]);
}

function short(value) {
  return Number(value.toPrecision(4)).toString();
}

for (const chart of document.querySelectorAll("svg[data-axes]")) {
  const [left, right, top, bottom, x0, x1, y0, y1] = chart.dataset.axes.split(" ").map(Number);
  const pointer = chart.querySelector(".pointer");
  const tip = document.createElement("div");
  tip.className = "tip off";
  chart.parentElement.append(tip);

  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    const lines = [...chart.querySelectorAll(".plot:not(.off)")].filter((line) => points(line).length);
    if (!lines.length || x < left - 4 || x > right + 4) return hide();
    const at = nearest(lines.map((line) => nearest(points(line), x)), x)[0];
    pointer.setAttribute("x1", at);
    pointer.setAttribute("x2", at);
    pointer.classList.remove("off");
    tip.replaceChildren();
    const head = document.createElement("b");
    head.textContent = `${chart.dataset.x} ${short(x0 + ((at - left) / (right - left)) * (x1 - x0))}`;
    tip.append(head);
    for (const line of lines) {
      const place = nearest(points(line), at);
      if (Math.abs(place[0] - at) > 6) continue;
      const row = document.createElement("div");
      const colour = document.createElement("i");
      colour.style.background = line.style.stroke;
      const value = short(y0 + ((bottom - place[1]) / (bottom - top)) * (y1 - y0));
      row.append(colour, `${value}${chart.dataset.unit} · ${line.dataset.name}`);
      tip.append(row);
    }
    tip.classList.remove("off");
    const room = chart.parentElement.clientWidth - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(4, Math.min(room, event.clientX - box.left + 16))}px`;
    tip.style.top = `${event.clientY - box.top + 28}px`;
  });
  chart.addEventListener("pointerleave", hide);

  function hide() {
    tip.classList.add("off");
    pointer.classList.add("off");
  }
}
