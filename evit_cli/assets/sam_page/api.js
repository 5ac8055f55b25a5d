// Requests to evit; every failure becomes an Error with one sentence for people.

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    // A connection that rested may just have been closed; asking twice does no harm here.
    await new Promise((after) => { setTimeout(after, 200); });
    return fetch(path, options);
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await reach(path, options);
  } catch {
    throw new Error("evit does not answer. Has it been ended?");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  const hint = said.hint ? ` (${said.hint})` : "";
  throw new Error((said.error || `evit answered with status ${answer.status}`) + hint);
}

const post = (path, value) => ask(path, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(value),
});

export const listImages = async () => (await ask("api/images")).json();
export const openImage = async (image) => (await post("api/open", { image })).json();
export const predict = async (image, prompt) =>
  (await post("api/predict", { image, ...prompt })).json();
export const makeFile = async (image, what, objects) =>
  (await post("api/save", { image, what, objects })).blob();

/** The picture of an image, as it is shown. */
export async function loadPicture(image) {
  const blob = await (await ask(`picture/${image}.jpg`)).blob();
  return createImageBitmap(blob);
}
