// Looks at a report page from inside and gives what it saw as JSON. `task` says where the spike is.
(async (task) => {
  const saw = { errors: window.errors || [] };
  // Without scripts nothing is called back.
  const frame = () => (task.scripts ? new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))) : null);
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
  // Charts that take no room, or whose line does not: bounding boxes of the shapes themselves.
  saw.flat = all("#chart > .panel .signal .plot path, .bar").filter((it) => { const box = it.getBoundingClientRect(); return 20 > box.width || 0.5 > box.height; }).length;
  saw.tools = !document.querySelector(".tools").hidden;

  // Everything open: width of the page, contrast of each text and shape with what is behind it.
  const open = all("details").filter((it) => it.open);
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
  const ratio = (one, other) => { const [a, b] = [light(one), light(other)]; return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };
  saw.faint = all("main *").filter((it) => Array.from(it.childNodes).some((node) => node.nodeType === 3 && node.data.trim())).filter((it) => it.tagName !== "title")
    .filter((it) => 4.5 > ratio(colour(getComputedStyle(it).color), behind(it)))
    .slice(0, 5).map((it) => it.tagName + "." + it.className + " " + it.textContent.slice(0, 30));
  // Lines and marks, also where a fault's band lies under them.
  const band = document.querySelector(".band");
  const under = behind(panel), share = 0.22, tint = band ? colour(getComputedStyle(band).borderLeftColor) : under;
  const banded = under.map((c, i) => c * (1 - share) + tint[i] * share);
  saw.pale = all(".line, .mark").filter((it) => {
    const style = getComputedStyle(it), own = colour(it.matches(".line") ? style.stroke : style.color);
    return 3 > ratio(own, under) || 3 > ratio(own, banded);
  }).slice(0, 5).map((it) => it.getAttribute("class"));
  saw.tables = all("table").length;
  saw.headings = all("h1, h2, h3").map((it) => Number(it.tagName[1]));
  saw.heads = all("table").filter((it) => !it.querySelector("th[scope=col]")).length;
  saw.text = document.querySelector("main").textContent;
  all("details").forEach((it) => { it.open = open.includes(it); });
  return saw;
})
