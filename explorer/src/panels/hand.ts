/** The hand: its picture, how far it is from the data, and a slider for every code axis, the most varying first. */
import type { App } from "../app";
import { fill, h, slider } from "../dom";
import { nearest } from "../neighbours";
import { draw, picture } from "../pictures";
import { heading, note, say, thumb, whileShown } from "./panel";

const FIRST = 12; // sliders that are there at once; the others on demand

export function handPanel(app: App): HTMLElement {
  const { data, manifest } = app;
  if (!app.networks.has("decoder")) {
    return h("div", {}, heading("The hand"), note("This run has no decoder, so a code cannot be drawn as a picture."));
  }
  const shown = picture(manifest.shape, "what the decoder draws here", { class: "picture large" });
  const nearby = h("div", { class: "thumbs few" });
  const meter = h("div", { class: "meter", role: "img" }, h("span", {}));
  const words = h("p", { class: "reading" });
  const log = h("dd", {});
  const facts = h("dl", { class: "figures" }, h("dt", {}, "log p(z)"), log);
  app.hand.onPicture((pixels) => draw(shown.canvas, pixels, manifest.shape));
  app.networks.get("decoder").catch(() => (shown.element.hidden = true)); // why is said at the top of the page
  const sliders = axisSliders(app);
  let timer = 0;
  const slow = () => {
    const code = app.store.get().hand;
    const near = nearest(data.codes, code, 4);
    fill(nearby, ...near.map(({ index, distance }) => thumb(app, index, say(distance, 2))));
  };
  whileShown(app, "hand", ["hand"], () => {
    const { hand } = app.store.get();
    const rank = data.rank();
    if (rank !== null) {
      const value = rank.density.logProb(hand);
      const share = rank.share(value);
      meter.style.setProperty("--share", String(share));
      meter.classList.toggle("outside", share < 0.01);
      words.classList.toggle("outside", share < 0.01);
      const text =
        share < 0.01
          ? "Off the data: hardly any real code is less likely than this."
          : `Within the data: likelier than ${Math.round(100 * share)} % of the real codes.`;
      words.textContent = text;
      meter.setAttribute("aria-label", text);
      log.textContent = `${say(value, 4)} nats, under the ${rank.density.name}`;
    }
    sliders.show(hand);
    clearTimeout(timer);
    timer = window.setTimeout(slow, 120);
  });
  const go = (code: ArrayLike<number>) => app.hand.take(Float32Array.from(code));
  return h(
    "div",
    {},
    heading("The hand"),
    note("Drag the ring on the map, or press anywhere on it: the decoder draws what lies there."),
    h(
      "div",
      { class: "pair" },
      shown.element,
      h("div", { class: "beside" }, h("h3", {}, "Nearest real images"), nearby),
    ),
    data.density === null ? null : h("div", {}, meter, words, facts),
    h(
      "div",
      { class: "row" },
      h("button", { type: "button", onclick: () => go(data.mean) }, "To the mean"),
      h(
        "button",
        { type: "button", onclick: () => go(data.code(nearest(data.codes, app.store.get().hand, 1)[0].index)) },
        "To the nearest code",
      ),
    ),
    h("h3", {}, "Code axes, by variance"),
    sliders.element,
  );
}

/** As many decimals as tell apart hundredths of the range. */
function decimal(value: number, range: number): string {
  const digits = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(Math.max(range, 1e-6)))));
  return value.toFixed(digits).replace("-", "−");
}

function axisSliders(app: App): { element: HTMLElement; show: (code: Float32Array) => void } {
  const { data, manifest } = app;
  const made: { axis: number; set: (value: number) => void }[] = [];
  const element = h("div", { class: "sliders" });
  const add = (axes: number[]) => {
    for (const axis of axes) {
      const spread = Math.sqrt(data.variances[axis]) || 1;
      const [low, high] = manifest.ranges[axis] ?? [data.mean[axis] - 2.3 * spread, data.mean[axis] + 2.3 * spread];
      const more = Math.max((high - low) / 3, 1e-3);
      const range = {
        min: low - more,
        max: high + more,
        step: (high - low + 2 * more) / 400,
        value: app.store.get().hand[axis],
      };
      const { element: row, set } = slider(
        `axis ${axis + 1}`,
        range,
        (value) => decimal(value, high - low),
        (value) => {
          const code = app.store.get().hand.slice();
          code[axis] = value;
          app.hand.take(code);
        },
      );
      const share = h("span", { class: "spread", title: `standard deviation ${say(spread)}` });
      share.style.setProperty(
        "--share",
        String(Math.sqrt(data.variances[axis] / (data.variances[data.order[0]] || 1))),
      );
      row.append(share);
      made.push({ axis, set });
      element.append(row);
    }
  };
  add(data.order.slice(0, FIRST));
  const rest = data.order.slice(FIRST);
  const more = h("button", { type: "button", class: "quiet" }, `${rest.length} more axes`);
  more.addEventListener("click", () => {
    add(rest);
    more.remove();
  });
  return {
    element: h("div", {}, element, rest.length > 0 ? more : null),
    show: (code) => made.forEach(({ axis, set }) => set(code[axis])),
  };
}
