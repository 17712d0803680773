/** The classes with their colours: pressing one hides it; pressed with Shift, or twice, it is alone. */
import type { App } from "../app";
import { hex, shapeOf } from "../colours";
import { h } from "../dom";
import { themeOf } from "../theme";

const FORMS = ["circle", "square", "diamond", "triangle"];

export function legend(app: App): HTMLElement {
  const { store, data, manifest } = app;
  const present = new Set(data.labels);
  const labels = [...present].filter((label) => label >= 0).sort((a, b) => a - b);
  if (present.has(-1) && labels.length > 0) labels.push(-1);
  if (labels.length === 0)
    return h("div", { class: "legend" }, h("span", { class: "soft" }, "These images have no classes."));
  const alone = (label: number) => {
    const others = labels.filter((other) => other !== label);
    const { hidden } = store.get();
    const already = !hidden.has(label) && others.every((other) => hidden.has(other));
    store.set({ hidden: new Set(already ? [] : others) });
  };
  const chips = labels.map((label) => {
    const dot = h("span", { class: `dot ${FORMS[shapeOf(label)]}`, "aria-hidden": "true" });
    const chip = h(
      "button",
      { type: "button", class: "chip", title: "Shift: only this one" },
      dot,
      label < 0 ? "no class" : (manifest.classes[label] ?? String(label)),
    );
    chip.addEventListener("click", (event) => {
      if (event.shiftKey) {
        alone(label);
        return;
      }
      const hidden = new Set(store.get().hidden);
      if (!hidden.delete(label)) hidden.add(label);
      store.set({ hidden });
    });
    chip.addEventListener("dblclick", () => alone(label));
    return { label, chip, dot };
  });
  const all = h(
    "button",
    { type: "button", class: "chip quiet", onclick: () => store.set({ hidden: new Set() }) },
    "all",
  );
  const none = h(
    "button",
    { type: "button", class: "chip quiet", onclick: () => store.set({ hidden: new Set(labels) }) },
    "none",
  );
  const show = () => {
    const { hidden, theme } = store.get();
    for (const { label, chip, dot } of chips) {
      chip.setAttribute("aria-pressed", String(!hidden.has(label)));
      dot.style.setProperty("--dot", hex(label, themeOf(theme)));
    }
    all.disabled = hidden.size === 0;
    none.disabled = labels.every((label) => hidden.has(label));
  };
  store.on(["hidden", "theme"], show);
  show();
  return h(
    "div",
    { class: "legend", role: "group", "aria-label": "Classes shown" },
    ...chips.map(({ chip }) => chip),
    all,
    none,
  );
}
