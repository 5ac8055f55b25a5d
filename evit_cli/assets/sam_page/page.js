// The page: images, their objects, and what buttons and keys do with them.

import { listImages, loadPicture, makeFile, openImage } from "./api.js";
import { Masks } from "./masks.js";
import { Objects, isEmpty, promptOf } from "./objects.js";
import { showMasks, showObjects, wireTheme } from "./panel.js";
import { View } from "./view.js";

const byId = (id) => document.getElementById(id);
const STORE = `evit-sam ${location.pathname}`; // the address has a secret: one run of evit

const works = new Map(); // index of an image -> {objects, masks}
let names = [], index = -1, picture = null, ratio = [1, 1], tool = "add", hidden = false;
let work = null, ready = false;

function kept() {
  try { return JSON.parse(sessionStorage.getItem(STORE) || "{}"); } catch { return {}; }
}

function keep() {
  const all = { ...kept(), [index]: work.objects.snapshot() };
  try { sessionStorage.setItem(STORE, JSON.stringify(all)); } catch { /* no storage: a reload forgets */ }
}

function complain(message) {
  byId("error").textContent = message;
  byId("error").hidden = !message;
}

function busy(text) {
  byId("busy").hidden = !text;
  byId("busy-text").textContent = text;
}

const onShown = (object) => ({
  ...object,
  points: object.points.map(({ x, y, label }) => ({ x: x / ratio[0], y: y / ratio[1], label })),
  box: object.box && object.box.map((value, at) => value / ratio[at % 2]),
});
const exact = (value, axis) => Math.round(value * ratio[axis] * 100) / 100;

const view = new View(byId("canvas"), () => ({
  picture,
  layers: !ready || hidden ? [] : work.objects.list.map((item) => work.masks.layer(item)).filter(Boolean),
  ghost: ready && !hidden && work.masks.wish ? work.masks.ghost : null,
  object: ready && onShown(work.objects.current),
  opacity: byId("opacity").value / 100,
  tool,
}), {
  point: (x, y, negative) => {
    if (ready) work.objects.addPoint(exact(x, 0), exact(y, 1), negative !== (tool === "remove") ? 0 : 1);
  },
  box: (box) => { if (ready) work.objects.setBox(box.map((value, at) => exact(value, at % 2))); },
  hover: (place, box) => {
    if (!ready) return;
    const { masks, objects: { current } } = work;
    const before = masks.wish;
    masks.wish = null;
    if (byId("preview").checked && box) {
      masks.wish = { ...current, box: box.map((value, at) => exact(value, at % 2)) };
    } else if (byId("preview").checked && place && tool === "add" && isEmpty(current)) {
      masks.wish = { ...current, points: [{ x: exact(place[0], 0), y: exact(place[1], 1), label: 1 }] };
    }
    if (masks.wish) ask(work);
    else if (before) view.draw();
  },
});

function show() {
  const { objects, masks } = work;
  showObjects(objects);
  showMasks(objects, masks, picture);
  byId("undo").disabled = !objects.past.length;
  byId("redo").disabled = !objects.future.length;
  byId("clear").disabled = isEmpty(objects.current);
  const drawn = objects.filled.length > 0, marked = !isEmpty(objects.current);
  for (const button of document.querySelectorAll("[data-save]")) {
    button.disabled = !(ofAll(button.dataset.save) ? drawn : marked);
  }
  complain(masks.error);
  const answer = masks.answer(objects.current);
  if (answer) {
    const mask = answer.masks[masks.candidate(objects.current)];
    byId("status").textContent =
      `Mask ${masks.candidate(objects.current) + 1} of 3, predicted IoU ${mask.iou.toFixed(2)}; ${answer.ms} ms`;
  }
  view.draw();
}

/** The current object first, then the others that a reload or an undo brought back. */
function ask(mine) {
  mine.masks.want(() => [mine.objects.current, ...mine.objects.list]);
}

function changed() {
  work.masks.wish = null;
  keep();
  show();
  ask(work);
}

function workOf(at) {
  if (!works.has(at)) {
    const objects = new Objects(kept()[at]);
    const fresh = { objects };
    fresh.masks = new Masks(at, () => { if (work === fresh && ready) show(); }, () => view.draw());
    objects.changed = () => { if (work === fresh) changed(); };
    works.set(at, fresh);
  }
  return works.get(at);
}

async function openAt(at) {
  index = at;
  ready = false;
  picture = null;
  work = workOf(at);
  byId("image").selectedIndex = at;
  byId("previous-image").disabled = at === 0;
  byId("next-image").disabled = at === names.length - 1;
  byId("canvas").setAttribute("aria-label", `Image ${names[at]}`);
  document.title = `${names[at]} – evit sam`;
  complain("");
  byId("status").textContent = "";
  busy("Reading the image …");
  view.fit();
  const opening = openImage(at);
  opening.catch(() => {}); // it is awaited below, after the picture
  try {
    const loaded = await loadPicture(at);
    if (index !== at) return;
    picture = loaded;
    view.fit();
    busy("Encoding the image …");
    const { size, ms } = await opening;
    if (index !== at) return;
    ratio = [size[1] / picture.width, size[0] / picture.height];
    ready = true;
    byId("status").textContent = `${size[1]} × ${size[0]} pixels, ready in ${ms} ms`;
    changed();
  } catch (error) {
    if (index === at) complain(error.message);
  } finally {
    if (index === at) busy("");
  }
}

// Files.

const ofAll = (what) => what === "coco" || what === "prompts" || byId("together").checked;
const ENDINGS = { coco: "coco.json", prompts: "prompts.jsonl", mask: "mask.png", cutout: "cutout.png" };

/** What `evit sam IMAGE --prompts FILE` reads: a line per object. */
function promptLines(chosen) {
  const lines = chosen.map(({ name, points, labels, box }) =>
    JSON.stringify({ id: name, points, labels, boxes: box ? [box] : [] }));
  return new Blob([lines.join("\n") + "\n"], { type: "application/jsonl" });
}

async function save(what) {
  const { objects, masks } = work;
  const together = ofAll(what);
  const chosen = (together ? objects.list : [objects.current]).filter((item) => !isEmpty(item));
  if (!ready || !chosen.length) return;
  const asked = chosen.map((item) => ({
    ...promptOf(item), name: item.name, candidate: masks.candidate(item) ?? 0,
  }));
  const stem = names[index].split("/").pop().replace(/\.[^.]*$/, "");
  const whose = together ? "" : `-${chosen[0].name.replace(/[^\p{L}\p{N}]+/gu, "-")}`;
  busy("Making the file …");
  try {
    const link = document.createElement("a");
    const file = what === "prompts" ? promptLines(asked) : await makeFile(index, what, asked);
    link.href = URL.createObjectURL(file);
    link.download = `${stem}${whose}-${ENDINGS[what]}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    complain("");
    byId("status").textContent = `Downloaded ${link.download}`;
  } catch (error) {
    complain(error.message);
  } finally {
    busy("");
  }
}

// Buttons and keys.

function choose(name) {
  tool = name;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  }
}

function chooseMask(at) {
  if (work.masks.answer(work.objects.current)) work.objects.choose(at);
}

const objects = () => work.objects;
const step = (by) => { if (names[index + by] !== undefined) openAt(index + by); };
const KEYS = {
  a: () => choose("add"), r: () => choose("remove"), b: () => choose("box"),
  1: () => chooseMask(0), 2: () => chooseMask(1), 3: () => chooseMask(2),
  m: () => chooseMask((work.masks.candidate(objects().current) + 1) % 3),
  n: () => objects().add(), x: () => objects().clear(),
  "[": () => objects().pick(objects().active - 1), "]": () => objects().pick(objects().active + 1),
  delete: () => objects().remove(objects().active),
  h: () => { hidden = !hidden; view.draw(); },
  "+": () => view.zoomBy(1.4), "=": () => view.zoomBy(1.4), "-": () => view.zoomBy(1 / 1.4),
  0: () => view.fit(), ",": () => step(-1), ".": () => step(1),
};

function onKey(event) {
  const key = event.key.toLowerCase();
  if (event.target.matches("input[type=text], select") || event.altKey) return;
  if (key === "escape") view.giveUp();
  if (event.ctrlKey || event.metaKey) {
    const redo = key === "y" || (key === "z" && event.shiftKey);
    if (!ready || (key !== "z" && !redo)) return;
    event.preventDefault();
    if (redo) objects().redo(); else objects().undo();
  } else if (KEYS[key] && byId("letters").checked && (ready || [",", "."].includes(key))) {
    event.preventDefault();
    KEYS[key]();
  }
}

function wire() {
  wireTheme();
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => choose(button.dataset.tool));
  }
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => save(button.dataset.save));
  }
  const clicks = {
    undo: () => objects().undo(), redo: () => objects().redo(), clear: () => objects().clear(),
    new: () => objects().add(), "zoom-in": KEYS["+"], "zoom-out": KEYS["-"], fit: () => view.fit(),
  };
  for (const [id, act] of Object.entries(clicks)) {
    byId(id).addEventListener("click", () => { if (ready) act(); });
  }
  byId("previous-image").addEventListener("click", () => step(-1));
  byId("next-image").addEventListener("click", () => step(1));
  byId("image").addEventListener("change", (event) => openAt(event.target.selectedIndex));
  byId("opacity").addEventListener("input", (event) => {
    byId("opacity-value").textContent = `${event.target.value} %`;
    view.draw();
  });
  byId("together").addEventListener("change", () => { if (ready) show(); });
  document.addEventListener("keydown", onKey);
}

async function begin() {
  wire();
  try {
    const listing = await listImages();
    names = listing.images;
    byId("model").textContent = `${listing.model}, ${listing.backend} ${listing.precision}`;
    byId("image").append(...names.map((name) => new Option(name)));
    byId("images").hidden = names.length < 2;
    await openAt(0);
  } catch (error) {
    complain(error.message);
  }
}

begin();
