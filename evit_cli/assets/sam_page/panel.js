// The list of objects, the three masks, and the theme.

import { isEmpty } from "./objects.js";
import { thumbnail } from "./masks.js";

const byId = (id) => document.getElementById(id);

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Draw the list of objects. */
export function showObjects(objects) {
  const list = byId("objects");
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  list.replaceChildren(...objects.list.map((object, index) => {
    const dot = make("span", { className: "dot" });
    dot.style.background = object.colour;
    const pick = make("button", { type: "button", className: "pick", title: "Work on this object" }, dot);
    pick.setAttribute("aria-pressed", String(index === objects.active));
    pick.setAttribute("aria-label", `Work on ${object.name}`);
    pick.addEventListener("click", () => objects.pick(index));
    const name = make("input", { type: "text", value: object.name, maxLength: 100 });
    name.setAttribute("aria-label", "Name of the object");
    name.addEventListener("change", () => objects.rename(index, name.value.trim() || object.name));
    const remove = make("button", { type: "button", textContent: "✕", title: "Delete" });
    remove.setAttribute("aria-label", `Delete ${object.name}`);
    remove.addEventListener("click", () => objects.remove(index));
    for (const [what, element] of Object.entries({ pick, name, remove })) {
      element.dataset.focus = `${what} ${object.id}`;
    }
    return make("li", {}, pick, name, remove);
  }));
  // The list was made anew under the user's hands.
  if (focused) [...list.querySelectorAll("[data-focus]")].find((it) => it.dataset.focus === focused)?.focus();
}

let shown = null;

/** Draw the three masks of the current object. */
export function showMasks(objects, masks, picture) {
  const object = objects.current, answer = masks.answer(object);
  if (!answer && !isEmpty(object)) return; // the old ones stay until the new ones come
  byId("no-mask").hidden = Boolean(answer);
  const box = byId("masks");
  box.hidden = !answer;
  if (!answer) {
    shown = null;
    return;
  }
  if (shown?.answer !== answer || shown.colour !== object.colour) {
    shown = { answer, colour: object.colour };
    box.replaceChildren(...answer.masks.map((mask, index) => {
      const iou = Math.min(Math.max(mask.iou, 0), 1);
      const button = make("button", { type: "button" },
        thumbnail(picture, mask, object.colour), `${index + 1}: ${Math.round(iou * 100)} %`);
      button.setAttribute("role", "radio");
      button.setAttribute("aria-label", `Mask ${index + 1}, predicted IoU ${mask.iou.toFixed(2)}`);
      button.title = `Predicted IoU ${mask.iou.toFixed(3)} (${index + 1})`;
      return button;
    }));
  }
  [...box.children].forEach((button, index) => {
    const chosen = index === masks.candidate(object);
    button.setAttribute("aria-checked", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
    button.onclick = () => objects.choose(index);
    button.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = (index + step + box.children.length) % box.children.length;
      objects.choose(next);
      box.children[next].focus();
    };
  });
}

/** Light and dark: the system's choice until the button is pressed. */
export function wireTheme() {
  const root = document.documentElement, button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  try {
    const kept = localStorage.getItem("evit-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* a private window may have no storage */ }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("evit-theme", root.dataset.theme); } catch { /* as above */ }
    name();
  });
  system.addEventListener("change", name);
  name();
}
