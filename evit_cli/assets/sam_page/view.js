// The canvas: what is drawn, where it lies, and what fingers, mice and keys do on it.

const SLOP = { mouse: 5, pen: 8, touch: 12 }; // pixels that a click may wander
const DEEPEST_ZOOM = 24; // screen pixels per pixel of the picture

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Places are in pixels of the shown picture, until `scale` makes them the image's own. */
export class View {
  /**
   * `scene()` says what to draw: {picture, layers, ghost, object, opacity, tool}; `acts` has
   * point(x, y, negative) and box([x0, y0, x1, y1]) in pixels of the shown picture, and
   * hover(place, box): where the pointer is, or the box that is being drawn, or nothing.
   */
  constructor(canvas, scene, acts) {
    Object.assign(this, { canvas, scene, acts });
    this.zoom = 1;
    this.x = this.y = 0; // where the picture's upper left corner lies on the canvas
    this.fitted = true;
    this.pointers = new Map();
    this.drag = this.pinch = this.cross = this.draft = null;
    new ResizeObserver(() => { if (this.fitted) this.fit(); else this.draw(); }).observe(canvas);
    for (const kind of ["down", "move", "up", "cancel"]) {
      canvas.addEventListener(`pointer${kind}`, (event) => this[kind](event));
    }
    canvas.addEventListener("pointerleave", () => { if (!this.drag) this.acts.hover(null, null); });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => { this.cross = null; this.draw(); });
  }

  // Where things lie.

  fit() {
    const { picture } = this.scene();
    this.fitted = true;
    if (picture) {
      const { clientWidth: across, clientHeight: down } = this.canvas;
      this.zoom = Math.min(across / picture.width, down / picture.height) || 1;
      this.x = (across - picture.width * this.zoom) / 2;
      this.y = (down - picture.height * this.zoom) / 2;
    }
    this.draw();
  }

  zoomBy(factor, at) {
    const { picture } = this.scene();
    if (!picture) return;
    const { clientWidth: across, clientHeight: down } = this.canvas;
    const [x, y] = at || [across / 2, down / 2];
    const least = Math.min(across / picture.width, down / picture.height, 1) / 2;
    const zoom = clamp(this.zoom * factor, least, DEEPEST_ZOOM);
    this.x = x - (x - this.x) * (zoom / this.zoom);
    this.y = y - (y - this.y) * (zoom / this.zoom);
    this.zoom = zoom;
    this.move_(0, 0);
  }

  /** Move the picture, of which a part stays in sight. */
  move_(dx, dy) {
    const { picture } = this.scene();
    const { clientWidth: across, clientHeight: down } = this.canvas;
    const seen = 40;
    this.x = clamp(this.x + dx, seen - picture.width * this.zoom, across - seen);
    this.y = clamp(this.y + dy, seen - picture.height * this.zoom, down - seen);
    this.fitted = false;
    this.draw();
  }

  placeOf(event) {
    const at = this.canvas.getBoundingClientRect();
    return [event.clientX - at.left, event.clientY - at.top];
  }

  onPicture([x, y]) { return [(x - this.x) / this.zoom, (y - this.y) / this.zoom]; }
  onCanvas([x, y]) { return [x * this.zoom + this.x, y * this.zoom + this.y]; }

  inside([x, y]) {
    const { picture } = this.scene();
    return picture && x >= 0 && y >= 0 && x <= picture.width && y <= picture.height;
  }

  within([x, y]) {
    const { picture } = this.scene();
    return [clamp(x, 0, picture.width), clamp(y, 0, picture.height)];
  }

  // Fingers and mice: a drag moves the picture, or draws with the box tool; two fingers zoom.

  down(event) {
    if (!this.scene().picture || event.button > 2) return;
    this.cross = null;
    try { this.canvas.setPointerCapture(event.pointerId); } catch { /* it is up again already */ }
    this.pointers.set(event.pointerId, this.placeOf(event));
    if (this.pointers.size === 2) {
      this.drag = this.draft = null;
      this.pinch = this.fingers();
      this.draw();
    } else if (this.pointers.size === 1) {
      const start = this.placeOf(event);
      const negative = event.button === 2 || event.shiftKey || event.ctrlKey;
      const draws = this.scene().tool === "box" && event.button === 0;
      this.drag = { start, last: start, negative, draws, middle: event.button === 1, moved: false };
    }
  }

  fingers() {
    const [[x0, y0], [x1, y1]] = [...this.pointers.values()];
    return { apart: Math.hypot(x1 - x0, y1 - y0) || 1, middle: [(x0 + x1) / 2, (y0 + y1) / 2] };
  }

  move(event) {
    if (!this.pointers.has(event.pointerId)) {
      const at = this.onPicture(this.placeOf(event));
      this.acts.hover(event.pointerType === "mouse" && this.inside(at) ? at : null, null);
      return;
    }
    const place = this.placeOf(event);
    this.pointers.set(event.pointerId, place);
    if (this.pinch && this.pointers.size === 2) {
      const before = this.pinch;
      this.pinch = this.fingers();
      this.move_(this.pinch.middle[0] - before.middle[0], this.pinch.middle[1] - before.middle[1]);
      this.zoomBy(this.pinch.apart / before.apart, this.pinch.middle);
    } else if (this.drag) this.pull(place, SLOP[event.pointerType] || SLOP.mouse);
  }

  pull(place, slop) {
    const { start, last } = this.drag;
    if (!this.drag.moved && Math.hypot(place[0] - start[0], place[1] - start[1]) <= slop) return;
    this.drag.moved = true;
    this.drag.last = place;
    if (this.drag.draws) {
      const [a, b] = [start, place].map((corner) => this.within(this.onPicture(corner)));
      this.draft = [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
      this.acts.hover(null, this.real(this.draft) ? this.draft : null);
      this.draw();
    } else this.move_(place[0] - last[0], place[1] - last[1]);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    const { drag, draft } = this;
    if (this.pointers.size === 0) this.drag = this.draft = this.pinch = null;
    if (!drag || this.pointers.size) return;
    if (draft) this.finish(draft);
    else if (!drag.moved && !drag.middle) {
      const place = this.onPicture(drag.start);
      if (this.inside(place)) this.acts.point(...place, drag.negative);
    }
    this.draw();
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    if (this.pointers.size === 0) this.drag = this.draft = this.pinch = null;
    this.draw();
  }

  finish(box) {
    this.draft = null;
    if (this.real(box)) this.acts.box(box);
  }

  /** Whether a box has a surface. */
  real([x0, y0, x1, y1]) { return x1 - x0 >= 1 && y1 - y0 >= 1; }

  /** Give up a box that is being drawn. */
  giveUp() {
    this.draft = null;
    this.acts.hover(null, null);
    if (this.drag) this.drag.draws = false;
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    this.zoomBy(Math.exp(-clamp(event.deltaY * lines, -300, 300) / 400), this.placeOf(event));
  }

  // The keyboard: a cross that the arrow keys move.

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const { picture, tool } = this.scene();
    if (!picture || event.ctrlKey || event.metaKey || event.altKey) return;
    if (steps[event.key]) {
      const far = (event.shiftKey ? 40 : 8) / this.zoom;
      const from = this.cross || [picture.width / 2, picture.height / 2];
      this.cross = this.within(from.map((value, axis) => value + steps[event.key][axis] * far));
      if (this.draft) this.draft = [...this.draft.slice(0, 2), ...this.cross];
    } else if (event.key === "Enter" && this.cross) {
      if (tool !== "box") this.acts.point(...this.cross, event.shiftKey);
      else if (!this.draft) this.draft = [...this.cross, ...this.cross];
      else {
        const [x0, y0, x1, y1] = this.draft;
        this.finish([Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)]);
      }
    } else return;
    event.preventDefault();
    this.draw();
  }

  // Drawing.

  draw() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => { this.due = 0; this.paint(); });
  }

  paint() {
    const { canvas } = this, { picture, layers, ghost, object, opacity } = this.scene();
    const dense = window.devicePixelRatio || 1;
    const across = Math.round(canvas.clientWidth * dense), down = Math.round(canvas.clientHeight * dense);
    if (canvas.width !== across || canvas.height !== down) Object.assign(canvas, { width: across, height: down });
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, across, down);
    if (!picture) return;
    const size = this.zoom * dense;
    context.setTransform(size, 0, 0, size, this.x * dense, this.y * dense);
    context.imageSmoothingEnabled = size < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0);
    for (const { fill, edge, left, top } of layers) {
      if (!fill) continue;
      context.globalAlpha = opacity;
      context.drawImage(fill, left, top);
      context.globalAlpha = Math.min(1, 0.25 + opacity * 1.5);
      if (opacity > 0) context.drawImage(edge, left, top);
    }
    if (ghost?.fill) {
      context.globalAlpha = opacity * 0.6;
      context.drawImage(ghost.fill, ghost.left, ghost.top);
    }
    context.globalAlpha = 1;
    context.setTransform(dense, 0, 0, dense, 0, 0);
    if (object) this.marks(context, object);
    if (this.cross) this.crossAt(context, this.onCanvas(this.cross));
  }

  marks(context, { points, box, colour }) {
    const drawn = this.draft || box;
    if (drawn) {
      const [x0, y0] = this.onCanvas(drawn), [x1, y1] = this.onCanvas(drawn.slice(2));
      for (const [width, style] of [[4, "#fff"], [2, colour]]) {
        context.lineWidth = width;
        context.strokeStyle = style;
        context.strokeRect(x0, y0, x1 - x0, y1 - y0);
      }
    }
    for (const { x, y, label } of points) {
      const [across, down] = this.onCanvas([x, y]);
      context.beginPath();
      context.arc(across, down, 8, 0, 2 * Math.PI);
      context.fillStyle = label ? "#0a7d33" : "#b3261e";
      context.fill();
      context.lineWidth = 2;
      context.strokeStyle = "#fff";
      context.stroke();
      context.beginPath();
      context.moveTo(across - 4, down);
      context.lineTo(across + 4, down);
      if (label) {
        context.moveTo(across, down - 4);
        context.lineTo(across, down + 4);
      }
      context.stroke();
    }
  }

  crossAt(context, [x, y]) {
    for (const [width, style] of [[4, "#000"], [2, "#fff"]]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      context.beginPath();
      context.moveTo(x - 14, y);
      context.lineTo(x + 14, y);
      context.moveTo(x, y - 14);
      context.lineTo(x, y + 14);
      context.stroke();
    }
  }
}
