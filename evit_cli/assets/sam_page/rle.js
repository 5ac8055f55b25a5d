// COCO run lengths, which are read column by column, as a mask.

/** The run lengths in a compressed string: groups of 5 bits, differences from the fourth on. */
export function runLengths(text) {
  const counts = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, group;
    do {
      group = text.charCodeAt(at++) - 48;
      value |= (group & 31) << shift;
      shift += 5;
    } while (group & 32);
    if (group & 16) value |= -1 << shift;
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  return counts;
}

/** {size: [height, width], counts} -> {height, width, data (row by row, 0 or 1), box, area}. */
export function decodeMask({ size: [height, width], counts }) {
  const data = new Uint8Array(height * width);
  const box = [width, height, -1, -1]; // first and last column and row of the mask
  let position = 0, on = false, area = 0;
  for (const length of runLengths(counts)) {
    if (on && length) {
      const end = position + length;
      area += length;
      box[0] = Math.min(box[0], Math.floor(position / height));
      box[2] = Math.max(box[2], Math.floor((end - 1) / height));
      while (position < end) {
        const x = Math.floor(position / height), top = position - x * height;
        const bottom = Math.min(top + end - position, height);
        for (let y = top, at = top * width + x; y < bottom; y++, at += width) data[at] = 1;
        box[1] = Math.min(box[1], top);
        box[3] = Math.max(box[3], bottom - 1);
        position += bottom - top;
      }
    } else position += length;
    on = !on;
  }
  return { height, width, data, box, area };
}
