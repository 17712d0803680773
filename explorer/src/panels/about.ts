/** What this page shows: the run, its figures, what is missing, and the keys. */
import type { App } from "../app";
import { h } from "../dom";
import { BAND_WORDS } from "../map/ground";
import { figures, heading, note, say } from "./panel";

const KEYS: readonly (readonly [string, string])[] = [
  ["arrows", "move the map, or turn it; on the ring, move the hand"],
  ["+  −  0", "closer, further, all points"],
  ["H  M  L", "hand, move, lasso"],
  ["N  P", "next image, image before"],
  ["Enter", "the image nearest to the hand"],
  ["Esc", "let the group and the walk go"],
];

export function aboutPanel(app: App): HTMLElement {
  const { manifest, data } = app;
  const [channels, height, width] = manifest.shape;
  const parts = Object.entries(manifest.parts).filter(([, part]) => part !== null);
  const facts: [string, string][] = [
    ["run", manifest.title],
    ["network", manifest.network],
    [
      "images",
      `${data.count.toLocaleString("en")} of ${manifest.data}, ${height} × ${width}${channels === 1 ? ", grey" : channels === 3 ? ", colour" : `, ${channels} channels`}`,
    ],
  ];
  if (data.dim > 0) facts.push(["code", `${data.dim} numbers`]);
  if (manifest.sigma !== null) facts.push(["decoder's noise σ", say(manifest.sigma)]);
  const size = (bytes: number) => (bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
  facts.push([
    "runs in this page",
    parts.map(([name, part]) => `${name} (${size(part?.bytes ?? 0)})`).join(", ") || "nothing",
  ]);
  const measured = Object.entries(manifest.figures).map(([name, value]) => [name, say(value, 4)] as const);
  return h(
    "div",
    {},
    heading("About this run"),
    figures(facts),
    measured.length > 0 ? h("div", {}, h("h3", {}, "Measured at the end of training"), figures(measured)) : null,
    ...manifest.missing.map((line) => note(line)),
    h("h3", {}, "Keys"),
    h(
      "dl",
      { class: "figures keys" },
      ...KEYS.flatMap(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)]),
    ),
    h("h3", {}, "What the map shows"),
    note(
      `A point is the code of one image. ${BAND_WORDS} On a layout that keeps neighbours, distances between groups mean ` +
        `little, and the hand holds the blend of the codes nearest to it. The address of this page holds the view: copy it to share.`,
    ),
    note("Everything is computed in this page: no image leaves it."),
  );
}
