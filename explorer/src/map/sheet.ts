/** Where a run has no codes there is no map: all its images on one sheet instead, to choose from. */
import type { App } from "../app";
import { h } from "../dom";
import { toBytes } from "../pictures";
import { sentence } from "../told";
import { token } from "../theme";

const LEAST = 48; // pixels of a cell

export function sheet(app: App): HTMLElement {
  const { data, manifest, store } = app;
  const canvas = h("canvas", { class: "layer" });
  const tall = h("div", { class: "tall" });
  const element = h(
    "div",
    {
      class: "stage sheet",
      tabindex: "0",
      role: "application",
      "aria-label": "Sheet of all images. Arrow keys choose one, N and P too.",
    },
    tall,
    canvas,
  );
  const across = () => Math.max(1, Math.floor(element.clientWidth / LEAST));
  const side = () => element.clientWidth / across();
  let turn = 0;
  const shown = (): number[] => {
    const { hidden } = store.get();
    if (hidden.size === 0) return Array.from({ length: data.count }, (_, i) => i);
    return Array.from({ length: data.count }, (_, i) => i).filter((i) => !hidden.has(data.labels[i]));
  };
  let points = shown();
  const draw = async () => {
    const mine = ++turn;
    const [width, height] = [element.clientWidth, element.clientHeight];
    if (width === 0) return;
    const columns = across();
    const cell = side();
    tall.style.height = `${Math.ceil(points.length / columns) * cell}px`;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (canvas.width !== width * ratio || canvas.height !== height * ratio)
      [canvas.width, canvas.height] = [width * ratio, height * ratio];
    canvas.style.transform = `translateY(${element.scrollTop}px)`;
    const pen = canvas.getContext("2d");
    if (pen === null) return;
    const tile = document.createElement("canvas");
    [tile.width, tile.height] = [manifest.shape[2], manifest.shape[1]];
    const first = Math.floor(element.scrollTop / cell);
    const jobs: { i: number; x: number; y: number }[] = [];
    for (let row = first; row * cell < element.scrollTop + height; row++) {
      for (let column = 0; column < columns; column++) {
        const i = points[row * columns + column];
        if (i !== undefined) jobs.push({ i, x: column * cell, y: row * cell - element.scrollTop });
      }
    }
    const images = await Promise.all(jobs.map(({ i }) => data.sprites.image(i)));
    if (mine !== turn) return;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.imageSmoothingEnabled = false;
    jobs.forEach(({ i, x, y }, k) => {
      tile
        .getContext("2d")
        ?.putImageData(new ImageData(toBytes(images[k], manifest.shape), tile.width, tile.height), 0, 0);
      pen.drawImage(tile, x + 2, y + 2, cell - 4, cell - 4);
      if (i === store.get().chosen) {
        pen.strokeStyle = token("accent");
        pen.lineWidth = 3;
        pen.strokeRect(x + 1.5, y + 1.5, cell - 3, cell - 3);
      }
    });
  };
  const again = () => void draw().catch((error: unknown) => app.tell(sentence(error)));
  element.addEventListener("scroll", again, { passive: true });
  element.addEventListener("click", (event) => {
    const box = element.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / side());
    const row = Math.floor((event.clientY - box.top + element.scrollTop) / side());
    const i = points[row * across() + column];
    if (column < across() && i !== undefined) store.set({ chosen: i, tab: "image" });
  });
  element.addEventListener("keydown", (event) => {
    const steps: Record<string, number> = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -across(),
      ArrowDown: across(),
      n: 1,
      p: -1,
    };
    const by = steps[event.key];
    if (by === undefined || points.length === 0) return;
    event.preventDefault();
    const at = points.indexOf(store.get().chosen ?? -1);
    const next = Math.min(points.length - 1, Math.max(0, at < 0 ? 0 : at + by));
    store.set({ chosen: points[next], tab: "image" });
    const top = Math.floor(next / across()) * side();
    if (top < element.scrollTop) element.scrollTop = top;
    const low = top + side() - element.clientHeight;
    if (low > element.scrollTop) element.scrollTop = low;
  });
  new ResizeObserver(again).observe(element);
  store.on(["chosen", "theme"], again);
  store.on(["hidden"], () => {
    points = shown();
    again();
  });
  return element;
}
