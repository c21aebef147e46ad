// The pages work without this. With it they keep themselves fresh, draw their plots, and select whole pages at once.
"use strict";

(() => {
  const part = document.getElementById("jd-part");
  if (!part) return;

  // Plots -------------------------------------------------------------------------------------------------------------

  const plots = [];
  const colour = (name) => {
    // Canvas takes no light-dark(): let the browser work it out on an element.
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    part.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const time = (seconds) =>
    seconds === null || seconds === undefined ? "–"
    : seconds < 1 ? `${+(seconds * 1000).toPrecision(3)} ms`
    : seconds < 60 ? `${+seconds.toPrecision(3)} s`
    : seconds < 3600 ? `${+(seconds / 60).toPrecision(3)} min`
    : `${+(seconds / 3600).toPrecision(3)} h`;

  const marks = (list) => (u) => {
    const { ctx } = u;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("--jd-warn");
    ctx.font = `${10 * devicePixelRatio}px sans-serif`;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const [at, version] of list) {
      const x = u.valToPos(at, "x", true);
      if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, u.bbox.top);
      ctx.lineTo(x, u.bbox.top + u.bbox.height);
      ctx.stroke();
      ctx.fillText(version.slice(0, 12), x + 3 * devicePixelRatio, u.bbox.top + 10 * devicePixelRatio);
    }
    ctx.restore();
  };

  const reading = (box, format) => (u) => {
    const at = u.cursor.idx;
    box.title = at === null || at === undefined ? "" : format(at);
  };

  const draw = () => {
    for (const plot of plots.splice(0)) plot.destroy();
    const box = part.querySelector("[data-plots]");
    if (!box || typeof uPlot === "undefined") return;
    const data = JSON.parse(box.dataset.plots);
    const soft = colour("--jd-soft"), line = colour("--jd-line");
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px sans-serif" };
    const span = data.t.length * data.step;
    const clock = (seconds) => {
      const at = new Date(seconds * 1000), two = (n) => String(n).padStart(2, "0");
      const day = `${at.getDate()} ${at.toLocaleString(undefined, { month: "short" })}`;
      return span > 2 * 86400 || (at.getHours() === 0 && at.getMinutes() === 0) ? day : `${two(at.getHours())}:${two(at.getMinutes())}`;
    };
    const below = { ...axis, size: 26, values: (_, all) => all.map(clock) };
    const when = (at) => new Date(data.t[at] * 1000).toLocaleString();
    const make = (name, options, series) => {
      const place = box.querySelector(`[data-plot=${name}]`);
      place.replaceChildren();
      plots.push(new uPlot({
        width: place.clientWidth, height: 180, padding: [8, 8, 0, 0], legend: { show: false },
        cursor: { y: false, points: { size: 6 } }, ...options(place),
      }, series, place));
    };
    const total = data.t.map((_, n) => data.succeeded[n] + data.failed[n]);
    make("ended", (place) => ({
      scales: { y: { range: (_, low, high) => [0, Math.max(4, high * 1.1)] } },
      axes: [below, { ...axis, size: 48, values: (_, all) => all.map((n) => n % 1 ? "" : n.toLocaleString()) }],
      series: [{}, ...[["failed", "--jd-bad-fill"], ["succeeded", "--jd-ok-fill"]].map(([label, name]) => ({
        label, fill: colour(name), width: 0, points: { show: false },
        paths: uPlot.paths.bars({ size: [0.8, 40] }),
      }))],
      hooks: {
        draw: [marks(data.marks)],
        setCursor: [reading(place, (at) => `${when(at)}: ${data.succeeded[at]} succeeded, ${data.failed[at]} failed`)],
      },
    }), [data.t, total, data.succeeded]);
    const lines = [["wait95", "--jd-wait"], ["wait50", "--jd-wait", [4, 4]], ["run95", "--jd-run"], ["run50", "--jd-run", [4, 4]]];
    make("times", (place) => ({
      scales: { y: { distr: 3, range: (_, low, high) => [Math.max(0.0005, (low ?? 0.001) / 2), Math.max(0.01, (high ?? 0.01) * 2)] } },
      axes: [below, { ...axis, size: 56, values: (_, all) => all.map((n) => n === null ? "" : time(n)) }],
      series: [{}, ...lines.map(([label, name, dash]) => ({
        label, stroke: colour(name), width: 1.5, dash, spanGaps: true, points: { show: false },
      }))],
      hooks: {
        draw: [marks(data.marks)],
        setCursor: [reading(place, (at) => `${when(at)}: wait ${time(data.wait50[at])}, 95 % ${time(data.wait95[at])}; run ${time(data.run50[at])}, 95 % ${time(data.run95[at])}`)],
      },
    }), [data.t, ...lines.map(([name]) => data[name])]);
  };

  // Whole pages at once -----------------------------------------------------------------------------------------------

  const selecting = () => {
    const form = part.querySelector("[data-select]");
    const all = form && form.querySelector("[data-all]");
    if (!all) return;
    const boxes = [...form.querySelectorAll("input[name=job]")];
    const said = form.querySelector("[data-selected]");
    const count = () => {
      const chosen = boxes.filter((box) => box.checked).length;
      said.textContent = chosen ? `(${chosen})` : "";
      all.checked = chosen === boxes.length;
      all.indeterminate = chosen > 0 && chosen < boxes.length;
      if (chosen) form.querySelector("[value=selected]").checked = true;
    };
    all.hidden = false;
    all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; count(); });
    for (const box of boxes) box.addEventListener("change", count);
  };

  // Live --------------------------------------------------------------------------------------------------------------

  const button = document.querySelector("[data-live]");
  const every = Number(part.dataset.every) * 1000;
  const kept = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("jobs-live", value);
      return localStorage.getItem("jobs-live");
    } catch {
      return null; // a browser that keeps nothing: live it is
    }
  };
  let live = kept() !== "no";
  const show = () => {
    if (!button) return;
    button.hidden = false;
    button.setAttribute("aria-pressed", String(live));
    button.textContent = live ? "Live" : "Paused";
  };
  // Not while somebody selects, writes or opens something, or looks at another page of a list.
  const busy = () => document.hidden || part.querySelector("input[name=job]:checked")
    || part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, button");
  if (button && every) {
    button.addEventListener("click", () => { live = !live; kept(live ? "yes" : "no"); show(); if (live) look(); });
    const look = () => { if (live && !busy() && typeof htmx !== "undefined") htmx.trigger(part, "jobs:refresh"); };
    setInterval(look, every);
    show();
  }
  const open = new Map();
  document.addEventListener("htmx:beforeSwap", (event) => {
    const answer = event.detail.xhr;
    button?.classList.toggle("lost", answer.status !== 200);
    // An answer that came from somewhere else is a login page: the whole page goes there.
    if (answer.responseURL && new URL(answer.responseURL).pathname !== location.pathname) {
      event.detail.shouldSwap = false;
      location.reload();
      return;
    }
    open.clear();
    for (const each of part.querySelectorAll("details[data-key]")) open.set(each.dataset.key, each.open);
  });
  document.addEventListener("htmx:sendError", () => button?.classList.add("lost"));
  document.addEventListener("htmx:afterSwap", () => {
    for (const each of part.querySelectorAll("details[data-key]")) {
      if (open.has(each.dataset.key)) each.open = open.get(each.dataset.key);
    }
    draw();
    selecting();
  });

  draw();
  selecting();
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
