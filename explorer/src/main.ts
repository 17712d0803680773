/** The page, put together: manifest and codes first, so that the map is there while the networks are still read. */
import type { App } from "./app";
import { readDataset } from "./dataset";
import { choice, fill, h } from "./dom";
import { Hand } from "./hand";
import { readManifest } from "./manifest";
import { controls } from "./map/controls";
import { listen } from "./map/gestures";
import { legend } from "./map/legend";
import { sheet } from "./map/sheet";
import { Stage } from "./map/stage";
import { Networks, warmUp } from "./networks";
import { Notices } from "./notices";
import { aboutPanel } from "./panels/about";
import { freshPanel } from "./panels/fresh";
import { groupPanel } from "./panels/group";
import { handPanel } from "./panels/hand";
import { imagePanel } from "./panels/image";
import { walkPanel } from "./panels/walk";
import { yoursPanel } from "./panels/yours";
import { save } from "./save";
import { firstSight, possibleSight } from "./sight";
import { fromHash, Store, TABS, toHash, type State, type Tab } from "./state";
import { expose, times } from "./testing";
import { applyTheme, onSystemTheme } from "./theme";
import { sentence } from "./told";

const TITLES: Record<Tab, string> = {
  hand: "Hand",
  image: "Image",
  group: "Group",
  walk: "Walk",
  yours: "Yours",
  new: "New",
  about: "About",
};

let app: App | undefined;
const root = document.getElementById("page") as HTMLElement;
applyTheme("auto");
const ready = start();
expose(ready, () => app);
ready.catch((error: unknown) => {
  fill(
    root,
    h("div", { class: "failed" }, h("h1", {}, "The explorer cannot open"), h("p", { role: "alert" }, sentence(error))),
  );
  if (error instanceof Error) console.error(error);
});

async function start(): Promise<void> {
  warmUp();
  const manifest = await readManifest();
  document.title = `${manifest.title} · Isthmus explorer`;
  const notices = new Notices();
  const { tell } = notices;
  manifest.missing.forEach(tell);
  const networks = new Networks(manifest);
  // Read while the map is being drawn; what fails is said when it is used.
  for (const name of ["decoder", "encoder", "classifier", "denoiser"] as const) {
    if (networks.has(name)) networks.get(name).catch((error: unknown) => tell(sentence(error)));
  }
  const data = await readDataset(manifest, tell);
  const first: State = {
    sight: firstSight(data),
    camera: null,
    hidden: new Set(),
    tab: data.dim > 0 && networks.has("decoder") ? "hand" : "image",
    tool: data.dim > 0 && networks.has("decoder") ? "hand" : "move",
    ground: "density",
    size: 1,
    hand: Float32Array.from(data.mean),
    chosen: data.dim > 0 ? null : 0,
    group: [],
    walk: null,
    theme: "auto",
  };
  const given = fromHash(location.hash, first, data.count);
  const store = new Store({ ...given, sight: data.dim > 0 ? possibleSight(given.sight, data) : given.sight });
  applyTheme(store.get().theme);
  store.on(["theme"], (state) => applyTheme(state.theme)); // first of all, since others ask for its colours
  const hand = new Hand(store, networks, tell);
  const stage = data.dim > 0 ? new Stage(data, networks, store, hand, tell) : null;
  app = { manifest, data, networks, store, hand, stage, tell, showYours: () => undefined };
  build(app, notices.element);
  if (stage !== null) listen(stage, app);
  keepAddress(store, first, data.count);
  onSystemTheme(() => store.touch("theme"));
  requestAnimationFrame(() => (times.firstMap = performance.now()));
  if (stage !== null && networks.has("decoder")) {
    const drawn = new Promise<void>((done) => hand.onPicture(() => done()));
    hand.request();
    await Promise.race([
      drawn,
      networks.get("decoder").then(
        () => drawn,
        () => undefined,
      ),
    ]);
    times.firstPicture = performance.now();
  }
}

function build(app: App, notices: HTMLElement): void {
  const { manifest, store, stage } = app;
  const theme = choice(
    "Colours of the page",
    [
      ["auto", "Auto"],
      ["light", "Light"],
      ["dark", "Dark"],
    ] as const,
    (value) => store.set({ theme: value }),
  );
  store.on(["theme"], (state) => theme.set(state.theme));
  theme.set(store.get().theme);
  const header = h(
    "header",
    {},
    h("h1", {}, manifest.title),
    h(
      "p",
      {},
      [manifest.network, manifest.data, `${manifest.count.toLocaleString("en")} images`]
        .filter((text) => text !== "")
        .join(" · "),
    ),
    h("span", { class: "grow" }),
    theme.element,
    h("button", { type: "button", onclick: () => save(app), title: "Save the view as a PNG file" }, "Save PNG"),
  );
  const left = h("section", { class: "map", "aria-label": stage === null ? "All images" : "Map of codes" });
  if (stage !== null) {
    const { above, inside, below } = controls(app, stage);
    stage.element.append(inside);
    left.append(above, stage.element, h("div", { class: "below" }, legend(app), below));
  } else {
    left.append(sheet(app), legend(app));
  }
  fill(root, header, notices, h("div", { class: "work" }, left, panels(app)));
}

function panels(app: App): HTMLElement {
  const { store } = app;
  const yours = yoursPanel(app);
  app.showYours = yours.show;
  dropAnywhere(app, yours.take);
  const made: Record<Tab, HTMLElement> = {
    hand: handPanel(app),
    image: imagePanel(app),
    group: groupPanel(app),
    walk: walkPanel(app),
    yours: yours.element,
    new: freshPanel(app),
    about: aboutPanel(app),
  };
  // Without codes there is nothing to hold, to circle or to walk on.
  const shown = TABS.filter((name) => app.data.dim > 0 || ["image", "yours", "about"].includes(name));
  const tabs = shown.map((name) =>
    h(
      "button",
      {
        type: "button",
        role: "tab",
        id: `tab-${name}`,
        "aria-controls": `panel-${name}`,
        onclick: () => store.set({ tab: name }),
      },
      TITLES[name],
    ),
  );
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": "What to do" }, ...tabs);
  list.addEventListener("keydown", (event) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (by === 0) return;
    event.preventDefault();
    const next = shown[(shown.indexOf(store.get().tab) + by + shown.length) % shown.length];
    store.set({ tab: next });
    tabs[shown.indexOf(next)].focus();
  });
  const bodies = shown.map((name) => {
    made[name].classList.add("panel");
    made[name].id = `panel-${name}`;
    made[name].setAttribute("role", "tabpanel");
    made[name].setAttribute("aria-labelledby", `tab-${name}`);
    return made[name];
  });
  const show = () => {
    const tab = shown.includes(store.get().tab) ? store.get().tab : shown[0];
    if (tab !== store.get().tab) {
      store.set({ tab });
      return;
    }
    shown.forEach((name, k) => {
      tabs[k].setAttribute("aria-selected", String(name === tab));
      tabs[k].tabIndex = name === tab ? 0 : -1;
      bodies[k].hidden = name !== tab;
    });
  };
  store.on(["tab"], show);
  show();
  return h("aside", { class: "side", "aria-label": "Panels" }, list, ...bodies);
}

/** A picture dropped anywhere on the page goes to the board. */
function dropAnywhere(app: App, take: (file: File) => Promise<void>): void {
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file === undefined) return;
    app.store.set({ tab: "yours" });
    void take(file);
  });
}

/** The state goes into the address, a little later; an address that is changed by hand is followed. */
function keepAddress(store: Store, first: State, count: number): void {
  let timer = 0;
  let written = location.hash;
  const keys: (keyof State)[] = [
    "sight",
    "camera",
    "hidden",
    "tab",
    "tool",
    "ground",
    "size",
    "hand",
    "chosen",
    "walk",
    "theme",
  ];
  store.on(keys, () => {
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      written = `#${toHash(store.get(), first)}`;
      history.replaceState(null, "", written);
    }, 300);
  });
  addEventListener("hashchange", () => {
    if (location.hash === written) return;
    store.set(fromHash(location.hash, first, count));
  });
}
