/**
 * Your image: drawn here, dropped here, or one of the set. It is placed on the map, drawn again and named; damaged with
 * sliders, it is restored through the bottleneck, D(E(y)), and by the code of greatest posterior, side by side.
 */
import type { App } from "../app";
import type { Erased } from "../degrade";
import { fill, h, slider } from "../dom";
import { readPicture } from "../dropped";
import { nearest, shares } from "../neighbours";
import { sentence } from "../told";
import { Board } from "./board";
import { bars, heading, probabilities, turns } from "./panel";
import { restoring } from "./restoring";

const NEAR = 12;

export interface Yours {
  element: HTMLElement;
  /** Take this image, from wherever. */
  show: (pixels: Float32Array, name: string) => void;
  take: (file: File) => Promise<void>;
}

export function yoursPanel(app: App): Yours {
  const { manifest, networks } = app;
  const { shape } = manifest;
  const size = shape[0] * shape[1] * shape[2];
  let image = new Float32Array(size) as Float32Array;
  let erased: Erased = { share: 0, x: 0.5, y: 0.5 };
  let [noise, seed] = [0, 1];
  const bench = restoring(app);
  const named = h("div", {});
  const name = h(
    "p",
    { class: "soft", "aria-live": "polite" },
    "Draw on the board, drop a picture on the page, or choose one.",
  );
  const board = new Board(shape, image, (pixels) => {
    image = pixels;
    name.textContent = "Drawn here.";
    name.classList.remove("wrong");
    update();
  });
  const begin = turns();
  const update = () => {
    const current = begin();
    window.setTimeout(() => {
      if (!current()) return;
      Promise.all([bench.restore(image, noise, erased, seed), classify(app, image, named)]).catch((error: unknown) => {
        app.tell(sentence(error));
      });
    }, 40);
  };
  const show = (pixels: Float32Array, from: string) => {
    image = pixels;
    board.set(pixels);
    name.textContent = `This is ${from}.`;
    name.classList.remove("wrong");
    update();
  };
  const take = async (file: File) => {
    try {
      show(await readPicture(file, shape), file.name);
    } catch (error) {
      name.textContent = sentence(error);
      name.classList.add("wrong");
    }
  };
  const file = h("input", {
    type: "file",
    accept: "image/png,image/jpeg,image/gif,image/bmp,image/webp",
    class: "hidden",
    tabindex: "-1",
    "aria-hidden": "true",
  });
  file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    if (chosen !== undefined) void take(chosen);
    file.value = "";
  });
  const any = () => {
    const i = Math.floor(Math.random() * app.data.count);
    app.data.sprites
      .image(i)
      .then((pixels) => show(pixels, `image ${i}${app.data.label(i) === "" ? "" : `, a ${app.data.label(i)}`}`))
      .catch((error: unknown) => app.tell(sentence(error)));
  };
  const button = (text: string, onclick: () => void) => h("button", { type: "button", onclick }, text);
  const places = h("div", { hidden: true });
  const percent = (value: number) => `${Math.round(100 * value)} %`;
  const erase = (change: Partial<Erased>) => {
    erased = { ...erased, ...change };
    places.hidden = erased.share === 0;
    across.set(erased.x);
    down.set(erased.y);
    update();
  };
  const across = slider("from the left", { min: 0, max: 1, step: 0.02, value: 0.5 }, percent, (x) => erase({ x }));
  const down = slider("from the top", { min: 0, max: 1, step: 0.02, value: 0.5 }, percent, (y) => erase({ y }));
  places.append(across.element, down.element);
  bench.onPlace((x, y) => erase({ x, y, share: erased.share === 0 ? 0.3 : erased.share }));
  const noiseSlider = slider(
    "noise σ",
    { min: 0, max: 0.6, step: 0.01, value: 0 },
    (value) => value.toFixed(2),
    (value) => {
      noise = value;
      update();
    },
  );
  const eraseSlider = slider("erased square", { min: 0, max: 0.8, step: 0.02, value: 0 }, percent, (share) =>
    erase({ share }),
  );
  const element = h(
    "div",
    {},
    heading("Your image"),
    h(
      "div",
      { class: "pair" },
      board.canvas,
      h(
        "div",
        { class: "beside column" },
        button("Choose a file…", () => file.click()),
        button("One of the set", any),
        button("Invert", () =>
          show(
            image.map((value) => 1 - value),
            "inverted",
          ),
        ),
        button("Clear", () => show(new Float32Array(size), "an empty board")),
        file,
      ),
    ),
    name,
    named,
    networks.has("decoder") || networks.has("denoiser")
      ? h(
          "div",
          {},
          h("h3", {}, "Damage it"),
          noiseSlider.element,
          eraseSlider.element,
          places,
          h(
            "div",
            { class: "row" },
            button("Other noise", () => (seed++, update())),
          ),
        )
      : null,
    bench.element,
  );
  return { element, show, take };
}

async function classify(app: App, image: Float32Array, into: HTMLElement): Promise<void> {
  const { data, networks } = app;
  if (image.every((value) => value === 0)) {
    fill(into);
    return;
  }
  const code = networks.has("encoder") && data.dim > 0 ? await networks.encode(image, 1) : null;
  const near = () =>
    code === null ? null : { labels: data.labels, points: nearest(data.codes, code, NEAR).map(({ index }) => index) };
  const taken = await probabilities(app, image, near, shares);
  fill(
    into,
    taken === null ? null : h("div", {}, h("h3", {}, `Class, ${taken.by}`), bars(taken.classes, taken.found, 4)),
  );
}
