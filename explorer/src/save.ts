/** What one sees as a PNG file: the map with its name and its classes. */
import type { App } from "./app";
import { hex } from "./colours";
import { themeOf, token } from "./theme";

export function compose(app: App): HTMLCanvasElement {
  const { stage, manifest, data, store } = app;
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const map =
    stage?.compose() ?? document.querySelector<HTMLCanvasElement>(".sheet canvas") ?? document.createElement("canvas");
  const width = Math.max(map.width, 320);
  const [margin, head] = [16 * ratio, 46 * ratio];
  const font = (weight: number, size: number) => `${weight} ${size * ratio}px ${token("font")}`;
  const found = document.createElement("canvas");
  const { hidden, theme } = store.get();
  const labels = [...new Set(data.labels)].filter((label) => label >= 0 && !hidden.has(label)).sort((a, b) => a - b);
  const rows = layLegend(
    labels.map((label) => data.className(label)),
    width - 2 * margin,
    font(400, 13),
    ratio,
  );
  found.width = width;
  found.height = head + map.height + (rows.length > 0 ? rows.length * 22 * ratio + 14 * ratio : 0);
  const pen = found.getContext("2d");
  if (pen === null) return found;
  pen.fillStyle = token("paper");
  pen.fillRect(0, 0, found.width, found.height);
  pen.fillStyle = token("ink");
  pen.font = font(600, 16);
  pen.textBaseline = "middle";
  pen.fillText(manifest.title, margin, head / 2);
  const after = margin + pen.measureText(manifest.title).width + 12 * ratio;
  pen.fillStyle = token("soft");
  pen.font = font(400, 13);
  pen.fillText([manifest.network, manifest.data].filter((text) => text !== "").join(" · "), after, head / 2);
  pen.drawImage(map, 0, head);
  pen.font = font(400, 13);
  let k = 0;
  rows.forEach((row, line) => {
    for (const { text, x } of row) {
      const y = head + map.height + (18 + 22 * line) * ratio;
      pen.fillStyle = hex(labels[k++], themeOf(theme));
      pen.beginPath();
      pen.arc(margin + x + 5 * ratio, y, 5 * ratio, 0, 2 * Math.PI);
      pen.fill();
      pen.fillStyle = token("ink");
      pen.fillText(text, margin + x + 14 * ratio, y + ratio);
    }
  });
  return found;
}

/** Names in lines no longer than `width`. */
function layLegend(names: string[], width: number, font: string, ratio: number): { text: string; x: number }[][] {
  const pen = document.createElement("canvas").getContext("2d");
  if (pen === null || names.length === 0) return [];
  pen.font = font;
  const rows: { text: string; x: number }[][] = [[]];
  let x = 0;
  for (const text of names) {
    const long = pen.measureText(text).width + 32 * ratio;
    if (x + long > width && x > 0) {
      rows.push([]);
      x = 0;
    }
    rows[rows.length - 1].push({ text, x });
    x += long;
  }
  return rows;
}

/** Save it under the run's name. */
export function save(app: App): void {
  compose(app).toBlob((blob) => {
    if (blob === null) {
      app.tell("This browser could not make a PNG of the view: make its window smaller.");
      return;
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${app.manifest.title.replace(/[^\w.-]+/g, "-")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}
