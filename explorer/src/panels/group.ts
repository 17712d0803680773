/** The points inside the lasso: how many, of which classes, and some of their pictures. */
import type { App } from "../app";
import { fill, h } from "../dom";
import { shares } from "../neighbours";
import { bars, heading, note, thumb, whileShown } from "./panel";

const SHOWN = 40;

export function groupPanel(app: App): HTMLElement {
  const { data, manifest } = app;
  const body = h("div", {});
  whileShown(app, "group", ["group"], () => {
    const { group } = app.store.get();
    if (group.length === 0) {
      fill(body, note("Choose the lasso (L) and draw around points of the map: they are counted and shown here."));
      return;
    }
    const step = Math.max(1, group.length / SHOWN);
    const some: number[] = [];
    for (let at = 0; at < group.length; at += step) some.push(group[Math.floor(at)]);
    const share = (100 * group.length) / data.count;
    fill(
      body,
      h("p", {}, `${group.length.toLocaleString("en")} points, ${share.toFixed(share < 10 ? 1 : 0)} % of all.`),
      manifest.labelled
        ? h(
            "div",
            {},
            h("h3", {}, "Classes"),
            bars(manifest.classes, shares(data.labels, group, manifest.classes.length), 12),
          )
        : null,
      h("h3", {}, some.length < group.length ? `${some.length} of them` : "All of them"),
      h("div", { class: "thumbs" }, ...some.map((i) => thumb(app, i))),
      h(
        "div",
        { class: "row" },
        h("button", { type: "button", onclick: () => app.store.set({ group: [] }) }, "Let them go"),
      ),
    );
  });
  return h("div", {}, heading("Group"), body);
}
