// The pages work without this. With it the basket adds itself up and the jobs' states keep themselves fresh.
"use strict";

const basket = document.querySelector("[data-basket]");

if (basket) {
  const fields = [...document.querySelectorAll("input[data-price]")];
  const money = (cents) => "€\u2009" + (cents / 100).toLocaleString("en", { minimumFractionDigits: 2 });

  const addUp = () => {
    const chosen = fields.filter((field) => field.valueAsNumber > 0);
    const rows = chosen.map((field) => {
      const row = document.createElement("li");
      const cost = field.valueAsNumber * Number(field.dataset.price);
      for (const text of [`${field.valueAsNumber} × ${field.dataset.name}`, money(cost)]) {
        row.append(Object.assign(document.createElement("span"), { textContent: text }));
      }
      return row;
    });
    const total = chosen.reduce((sum, field) => sum + field.valueAsNumber * Number(field.dataset.price), 0);
    basket.querySelector("[data-rows]").replaceChildren(...rows);
    basket.querySelector("[data-total]").textContent = money(total);
    basket.querySelector("[data-empty]").hidden = chosen.length > 0;
    for (const field of fields) field.closest(".card").classList.toggle("chosen", field.valueAsNumber > 0);
  };

  for (const field of fields) {
    for (const [place, sign, step] of [["before", "−", -1], ["after", "+", 1]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = sign;
      button.disabled = field.disabled;
      button.setAttribute("aria-label", (step > 0 ? "One more " : "One fewer ") + field.dataset.name);
      button.addEventListener("click", () => {
        const wanted = (field.valueAsNumber || 0) + step;
        field.value = Math.min(Number(field.max), Math.max(0, wanted));
        addUp();
      });
      field[place](button);
    }
    field.addEventListener("input", addUp);
  }
  basket.hidden = false;
  addUp();
}

const watch = async (place) => {
  const answer = await fetch(place.dataset.status, { headers: { Accept: "text/html" } });
  const part = new DOMParser().parseFromString(await answer.text(), "text/html").body;
  if (answer.ok && part.innerHTML.trim() !== place.innerHTML.trim()) place.replaceChildren(...part.childNodes);
};

const refresh = async () => {
  const jobs = document.querySelector("[data-jobs=going]");
  if (!jobs) return;
  try {
    await Promise.all([...jobs.querySelectorAll("[data-status]")].map(watch));
    const answer = await fetch(location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("[data-jobs]");
    for (const place of fresh?.querySelectorAll("[data-status]") ?? []) {
      // What stands there is fresher than the page, which has an empty place for it.
      const here = jobs.querySelector(`[data-status="${place.dataset.status}"]`);
      if (here) place.append(...here.cloneNode(true).childNodes);
    }
    // Only when something has changed, or a screen reader would read it all out every second.
    if (fresh && fresh.innerHTML.trim() !== jobs.innerHTML.trim()) {
      jobs.innerHTML = fresh.innerHTML;
      jobs.dataset.jobs = fresh.dataset.jobs;
    }
  } catch {
    // The server is gone for a moment: the next try may find it.
  }
  setTimeout(refresh, 1000);
};
setTimeout(refresh, 1000);
