/** New images: codes drawn from a fitted density, and what the decoder makes of them. */
import type { App } from "../app";
import { choice, fill, h, slider } from "../dom";
import { draw, picture } from "../pictures";
import { Random } from "../random";
import { heading, note, turns, whileShown } from "./panel";

const COUNT = 24;
const WORDS: Record<string, string> = {
  normal: "N(0, I), the prior of this network.",
  gaussian: "One Gaussian fitted to the codes of the training images.",
  mixture: "A mixture of Gaussians fitted to the codes of the training images.",
};

export function freshPanel(app: App): HTMLElement {
  const { data, manifest, networks } = app;
  const densities = data.densities;
  if (densities === null || !networks.has("decoder")) {
    const why = networks.has("decoder") ? "no density of codes was exported with it" : "it has no decoder";
    return h("div", {}, heading("New images"), note(`This run makes no new images: ${why}.`));
  }
  let kind = densities.default;
  let temperature = 1;
  let seed = 1;
  const sheet = h("div", { class: "thumbs" });
  const which = choice(
    "Density",
    [...densities.kinds.keys()].map((name) => [name, name] as const),
    (name) => {
      kind = name;
      void update();
    },
  );
  const about = h("p", { class: "note" });
  const heat = slider(
    "temperature",
    { min: 0, max: 2, step: 0.05, value: 1 },
    (value) => value.toFixed(2),
    (value) => {
      temperature = value;
      void update();
    },
  );
  const begin = turns();
  const update = async () => {
    const current = begin();
    which.set(kind);
    about.textContent = WORDS[kind] ?? "";
    const density = densities.kinds.get(kind);
    if (density === undefined) return;
    const random = new Random(seed);
    const codes = new Float32Array(COUNT * data.dim);
    for (let k = 0; k < COUNT; k++) codes.set(density.sample(random, temperature), k * data.dim);
    const images = await networks.decode(codes, COUNT);
    if (!current()) return;
    const size = images.length / COUNT;
    fill(
      sheet,
      ...Array.from({ length: COUNT }, (_, k) => {
        const { element, canvas } = picture(manifest.shape, "");
        draw(canvas, images.subarray(k * size, (k + 1) * size), manifest.shape);
        const code = codes.slice(k * data.dim, (k + 1) * data.dim);
        return h(
          "button",
          {
            type: "button",
            class: "thumb",
            "aria-label": `New image ${k + 1}: put the hand there`,
            onclick: () => app.hand.take(code),
          },
          element,
        );
      }),
    );
  };
  whileShown(app, "new", ["theme"], update);
  return h(
    "div",
    {},
    heading("New images"),
    note(
      "Drawn from the density of codes, not from the images. Press one to take it in the hand and see where it lies.",
    ),
    densities.kinds.size > 1 ? which.element : null,
    about,
    heat.element,
    note("At 1 codes are drawn as the density says; below, nearer to the middle of its parts; above, further out."),
    h(
      "div",
      { class: "row" },
      h("button", { type: "button", class: "primary", onclick: () => (seed++, void update()) }, "Draw others"),
    ),
    sheet,
  );
}
