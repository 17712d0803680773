/** One image: as it was, as the network draws it again, where the two differ, what it is taken for, what is like it. */
import type { App } from "../app";
import { mse, psnr } from "../degrade";
import { fill, h } from "../dom";
import { nearest, shares } from "../neighbours";
import { draw, drawError, picture } from "../pictures";
import { bars, figures, heading, note, probabilities, say, thumb, turns, whileShown } from "./panel";

const NEAR = 12;

export function imagePanel(app: App): HTMLElement {
  const { data, manifest, networks } = app;
  const whole = networks.has("encoder") && networks.has("decoder");
  const again = whole || networks.has("denoiser");
  const original = picture(manifest.shape, "original");
  const redrawn = picture(manifest.shape, networks.has("denoiser") ? "denoised" : "reconstruction");
  const error = picture(manifest.shape, "error, 0 to 0.5");
  const facts = h("div", {});
  const guess = h("div", {});
  const like = h("div", { class: "thumbs" });
  const title = heading("One image");
  const body = h(
    "div",
    { hidden: true },
    h("div", { class: "pictures" }, original.element, again ? redrawn.element : null, again ? error.element : null),
    facts,
    guess,
    data.dim > 0 ? h("div", {}, h("h3", {}, "Nearest in code space"), like) : null,
    h("div", { class: "row" }, ...actions(app)),
  );
  const number = h("input", { type: "number", min: 0, max: data.count - 1, "aria-label": "Number of the image" });
  number.addEventListener("change", () => {
    const i = Math.round(number.valueAsNumber);
    if (i >= 0 && i < data.count) app.store.set({ chosen: i });
    else number.value = String(app.store.get().chosen ?? "");
  });
  const step = (by: number) => {
    const { chosen } = app.store.get();
    app.store.set({ chosen: chosen === null ? 0 : (chosen + by + data.count) % data.count });
  };
  const empty = note(
    data.dim > 0
      ? "Press a point of the map to look at its image, or go through them here."
      : "Press an image of the sheet to look at it.",
  );
  const begin = turns();
  whileShown(app, "image", ["chosen"], async () => {
    const current = begin();
    const { chosen } = app.store.get();
    empty.hidden = chosen !== null;
    body.hidden = chosen === null;
    if (chosen === null) return;
    const label = data.label(chosen);
    title.textContent = `Image ${chosen}${label === "" ? "" : `: ${label}`}`;
    number.value = String(chosen);
    const image = await data.sprites.image(chosen);
    if (!current()) return;
    draw(original.canvas, image, manifest.shape);
    const near = data.dim > 0 ? nearest(data.codes, data.code(chosen), NEAR, chosen) : [];
    fill(like, ...near.map(({ index, distance }) => thumb(app, index, say(distance, 2))));
    const lines: [string, string][] = [];
    if (again) {
      const found = whole ? await networks.decode(data.code(chosen), 1) : await networks.denoise(image, 1);
      if (!current()) return;
      draw(redrawn.canvas, found, manifest.shape);
      drawError(error.canvas, image, found, manifest.shape);
      lines.push(["mean square error", say(mse(image, found))], ["PSNR", `${say(psnr(image, found))} dB`]);
    }
    const rank = data.rank();
    if (rank !== null) {
      const value = rank.density.logProb(data.code(chosen));
      lines.push(["density of its code", `higher than ${Math.round(100 * rank.share(value))} % of the real codes`]);
    }
    fill(facts, lines.length > 0 ? figures(lines) : null);
    const points = near.map(({ index }) => index);
    const taken = await probabilities(app, image, () => ({ labels: data.labels, points }), shares);
    if (!current()) return;
    fill(
      guess,
      taken === null ? null : h("div", {}, h("h3", {}, `Class, ${taken.by}`), bars(taken.classes, taken.found)),
    );
  });
  const stepper = h(
    "div",
    { class: "row stepper" },
    h("button", { type: "button", "aria-label": "Image before", onclick: () => step(-1) }, "←"),
    number,
    h("button", { type: "button", "aria-label": "Image after", onclick: () => step(1) }, "→"),
    h("span", { class: "soft" }, `of ${data.count.toLocaleString("en")}`),
  );
  return h("div", {}, title, stepper, empty, body);
}

function actions(app: App): (HTMLElement | null)[] {
  const chosen = () => app.store.get().chosen ?? 0;
  const walk = (end: "from" | "to") => {
    const old = app.store.get().walk;
    const other = old ?? { from: chosen(), to: chosen(), t: 0, way: "straight" as const };
    app.store.set({ walk: { ...other, [end]: chosen(), t: 0 }, tab: "walk" });
  };
  const { networks, data } = app;
  const button = (text: string, onclick: () => void) => h("button", { type: "button", onclick }, text);
  return [
    networks.has("decoder") && data.dim > 0 ? button("Hand here", () => app.hand.take(data.code(chosen()))) : null,
    networks.has("decoder") && data.dim > 0 ? button("Walk from here", () => walk("from")) : null,
    networks.has("decoder") && data.dim > 0 ? button("Walk to here", () => walk("to")) : null,
    button("Damage it", () => {
      const i = chosen();
      app.store.set({ tab: "yours" });
      void data.sprites.image(i).then((pixels) => app.showYours(pixels, `image ${i}`));
    }),
  ];
}
