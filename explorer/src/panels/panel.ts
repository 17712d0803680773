/** What all panels share: drawn only while shown, and an older answer never overtakes a newer one. */
import type { App } from "../app";
import { h } from "../dom";
import { draw } from "../pictures";
import type { State, Tab } from "../state";
import { sentence } from "../told";

/** Call `update` when any of `keys` changes while the panel is shown, or when it is shown again after that. */
export function whileShown(
  app: App,
  tab: Tab,
  keys: readonly (keyof State)[],
  update: () => void | Promise<void>,
): void {
  let stale = true;
  const check = () => {
    if (app.store.get().tab !== tab) return;
    stale = false;
    Promise.resolve(update()).catch((error: unknown) => app.tell(sentence(error)));
  };
  app.store.on(keys, () => {
    stale = true;
    check();
  });
  app.store.on(["tab"], () => {
    if (stale) check();
  });
  queueMicrotask(check);
}

/** Each call makes all earlier answers old: `const current = turn(); await ...; if (!current()) return;` */
export function turns(): () => () => boolean {
  let last = 0;
  return () => {
    const mine = ++last;
    return () => mine === last;
  };
}

/** A picture of point i that can be pressed: it becomes the one looked at. */
export function thumb(app: App, i: number, note = ""): HTMLElement {
  const { shape } = app.manifest;
  const canvas = h("canvas", { class: "picture", width: shape[2], height: shape[1] });
  app.data.sprites
    .image(i)
    .then((pixels) => draw(canvas, pixels, shape))
    .catch((error: unknown) => app.tell(sentence(error)));
  const label = app.data.label(i);
  return h(
    "button",
    {
      type: "button",
      class: "thumb",
      title: `image ${i}`,
      "aria-label": `Image ${i}${label === "" ? "" : `, ${label}`}${note === "" ? "" : `, ${note}`}`,
      onclick: () => app.store.set({ chosen: i, tab: "image" }),
    },
    canvas,
    h("span", {}, note === "" ? label : note),
  );
}

/** What one image is taken for. */
export interface Taken {
  found: Float32Array;
  by: string;
  classes: string[];
}

/** Bars of shares (K) that add up to 1, the largest first. */
export function bars(classes: readonly string[], found: Float32Array, most = 5): HTMLElement {
  const order = Array.from(found.keys())
    .sort((a, b) => found[b] - found[a])
    .slice(0, most)
    .filter((label, rank) => rank === 0 || found[label] >= 0.0005);
  return h(
    "ol",
    { class: "bars" },
    ...order.map((label) => {
      const bar = h("span", { class: "bar" });
      bar.style.setProperty("--share", String(found[label]));
      const percent = `${(100 * found[label]).toFixed(found[label] > 0.9995 || found[label] < 0.0005 ? 0 : 1)} %`;
      return h(
        "li",
        {},
        h("span", { class: "name" }, classes[label] ?? `class ${label}`),
        bar,
        h("span", { class: "value" }, percent),
      );
    }),
  );
}

/** What a class is told from: the run's classifier, or the classes of the nearest codes; null where there is neither. */
export async function probabilities(
  app: App,
  image: Float32Array,
  near: () => { labels: ArrayLike<number>; points: number[] } | null,
  shares: (labels: ArrayLike<number>, points: number[], classes: number) => Float32Array,
): Promise<Taken | null> {
  const { classes } = app.manifest;
  const own = app.manifest.parts.classifier?.classes ?? classes;
  if (app.networks.has("classifier"))
    return { found: await app.networks.classify(image, 1), by: "by the classifier", classes: own };
  const asked = app.manifest.labelled ? near() : null;
  if (asked === null) return null;
  const found = shares(asked.labels, asked.points, classes.length);
  return { found, by: `by the ${asked.points.length} nearest codes`, classes };
}

/** A number as it is read, not as it is computed. */
export function say(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return "none";
  const text =
    Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(1)
      : value.toPrecision(digits);
  return text.replace("-", "−");
}

/** A definition list of figures. */
export function figures(pairs: readonly (readonly [string, string])[]): HTMLElement {
  return h("dl", { class: "figures" }, ...pairs.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

export function note(text: string): HTMLElement {
  return h("p", { class: "note" }, text);
}

export function heading(text: string): HTMLElement {
  return h("h2", {}, text);
}
