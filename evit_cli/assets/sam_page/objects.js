// The objects of one image: what was clicked, with undo and redo. Masks follow from it.

export const COLOURS = [ // after Okabe and Ito
  "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#8a63d2",
];
const DEEPEST = 200;

/** What evit is asked for; also the key under which the answer is kept. */
export const promptOf = ({ points, box }) => ({
  points: points.map(({ x, y }) => [x, y]), labels: points.map(({ label }) => label), box,
});
export const isEmpty = ({ points, box }) => points.length === 0 && box === null;

export class Objects {
  constructor(kept) {
    this.past = [];
    this.future = [];
    this.changed = () => {};
    this.list = [];
    this.active = 0;
    this.made = 0;
    if (kept) Object.assign(this, kept);
    else this.begin();
  }

  get current() { return this.list[this.active]; }
  get filled() { return this.list.filter((item) => !isEmpty(item)); }

  begin() {
    this.made += 1;
    const colour = COLOURS[(this.made - 1) % COLOURS.length];
    this.list.push({
      id: this.made, name: `object ${this.made}`, colour, points: [], box: null, candidate: null,
    });
    this.active = this.list.length - 1;
  }

  snapshot() {
    return structuredClone({ list: this.list, active: this.active, made: this.made });
  }

  /** Change something so that it can be undone. */
  change(how) {
    this.past.push(this.snapshot());
    if (this.past.length > DEEPEST) this.past.shift();
    this.future = [];
    how();
    this.changed();
  }

  addPoint(x, y, label) {
    this.change(() => { this.current.points.push({ x, y, label }); this.current.candidate = null; });
  }

  setBox(box) {
    this.change(() => { this.current.box = box; this.current.candidate = null; });
  }

  choose(candidate) { this.change(() => { this.current.candidate = candidate; }); }

  clear() {
    if (isEmpty(this.current)) return;
    this.change(() => Object.assign(this.current, { points: [], box: null, candidate: null }));
  }

  /** A new object, unless the last one is still empty. */
  add() {
    const empty = this.list.findIndex(isEmpty);
    if (empty >= 0) this.pick(empty);
    else this.change(() => this.begin());
  }

  remove(index) {
    this.change(() => {
      this.list.splice(index, 1);
      if (this.active > index) this.active -= 1;
      if (this.list.length === 0) this.begin();
      this.active = Math.min(this.active, this.list.length - 1);
    });
  }

  rename(index, name) {
    if (this.list[index].name !== name) this.change(() => { this.list[index].name = name; });
  }

  pick(index) {
    this.active = (index + this.list.length) % this.list.length;
    this.changed();
  }

  undo() { this.travel(this.past, this.future); }
  redo() { this.travel(this.future, this.past); }

  travel(from, to) {
    const back = from.pop();
    if (!back) return;
    to.push(this.snapshot());
    Object.assign(this, back);
    this.changed();
  }
}
