/** From one image to another through code space: a strip of pictures, and the hand that goes along it. */
import type { App } from "../app";
import { choice, fill, h, slider } from "../dom";
import { draw, picture } from "../pictures";
import type { Walk } from "../state";
import { between } from "../walk";
import { heading, note, thumb, turns, whileShown } from "./panel";

const STEPS = 12;
const SECONDS = 3; // from one end to the other

export function walkPanel(app: App): HTMLElement {
  const { data, manifest, networks } = app;
  if (!networks.has("decoder") || data.dim === 0) {
    return h(
      "div",
      {},
      heading("Walk"),
      note("This run has no decoder, so what lies between two images cannot be drawn."),
    );
  }
  const ends = h("div", { class: "ends" });
  const strip = h("div", { class: "strip" });
  const frames = Array.from({ length: STEPS }, () => picture(manifest.shape, ""));
  frames.forEach(({ canvas }, k) => {
    const t = k / (STEPS - 1);
    const text = `Walk to ${Math.round(100 * t)} %`;
    strip.append(
      h("button", { type: "button", class: "thumb", "aria-label": text, onclick: () => go(app, t) }, canvas),
    );
  });
  const now = picture(manifest.shape, "now", { class: "picture large" });
  app.hand.onPicture((pixels) => {
    if (app.store.get().tab === "walk") draw(now.canvas, pixels, manifest.shape);
  });
  const place = slider(
    "place",
    { min: 0, max: 1, step: 0.005, value: 0 },
    (t) => `${Math.round(100 * t)} %`,
    (t) => go(app, t),
  );
  const way = choice(
    "Way",
    [
      ["straight", "Straight"],
      ["spherical", "Along the sphere"],
    ] as const,
    (chosen) => {
      const { walk } = app.store.get();
      if (walk !== null) app.store.set({ walk: { ...walk, way: chosen } });
    },
  );
  const play = player(app);
  const body = h(
    "div",
    {},
    ends,
    h(
      "div",
      { class: "row" },
      play,
      h("button", { type: "button", onclick: () => swap(app) }, "Swap"),
      h("button", { type: "button", onclick: () => pickTwo(app) }, "Two at random"),
    ),
    place.element,
    now.element,
    h("h3", {}, "All at once"),
    strip,
    way.element,
  );
  const begin = turns();
  let drawn = "";
  whileShown(app, "walk", ["walk"], async () => {
    const { walk } = app.store.get();
    body.hidden = walk === null;
    empty.hidden = walk !== null;
    if (walk === null) return;
    place.set(walk.t);
    way.set(walk.way);
    const key = `${walk.from} ${walk.to} ${walk.way}`;
    if (key === drawn) return;
    const current = begin();
    fill(
      ends,
      h("div", {}, h("h3", {}, "From"), thumb(app, walk.from)),
      h("div", {}, h("h3", {}, "To"), thumb(app, walk.to)),
    );
    const codes = new Float32Array(STEPS * data.dim);
    for (let k = 0; k < STEPS; k++) codes.set(at(app, walk, k / (STEPS - 1)), k * data.dim);
    const images = await networks.decode(codes, STEPS);
    if (!current()) return;
    drawn = key;
    const size = images.length / STEPS;
    frames.forEach(({ canvas }, k) => draw(canvas, images.subarray(k * size, (k + 1) * size), manifest.shape));
    go(app, walk.t);
  });
  const empty = h(
    "div",
    {},
    note("Press a point of the map and then “Walk from here”, another and “Walk to here”; or take two at random."),
    h("div", { class: "row" }, h("button", { type: "button", onclick: () => pickTwo(app) }, "Two at random")),
  );
  return h("div", {}, heading("Walk"), empty, body);
}

function at(app: App, walk: Walk, t: number): Float32Array {
  return between(app.data.code(walk.from), app.data.code(walk.to), t, walk.way);
}

function go(app: App, t: number): void {
  const { walk } = app.store.get();
  if (walk === null) return;
  app.store.set({ walk: { ...walk, t } });
  app.hand.take(at(app, walk, t));
}

function swap(app: App): void {
  const { walk } = app.store.get();
  if (walk !== null) app.store.set({ walk: { ...walk, from: walk.to, to: walk.from, t: 1 - walk.t } });
}

/** Two points of different classes, where there are classes. */
function pickTwo(app: App): void {
  const { labels, count } = app.data;
  const any = () => Math.floor(Math.random() * count);
  const from = any();
  let to = any();
  for (let tries = 0; tries < 50 && (to === from || (labels[from] >= 0 && labels[to] === labels[from])); tries++)
    to = any();
  const way = app.store.get().walk?.way ?? "straight";
  app.store.set({ walk: { from, to, t: 0, way } });
}

/** A button that plays the walk to and fro until it is pressed again. */
function player(app: App): HTMLButtonElement {
  const button = h("button", { type: "button", class: "primary" }, "Play");
  let playing = false;
  let phase = 0;
  let last = 0;
  const frame = (time: number) => {
    if (!playing) return;
    if (app.store.get().tab !== "walk" || app.store.get().walk === null) {
      stop();
      return;
    }
    phase = (phase + (time - last) / 1000 / SECONDS) % 2;
    last = time;
    go(app, phase < 1 ? phase : 2 - phase);
    requestAnimationFrame(frame);
  };
  const stop = () => {
    playing = false;
    button.textContent = "Play";
  };
  button.addEventListener("click", () => {
    if (playing) {
      stop();
      return;
    }
    playing = true;
    button.textContent = "Stop";
    phase = app.store.get().walk?.t ?? 0;
    if (phase >= 1) phase = 1;
    last = performance.now();
    requestAnimationFrame(frame);
  });
  return button;
}
