// Masks from evit, asked for one after another, and how they are painted.

import { predict } from "./api.js";
import { isEmpty, promptOf } from "./objects.js";
import { decodeMask } from "./rle.js";

const KEPT = 1000; // answers, of a few kB each: more than there can be objects
const keyOf = (object) => JSON.stringify(promptOf(object));

function bestOf(masks) {
  const ious = masks.map((mask) => mask.iou);
  return ious.indexOf(Math.max(...ious));
}

export class Masks {
  /**
   * `image` is the index of the image; `changed` is called when an answer or an error came,
   * `conjured` when the answer to a wish came.
   */
  constructor(image, changed, conjured) {
    Object.assign(this, { image, changed, conjured });
    this.answers = new Map();
    this.layers = new Map(); // object id -> what was last painted for it
    this.wish = null; // an object that is not there: what a click here would find
    this.ghost = null; // its answer and how it is painted
    this.asking = false;
    this.error = "";
  }

  answer(object) {
    return isEmpty(object) ? undefined : this.answers.get(keyOf(object));
  }

  /** Which of the three masks: the chosen one, or the one that is said to be best. */
  candidate(object) {
    const answer = this.answer(object);
    if (!answer) return undefined;
    if (object.candidate !== null) return object.candidate;
    return bestOf(answer.masks);
  }

  /** Ask for what is missing of these objects, the first one first, and last for the wish. */
  async want(find) {
    if (this.asking) return;
    this.asking = true;
    this.error = "";
    try {
      for (;;) {
        const missing = find().find((item) => !isEmpty(item) && !this.answer(item));
        if (missing) {
          await this.fetch(missing);
          this.changed();
        } else if (this.wish && this.ghost?.key !== keyOf(this.wish)) {
          await this.conjure(this.wish);
          this.conjured();
        } else return;
      }
    } catch (error) {
      this.error = error.message;
      this.changed();
    } finally {
      this.asking = false;
    }
  }

  async fetch(object) {
    const key = keyOf(object);
    // The click on what was seen already costs nothing.
    const answer = this.ghost?.key === key ? this.ghost.answer : await predict(this.image, promptOf(object));
    this.answers.set(key, answer);
    if (this.answers.size > KEPT) this.answers.delete(this.answers.keys().next().value);
  }

  async conjure(object) {
    const answer = await predict(this.image, promptOf(object));
    const best = bestOf(answer.masks);
    this.ghost = { key: keyOf(object), answer, ...paint(answer.masks[best], object.colour) };
  }

  /** The painted mask of an object; while a new one is awaited, the old one. */
  layer(object) {
    if (isEmpty(object)) {
      this.layers.delete(object.id);
      return undefined;
    }
    const answer = this.answer(object), candidate = this.candidate(object);
    const painted = this.layers.get(object.id);
    if (!answer) return painted;
    const same = painted && painted.answer === answer && painted.candidate === candidate &&
      painted.colour === object.colour;
    if (same) return painted;
    const fresh = { answer, candidate, colour: object.colour, ...paint(answer.masks[candidate], object.colour) };
    this.layers.set(object.id, fresh);
    return fresh;
  }
}

/** One colour as ImageData keeps it, read through a 32-bit view on any machine. */
function packed(colour) {
  const bytes = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return new Uint32Array(new Uint8ClampedArray([...bytes, 255]).buffer)[0];
}

/** A mask as two pictures, its surface and its edge, and where they lie. */
function paint(rle, colour) {
  const { height, width, data, box: [left, top, right, bottom] } = decodeMask(rle);
  if (right < 0) return { fill: null };
  const across = right - left + 1, down = bottom - top + 1;
  const fill = new ImageData(across, down), edge = new ImageData(across, down);
  const fills = new Uint32Array(fill.data.buffer), edges = new Uint32Array(edge.data.buffer);
  const value = packed(colour);
  const thick = Math.max(1, Math.round(Math.max(height, width) / 700));
  for (let y = top, out = 0; y <= bottom; y++) {
    for (let x = left, at = y * width + left; x <= right; x++, at++, out++) {
      if (!data[at]) continue;
      fills[out] = value;
      const inner = (x < thick || data[at - thick]) && (x + thick >= width || data[at + thick]) &&
        (y < thick || data[at - thick * width]) && (y + thick >= height || data[at + thick * width]);
      if (!inner) edges[out] = value;
    }
  }
  return { fill: canvasOf(fill), edge: canvasOf(edge), left, top };
}

function canvasOf(pixels) {
  const canvas = document.createElement("canvas");
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** A small picture of a mask over its image. */
export function thumbnail(picture, rle, colour) {
  const { height, width, data } = decodeMask(rle);
  const scale = 120 / Math.max(height, width);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const bytes = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  for (let y = 0, out = 0; y < canvas.height; y++) {
    const row = Math.min(height - 1, Math.floor((y + 0.5) / scale)) * width;
    for (let x = 0; x < canvas.width; x++, out += 4) {
      const on = data[row + Math.min(width - 1, Math.floor((x + 0.5) / scale))];
      for (let c = 0; c < 3; c++) {
        pixels.data[out + c] = on
          ? 0.3 * pixels.data[out + c] + 0.7 * bytes[c] : 0.45 * pixels.data[out + c];
      }
    }
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}
