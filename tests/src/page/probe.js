// Looks at a report page from inside and leaves what it saw as JSON, instead of the page. `window.task` says where the spike is.
window.addEventListener("load", () => setTimeout(async () => {
  const task = window.task, saw = { errors: window.errors, resources: performance.getEntriesByType("resource").length };
  const frame = () => new Promise((done) => setTimeout(done, 120));
  const all = (what) => Array.from(document.querySelectorAll(what));
  const panel = document.querySelector(".panel");
  saw.width = window.innerWidth;
  saw.background = getComputedStyle(document.body).backgroundColor;

  // The spike: what the line is drawn through, what the screen shows there, and what the cursor reads.
  const row = all(".signal").find((it) => it.querySelector("b").textContent === task.row);
  const over = panel.querySelector(".over").getBoundingClientRect();
  const plot = row.querySelector(".plot").getBoundingClientRect();
  const hash = /#t=([\d.]+)-([\d.]+)/.exec(location.hash);
  const chart = document.getElementById("chart");
  const from = hash ? Number(hash[1]) : Number(chart.dataset.from) / 1e9, to = hash ? Number(hash[2]) : Number(chart.dataset.to) / 1e9;
  const x = over.left + (task.at - from) / (to - from) * over.width;
  scrollTo(0, plot.top + scrollY - 200);
  const y = row.querySelector(".plot").getBoundingClientRect().top + plot.height * 0.06;
  const hit = (x) => document.elementsFromPoint(x, y).some((it) => it.tagName === "path");
  const near = [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5].map((dx) => hit(x + dx));
  saw.spike = near.includes(true);
  saw.elsewhere = [-40, -30, 30, 40].map((dx) => hit(x + dx)).includes(true);
  saw.high = row.querySelector(".high").textContent;
  panel.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true }));
  saw.values = Array.from(row.querySelectorAll(".v")).map((it) => it.textContent);
  saw.lines = all(".signal .plot path").map((it) => (it.getAttribute("d").match(/M/g) || []).length);

  // The keyboard reaches everything, in the order in which it stands.
  const stops = all("button, summary, [tabindex]");
  saw.stops = stops.map((it) => it.dataset.do || it.tagName.toLowerCase() + (it.className ? "." + it.className.split(" ")[0] : ""));
  saw.unreachable = stops.filter((it) => {
    if (it.closest("details:not([open])") && it.tagName !== "SUMMARY") { return false; }
    it.focus();
    return document.activeElement !== it || it.tabIndex !== 0;
  }).length;
  const press = async (element, key, more) => {
    element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
    await frame();
    return location.hash;
  };
  saw.keys = [await press(panel, "0"), await press(panel, "+"), await press(panel, "ArrowRight", { shiftKey: true }), await press(panel, "0")];
  const flag = panel.querySelector(".flag");
  saw.flag = flag ? await press(flag, "Enter") : "";
  await press(panel, "ArrowRight");
  saw.status = chart.querySelector("[role=status]").textContent;
  await press(panel, "0");

  // Everything open: width of the page, contrast of each text with what is behind it, names of pictures.
  all("details").forEach((it) => { it.open = true; });
  await frame();
  saw.scroll = document.documentElement.scrollWidth;
  saw.wide = all("main *").filter((it) => it.getBoundingClientRect().right > window.innerWidth + 1 && !it.closest(".over, svg, .unseen, .plot, thead") && getComputedStyle(it).position !== "absolute")
    .slice(0, 5).map((it) => it.tagName + "." + it.className);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (0.04045 >= c ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const colour = (text) => text.match(/[\d.]+/g).map(Number);
  const behind = (it) => {
    for (; it; it = it.parentElement) {
      const found = colour(getComputedStyle(it).backgroundColor);
      if (found.length === 3) { return found; }
    }
    return [255, 255, 255];
  };
  saw.faint = all("main *").filter((it) => Array.from(it.childNodes).some((node) => node.nodeType === 3 && node.data.trim())).filter((it) => it.tagName !== "title").filter((it) => {
    const one = light(colour(getComputedStyle(it).color)), other = light(behind(it));
    return 4.5 > (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  }).slice(0, 5).map((it) => it.tagName + "." + it.className + " " + it.textContent.slice(0, 30));
  saw.unnamed = all("svg").filter((it) => !it.getAttribute("aria-label") && it.getAttribute("aria-hidden") !== "true" && !it.closest("[aria-hidden=true]")).length;
  saw.tables = all("table").length;
  if (window.parent !== window) {
    window.parent.postMessage(JSON.stringify(saw), "*");
    return;
  }
  document.head.textContent = "";
  document.body.textContent = JSON.stringify(saw);
}, 200));
