"use strict";
/* Brings a reading room to life: focus, maps, zoom, grey levels, keys. Without it every word and picture is there all the same. */
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);
  const root = document.documentElement;
  for (const element of all("[data-js]")) element.hidden = false;

  // Light or dark: the system's choice until the reader chooses.
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const turn = () => { root.dataset.theme = dark() ? "light" : "dark"; };
  one("theme")?.addEventListener("click", turn);
  const cites = one("cites");
  const showCites = () => document.body.classList.toggle("show-cites", cites.checked);
  cites?.addEventListener("change", showCites);
  if (cites) showCites();

  // What the page holds as JSON, saved as a file.
  for (const button of all("[data-save]")) button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([one(button.dataset.save).textContent], { type: "application/json" }));
    link.download = button.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  // A link into a folded part opens it; on paper every part is open.
  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView({ block: "nearest" });
  };
  addEventListener("hashchange", reveal);
  reveal();
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open]):not(.help)");
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of opened) details.open = false; });

  const stage = one("stage");
  if (!stage) return;
  const panes = stage.querySelector(".panes"), looks = all(".look", stage), frame = looks[0].viewBox.baseVal;
  const whole = { x: 0, y: 0, width: frame.width, height: frame.height };
  let view = { ...whole }, focus = "1", way = "1";

  const bringForward = () => {
    for (const element of all("[data-focus]")) {
      const mine = element.dataset.focus === focus;
      if (element.classList.contains("chip")) mine ? element.setAttribute("aria-current", "true") : element.removeAttribute("aria-current");
      else if (element.classList.contains("over")) element.hidden = !(mine && element.dataset.way === way) && element.dataset.focus !== "0";
      else element.hidden = !mine;
    }
    for (const button of all(".ways[data-focus] button", stage)) button.setAttribute("aria-pressed", String(button.dataset.way === way));
  };
  const show = () => {
    bringForward();
    const mapped = all(".over:not([hidden]) .layer-m", stage).length > 0;
    for (const id of ["opacity", "wipe"]) one(id).closest("label").hidden = !mapped;
  };
  const ways = () => all(`.over[data-focus="${focus}"]`, stage).length;
  const bring = (number) => { if (all(`.chip[data-focus="${number}"]`).length) { focus = String(number); way = "1"; show(); } };
  for (const chip of all(".chip")) chip.addEventListener("click", (event) => { event.preventDefault(); bring(chip.dataset.focus); });
  for (const button of all(".ways[data-focus] button", stage)) button.addEventListener("click", () => { way = button.dataset.way; show(); });

  // Zoom and pan: both panes look at the same part of the image.
  const look = () => {
    const width = Math.min(Math.max(view.width, whole.width / 16), whole.width), height = width * whole.height / whole.width;
    view = { width, height, x: Math.min(Math.max(view.x, 0), whole.width - width), y: Math.min(Math.max(view.y, 0), whole.height - height) };
    for (const svg of looks) svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
    panes.classList.toggle("zoomed", width < whole.width);
  };
  const zoom = (factor, x = view.x + view.width / 2, y = view.y + view.height / 2) => {
    const width = Math.min(Math.max(view.width * factor, whole.width / 16), whole.width), by = width / view.width;
    view = { width, height: view.height * by, x: x - (x - view.x) * by, y: y - (y - view.y) * by };
    look();
  };
  const at = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());

  // Grey levels (window and level): the untouched image carries no filter until the reader asks for one.
  const sliders = Object.fromEntries(["opacity", "wipe", "level", "contrast"].map((id) => [id, one(id)]));
  const given = Object.fromEntries(Object.entries(sliders).map(([id, slider]) => [id, slider.value]));
  const grey = () => {
    const touched = sliders.level.value !== given.level || sliders.contrast.value !== given.contrast;
    const width = 1 - sliders.contrast.value / 100, slope = 1 / width;
    for (const part of all("#window [type]")) {
      part.setAttribute("slope", slope);
      part.setAttribute("intercept", 0.5 - slope * (1 - sliders.level.value / 100));
    }
    for (const film of all(".look .film", stage)) touched ? film.setAttribute("filter", "url(#window)") : film.removeAttribute("filter");
  };
  const over = () => {
    for (const layer of all(".look .layer-m", stage)) {
      layer.style.opacity = sliders.opacity.value / 100;
      layer.style.clipPath = `inset(0 0 0 ${sliders.wipe.value}%)`;
    }
    for (const line of all(".look .layer-o, .look .box", stage)) line.style.display = one("lines").checked ? "" : "none";
  };
  for (const id of ["level", "contrast"]) sliders[id].addEventListener("input", grey);
  for (const id of ["opacity", "wipe"]) sliders[id].addEventListener("input", over);
  one("lines").addEventListener("change", over);
  const nudge = (id, by) => { sliders[id].value = Number(sliders[id].value) + by; grey(); over(); };
  const reset = () => {
    view = { ...whole };
    for (const [id, slider] of Object.entries(sliders)) slider.value = given[id];
    look(); grey(); over();
  };
  one("in").addEventListener("click", () => zoom(0.8));
  one("out").addEventListener("click", () => zoom(1.25));
  one("reset").addEventListener("click", reset);
  show();

  for (const svg of looks) {
    let from = null;
    svg.addEventListener("wheel", (event) => {
      // The page scrolls as ever, unless the reader works with the image.
      if (!event.ctrlKey && document.activeElement !== panes) return;
      event.preventDefault();
      const point = at(svg, event);
      zoom(Math.exp(event.deltaY / 400), point.x, point.y);
    }, { passive: false });
    svg.addEventListener("pointerdown", (event) => { from = { x: event.clientX, y: event.clientY }; panes.focus({ preventScroll: true }); });
    svg.addEventListener("pointermove", (event) => {
      if (!from || !event.buttons) return;
      const x = event.clientX - from.x, y = event.clientY - from.y, scale = 1 / svg.getScreenCTM().a;
      from = { x: event.clientX, y: event.clientY };
      if (event.shiftKey) { nudge("contrast", x / 4); nudge("level", -y / 4); }
      else if (view.width < whole.width) { view.x -= x * scale; view.y -= y * scale; look(); }
    });
    svg.addEventListener("dblclick", (event) => { const point = at(svg, event); zoom(0.5, point.x, point.y); });
  }
  addEventListener("pointerup", () => { for (const svg of looks) svg.dispatchEvent(new Event("pointercancel")); });

  const pan = (x, y) => { view.x += x * view.width / 8; view.y += y * view.height / 8; look(); };
  const keys = {
    m: () => { way = String(Number(way) % ways() + 1); show(); },
    n: () => bring(Number(focus) + 1), p: () => bring(Number(focus) - 1),
    "+": () => zoom(0.8), "=": () => zoom(0.8), "-": () => zoom(1.25), 0: reset, r: reset,
    "[": () => nudge("opacity", -10), "]": () => nudge("opacity", 10), ",": () => nudge("wipe", -10), ".": () => nudge("wipe", 10),
    b: () => nudge("level", 5), B: () => nudge("level", -5), c: () => nudge("contrast", 5), C: () => nudge("contrast", -5),
    l: () => one("lines").click(), e: () => cites.click(), d: turn,
    o: () => { const folds = all(".folds > details"), open = folds.some((fold) => !fold.open); for (const fold of folds) fold.open = open; },
  };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=range], input[type=text], textarea")) return;
    if (document.activeElement === panes && arrows[event.key] && view.width < whole.width) { event.preventDefault(); pan(...arrows[event.key]); return; }
    if (!one("keys").checked) return;
    if (/^[1-9]$/.test(event.key)) bring(Number(event.key));
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
})();
