// Zoom and hover over the timeline. The page is whole without it: it redraws what stands there already, from the readings packed beside it.
(() => {
"use strict";
const chart = document.getElementById("chart");
const find = (from, what) => Array.from(from.querySelectorAll(what));
const panels = find(chart, ".panel");
const from = Number(chart.dataset.from) / 1e9;
const span = Math.max(1e-9, Number(chart.dataset.to) / 1e9 - from);
const started = Date.parse(chart.dataset.started);
const WHOLE = 4294967296;
const NARROWEST = Math.min(1, 1e-3 / span);

// Readings: little-endian words; moments are shares of 2^32 of the timeline.
const bytes = Uint8Array.from(atob(document.getElementById("words").textContent), (c) => c.charCodeAt(0));
const whole = new Uint32Array(bytes.buffer);
const real = new Float32Array(bytes.buffer);
const rows = [];
for (const element of find(chart, ".signal")) {
  const lines = find(element, ".plot path").map((path) => ({ path, sources: [] }));
  const values = find(element, ".v");
  rows[Number(element.dataset.row)] = {
    element, lines, values,
    unit: element.dataset.unit, zero: element.dataset.zero === "true",
    high: element.querySelector(".high"), low: element.querySelector(".low"),
    title: element.querySelector("b").textContent,
    box: element.querySelector(".plot"),
  };
}
for (const [row, line, count, first, gaps] of JSON.parse(document.getElementById("index").textContent)) {
  rows[row].lines[line].sources.push({ count, gaps, at: (i) => whole[first + i] / WHOLE, value: (i) => real[first + count + i] });
}

let a = 0, b = 1, cursor = null, asked = false;

// Numbers as the rest of the page writes them: three significant digits, a thin space between thousands.
function significant(value) {
  if (value === 0) { return "0"; }
  const exponent = Number(value.toExponential(2).split("e")[1]);
  if (exponent > 14 || -9 > exponent) { return value.toExponential(2); }
  if (2 > exponent) { return value.toFixed(2 - exponent); }
  return Math.round(Number(value.toPrecision(3))).toString().replace(/\B(?=(\d{3})+$)/g, "\u2009");
}
function show(value, unit) {
  if (unit === "bytes" || unit === "bytes/s") {
    const names = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    while (Math.abs(value) >= 1024 && names.length > at + 1) { value /= 1024; at += 1; }
    return significant(value) + " " + names[at] + (unit === "bytes" ? "" : "/s");
  }
  if (unit === "s" && value > 0) {
    if (1e-3 > value) { return significant(value * 1e6) + " µs"; }
    return value >= 1 ? significant(value) + " s" : significant(value * 1e3) + " ms";
  }
  return (significant(value) + " " + (unit === "1/s" ? "/s" : unit)).trim();
}
function clock(t, step) {
  if (step >= 60 || (t >= 600 && step >= 1)) {
    const s = Math.round(t), parts = [[Math.floor(s / 3600), " h"], [Math.floor(s / 60) % 60, " min"], [s % 60, " s"]];
    return parts.filter(([n, unit]) => n > 0 || (s === 0 && unit === " min")).map(([n, unit]) => n + unit).join(" ");
  }
  return t.toFixed(Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))) + " s";
}

// First reading at or after a moment.
function after(source, u) {
  let low = 0, high = source.count;
  while (high > low) {
    const mid = (low + high) >> 1;
    if (source.at(mid) >= u) { high = mid; } else { low = mid + 1; }
  }
  return low;
}
// Readings of the window, with one on either side so that lines run to its edges.
function window_of(source) {
  return [Math.max(0, after(source, a) - 1), Math.min(source.count, after(source, b) + 1)];
}
function range(row) {
  let low = Infinity, high = -Infinity;
  for (const line of row.lines) {
    for (const source of line.sources) {
      const [first, end] = window_of(source);
      for (let i = first; end > i; i += 1) {
        const u = source.at(i), value = source.value(i);
        if (u >= a && b >= u) { low = Math.min(low, value); high = Math.max(high, value); }
      }
    }
  }
  if (low > high) { return null; }
  return row.zero ? [Math.min(0, low), Math.max(0, high)] : [low, high];
}
// One column of the screen keeps the smallest and the largest of its readings.
function trace(source, [low, high], columns) {
  const y = (value) => (100 * (0.96 - 0.92 * (high > low ? (value - low) / (high - low) : 0.5))).toFixed(1);
  const [first, end] = window_of(source);
  let d = "", pen = false, column = null, gap = 0, x = 0, one = 0, last = 0, least = 0, most = 0;
  const flush = () => {
    if (column === null) { return; }
    d += (pen ? "L" : "M") + x.toFixed(1) + " " + y(one);
    if (most > least) { d += "V" + y(least) + "V" + y(most) + "V" + y(last); } else if (!pen) { d += "h.5"; }
    pen = true;
    column = null;
  };
  for (let i = first; end > i; i += 1) {
    const value = source.value(i), u = source.at(i);
    let broken = false;
    while (source.gaps.length > gap && u * WHOLE >= source.gaps[gap + 1] - 1) { gap += 2; broken = true; }
    const here = (u - a) / (b - a), now = Math.floor(here * columns);
    if (now !== column || broken) {
      flush();
      if (broken) { pen = false; }
      column = now; x = here * 1000; one = value; least = value; most = value;
    }
    if (least > value) { least = value; }
    if (value > most) { most = value; }
    last = value;
  }
  flush();
  return d;
}

function place(element) {
  const at = (Number(element.dataset.at) - a) / (b - a);
  if (element.dataset.to === undefined) {
    element.style.left = at * 100 + "%";
    element.hidden = -0.005 > at || at > 1.005;
    return;
  }
  const to = (Number(element.dataset.to) - a) / (b - a);
  const left = Math.max(at, -0.01);
  element.hidden = 0 > to || at > 1;
  element.style.left = left * 100 + "%";
  if (!element.classList.contains("flag")) { element.style.width = (Math.min(to, 1.01) - left) * 100 + "%"; }
}
const STEPS = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30]
  .concat([1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440, 2880, 10080].map((m) => m * 60));
function axis(panel) {
  const width = (b - a) * span, left = from + a * span;
  const step = STEPS.find((s) => 7 >= width / s) || width / 4;
  find(panel, ".tick, .axis .plot span").forEach((element) => element.remove());
  const over = panel.querySelector(".over"), labels = panel.querySelector(".axis .plot");
  for (let n = Math.ceil(left / step - 1e-9); left + width >= n * step; n += 1) {
    for (const [name, parent] of [["tick", over], ["", labels]]) {
      const element = document.createElement("span");
      element.className = name;
      element.textContent = name ? "" : clock(n * step, step);
      element.style.left = (n * step - left) / width * 100 + "%";
      parent.prepend(element);
      if (!name) { parent.append(element); }
    }
  }
}
// A label is whole where there is room before the next one.
function roomy(panel) {
  const flags = find(panel, ".flag").filter((flag) => !flag.hidden);
  const width = panel.querySelector(".over").clientWidth;
  flags.forEach((flag, i) => {
    const next = i + 1 === flags.length ? width : flags[i + 1].offsetLeft;
    flag.classList.add("roomy");
    flag.classList.toggle("roomy", next >= flag.offsetLeft + flag.offsetWidth + 4);
  });
}
function draw() {
  asked = false;
  for (const row of rows) {
    const columns = row.box.clientWidth;
    if (!columns) { continue; }
    const ends = range(row);
    row.high.textContent = ends ? show(ends[1], row.unit) : "";
    row.low.textContent = ends ? show(ends[0], row.unit) : "no data";
    for (const line of row.lines) {
      line.path.setAttribute("d", ends ? line.sources.map((source) => trace(source, ends, columns)).join("") : "");
    }
  }
  for (const panel of panels) {
    if (!panel.clientWidth) { continue; }
    axis(panel);
    find(panel, ".band, .hold, .flag, .mark").forEach(place);
    roomy(panel);
  }
  point();
}
function later() {
  if (!asked) { asked = true; requestAnimationFrame(draw); }
}
function zoom(left, right) {
  const width = Math.min(1, Math.max(NARROWEST, right - left));
  a = Math.min(1 - width, Math.max(0, (left + right - width) / 2));
  b = a + width;
  // The window stands in the address, so that it can be shared.
  const at = (u) => Number((from + u * span).toFixed(4));
  try { history.replaceState(null, "", width === 1 ? "#" : "#t=" + at(a) + "-" + at(b)); } catch { /* a page without an address */ }
  later();
}
function from_address() {
  const told = /^#t=([\d.]+)-([\d.]+)$/.exec(location.hash);
  if (told) { zoom((Number(told[1]) - from) / span, (Number(told[2]) - from) / span); }
}
function by(factor, centre) {
  const u = centre === undefined ? (cursor === null ? (a + b) / 2 : cursor) : centre;
  zoom(u - (u - a) * factor, u + (b - u) * factor);
}

// Values at the cursor.
const readout = chart.querySelector(".readout"), status = chart.querySelector("[role=status]");
function value_at(line, row) {
  let best = null, nearest = 12 / Math.max(1, row.box.clientWidth) * (b - a);
  for (const source of line.sources) {
    const i = after(source, cursor);
    for (const k of [i - 1, i]) {
      if (k >= 0 && source.count > k && nearest >= Math.abs(source.at(k) - cursor)) {
        nearest = Math.abs(source.at(k) - cursor);
        best = source.value(k);
      }
    }
  }
  return best === null ? "–" : show(best, row.unit);
}
function point() {
  const shown = cursor !== null && cursor >= a && b >= cursor;
  for (const panel of panels) {
    const line = panel.querySelector(".cursor");
    line.style.display = shown ? "block" : "none";
    if (shown) { line.style.left = (cursor - a) / (b - a) * 100 + "%"; }
  }
  const words = [];
  for (const row of rows) {
    row.values.forEach((element, i) => {
      element.textContent = shown && row.box.clientWidth ? value_at(row.lines[i], row) : "";
      if (element.textContent && 6 > words.length) { words.push(row.title + " " + element.textContent); }
    });
  }
  const t = cursor === null ? 0 : from + cursor * span;
  const utc = Number.isNaN(started) ? "" : " · " + new Date(started + t * 1e3).toISOString().slice(11, 23) + " UTC";
  readout.textContent = shown ? t.toFixed(3) + " s" + utc : "";
  return readout.textContent + ": " + words.join(", ");
}

const share = (panel, event) => {
  const box = panel.querySelector(".over").getBoundingClientRect();
  return a + Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * (b - a);
};
for (const panel of panels) {
  const pick = panel.querySelector(".pick");
  let held = null;
  const stretch = (u) => {
    pick.style.display = held === null ? "none" : "block";
    if (held !== null) {
      pick.style.left = (Math.min(held, u) - a) / (b - a) * 100 + "%";
      pick.style.width = Math.abs(u - held) / (b - a) * 100 + "%";
    }
  };
  panel.tabIndex = 0;
  panel.addEventListener("pointermove", (event) => { cursor = share(panel, event); stretch(cursor); point(); });
  panel.addEventListener("pointerleave", () => { if (held === null) { cursor = null; point(); } });
  panel.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest(".flag")) { return; }
    held = share(panel, event);
    panel.setPointerCapture(event.pointerId);
  });
  panel.addEventListener("pointercancel", () => { held = null; stretch(0); });
  panel.addEventListener("pointerup", (event) => {
    const start = held, end = share(panel, event);
    held = null;
    stretch(0);
    if (start !== null && Math.abs(end - start) > 0.008 * (b - a)) { zoom(Math.min(start, end), Math.max(start, end)); }
  });
  panel.addEventListener("dblclick", () => zoom(0, 1));
  panel.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) { return; }
    event.preventDefault();
    by(Math.exp(Math.max(-0.5, Math.min(0.5, event.deltaY / 200))), share(panel, event));
  }, { passive: false });
  panel.addEventListener("keydown", (event) => {
    const width = b - a, step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.target.closest(".flag") && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); event.target.click(); return; }
    if (event.ctrlKey || event.altKey || event.metaKey) { return; }
    if (step && event.shiftKey) { zoom(a + step * width / 8, b + step * width / 8); }
    else if (step) {
      cursor = Math.min(b, Math.max(a, (cursor === null ? (a + b) / 2 : cursor) + step * width / 100));
      status.textContent = point();
    }
    else if (event.key === "+" || event.key === "=") { by(0.5); }
    else if (event.key === "-") { by(2); }
    else if (event.key === "0" || event.key === "Home" || event.key === "Escape") { zoom(0, 1); }
    else { return; }
    event.preventDefault();
  });
  for (const flag of find(panel, ".flag")) {
    flag.tabIndex = 0;
    flag.setAttribute("role", "button");
    flag.addEventListener("click", () => {
      const left = Number(flag.dataset.at), right = Number(flag.dataset.to), room = Math.max(0.02, (right - left) / 2, 2 * NARROWEST);
      zoom(left - room, right + 2 * room);
    });
  }
}
const acts = {
  in: () => by(0.5), out: () => by(2), all: () => zoom(0, 1),
  left: () => zoom(a - (b - a) / 4, b - (b - a) / 4), right: () => zoom(a + (b - a) / 4, b + (b - a) / 4),
};
find(chart, "[data-do]").forEach((button) => button.addEventListener("click", acts[button.dataset.do]));
find(document, "details").forEach((details) => details.addEventListener("toggle", later));
window.addEventListener("resize", later);
window.addEventListener("hashchange", from_address);
// Paper has nothing to unfold; afterwards the page is as the reader left it.
let closed = [];
window.addEventListener("beforeprint", () => {
  closed = find(document, "details:not(.more):not([open])");
  closed.forEach((details) => { details.open = true; });
  draw();
});
window.addEventListener("afterprint", () => {
  closed.forEach((details) => { details.open = false; });
  later();
});
chart.querySelector(".tools").hidden = false;
chart.classList.add("live");
from_address();
draw();
})();
