"use strict";
/* Sorts and filters the list of studies and takes keys. The list itself stands in the page for readers without a script; its
   lines become elements only as they come into view, so that thousands open at once. */
(() => {
  const one = (id) => document.getElementById(id);
  const list = one("studies"), count = one("count"), more = one("more"), STEP = 60;
  for (const element of document.querySelectorAll("[data-js]")) element.hidden = false;
  const signs = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&#34;": '"', "&#39;": "'" };
  const plain = (html) => html.replace(/<[^>]*>/g, " ").replace(/&(amp|lt|gt|#34|#39);/g, (sign) => signs[sign]);
  const attribute = (line, name) => line.match(` data-${name}="([^"]*)"`)[1];
  const rows = one("list").textContent.split("\n").filter((line) => line.startsWith("<li ")).map((line, order) => ({
    line, order, tiers: attribute(line, "t"), named: Number(attribute(line, "n")),
    get shares() { return this.kept ??= attribute(line, "p").split(",").map((each) => (each === "" ? -1 : Number(each))); },
    get text() { return this.said ??= plain(line).toLowerCase(); },
    get name() { return this.called ??= plain(line.match(/class="who">(.*?)<small>/)[1]).trim(); },
    get study() { return this.key ??= plain(line.match(/<small>(.*?)<\/small>/)[1]).trim(); },
  }));
  const byName = new Intl.Collator(document.documentElement.lang, { numeric: true }).compare;
  const orders = {
    urgency: (a, b) => a.order - b.order,
    probability: (finding) => {
      const share = (it) => (finding === "" ? Math.max(...it.shares) : it.shares[Number(finding)]);
      return (a, b) => share(b) - share(a) || a.order - b.order;
    },
    name: (a, b) => byName(a.name, b.name) || a.order - b.order,
    study: (a, b) => byName(a.study, b.study) || a.order - b.order,
  };
  let shown = [], drawn = 0;
  const watch = new IntersectionObserver((seen) => { if (seen.some((it) => it.isIntersecting)) draw(drawn + STEP); }, { rootMargin: "1500px" });

  const draw = (upto) => {
    const next = Math.min(shown.length, Math.max(upto, drawn));
    if (next > drawn) list.insertAdjacentHTML("beforeend", shown.slice(drawn, next).map((it) => it.line).join(""));
    drawn = next;
    more.hidden = drawn >= shown.length;
    watch.unobserve(more);
    if (!more.hidden) watch.observe(more); // anew: it tells at once where the end of the list is still in view
  };
  const wanted = () => {
    const words = one("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const finding = one("finding").value, tier = one("tier").value;
    const told = (it) => {
      if (tier === "none") return !it.named;
      const of = finding === "" ? it.tiers : it.tiers[Number(finding)];
      return tier ? of.includes(tier) : finding === "" || /[lpc]/.test(of);
    };
    return (it) => told(it) && words.every((word) => it.text.includes(word));
  };
  const sift = () => {
    const by = one("sort").value;
    shown = rows.filter(wanted()).sort(by === "probability" ? orders.probability(one("finding").value) : orders[by]);
    list.replaceChildren();
    drawn = 0;
    draw(STEP);
    const said = [shown.length, rows.length].map((number) => number.toLocaleString("en"));
    count.textContent = count.dataset.said.replace("{0}", said[0]).replace("{1}", said[1]);
    one("empty").hidden = shown.length > 0;
  };
  const clear = () => {
    for (const id of ["search", "finding", "tier"]) one(id).value = "";
    one("sort").value = "urgency";
    sift();
  };
  for (const id of ["finding", "tier", "sort"]) one(id).addEventListener("change", sift);
  one("search").addEventListener("input", sift);
  one("clear").addEventListener("click", clear);
  addEventListener("beforeprint", () => draw(shown.length));

  const move = (by) => {
    const at = [...list.children].findIndex((row) => row.contains(document.activeElement));
    const to = at < 0 ? 0 : Math.min(Math.max(at + by, 0), shown.length - 1);
    draw(to + 1);
    const link = list.children[to]?.querySelector("a");
    if (!link) return;
    link.focus({ preventScroll: true });
    list.children[to].scrollIntoView({ block: "nearest" });
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target.id === "search") { clear(); event.target.blur(); return; }
    if (event.target.matches("input, select, textarea")) return;
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "/") { one("search").focus(); one("search").select(); }
    else return;
    event.preventDefault();
  });
  sift();
})();
