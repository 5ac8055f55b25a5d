"use strict";
// Without this script the page shows all plots and rows; it adds sorting, filters and tooltips.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const root = document.documentElement;

  // Light and dark: the system's choice until the button is pressed.
  const button = document.getElementById("theme");
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
  const nameButton = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  const keep = (theme) => {
    // A page in a file or a private window may have no storage.
    try { localStorage.setItem("evit-theme", theme); } catch { /* the choice lasts as long as the page */ }
  };
  try {
    const kept = localStorage.getItem("evit-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* as above */ }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    keep(root.dataset.theme);
    nameButton();
  });
  systemDark.addEventListener("change", nameButton);
  nameButton();
  button.hidden = false;
  all(".hint").forEach((hint) => { hint.hidden = false; });

  // Sorting: empty cells stay last in both directions.
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const valueOf = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent.trim() || null;
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const sort = (table, column, header) => {
    const down = header.getAttribute("aria-sort") === "ascending";
    const numeric = header.classList.contains("num");
    const rows = all("tbody tr", table).map((row) => [valueOf(row, column, numeric), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = numeric ? a - b : collator.compare(a, b);
      return down ? -order : order;
    });
    all("thead th", table).forEach((other) => other.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  for (const table of all("table")) {
    all("thead th", table).forEach((header, column) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.append(...header.childNodes);
      header.append(sorter);
      header.setAttribute("aria-sort", "none");
      sorter.addEventListener("click", () => sort(table, column, header));
    });
  }

  // Filters: the same rows go from the table and from the plots.
  const filters = document.getElementById("filters");
  const table = document.getElementById("rows");
  if (table && filters) {
    const rows = all("tbody tr", table);
    const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const apply = () => {
      const words = document.getElementById("words").value.toLowerCase().split(/\s+/).filter(Boolean);
      const kinds = new Set(all("[name=kind]:checked", filters).map((box) => box.value));
      const tainted = filters.querySelector("[name=tainted]");
      const gone = new Set();
      for (const row of rows) {
        const clean = !row.querySelector("[data-tainted]") || !tainted || tainted.checked;
        const shown = clean && kinds.has(row.dataset.kind) && words.every((word) => text.get(row).includes(word));
        row.hidden = !shown;
        if (!shown) gone.add(row.dataset.row);
      }
      for (const mark of all("svg [data-row]")) {
        mark.style.display = gone.has(mark.dataset.row) ? "none" : "";
      }
      for (const series of all(".series")) {
        const line = series.querySelector(":scope > .line");
        const broken = all(".mark", series).some((mark) => gone.has(mark.dataset.row));
        if (line) line.style.display = broken ? "none" : "";
      }
      document.getElementById("count").textContent = `${rows.length - gone.size} of ${rows.length} rows`;
    };
    filters.hidden = false;
    filters.addEventListener("input", apply);
    filters.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  // Tooltips, by pointer and by keyboard. Each plot is one stop of the Tab key.
  const tip = document.getElementById("tip");
  const show = (mark) => {
    tip.textContent = mark.getAttribute("aria-label");
    tip.hidden = false;
    const at = mark.querySelector(".target").getBoundingClientRect();
    const left = Math.min(at.right + 4, innerWidth - tip.offsetWidth - 8);
    const below = at.bottom + 4 + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(left, 4)}px`;
    tip.style.top = `${Math.max(below ? at.bottom + 4 : at.top - tip.offsetHeight - 4, 4)}px`;
  };
  const hide = () => { tip.hidden = true; };
  const find = (mark) => {
    const row = document.getElementById(`row-${mark.dataset.row}`);
    if (!row) return;
    all("tr.found").forEach((other) => other.classList.remove("found"));
    row.classList.add("found");
    row.scrollIntoView({ block: "center" });
  };
  for (const plot of all(".plot > svg")) {
    const marks = all(".mark", plot);
    marks.forEach((mark) => {
      const title = mark.querySelector("title");
      mark.setAttribute("aria-label", title.textContent);
      title.remove();  // the browser would show it beside ours
      mark.addEventListener("pointerenter", () => show(mark));
      mark.addEventListener("pointerleave", hide);
      mark.addEventListener("focus", () => show(mark));
      mark.addEventListener("blur", hide);
      mark.addEventListener("click", () => find(mark));
    });
    if (marks.length) marks[0].setAttribute("tabindex", "0");
    plot.addEventListener("keydown", (event) => {
      const visible = marks.filter((mark) => mark.style.display !== "none");
      const here = visible.indexOf(document.activeElement);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (event.key === "Enter" && here >= 0) find(visible[here]);
      if (!step || !visible.length) return;
      event.preventDefault();
      const next = visible[(here + step + visible.length) % visible.length];
      marks.forEach((mark) => mark.setAttribute("tabindex", mark === next ? "0" : "-1"));
      next.focus({ preventScroll: true });
      show(next);
    });
  }
  addEventListener("scroll", hide, { passive: true, capture: true });
})();
