/** What is seen on the map and how: axes, flat or in space, the tool, what lies beneath, the size of points. */
import type { App } from "../app";
import { choice, h, slider } from "../dom";
import { possibleSight, type Sight } from "../sight";
import type { Ground, Tool } from "../state";
import { zoomed } from "./camera";
import type { Stage } from "./stage";

export function controls(app: App, stage: Stage): { above: HTMLElement; inside: HTMLElement; below: HTMLElement } {
  const { store, data, networks } = app;
  const see = (change: Partial<Sight>) => {
    const sight = possibleSight({ ...store.get().sight, ...change }, data);
    store.set({ sight, camera: null });
  };
  const kinds: [Sight["kind"], string][] = [["axes", "Code axes"]];
  if (data.principal !== null && data.dim > 1) kinds.push(["principal", "Principal axes"]);
  if (data.layout !== null) kinds.push(["layout", data.manifest.layout?.name ?? "Layout"]);
  const kind = choice("What the map shows", kinds, (value) =>
    see({ kind: value, dimensions: value === "layout" ? 2 : store.get().sight.dimensions }),
  );
  const flat = choice(
    "Dimensions",
    [
      ["2", "2-D"],
      ["3", "3-D"],
    ] as const,
    (value) => see({ dimensions: value === "3" ? 3 : 2 }),
  );
  const axes = [0, 1, 2].map((k) => {
    const select = h(
      "select",
      { "aria-label": `${["Horizontal", "Vertical", "Third"][k]} axis` },
      ...data.order.map((axis) => h("option", { value: axis }, `axis ${axis + 1}`)),
    );
    select.addEventListener("change", () => {
      const chosen = [...store.get().sight.axes] as [number, number, number];
      chosen[k] = Number(select.value);
      see({ axes: chosen });
    });
    return select;
  });
  const tool = choice<Tool>(
    "Tool",
    [
      ["hand", "Hand"],
      ["move", "Move"],
      ["lasso", "Lasso"],
    ],
    (value) => store.set({ tool: value }),
  );
  const ground = choice<Ground>(
    "What the map is covered with",
    [
      ["density", "Density"],
      ["grid", "Pictures"],
      ["plain", "Points"],
    ],
    (value) => store.set({ ground: value }),
  );
  const size = slider(
    "points",
    { min: 0.4, max: 2.5, step: 0.1, value: store.get().size },
    () => "",
    (value) => store.set({ size: value }),
  );
  size.element.classList.add("compact");
  const step = (text: string, label: string, factor: number) =>
    h(
      "button",
      {
        type: "button",
        class: "square",
        "aria-label": label,
        title: label,
        onclick: () =>
          store.set({
            camera: zoomed(stage.camera, stage.window, factor, stage.window.width / 2, stage.window.height / 2),
          }),
      },
      text,
    );
  const all = h(
    "button",
    {
      type: "button",
      class: "square",
      "aria-label": "Show all points",
      title: "Show all points (0)",
      onclick: () => store.set({ camera: null }),
    },
    "⤢",
  );
  const show = () => {
    const state = store.get();
    kind.set(state.sight.kind);
    flat.set(state.sight.dimensions === 3 ? "3" : "2");
    const spatial = state.sight.kind !== "layout" && data.dim >= 3;
    flat.enable("3", spatial && (state.sight.kind === "axes" || (data.principal?.axes.length ?? 0) > 2));
    axes.forEach((select, k) => {
      select.value = String(state.sight.axes[k]);
      select.hidden = state.sight.kind !== "axes" || k >= Math.min(state.sight.dimensions, data.dim) || data.dim < 3;
    });
    tool.set(state.tool);
    const possible = networks.has("decoder") && !stage.gridless(state);
    ground.set(state.ground === "grid" && !possible ? "density" : state.ground);
    ground.enable("grid", possible);
    ground.enable("density", state.sight.dimensions === 2);
    size.set(state.size);
  };
  store.on(["sight", "tool", "ground", "size"], show);
  show();
  return {
    above: h(
      "div",
      { class: "controls" },
      kinds.length > 1 ? kind.element : null,
      data.dim > 2 ? flat.element : null,
      ...axes,
      h("span", { class: "grow" }),
      ground.element,
    ),
    inside: h(
      "div",
      { class: "tools" },
      tool.element,
      h("div", { class: "zoom" }, step("+", "Closer", 1.4), step("−", "Further", 1 / 1.4), all),
    ),
    below: size.element,
  };
}
